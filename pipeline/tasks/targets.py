"""What "done" looks like. Cheap to ask, free of side effects: no S3, no SQS."""

import luigi

from pipeline import debag
from pipeline.foundation.errors import StagingDamaged
from pipeline.record import Record
from pipeline.tasks.staging import Place, vouched


class ZipTarget(luigi.Target):
    """The downloaded zip: there when its marker is, and vouches for the file that lies there now."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def exists(self) -> bool:
        """Whether the marker stands and the zip is the file it vouches for."""
        try:
            vouched(self._place.download_marker)
        except StagingDamaged:
            return False
        return True


class WorkFolderTarget(luigi.Target):
    """The unpacked works: there when the marker inside the published folder is whole."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def exists(self) -> bool:
        """Whether debag published its folder, and the marker vouches for it."""
        try:
            debag.load_marker(self._place.debag)
        except StagingDamaged:
            return False
        return True


class SyncRows(luigi.Target):
    """The works in the archive: there when each work that the zip holds has its row in the database."""

    def __init__(self, record: Record, bag_id: str) -> None:
        self._record = record
        self._bag_id = bag_id

    def exists(self) -> bool:
        """Whether every sync row is committed.

        Raises:
            DatabaseUnavailable: the database is out of reach.
        """
        return self._record.all_synced(self._bag_id)
