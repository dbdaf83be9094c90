"""The archive copy made by the site's script: run, then proved, for its exit status is not believed."""

import shlex
from pathlib import Path

from pipeline.foundation import durable, failpoints
from pipeline.foundation.fixity import Fixity
from pipeline.sync import audit
from pipeline.sync.call import Call
from pipeline.sync.job import LoggedJob, begun
from pipeline.sync.narrowing import SyncOptions
from pipeline.sync.process import Ended
from pipeline.sync.readback import Comparison, compare


def run(
    call: Call, known: Fixity, before: Comparison, chosen: SyncOptions
) -> tuple[Comparison, Path | None, audit.Audits]:
    """Run the site's script where something is missing, or it has to run, and prove what it made.

    Args:
        call: the work, and where it lies.
        known: its verified digests.
        before: what the archive has of it; all of it matches.
        chosen: the options.

    Returns:
        the proof of the whole copy, the script's log if it was run, and what became of its audits.

    Raises:
        SyncFailed: its exit status was not 0, or its time was up.
        AuditFailed: a test of the audit tool failed.
        NoRoom: it ended so, and the archive is full.
        LeaseLost: it ran longer than it might.
        ReadBackFailed: what it made is not what the bag says.
    """
    if not (before.missing or call.has_to_run):
        return before, None, audit.none_run("nothing was to be copied")
    if not call.folder.exists():
        call.see_room(known.size_bytes)
    call.journal.wrote(before.missing)
    durable.write_file(call.unfinished, b"")
    with begun(call, chosen) as job:
        audits = _run(call, job, known, chosen)
    failpoints.see_allowed()
    call.unfinished.unlink()
    call.check_place()
    return _read_back(call, known, job.logs.log), job.logs.log, audits


def _run(call: Call, job: LoggedJob, known: Fixity, chosen: SyncOptions) -> audit.Audits:
    site, logs = call.site, job.logs
    command = ["bash", str(site.script.absolute())]
    command += chosen.arguments(archive_parent=f"{site.archive_root.absolute()}/Archive", web_parent=site.web_parent)
    command += ["-s", str(logs.successes), str(call.work_dir)]
    job.transcript.note(f"{logs.date_time}: {shlex.join(command)}; options: {chosen.facts()}")
    ended = job.run(command, time_limit_seconds=site.time_limit_seconds, total_bytes=known.size_bytes)
    audits = audit.told(logs.sync_logs, path=site.script_path)
    if ended.status != 0:
        call.see_room(known.size_bytes, f"the sync script's log is {logs.log}", log=logs.log)
    if ended.status != 0 or ended.timed_out:
        failed = [] if ended.timed_out else audit.failures(audits)
        partial = f"the archive copy may be partial at {call.folder}"
        raise job.failure(
            (f"the {failed[0]} audit failed: " if failed else "") + _how(ended, site.time_limit_seconds),
            audited=bool(failed),
            audits=audits,
            copy="nothing was written" if audit.ended_before_copy(audits) else partial,
            exit_status=ended.status,
            timed_out=ended.timed_out,
        )
    return audits


def _how(ended: Ended, time_limit_seconds: float) -> str:
    if ended.timed_out:
        return f"the sync script was stopped after its time limit of {time_limit_seconds:g} s"
    how = f"exited {ended.status}" if ended.status >= 0 else f"was ended by signal {-ended.status}"
    return f"the sync script {how}"


def _read_back(call: Call, known: Fixity, log: Path) -> Comparison:
    """Read the copy from the storage and match it: made durable first, for dirty pages stay in the cache."""
    if not call.folder.exists():
        found = Comparison(missing=tuple(known.files))
    else:
        durable.make_durable(call.folder)
        found = compare(call.folder, known, threads=call.threads, pulse=call.pulse)
    if not found.whole:
        what = f"the sync script exited 0 (its log: {log}), but the archive copy is wrong"
        raise call.not_proved(found, what, log=log)
    return found
