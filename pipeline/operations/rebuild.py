"""A record that is lost, made anew from the proof that lies with each archived work."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pipeline import sync
from pipeline.foundation.work import Pulse, archive_dir, human_count
from pipeline.operations import verify
from pipeline.record import Archived, rebuilt
from pipeline.sync import FixityVerdict
from pipeline.tasks.context import Site


class RebuildVerdict(StrEnum):
    """What became of a work."""

    REBUILT = "rebuilt"
    NO_PROOF = "no-proof"
    WRONG = "wrong"
    BUSY = "busy"


@dataclass(frozen=True)
class Rebuilt:
    """A work of the archive, what became of its rows, and why."""

    work_rid: str
    ending: RebuildVerdict
    why: str = ""


def lost(here: Site) -> list[Archived]:
    """The works that lie in the archive and have no sync row; not those that are on their way.

    Raises:
        ArchiveMissing: the archive cannot be listed.
        DatabaseUnavailable: the database is out of reach.
    """
    verify.see_archive(here)
    return [work for work in verify.everything(here) if not work.sync_id]


def rebuild(here: Site, work: Archived, *, read: bool, pulse: Pulse) -> Rebuilt:
    """Write a work's rows, if it is as its proof says; safe to do again.

    Args:
        here: the site.
        work: which lies in the archive.
        read: read every byte of it, as `verify` does, and not only names and sizes.
        pulse: as for `verify.check_work`.

    Raises:
        ArchiveMissing: the archive is out of reach.
        DatabaseUnavailable: the database is out of reach.
    """
    rid, folder = work.work_rid, archive_dir(here.settings.archive_root, work.work_rid)
    try:
        seen = sync.at_sight(folder, rid)
    except OSError as error:
        return Rebuilt(rid, RebuildVerdict.WRONG, f"{error.filename or folder}: {error.strerror}")
    if seen.wrong:
        first, more = seen.wrong[0], len(seen.wrong) - 1
        return Rebuilt(
            rid, RebuildVerdict.WRONG, f"{first}" + (f", and {human_count(more, 'more difference')}" if more else "")
        )
    if seen.proof is None:
        return Rebuilt(rid, RebuildVerdict.NO_PROOF, "no proof of the pipeline's own is kept with it")
    if read:
        checked = verify.check_work(here, work, pulse=pulse, shared=True)
        if checked is None or checked.verdict is FixityVerdict.BUSY:
            return Rebuilt(rid, RebuildVerdict.BUSY, "a lane works on it, or another host reads it")
        if checked.verdict is not FixityVerdict.PASSED:
            return Rebuilt(rid, RebuildVerdict.WRONG, ", ".join(map(str, checked.result.wrong[:3])))
    with here.leased(rid, rebuilt.stand_in(rid).bag_id) as ours:
        if ours:
            told = {"archive_path": str(folder.absolute()), "files": seen.files, "bytes": seen.bytes}
            facts = {**told, "algorithms": seen.algorithms, "proof": asdict(seen.proof), "rebuilt": True}
            rebuilt.put(
                here.engine, here.leases, rid, {**told, "facts": facts}, at=datetime.fromtimestamp(seen.kept_at, UTC)
            )
    return Rebuilt(rid, RebuildVerdict.REBUILT) if ours else Rebuilt(rid, RebuildVerdict.BUSY, "a lane works on it")
