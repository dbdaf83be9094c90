"""The audit tool, run by the step itself where no script does it: on the work before the copy, on the copy after it."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.foundation import durable, failpoints
from pipeline.foundation.errors import AuditFailed, SyncFailed
from pipeline.sync import audit, process
from pipeline.sync import job as jobs
from pipeline.sync.audit import FAILED, PASSED, TIMED_OUT, TOOL
from pipeline.sync.call import Call
from pipeline.sync.options import Options
from pipeline.sync.transcript import Transcript

_RUN = 'exec "$@"'  # nothing of the work's is read by the shell


class Auditor:
    """Runs the tool with its options, time limit and logs, as `bin/syncOneWork.sh` does; nothing where there is none.

    Attributes:
        audits: what became of both runs so far.
        log: what the tool printed; None where it is not installed.
    """

    def __init__(self, call: Call, chosen: Options, job: jobs.Job | None, transcript: Transcript | None) -> None:
        self._call = call
        self._words = {"pre": chosen.audit_pre, "post": chosen.audit_post}
        self._environment = chosen.environment()
        self._job = job
        self._transcript = transcript
        self.audits = dict(audit.none_run(f"{TOOL} is not installed" if job is None else audit.ENDED_BEFORE))
        self.log = None if job is None else job.log

    def run(self, when: str, folder: Path) -> None:
        """Audit a folder; `when` is `pre` or `post`.

        Raises:
            AuditFailed: a test failed.
            SyncFailed: the tool took too long, or broke off.
            LeaseLost: it ran longer than it might.
            OSError: it cannot be run, or its log cannot be written.
        """
        job, transcript, site = self._job, self._transcript, self._call.site
        if job is None or transcript is None:
            return
        tool = shutil.which(TOOL, path=site.path) or TOOL
        words = [tool, "-l", str(job.audit_logs), *self._words[when], str(folder)]
        transcript.note(f"{when} audit: {words}")
        ended = process.run(
            ["bash", "-c", _RUN, TOOL, *words],
            environment={**jobs.environment(site, job), **self._environment},
            folder=job.sync_logs,
            transcript=transcript,
            beat=lambda: self._call.pulse(0, 0),
            time_limit_seconds=site.audit_limit_seconds,
            grace_seconds=site.grace_seconds,
            until=self._call.until,
        )
        if ended.overdue:
            raise self._call.overdue()
        self.audits[when] = self._outcome(ended)
        transcript.note(f"{when} audit: {self.audits[when]}")
        if self.audits[when] != PASSED:
            raise self._failure(when, folder, transcript.last_lines())

    def _outcome(self, ended: process.Ended) -> str:
        if ended.timed_out:
            return f"{TIMED_OUT}: after {self._call.site.audit_limit_seconds} s"
        if ended.status < 0:
            return f"broke off: {signal.Signals(-ended.status).name}"
        return {0: PASSED, 1: FAILED}.get(ended.status, f"broke off: exit status {ended.status}")

    def _failure(self, when: str, folder: Path, last_lines: list[str]) -> AuditFailed | SyncFailed:
        call, job = self._call, self._job
        assert job is not None
        outcome = self.audits[when]
        kind = AuditFailed if outcome == FAILED else SyncFailed
        said = f"; it ended with: {' / '.join(last_lines[-3:])}" if last_lines else "; it printed nothing"
        copy = "nothing was written" if when == "pre" else f"the archive copy stays at {folder}, not recorded"
        return kind(
            f"the {when} audit {outcome}{said}",
            work_rid=call.work_rid,
            kept=f"{copy}; what it printed is in {job.log}, its logs are in {job.audit_logs}; {call.staging_kept}",
            go_on=call.mended(audited=outcome == FAILED),
            facts={
                "audits": dict(self.audits),
                "audit_logs": str(job.audit_logs),
                "log": str(job.log),
                "last_lines": last_lines,
                "archive": str(call.folder),
                "staging": str(call.work_dir),
            },
        )


@contextmanager
def audited(call: Call, chosen: Options) -> Iterator[Auditor]:
    """An auditor for one call, with logs of its own where the tool is installed.

    `call.unfinished` stands until the block has ended well: a test that failed after the copy must not pass for
    success at the next attempt, when nothing is missing in the archive any more.

    Raises:
        OSError: the logs cannot be made.
    """
    if shutil.which(TOOL, path=call.site.path) is None:
        yield Auditor(call, chosen, None, None)
        failpoints.see_allowed()
        call.unfinished.unlink(missing_ok=True)
        return
    durable.write_file(call.unfinished, b"")
    job = jobs.opened(call.site)
    try:
        with Transcript(job.log, work_rid=call.work_rid, limit_bytes=call.site.log_limit_bytes) as transcript:
            yield Auditor(call, chosen, job, transcript)
    finally:
        jobs.close(job)
    failpoints.see_allowed()
    call.unfinished.unlink()
