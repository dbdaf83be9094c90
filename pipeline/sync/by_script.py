"""The archive copy made by the site's script: run, then proved, for its exit status is not believed."""

import shlex
from collections.abc import Callable
from pathlib import Path

from pipeline.foundation import durable, failpoints
from pipeline.foundation.fixity import Fixity
from pipeline.foundation.work import Pulse
from pipeline.sync import audit, process
from pipeline.sync import job as jobs
from pipeline.sync.call import Call
from pipeline.sync.options import Options
from pipeline.sync.readback import Comparison, compare
from pipeline.sync.transcript import Transcript


def run(call: Call, known: Fixity, chosen: Options) -> tuple[Path, audit.Audits]:
    """Run the site's script; returns its log, and what became of its audits.

    Raises:
        SyncFailed: its exit status was not 0, or its time was up.
        AuditFailed: a test of the audit tool failed.
        NoRoom: it ended so, and the archive is full.
        LeaseLost: it ran longer than it might.
    """
    site = call.site
    durable.write_file(call.unfinished, b"")
    job = jobs.opened(site)
    command = ["bash", str(site.script.absolute())]
    command += chosen.arguments(archive_parent=f"{site.archive_root.absolute()}/Archive", web_parent=site.web_parent)
    command += ["-s", str(job.successes), str(call.work_dir)]
    with Transcript(job.log, work_rid=call.work_rid, limit_bytes=site.log_limit_bytes) as transcript:
        transcript.note(f"{job.date_time}: {shlex.join(command)}; options: {chosen.facts()}")
        ended = process.run(
            command,
            environment={**jobs.environment(site, job), **chosen.environment()},
            folder=job.sync_logs,
            transcript=transcript,
            beat=_beat(call.pulse, known.size_bytes),
            time_limit_seconds=site.time_limit_seconds,
            grace_seconds=site.grace_seconds,
            until=call.until,
        )
        transcript.note(f"exit status {ended.status}")
    audits = audit.told(job.sync_logs, path=site.script_path)
    jobs.close(job)
    if ended.overdue:
        raise call.overdue()
    if ended.status != 0:
        call.see_room(known.size_bytes, f"the sync script's log is {job.log}", log=job.log)
    if ended.status != 0 or ended.timed_out:
        raise call.script_failed(ended, job, transcript.last_lines(), audits)
    failpoints.see_allowed()
    call.unfinished.unlink()
    return job.log, audits


def read_back(call: Call, known: Fixity, log: Path) -> Comparison:
    """Read the copy from the storage and match it: made durable first, for dirty pages stay in the cache.

    Raises:
        ReadBackFailed: it is not what the bag says.
    """
    if not call.folder.exists():
        found = Comparison(missing=tuple(known.files))
    else:
        durable.make_durable(call.folder)
        found = compare(call.folder, known, threads=call.threads, pulse=call.pulse)
    if not found.whole:
        what = f"the sync script exited 0 (its log: {log}), but the archive copy is wrong"
        raise call.not_proved(found, what, log=log)
    return found


def _beat(pulse: Pulse, total: int) -> Callable[[], None]:
    """While the script runs nothing is proved yet."""
    return lambda: pulse(0, total)
