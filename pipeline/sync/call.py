"""One call of the sync step: its values, and the sentences for an operator that they make."""

import errno
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation import durable
from pipeline.foundation.errors import (
    ArchiveConflict,
    ArchiveMissing,
    AuditFailed,
    LeaseLost,
    NoRoom,
    NotToBeArchived,
    ReadBackFailed,
    StagingDamaged,
    SyncFailed,
)
from pipeline.foundation.work import Pulse, human_bytes
from pipeline.sync import audit, options, place, process, replaced
from pipeline.sync.job import Job
from pipeline.sync.options import Options
from pipeline.sync.readback import Comparison, Difference
from pipeline.sync.site import Site

_NAMED = 10  # files told in a sentence; all are in the facts


@dataclass(frozen=True)
class Call:
    """The work and where it lies; each method makes the failure that it is named after."""

    work_rid: str
    work_dir: Path
    folder: Path
    site: Site
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
    def journal(self) -> Path:
        """Beside the work in staging: what was done with its archive copy (`aside.Journal`)."""
        return self.work_dir.with_name(f".{self.work_rid}.sync-journal")

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

    @property
    def command(self) -> str:
        """The command to go on with."""
        return f"run_pipeline.py work {shlex.quote(self.work_rid)}"

    def mended(self, *, audited: bool) -> str:
        """The command to go on with once the work, or what the site does with it, was mended."""
        return f"mend the work or the site's tests, then {self.command}" if audited else self.command

    @property
    def staging_kept(self) -> str:
        """Where the work's bytes are, besides the archive."""
        return f"staging kept at {self.work_dir}"

    def check_place(self) -> None:
        """The archive is there, and the work's folder is in it and no other work's.

        Raises:
            ArchiveMissing: the archive is not there.
            ArchiveConflict: a link leads elsewhere, or the folder is none.
        """
        if missing := self.missing_archive():
            raise missing
        if wrong := place.not_a_place(self.folder):
            raise ArchiveConflict(
                f"the work has no place in the archive: {wrong}",
                work_rid=self.work_rid,
                kept=f"nothing was written; {self.staging_kept}",
                go_on=f"move aside what is there, then {self.command}",
                facts={"differences": _listed([wrong]), "archive": str(self.folder), "staging": str(self.work_dir)},
            )

    def missing_archive(self) -> ArchiveMissing | None:
        """The archive is not there: None if it is."""
        root = self.site.archive_root.absolute()
        missing = place.unmounted(root, self.share, self.site.mount_marker)
        if not missing:
            return None
        return ArchiveMissing(
            f"{missing}; it may be unmounted",
            work_rid=self.work_rid,
            kept=f"nothing was published there; {self.staging_kept}",
            go_on=f"mount it, then {self.command}",
            facts={"archive_root": str(root), "share": str(self.share), "mount_marker": self.site.mount_marker},
        )

    def conflict(self, differences: Sequence[Difference]) -> ArchiveConflict:
        """The archive has something else under the work's names."""
        return ArchiveConflict(
            f"the archive already has other content than the bag under {_named(differences)}",
            work_rid=self.work_rid,
            kept=f"nothing was written; the archive copy stays as it was at {self.folder}; {self.staging_kept}",
            go_on=f"find out which is right; if the bag is: {self.command} --replace (what it replaces is kept at "
            f"{replaced.place(self.folder)})",
            facts={"differences": _listed(differences), "archive": str(self.folder), "staging": str(self.work_dir)},
        )

    def not_proved(self, found: Comparison, what: str, *, kept: str = "", log: Path | None = None) -> ReadBackFailed:
        """The copy is incomplete, wrong or unreadable; `log` is that of the script which made it."""
        kept = kept or f"the archive copy stays at {self.folder}"
        return ReadBackFailed(
            f"{what}: {len(found.wrong)} of its files: {_named(found.wrong)}",
            work_rid=self.work_rid,
            kept=f"{kept}, {found.matched} of its files matched; {self.staging_kept}",
            go_on=f"look at the archive's disk, then {self.command}",
            facts={
                "missing": list(found.missing),
                "differences": _listed([*found.differing, *found.unreadable]),
                "extra": list(found.extra),
                "algorithms": list(found.algorithms),
                "cache_dropped": found.cache_dropped,
                "log": str(log or ""),
                "archive": str(self.folder),
                "staging": str(self.work_dir),
            },
        )

    def staging_changed(self, differences: Sequence[Difference]) -> StagingDamaged:
        """The files in staging were no longer what debag had verified when they were copied."""
        return StagingDamaged(
            f"staging is not what debag left: {_named(differences)}",
            work_rid=self.work_rid,
            kept=f"nothing was published in the archive; {self.staging_kept}",
            go_on=f"{self.command} --from debag",
            facts={"problems": [str(difference) for difference in differences], "staging": str(self.work_dir)},
        )

    def see_room(self, size_bytes: int, kept: str, *, log: Path | None = None) -> None:
        """Whether a full archive is what keeps, or kept, the work from being copied; `log`: of a copy that was begun.

        Raises:
            NoRoom: less space is left there than `size_bytes`.
        """
        free = durable.free_bytes(self.share if self.share.is_dir() else self.site.archive_root)
        if free is not None and free < size_bytes:
            raise NoRoom(
                f"no space left in the archive {self.share}: {human_bytes(free)} free, "
                f"the work needs {human_bytes(size_bytes)}",
                work_rid=self.work_rid,
                kept=f"{kept}; {self.staging_kept}",
                go_on=f"make room there, then {self.command}",
                facts={"log": str(log or ""), "archive": str(self.folder), "staging": str(self.work_dir)},
            )

    def kept_out(self, chosen: Options) -> NotToBeArchived:
        """The work is not home, and by its own options never will be."""
        return NotToBeArchived(
            f"its own {options.WORK_FILE} says sync.archive: false, and the archive does not have all of it",
            work_rid=self.work_rid,
            kept=f"nothing was written; {self.staging_kept}",
            go_on=f"if it is to be archived all the same: PIPELINE_SYNC_WORK_OPTIONS=ignore {self.command}",
            facts={"options": chosen.facts(), "archive": str(self.folder), "staging": str(self.work_dir)},
        )

    def overdue(self) -> LeaseLost:
        """The guard ended what was started: nobody could renew the lease in time, or look what had become of it."""
        return LeaseLost(
            "the sync script or an audit was ended with its children, as the lease could not be renewed in time",
            work_rid=self.work_rid,
            kept=f"the archive copy may be partial at {self.folder}; {self.staging_kept}",
            go_on=self.command,
        )

    def script_failed(
        self, ended: process.Ended, job: Job, last_lines: list[str], audits: audit.Audits
    ) -> SyncFailed | AuditFailed:
        """The script said no, or took too long."""
        how = f"exited {ended.status}" if ended.status >= 0 else f"was ended by signal {-ended.status}"
        if ended.timed_out:
            how = f"was stopped after its time limit of {self.site.time_limit_seconds:g} s"
        said = f"; it ended with: {' / '.join(last_lines[-3:])}" if last_lines else "; it printed nothing"
        failed = [] if ended.timed_out else audit.failures(audits)
        kind, what = (AuditFailed, f"the {failed[0]} audit failed: ") if failed else (SyncFailed, "")
        partial = f"the archive copy may be partial at {self.folder}"
        copy = "nothing was written" if audit.ended_before_copy(audits) else partial
        return kind(
            f"{what}the sync script {how}{said}",
            work_rid=self.work_rid,
            kept=f"its log is {job.log}, the audit tool's logs are in {job.audit_logs}; {copy}; {self.staging_kept}",
            go_on=self.mended(audited=bool(failed)),
            facts={
                "exit_status": ended.status,
                "timed_out": ended.timed_out,
                "audits": dict(audits),
                "audit_logs": str(job.audit_logs),
                "log": str(job.log),
                "last_lines": last_lines,
                "archive": str(self.folder),
                "staging": str(self.work_dir),
            },
        )

    def unusable(self, error: OSError) -> NoRoom | SyncFailed | ArchiveMissing:
        """The system refused something: a full disk, a read-only or vanished archive, logs that cannot be written."""
        if missing := self.missing_archive():
            return missing
        kind = NoRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else SyncFailed
        return kind(
            f"{error.filename or self.folder}: {error.strerror or error}",
            work_rid=self.work_rid,
            kept=f"the archive copy may be partial at {self.folder}; {self.staging_kept}",
            go_on=self.command,
            facts={"errno": error.errno, "archive": str(self.folder), "staging": str(self.work_dir)},
        )


def _named(differences: Sequence[Difference]) -> str:
    more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
    return ", ".join(str(difference) for difference in differences[:_NAMED]) + more


def _listed(differences: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"path": difference.path, "detail": difference.detail} for difference in differences]
