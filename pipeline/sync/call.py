"""One call of the sync step: its values, whether the archive and the work's place in it are there, and its failures."""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.foundation import durable, fixity
from pipeline.foundation.errors import (
    ArchiveConflict,
    ArchiveMissing,
    LeaseLost,
    NoRoom,
    NotToBeArchived,
    PipelineError,
    ReadBackFailed,
    StagingDamaged,
    SyncFailed,
)
from pipeline.foundation.fixity import Fixity
from pipeline.foundation.work import Pulse, archive_shares, human_bytes
from pipeline.sync import narrowing, replaced
from pipeline.sync.narrowing import SyncOptions
from pipeline.sync.readback import Comparison, Difference
from pipeline.sync.replaced import ArchiveJournal
from pipeline.sync.site import BUILTIN, SyncSettings
from pipeline.sync.trees import staging_faults

_NAMED = 10  # files told in a sentence; all are in the facts
_Failure = TypeVar("_Failure", bound=PipelineError)


@dataclass(frozen=True)
class Call:
    """The work and where it lies; each method makes the failure that it is named after."""

    work_rid: str
    work_dir: Path
    folder: Path
    site: SyncSettings
    pulse: Pulse
    threads: int
    replace: bool = False
    again: bool = False
    until: Callable[[], float] | None = None

    @property
    def share(self) -> Path:
        """The share point that the work's place is in."""
        return self.folder.parent.parent

    @property
    def in_archive(self) -> bool:
        """Whether debag unpacked the work in the archive: see `one_copy`."""
        return self.site.copier == BUILTIN and self.work_dir.is_relative_to(self.site.archive_root.absolute())

    @property
    def moved(self) -> bool:
        """Whether it has its name there already: an earlier call gave it, or this one."""
        return self.in_archive and not os.path.lexists(self.work_dir) and self.folder.is_dir()

    @property
    def source(self) -> Path:
        """Where the bag's files are, whether they have been moved or not."""
        return self.folder if self.moved else self.work_dir

    @property
    def journal(self) -> ArchiveJournal:
        """What was done with the work's archive copy; it lies beside the work in staging."""
        return ArchiveJournal.load(self.work_dir.with_name(f".{self.work_rid}.sync-journal"))

    @property
    def unfinished(self) -> Path:
        """Stands beside the work in staging from before the script is run until it has exited 0.

        While it stands the script is run also when the archive copy is whole: a script does more than copying (web
        copy, audit), and its failure there must not pass for success at the second attempt.
        """
        return self.work_dir.with_name(f".{self.work_rid}.sync-unfinished")

    @property
    def has_to_run(self) -> bool:
        """Whether script or audits have to be run though nothing is to be copied."""
        return self.again or self.unfinished.exists()

    def failure(
        self,
        kind: type[_Failure],
        what: str,
        *again: str,
        kept: str = "nothing was written",
        by_hand: str = "",
        **facts: object,
    ) -> _Failure:
        """A failure of this call; staging is kept, and named. `again`: options of the command to go on with."""
        return kind(
            what,
            work_rid=self.work_rid,
            kept=f"{kept}; staging kept at {self.work_dir}",
            go_on=("work", self.work_rid, *again),
            by_hand=by_hand,
            facts={**facts, "archive": str(self.folder), "staging": str(self.work_dir)},
        )

    def staged(self, digests: Path) -> Fixity:
        """The verified digests of the work, once its folder has exactly these files in these sizes.

        Raises:
            StagingDamaged: the digests or the folder are not as debag leaves them; everything wrong is named.
        """
        try:
            known = fixity.load(digests)
        except StagingDamaged as error:
            raise self.failure(StagingDamaged, error.what, "--from", "debag") from error
        if not self.moved:
            by_script = self.site.copier != BUILTIN  # which does not read back what it writes before it has its name
            if problems := staging_faults(self.work_dir, known, work_rid=self.work_rid, sizes=by_script):
                raise self.staging_changed(problems)
        return known

    def staging_changed(self, problems: Sequence[object]) -> StagingDamaged:
        """The files in staging are not what debag has verified."""
        return self.failure(
            StagingDamaged,
            f"staging is not what debag left: {_named(problems)}",
            *("--from", "debag"),
            kept="nothing was published in the archive",
            problems=[str(problem) for problem in problems],
        )

    def check_place(self) -> None:
        """The archive is there, and the work's folder is in it and no other work's.

        A share point may be a link (that is how mounts are arranged); what lies below one may not.

        Raises:
            ArchiveMissing: the archive is not there.
            ArchiveConflict: a link leads elsewhere, or the folder is none.
        """
        if missing := self.missing_archive():
            raise missing
        meant, leads = (
            os.path.join(os.path.realpath(self.share), *self.folder.parts[-2:]),
            os.path.realpath(self.folder),
        )
        if leads != meant:
            wrong = Difference(str(self.folder), f"a link leads to {leads}")
        elif os.path.lexists(self.folder) and not self.folder.is_dir():
            wrong = Difference(str(self.folder), "is no folder")
        else:
            return
        raise self.failure(
            ArchiveConflict,
            f"the work has no place in the archive: {wrong}",
            by_hand="move aside what is there",
            differences=_listed([wrong]),
        )

    def missing_archive(self) -> ArchiveMissing | None:
        """The archive is not there: None if it is."""
        root = self.site.archive_root.absolute()
        missing = unmounted(root, self.share, self.site.mount_marker)
        if not missing:
            return None
        return self.failure(
            ArchiveMissing,
            f"{missing}; it may be unmounted",
            kept="nothing was published there",
            by_hand="mount it",
            archive_root=str(root),
            share=str(self.share),
            mount_marker=self.site.mount_marker,
        )

    def conflict(self, differences: Sequence[Difference]) -> ArchiveConflict:
        """The archive has something else under the work's names."""
        return self.failure(
            ArchiveConflict,
            f"the archive already has other content than the bag under {_named(differences)}",
            "--replace",
            kept=f"nothing was written; the archive copy stays as it was at {self.folder}",
            by_hand=f"find out which is right; what the bag replaces is kept at {replaced.place(self.folder)}",
            differences=_listed(differences),
        )

    def not_proved(self, found: Comparison, what: str, *, kept: str = "", log: Path | None = None) -> ReadBackFailed:
        """The copy is incomplete, wrong or unreadable; `log` is that of the script which made it."""
        return self.failure(
            ReadBackFailed,
            f"{what}: {len(found.wrong)} of its files: {_named(found.wrong)}",
            kept=f"{kept or f'the archive copy stays at {self.folder}'}, {found.matched} of its files matched",
            by_hand="look at the archive's disk",
            missing=list(found.missing),
            differences=_listed([*found.differing, *found.unreadable]),
            extra=list(found.extra),
            algorithms=list(found.algorithms),
            cache_dropped=found.cache_dropped,
            log=str(log or ""),
        )

    def see_room(self, size_bytes: int, kept: str = "nothing was written", *, log: Path | None = None) -> None:
        """Whether a full archive is what keeps, or kept, the work from being copied; `log`: of a copy that was begun.

        Raises:
            NoRoom: less space is left there than `size_bytes`.
        """
        free = durable.free_bytes(self.share if self.share.is_dir() else self.site.archive_root)
        if free is not None and free < size_bytes:
            raise self.failure(
                NoRoom,
                f"no space left in the archive {self.share}: {human_bytes(free)} free, "
                f"the work needs {human_bytes(size_bytes)}",
                kept=kept,
                by_hand="make room there",
                log=str(log or ""),
            )

    def kept_out(self, chosen: SyncOptions) -> NotToBeArchived:
        """The work is not home, and by its own options never will be."""
        error = self.failure(
            NotToBeArchived,
            f"its own {narrowing.WORK_FILE} says sync.archive: false, and the archive does not have all of it",
            by_hand="mend the bag, or archive it all the same, as follows",
            options=chosen.facts(),
        )
        error.go_on = narrowing.by_site_alone(self.work_rid)
        return error

    def overdue(self) -> LeaseLost:
        """The guard ended what was started: nobody could renew the lease in time, or look what had become of it."""
        return self.failure(
            LeaseLost,
            "the sync script or an audit was ended with its children, as the lease could not be renewed in time",
            kept=f"the archive copy may be partial at {self.folder}",
        )

    def unusable(self, error: OSError) -> PipelineError:
        """The system refused something: a full disk, a read-only or vanished archive, logs that cannot be written."""
        return self.missing_archive() or self.failure(
            NoRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else SyncFailed,
            f"{error.filename or self.folder}: {error.strerror or error}",
            kept=f"the archive copy may be partial at {self.folder}",
            errno=error.errno,
        )


def unmounted(archive_root: Path, share: Path, marker: str) -> str:
    """What shows that the archive is not mounted; empty if nothing does.

    Args:
        archive_root: the folder of the share points.
        share: the share point that is meant.
        marker: name of a file that lies in each share point of the mounted archive, and not in the folder below the
            mount; empty = such files are not used.
    """
    if not archive_root.is_dir():
        return f"the archive {archive_root} does not exist"
    if marker and not (share / marker).is_file():
        return f"{share} has no {marker}"
    return ""


def unmarked(archive_root: Path, marker: str) -> list[str]:
    """The share points that lack the marker."""
    return [share.name for share in archive_shares(archive_root) if unmounted(archive_root, share, marker)]


def _named(differences: Sequence[object]) -> str:
    more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
    return ", ".join(str(difference) for difference in differences[:_NAMED]) + more


def _listed(differences: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"path": difference.path, "detail": difference.detail} for difference in differences]
