"""A work comes home: checked, compared, written by the site's script, made durable, read back; in this order."""

import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from pipeline import durable
from pipeline.errors import TransientError
from pipeline.fixity import Fixity
from pipeline.steps.sync import audit, options, script, staging
from pipeline.steps.sync import job as jobs
from pipeline.steps.sync import proof as proofs
from pipeline.steps.sync.call import Call
from pipeline.steps.sync.options import Options
from pipeline.steps.sync.readback import Comparison, Difference, compare
from pipeline.steps.sync.site import Site, Synced
from pipeline.steps.sync.transcript import Transcript
from pipeline.work import Pulse, archive_dir, checked_rid, no_pulse


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
        OptionsNotUnderstood: the work's own `config/sync.yml` is not understood; nothing was written.
        NotToBeArchived: it keeps the work out of the archive, which does not have it; nothing was written.
        ArchiveConflict: the archive has other content under the same names; nothing was written.
        AuditFailed: a test of the audit tool failed.
        SyncFailed: the script's exit status was not 0, or its time was up, or the archive or a log cannot be used.
        ReadBackFailed: the archive copy is not what the bag says.
        NoRoom: a disk is full.
        TransientError: the archive is not there; it may be unmounted.
    """
    started = time.monotonic()
    folder = archive_dir(site.archive_root.absolute(), checked_rid(work_rid))
    call = _Home(work_rid, work_dir.absolute(), folder, site, pulse, threads)
    try:
        known = staging.checked(call.work_dir, digests, work_rid=work_rid)
        synced = call.bring_home(known, started)
    except OSError as error:
        raise call.unusable(error) from error
    return synced


class _Home(Call):
    """The steps of one call, in running order."""

    def bring_home(self, known: Fixity, started: float) -> Synced:
        """Compare, write where needed, make durable, read back."""
        self.check_place()
        chosen = self.chosen()
        before, log, audits = self.existing(known), None, audit.none_run("nothing was to be copied")
        if before.missing and not chosen.archive:
            raise self.kept_out(chosen)
        proof = before
        if before.missing or self.unfinished.exists():
            log, audits = self.run_script(known, chosen)
            self.check_place()
            proof = self.read_back(known, log)
        kept = proofs.keep(self.folder, known, extra=proof.extra)
        return Synced(
            path=self.folder,
            files=len(known.files),
            bytes=known.size_bytes,
            written=bool(before.missing),
            added=len(before.missing),
            extra=tuple(name for name in proof.extra if name != kept.name),
            log=log,
            seconds=time.monotonic() - started,
            algorithms=proof.algorithms,
            cache_dropped=proof.cache_dropped,
            options=chosen,
            audits=audits,
            proof=kept,
        )

    def chosen(self) -> Options:
        """The site's options, narrowed by the work's own file where such files are heeded."""
        site = self.site.options
        return options.of_work(self.work_dir, work_rid=self.work_rid, site=site) if self.site.heed_works else site

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

    def run_script(self, known: Fixity, chosen: Options) -> tuple[Path, audit.Audits]:
        """Run the site's script; returns its log, and what became of its audits."""
        if not self.folder.exists():
            self.see_room(known, "nothing was written")
        durable.write_file(self.unfinished, b"")
        job = jobs.opened(self.site)
        root = self.site.archive_root.absolute()
        command = ["bash", str(self.site.script.absolute())]
        command += chosen.arguments(archive_parent=f"{root}/Archive", web_parent=self.site.web_parent)
        command += ["-s", str(job.successes), str(self.work_dir)]
        with Transcript(job.log, work_rid=self.work_rid, limit_bytes=self.site.log_limit_bytes) as transcript:
            transcript.note(f"{job.date_time}: {shlex.join(command)}; options: {chosen.facts()}")
            ended = script.run(
                command,
                environment={**jobs.environment(self.site, job), **chosen.environment()},
                folder=job.sync_logs,
                transcript=transcript,
                beat=_beat(self.pulse, known.size_bytes),
                time_limit_seconds=self.site.time_limit_seconds,
                grace_seconds=self.site.grace_seconds,
            )
            transcript.note(f"exit status {ended.status}")
        audits = audit.told(job.sync_logs, path=self.site.path)
        jobs.close(job)
        if ended.status != 0:
            self.see_room(known, f"the sync script's log is {job.log}")
        if ended.status != 0 or ended.timed_out:
            raise self.script_failed(ended, job, transcript.last_lines(), audits)
        self.unfinished.unlink()
        return job.log, audits

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


def _beat(pulse: Pulse, total: int) -> Callable[[], None]:
    """While the script runs nothing is proved yet."""
    return lambda: pulse(0, total)
