"""Where a bag's files lie while it is brought home, and where a refused bag is kept.

    {staging}/{RID}-{bag_id}/download/{RID}.bag.zip, download.json      the zip, and the marker that vouches for it
    {staging}/{RID}-{bag_id}/debag/{RID}/…, debag.json                  the work, and the marker that vouches for it;
    {shelf}/.{RID}-{bag_id}.staging/debag/{RID}/…, debag.json           or, where a copy is saved so: in the archive
    {quarantine}/{RID}-{bag_id}/{RID}.bag.zip, report.json, report.txt  a refused bag, and why

Names come from the checked RID and the bag identity alone, so no two bags can meet and no name leaves its folder.
"""

import contextlib
import errno
import json
import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import debag, download, sync
from pipeline.debag import Debagged
from pipeline.foundation import durable, failpoints, removal
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.work import Bag, archive_dir
from pipeline.sync import SyncSettings


@dataclass(frozen=True)
class Place:
    """The folders of one bag.

    Attributes:
        staging: on the local disk.
        quarantine: where it is kept if it is refused.
        in_archive: the hidden folder beside the work's place.
        work_rid: the work.
        archive_root: the archive.
        copier: who copies; a script takes its works from the local disk alone.
    """

    staging: Path
    quarantine: Path
    in_archive: Path
    work_rid: str
    archive_root: Path
    copier: str

    @classmethod
    def of(cls, work_rid: str, bag_id: str, *, staging: Path, quarantine: Path, site: SyncSettings) -> "Place":
        """The folders of a bag below the site's roots."""
        name = f"{work_rid}-{bag_id}"
        in_archive = sync.unpacking_place(site.archive_root, work_rid, bag_id)
        return cls(staging / name, quarantine / name, in_archive, work_rid, site.archive_root, site.copier)

    @property
    def download(self) -> Path:
        """The folder of the zip."""
        return self.staging / "download"

    @property
    def bag_zip(self) -> Path:
        """The downloaded zip."""
        return self.download / f"{self.work_rid}.bag.zip"

    @property
    def download_marker(self) -> Path:
        """What vouches for the zip."""
        return self.download / "download.json"

    @property
    def debag(self) -> Path:
        """The folder that debag publishes, its marker inside: in the archive, if it is there and ours, else local."""
        there = self.in_archive / "debag"
        return there if self.copier == sync.BUILTIN and there.is_dir() and sync.is_ours(self.in_archive) else self.local

    @property
    def local(self) -> Path:
        """The folder that debag publishes on the local disk."""
        return self.staging / "debag"

    def unpacked(self) -> Debagged:
        """What debag made of the bag. Works that were unpacked in the archive may be home, and have their names there.

        Raises:
            StagingDamaged: it made nothing, or something is not as its marker says.
        """
        home = None if self.debag == self.local else partial(archive_dir, self.archive_root.absolute())
        return debag.load_marker(self.debag, home=home)

    @property
    def sync_again(self) -> Path:
        """Stands while the sync of this bag is to be run whatever the archive has, by the word of an operator."""
        return self.staging / "sync-again"

    @property
    def quarantined_zip(self) -> Path:
        """The zip of a refused bag."""
        return self.quarantine / f"{self.work_rid}.bag.zip"

    @property
    def report(self) -> Path:
        """Why the bag was refused, for machines; `report.txt` beside it is for people."""
        return self.quarantine / "report.json"


def vouch(marker: Path, bag_zip: Path, facts: dict[str, Any]) -> None:
    """Write the marker of a downloaded zip: the facts, and how to see that it is still the same file."""
    status = bag_zip.stat()
    marker.parent.mkdir(parents=True, exist_ok=True)
    durable.write_json(marker, {"zip": str(bag_zip), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, **facts})


def vouched(marker: Path) -> dict[str, Any]:
    """The facts of a downloaded zip.

    Raises:
        StagingDamaged: there is no such marker, or the zip is gone or not the one it vouches for.
    """
    try:
        facts = json.loads(marker.read_bytes())
        status = Path(facts["zip"]).stat()
        same = (status.st_size, status.st_mtime_ns) == (facts["bytes"], facts["mtime_ns"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StagingDamaged(f"{marker}: {error}") from error
    if not same:
        raise StagingDamaged(f"{facts['zip']} is not the file that {marker} vouches for")
    return dict(facts)


def proof(place: Place) -> str:
    """What proved that a zip came as its source has it, by its marker; empty: nothing but its size."""
    try:
        facts = vouched(place.download_marker)
    except StagingDamaged:
        return ""
    verified = facts.get("proved", "") if facts.get("verified") == "quarantine" else facts.get("verified", "")
    return "" if verified == download.Level.SIZE else str(verified)


def debagged_facts(place: Place, unpacked: Debagged) -> dict[str, Any]:
    """What the record keeps of an unpacked bag; with what proved its download."""
    by_manifest = all(work.verified == "manifest" for work in unpacked.works)
    return {**unpacked.facts(), "download": proof(place) or ("manifest" if by_manifest else "")}


def kept_zip(place: Place, bag: Bag) -> Path:
    """Where `keep` keeps the zip of a refused bag: in quarantine; a local one where its owner put it."""
    return Path(bag.key) if bag.is_local else place.quarantined_zip


def keep(place: Place, bag: Bag, *, report: dict[str, Any], text: str) -> None:
    """Keep a refused bag: its reports first, then its zip."""
    place.quarantine.mkdir(parents=True, exist_ok=True)
    durable.write_file(place.quarantine / "report.txt", text.encode())
    durable.write_json(place.report, report)
    if not bag.is_local and place.bag_zip.exists():
        move(place.bag_zip, place.quarantined_zip)
    clear(place)


def take_back(place: Place) -> dict[str, Any]:
    """Bring a quarantined zip back to staging, so that it is not paid for twice; its facts, none if there is no zip."""
    if not place.quarantined_zip.exists():
        return {}
    proved = ""
    with contextlib.suppress(
        OSError, ValueError, TypeError, KeyError
    ):  # of an earlier release, or gone: nothing is known
        proved = str(json.loads(place.report.read_bytes())["download"])
    place.download.mkdir(parents=True, exist_ok=True)
    move(place.quarantined_zip, place.bag_zip)
    return {"verified": "quarantine", "proved": proved}


def set_aside(place: Place) -> None:
    """Let a quarantined zip no longer be taken back; it is kept under another name: S3's copy may be frozen again."""
    if place.quarantined_zip.exists():
        durable.publish(place.quarantined_zip, place.quarantined_zip.with_suffix(".zip.before"))


def ask_for_sync(place: Place) -> None:
    """Have the sync run even if the archive has the same; kept with the bag, for whichever lane goes on with it."""
    durable.make_folders(place.staging)
    durable.write_file(place.sync_again, b"")


def move(source: Path, target: Path) -> None:
    """Move a file durably, also to another file system; at any instant it is whole at one of the two places."""
    try:
        durable.publish(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = target.with_name(f".{target.name}.part")
        shutil.copy2(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        durable.publish(part, target)
        failpoints.see_allowed()
        source.unlink()


def clear(place: Place) -> None:
    """Remove what is left of a bag in staging, and nothing else.

    What is in the archive goes first: by what is on the local disk it is found again if the removal is cut short.
    """
    failpoints.before(failpoints.Act.DELETE)
    _remove(place.in_archive)
    _remove(place.staging)
    failpoints.after(failpoints.Act.DELETE)


def _remove(folder: Path) -> None:
    # Under another name first: a removal cut short must not leave a marker that vouches for half a work.
    doomed = folder.with_name(f".{folder.name}.removed")
    if os.path.lexists(doomed):
        removal.remove_tree(doomed)
    if os.path.islink(folder):
        folder.unlink()
    elif os.path.lexists(folder):
        os.replace(folder, doomed)
        failpoints.point("half cleared")
        removal.remove_tree(doomed)


def residue(staging: Path) -> list[tuple[str, Path]]:
    """What lies in staging: (bag identity, folder) of each bag; removals cut short are finished on the way."""
    found = []
    if not staging.is_dir():
        return []
    for folder in sorted(staging.iterdir()):
        if folder.name.startswith(".") and folder.name.endswith(".removed"):
            removal.remove_tree(folder)
        elif "-" in folder.name and folder.is_dir() and not folder.is_symlink():
            found.append((folder.name.rpartition("-")[2], folder))
    return found


def used_bytes(folder: Path) -> int:
    """What a folder occupies on its disk, in bytes; what vanishes meanwhile counts nothing."""
    used, waiting = 0, [str(folder)]
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
    return used
