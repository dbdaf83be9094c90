"""What became of the audit tool's two runs: on the work before the copy, on the archive copy after it.

Whoever copies audits, so that nothing is audited twice: the sync script runs the tool itself, as BDRC's does. The one
shipped tells what came of it in a file beside its log; of another script's audits only its exit status is known. Where
no script copies, the step itself runs the tool.
"""

import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.foundation import durable, failpoints
from pipeline.sync.call import Call
from pipeline.sync.job import LoggedJob, begun
from pipeline.sync.narrowing import SyncOptions
from pipeline.sync.process import Ended

AUDIT_TOOL = "audit-tool"
PASSED, FAILED, NOT_RUN, TIMED_OUT = "passed", "failed", "not run", "timed out"
WHEN = ("pre", "post")
ENDED_BEFORE = "the sync ended before it"

_TOLD = "audits.txt"
_LIMIT_BYTES = 64 * 1024
_RUN = 'exec "$@"'  # nothing of the work's is read by the shell

Audits = Mapping[str, str]
"""By `pre` and `post`: one of the words above, with a reason after a colon where there is one."""


def none_run(why: str) -> Audits:
    """Neither audit was run."""
    return dict.fromkeys(WHEN, f"{NOT_RUN}: {why}")


def told(folder: Path, *, path: str) -> Audits:
    """What a sync script told of its audits; the file in which it did is taken away.

    Args:
        folder: `syncLogDateTimeDir`. Lines of `audits.txt` in it are `pre passed`, `post not run: why`.
        path: the `PATH` on which the script looked for the tool.
    """
    found = dict(_lines(folder / _TOLD))
    if shutil.which(AUDIT_TOOL, path=path) is None:
        silent = f"{NOT_RUN}: {AUDIT_TOOL} is not installed"
    else:
        silent = f"{NOT_RUN}: {ENDED_BEFORE}" if found else "left to the script"
    return {when: found.get(when, silent) for when in WHEN}


def failures(audits: Audits) -> list[str]:
    """The audits in which a test failed: `pre`, `post`."""
    return [when for when, outcome in audits.items() if outcome.partition(":")[0] == FAILED]


def _lines(file: Path) -> list[tuple[str, str]]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LIMIT_BYTES)
        file.unlink()
    except FileNotFoundError:
        return []
    lines = [line.partition(" ") for line in content.decode("utf-8", "backslashreplace").splitlines()]
    return [(when, outcome[:200]) for when, _, outcome in lines if when in WHEN and outcome.isprintable()]


def ended_before_copy(audits: Audits) -> bool:
    """Whether the sync ended in the audit before the copy: then nothing was written."""
    before = audits["pre"].partition(":")[0] not in {PASSED, NOT_RUN}
    return before and audits["post"] == f"{NOT_RUN}: {ENDED_BEFORE}"


class Auditor:
    """Runs the tool with its options, time limit and logs, as `bin/syncOneWork.sh` does; nothing where there is none.

    Attributes:
        audits: what became of both runs so far.
        log: what the tool printed; None where it is not installed.
    """

    def __init__(self, call: Call, chosen: SyncOptions, job: LoggedJob | None) -> None:
        self._site = call.site
        self._words = {"pre": chosen.audit_pre, "post": chosen.audit_post}
        self._job = job
        self.audits = dict(none_run(ENDED_BEFORE if job else f"{AUDIT_TOOL} is not installed"))
        self.log = job.logs.log if job else None

    def run(self, when: str, folder: Path) -> None:
        """Audit a folder; `when` is `pre` or `post`.

        Raises:
            AuditFailed: a test failed.
            SyncFailed: the tool took too long, or broke off.
            LeaseLost: it ran longer than it might.
            OSError: it cannot be run, or its log cannot be written.
        """
        job = self._job
        if job is None:
            return
        tool = shutil.which(AUDIT_TOOL, path=self._site.path) or AUDIT_TOOL
        words = [tool, "-l", str(job.logs.audit_logs), *self._words[when], str(folder)]
        job.transcript.note(f"{when} audit: {words}")
        ended = job.run(["bash", "-c", _RUN, AUDIT_TOOL, *words], time_limit_seconds=self._site.audit_limit_seconds)
        outcome = self.audits[when] = self._outcome(ended)
        job.transcript.note(f"{when} audit: {outcome}")
        if outcome != PASSED:
            raise job.failure(
                f"the {when} audit {outcome}",
                audited=outcome == FAILED,
                audits=self.audits,
                copy="nothing was written" if when == "pre" else f"the archive copy stays at {folder}, not recorded",
            )

    def _outcome(self, ended: Ended) -> str:
        if ended.timed_out:
            return f"{TIMED_OUT}: after {self._site.audit_limit_seconds} s"
        if ended.status < 0:
            return f"broke off: {signal.Signals(-ended.status).name}"
        return {0: PASSED, 1: FAILED}.get(ended.status, f"broke off: exit status {ended.status}")


@contextmanager
def audited(call: Call, chosen: SyncOptions) -> Iterator[Auditor]:
    """An auditor for one call, with logs of its own where the tool is installed.

    `call.unfinished` stands until the block has ended well: a test that failed after the copy must not pass for
    success at the next attempt, when nothing is missing in the archive any more.

    Raises:
        OSError: the logs cannot be made.
    """
    if shutil.which(AUDIT_TOOL, path=call.site.path) is None:
        yield Auditor(call, chosen, None)
    else:
        durable.write_file(call.unfinished, b"")
        with begun(call, chosen) as job:
            yield Auditor(call, chosen, job)
    failpoints.see_allowed()
    call.unfinished.unlink(missing_ok=True)
