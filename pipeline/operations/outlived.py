"""Files that nobody needs any more, on this host and in the archive: each kind with the proof that it may go."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pipeline import intake, record, sync
from pipeline.foundation import removal
from pipeline.foundation.errors import PipelineError
from pipeline.foundation.work import archive_dir
from pipeline.intake import Dropped
from pipeline.operations import quarantine, repair, verify
from pipeline.record import BagRow, BagState, outdated, views
from pipeline.settings import Folder
from pipeline.sync import Proof
from pipeline.tasks import staging
from pipeline.tasks.context import Site


@dataclass(frozen=True)
class Old:
    """Something that is old enough to go.

    Attributes:
        what: it, for a person.
        size_bytes: how much room it takes.
        needed: why it has to stay, asked again right before it goes; empty: it may go.
        go: take it away; killed meanwhile, what is left of it is found again.
        work_rid: the work whose lease keeps lanes away from it; empty: no lane comes near it.
        bag_id: the bag that it is of, as far as that is known.
    """

    what: str
    size_bytes: int
    needed: Callable[[], str]
    go: Callable[[], object]
    work_rid: str = ""
    bag_id: str = ""


def not_proved(here: Site, work_rids: Sequence[str]) -> str:
    """Why these works cannot be relied on to be in the archive, all of each; empty: they are, as far as can be seen.

    The record has the proof of their read-back, the last fixity check did not fail, and names and sizes are right.
    """
    for rid in work_rids:
        known = record.archived(here.engine, work_rid=rid).get(rid)
        if known is None or known.proof is None:
            return f"the record has no proof of {rid} in the archive"
        if record.broken(here.engine, work_rid=rid):
            return f"{rid} failed its last fixity check"
        folder = archive_dir(here.settings.archive_root, rid)
        try:
            if wrong := sync.at_sight(folder, rid, Proof(*known.proof)).wrong:
                return f"{folder} is not as its proof says: {wrong[0]}"
        except OSError as error:
            return f"{folder} cannot be read: {error.strerror}"
    return ""


def _not_settled(here: Site, work_rids: Sequence[str]) -> str:
    """As `not_proved`; and no other bag of theirs is on its way, which may change what the archive has."""
    # There may be 100,000 bags on their way. Within half a lease nobody can have changed the archive and be gone.
    turn = int(time.monotonic() * 2 / here.settings.lease_seconds)
    coming = outdated.not_home(here.engine, work_rids)
    if (coming and coming - record.superseded(here.engine).keys()) or _coming(here.engine, turn) & {*work_rids}:
        return f"a bag of {' or '.join(work_rids)} is not home"
    return not_proved(here, work_rids)


@lru_cache(maxsize=1)
def _coming(engine: Any, _turn: int) -> set[str]:
    """The works of bags on their way, also of zips that hold several, as they were when the turn began."""
    return record.on_the_way(engine, but=record.superseded(engine))


def done_zips(here: Site, before: datetime) -> Iterator[Old]:
    """Zips that lanes moved to the done folders.

    Raises:
        FolderUnreachable: such a folder cannot be read, or is not ours.
    """
    for folder in here.settings.folders:
        if not folder.done_path.is_dir():
            continue
        intake.see_ours(folder.path, [folder.done_path])
        for left in intake.left_aside(folder.done_path):
            intake.put_back(left)
        for zip_ in intake.look(folder.done_path).zips:
            if datetime.fromtimestamp(zip_.changed_on, UTC) < before:
                row = _bag_in(here, zip_)
                bag_id = row.bag.bag_id if row else ""
                needed, go = partial(_zip_needed, here, zip_), partial(_remove_zip, folder, zip_)
                yield Old(zip_.shown, zip_.size_bytes, needed, go, zip_.claim, bag_id)


def _bag_in(here: Site, zip_: Dropped) -> BagRow | None:
    """The bag in a zip that was moved: the file is known by its stamp."""
    known = views.local_zips(here.engine, [zip_.claim])
    return next((row for (_, stamp), row in known.items() if intake.is_same(stamp, zip_.stamp)), None)


def _zip_needed(here: Site, zip_: Dropped) -> str:
    row = _bag_in(here, zip_)
    if row is None:
        return "the record knows no bag that came in this very file"
    if row.state is not BagState.DONE or not here.record.all_synced(row.bag.bag_id):
        return f"its bag is {row.state}"
    if outdated.replaced_since(here.engine, row.bag.bag_id, row.works):
        return "another bag replaced files of its work in the archive since: it may be the only copy"
    return _not_settled(here, row.works)


def _remove_zip(folder: Folder, zip_: Dropped) -> None:
    intake.see_ours(folder.path, [folder.done_path])
    if not intake.remove(zip_):
        raise PipelineError(f"{zip_.shown} is another file by now, or gone")


def quarantined(here: Site, before: datetime) -> Iterator[Old]:
    """What is kept of refused bags: in quarantine, and the zips that were moved to the refused folders.

    Raises:
        FolderUnreachable: such a folder is not ours.
    """
    for one in quarantine.kept(here):
        if one.since < before:
            needed, go = (
                partial(_bag_needed, here, one.bag_id),
                partial(quarantine.drop, here, one, by=repair.operator()),
            )
            yield Old(str(one.folder), sum(one.zips.values()), needed, go, one.work_rid, one.bag_id)
    for source in here.settings.folders:
        intake.see_ours(source.path, [source.refused_path])
        for bag_id, folder in staging.residue(source.refused_path):
            if datetime.fromtimestamp(folder.stat().st_mtime, UTC) < before:
                needed, go = partial(_bag_needed, here, bag_id), partial(_remove_refused, source, folder)
                work_rid = folder.name.rpartition("-")[0]
                yield Old(str(folder), staging.used_bytes(folder), needed, go, work_rid, bag_id)


def _bag_needed(here: Site, bag_id: str) -> str:
    row = here.record.bag(bag_id)
    if row is None or not (row.state is BagState.DONE or bag_id in record.superseded(here.engine)):
        return f"its bag is {row.state if row else 'not known'}, and no later one brought the work home"
    return not_proved(here, row.works or (row.bag.work_rid,))


def _remove_refused(source: Folder, folder: Path) -> None:
    intake.see_ours(source.path, [source.refused_path])
    removal.remove(folder, below=source.refused_path)


def leftovers(here: Site, before: datetime) -> Iterator[Old]:
    """Hidden folders of copies that were killed: all of their content is in the bag, and in the archive.

    Raises:
        ArchiveMissing: the archive is not there.
    """
    return _beside_works(here, before, gave_way=False)


def replaced(here: Site, before: datetime) -> Iterator[Old]:
    """What an operator let a bag replace.

    Raises:
        ArchiveMissing: the archive is not there.
    """
    return _beside_works(here, before, gave_way=True)


def _beside_works(here: Site, before: datetime, *, gave_way: bool) -> Iterator[Old]:
    verify.see_archive(here)
    for one in sync.leftovers(here.settings.archive_root):
        if one.since < before and one.gave_way is gave_way:
            needed = partial(_not_settled, here, [one.work_rid])
            go = partial(removal.remove, one.folder, below=one.share)
            yield Old(str(one.folder), staging.used_bytes(one.folder), needed, go, one.work_rid)


def sync_logs(here: Site, before: datetime) -> Iterator[Old]:
    """The folders of a day's logs."""
    logs = Path(os.path.realpath(here.settings.logs))
    for day, folder in sync.log_days(logs):
        if day < before and not folder.is_symlink():
            needed, go = partial(_logs_needed, here, folder), partial(removal.remove, folder, below=logs)
            yield Old(str(folder), staging.used_bytes(folder), needed, go)


def _logs_needed(here: Site, day: Path) -> str:
    rids = {rid for log, rid in outdated.logs_needed(here.engine).items() if day.name in Path(log).parts}
    return f"the sync of {min(rids)} failed on that day, and it is not home" if rids else ""
