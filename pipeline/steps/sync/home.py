"""A work comes home: checked, compared, written by the site's script, made durable, read back; in this order."""

import errno
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import durable
from pipeline.errors import ArchiveConflict, NoRoom, ReadBackFailed, SyncFailed, TransientError
from pipeline.fixity import Fixity
from pipeline.steps.sync import job as jobs
from pipeline.steps.sync import script, staging
from pipeline.steps.sync.readback import Comparison, Difference, compare
from pipeline.steps.sync.site import Site, Synced
from pipeline.steps.sync.transcript import Transcript
from pipeline.work import Pulse, archive_dir, checked_rid, human_bytes, no_pulse

_NAMED = 10  # files told in a sentence; all are in the facts


def archive(  # the interface that the tasks are written against
    work_dir: Path, digests: Path, *, work_rid: str, site: Site, pulse: Pulse = no_pulse, threads: int = 0
) -> Synced:
    """Bring the archive copy of a work to hold every file of its bag, and prove it.

    When this returns, every file was read back from the archive and matched in every algorithm, and all of it is
    durable: only then may the caller commit its row and clear staging. Killed at any instant and called again, it ends
    in the same archive. Nothing in the archive that has other content is ever overwritten, nothing is deleted.

    Args:
        work_dir: the unpacked work, a folder named by its RID.
        digests: what `fixity.save` wrote for it.
        work_rid: the work.
        site: archive, script and its environment.
        pulse: called several times a second with (bytes proved, bytes in all); it may raise to stop, which is safe.
        threads: how many files are read back at a time; 0 = as many as there are processors.

    Raises:
        StagingDamaged: staging is not what debag left.
        ArchiveConflict: the archive has other content under the same names; nothing was written.
        SyncFailed: the script's exit status was not 0, or its time was up, or the archive or a log cannot be used.
        ReadBackFailed: the archive copy is not what the bag says.
        NoRoom: a disk is full.
        TransientError: the archive is not there; it may be unmounted.
    """
    started = time.monotonic()
    folder = archive_dir(site.archive_root.absolute(), checked_rid(work_rid))
    call = _Call(work_rid, work_dir.absolute(), folder, site, pulse, threads)
    try:
        known = staging.checked(call.work_dir, digests, work_rid=work_rid)
        synced = call.bring_home(known, started)
    except OSError as error:
        raise call.unusable(error) from error
    return synced


@dataclass(frozen=True)
class _Call:
    """One call of `archive`: its values, and the sentences for an operator that they make."""

    work_rid: str
    work_dir: Path
    folder: Path
    site: Site
    pulse: Pulse
    threads: int

    def bring_home(self, known: Fixity, started: float) -> Synced:
        """Compare, write where needed, make durable, read back."""
        self.check_place()
        before, log = self.existing(known), None
        proof = before
        if before.missing or self.unfinished.exists():
            log = self.run_script(known)
            self.check_place()
            proof = self.read_back(known, log)
        return Synced(
            path=self.folder,
            files=len(known.files),
            bytes=known.size_bytes,
            written=bool(before.missing),
            added=len(before.missing),
            extra=proof.extra,
            log=log,
            seconds=time.monotonic() - started,
            algorithms=proof.algorithms,
            cache_dropped=proof.cache_dropped,
        )

    def check_place(self) -> None:
        """The archive is there, and the work's folder is in it and no other work's.

        A share point may be a link (that is how mounts are arranged); what lies below one may not.
        """
        root, share = self.site.archive_root.absolute(), self.folder.parent.parent
        if not root.is_dir():
            raise TransientError(
                f"the archive {root} does not exist; it may be unmounted",
                work_rid=self.work_rid,
                kept=f"nothing was written; {self.staging_kept}",
                go_on=f"mount it, then {self.again}",
                facts={"archive_root": str(root)},
            )
        meant = os.path.join(os.path.realpath(share), *self.folder.relative_to(share).parts)
        if os.path.realpath(self.folder) != meant:
            detail = f"a link leads to {os.path.realpath(self.folder)}"
        elif os.path.lexists(self.folder) and not self.folder.is_dir():
            detail = "is no folder"
        else:
            return
        raise self.conflict([Difference(str(self.folder), detail)])

    def existing(self, known: Fixity) -> Comparison:
        """What the archive has of this work; the script's changes are only made where nothing differs."""
        if not self.folder.exists():
            return Comparison(missing=tuple(known.files))
        durable.sync_file_system(self.folder)  # it may be there in memory only, from a run that was killed
        found = compare(self.folder, known, threads=self.threads, pulse=self.pulse)
        if found.differing:
            raise self.conflict(found.differing)
        if found.unreadable:
            raise self.not_proved(found, "the existing archive copy cannot be read")
        return found

    def run_script(self, known: Fixity) -> Path:
        """Run the site's script; returns its log."""
        if not self.folder.exists():
            self.see_room(known, "nothing was written")
        durable.write_file(self.unfinished, b"")
        job = jobs.opened(self.site)
        root = self.site.archive_root.absolute()
        command = ["bash", str(self.site.script.absolute()), "-a", f"{root}/Archive"]
        if self.site.web_parent:
            command += ["-w", self.site.web_parent]
        command += ["-s", str(job.successes), str(self.work_dir)]
        with Transcript(job.log, work_rid=self.work_rid, limit_bytes=self.site.log_limit_bytes) as transcript:
            transcript.note(f"{job.date_time}: {shlex.join(command)}")
            ended = script.run(
                command,
                environment=jobs.environment(self.site, job),
                folder=job.sync_logs,
                transcript=transcript,
                beat=_beat(self.pulse, known.size_bytes),
                time_limit_seconds=self.site.time_limit_seconds,
                grace_seconds=self.site.grace_seconds,
            )
            transcript.note(f"exit status {ended.status}")
        jobs.close(job)
        if ended.status != 0:
            self.see_room(known, f"the sync script's log is {job.log}")
        if ended.status != 0 or ended.timed_out:
            raise self.script_failed(ended, job.log, transcript.last_lines())
        self.unfinished.unlink()
        return job.log

    def read_back(self, known: Fixity, log: Path) -> Comparison:
        """Read the copy from the storage and match it: made durable first, for dirty pages stay in the cache."""
        if not self.folder.exists():
            found = Comparison(missing=tuple(known.files))
        else:
            durable.sync_file_system(self.folder)
            found = compare(self.folder, known, threads=self.threads, pulse=self.pulse)
        if not found.whole:
            raise self.not_proved(found, f"the sync script exited 0 (its log: {log}), but the archive copy is wrong")
        return found

    @property
    def unfinished(self) -> Path:
        """Stands beside the work in staging from before the script is run until it has exited 0.

        While it stands the script is run also when the archive copy is whole: a script does more than copying (web
        copy, audit), and its failure there must not pass for success at the second attempt.
        """
        return self.work_dir.with_name(f".{self.work_rid}.sync-unfinished")

    @property
    def again(self) -> str:
        """The command to go on with."""
        return f"run_pipeline.py work {shlex.quote(self.work_rid)}"

    @property
    def staging_kept(self) -> str:
        """Where the work's bytes are, besides the archive."""
        return f"staging kept at {self.work_dir}"

    def conflict(self, differences: Sequence[Difference]) -> ArchiveConflict:
        """The archive has something else under the work's names."""
        return ArchiveConflict(
            f"the archive already has other content than the bag under {_named(differences)}",
            work_rid=self.work_rid,
            kept=f"nothing was written; the archive copy stays as it was at {self.folder}; {self.staging_kept}",
            go_on=f"find out which is right, move aside what should not be in the archive, then {self.again}",
            facts={"differences": _listed(differences), "archive": str(self.folder), "staging": str(self.work_dir)},
        )

    def not_proved(self, found: Comparison, what: str) -> ReadBackFailed:
        """The copy is incomplete, wrong or unreadable."""
        differing = [*found.differing, *found.unreadable]
        first = "move the files that differ out of the archive, then " if found.differing else ""
        return ReadBackFailed(
            f"{what}: {len(found.wrong)} of its files: {_named(found.wrong)}",
            work_rid=self.work_rid,
            kept=f"the archive copy stays at {self.folder}, {found.matched} of its files matched; {self.staging_kept}",
            go_on=first + self.again,
            facts={
                "missing": list(found.missing),
                "differences": _listed(differing),
                "extra": list(found.extra),
                "algorithms": list(found.algorithms),
                "cache_dropped": found.cache_dropped,
                "archive": str(self.folder),
                "staging": str(self.work_dir),
            },
        )

    def see_room(self, known: Fixity, kept: str) -> None:
        """Whether a full archive is what keeps, or kept, the script from copying.

        Raises:
            NoRoom: less space is left there than the whole work needs.
        """
        disk = os.statvfs(self.site.archive_root)
        free = disk.f_bavail * disk.f_frsize
        if free < known.size_bytes:
            raise NoRoom(
                f"no space left in the archive {self.site.archive_root}: {human_bytes(free)} free, "
                f"the work has {human_bytes(known.size_bytes)}",
                work_rid=self.work_rid,
                kept=f"{kept}; {self.staging_kept}",
                go_on=f"make room there, then {self.again}",
            )

    def script_failed(self, ended: script.Ended, log: Path, last_lines: list[str]) -> SyncFailed:
        """The script said no, or took too long."""
        how = f"exited {ended.status}" if ended.status >= 0 else f"was ended by signal {-ended.status}"
        if ended.timed_out:
            how = f"was stopped after its time limit of {self.site.time_limit_seconds:g} s"
        said = f"; it ended with: {' / '.join(last_lines[-3:])}" if last_lines else "; it printed nothing"
        return SyncFailed(
            f"the sync script {how}{said}",
            work_rid=self.work_rid,
            kept=f"its log is {log}; the archive copy may be partial at {self.folder}; {self.staging_kept}",
            go_on=self.again,
            facts={
                "exit_status": ended.status,
                "timed_out": ended.timed_out,
                "log": str(log),
                "last_lines": last_lines,
                "archive": str(self.folder),
                "staging": str(self.work_dir),
            },
        )

    def unusable(self, error: OSError) -> NoRoom | SyncFailed:
        """The system refused something: a full disk, a read-only or vanished archive, logs that cannot be written."""
        kind = NoRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else SyncFailed
        return kind(
            f"{error.filename or self.folder}: {error.strerror or error}",
            work_rid=self.work_rid,
            kept=f"the archive copy may be partial at {self.folder}; {self.staging_kept}",
            go_on=self.again,
            facts={"errno": error.errno, "archive": str(self.folder), "staging": str(self.work_dir)},
        )


def _beat(pulse: Pulse, total: int) -> Callable[[], None]:
    """While the script runs nothing is proved yet."""
    return lambda: pulse(0, total)


def _named(differences: Sequence[Difference]) -> str:
    more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
    return ", ".join(str(difference) for difference in differences[:_NAMED]) + more


def _listed(differences: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"path": difference.path, "detail": difference.detail} for difference in differences]
