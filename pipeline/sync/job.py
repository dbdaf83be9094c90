"""One call of the sync script: its log folders and the environment that BDRC's scripts and tools expect."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.sync.site import BUILTIN, Site

_ONE_SECOND = timedelta(seconds=1)
_SYNC_LOGS, _AUDIT_LOGS = "sync-logs", "audit-test-logs"


@dataclass(frozen=True)
class Job:
    """A call's own time tag and folders; no other call has the same.

    Attributes:
        date_time: `jobDateTime`, local time as `%F_%H.%M.%S`.
        audit_logs: `auditToolLogDateTimeDir`.
        sync_logs: `syncLogDateTimeDir`.
    """

    date_time: str
    audit_logs: Path
    sync_logs: Path

    @property
    def log(self) -> Path:
        """`syncLogDateTimeFile`."""
        return self.sync_logs / f"sync-{self.date_time}.log"

    @property
    def successes(self) -> Path:
        """The file for `-s`."""
        return self.sync_logs / f"sync-{self.date_time}-successes.txt"


def opened(site: Site) -> Job:
    """A job with log folders of its own.

    The names hold whole seconds, and works that end in the same second must not share a log or `syncLogTempDir`: making
    the folder is the claim, and who comes second takes the next free second as its time tag.

    Raises:
        OSError: the folders cannot be made.
    """
    now = datetime.now(UTC).astimezone()
    while True:
        job = _job(site.logs.absolute(), now)
        job.sync_logs.parent.mkdir(parents=True, exist_ok=True)
        try:
            job.sync_logs.mkdir()
        except FileExistsError:
            now += _ONE_SECOND
            continue
        job.audit_logs.mkdir(parents=True, exist_ok=True)
        return job


def close(job: Job) -> None:
    """Take away what the call left empty, so that a day's folders show where something is to be read."""
    for folder in (job.sync_logs / "tempFiles", job.audit_logs):
        try:
            os.rmdir(folder)
        except OSError:  # it was never made, or something is in it: both are as they should be
            continue


def _job(logs: Path, when: datetime) -> Job:
    date, date_time = f"{when:%F}", f"{when:%F_%H.%M.%S}"
    return Job(
        date_time=date_time,
        audit_logs=logs / _AUDIT_LOGS / date / date_time,
        sync_logs=logs / _SYNC_LOGS / date / date_time,
    )


def audit_logs_of(log: Path) -> Path:
    """Where the audit tool's logs of the same call are, if it left any."""
    day, date_time = log.parent.parent.name, log.parent.name
    return log.parents[3] / _AUDIT_LOGS / day / date_time


def logs_of(logs: Path, work_rid: str, *, days: int) -> list[Path]:
    """The logs of a work's calls on the last days that have any, the oldest first; also of one that still runs.

    A call that was killed left nothing in the record; but each log begins with the work's name.
    """
    begins = f"[{work_rid}: ".encode()
    dates = sorted(path for path in (logs / _SYNC_LOGS).glob("*-*-*") if path.is_dir())[-days:]
    found = (call / f"sync-{call.name}.log" for date in dates for call in sorted(date.iterdir()))
    return [log for log in found if _beginning(log, len(begins)) == begins]


def _beginning(file: Path, size_bytes: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(size_bytes)
    except OSError:  # the folder of a call that has just begun, or is somebody else's
        return b""


def environment(site: Site, job: Job) -> dict[str, str]:
    """All that the script finds in its environment; nothing is inherited."""
    date, _, time = job.date_time.partition("_")
    variables = {
        "DEBUG_SYNC": "true" if site.debug else "false",
        "DB_CONFIG": site.db_config,
        "hostName": site.host_name,
        "userName": site.user_name,
        "logDipVersion": site.log_dip_version,
        "auditToolVersion": site.audit_tool_version,
        "jobDateTime": job.date_time,
        "jobDate": date,
        "jobTime": time,
        "auditToolLogDateTimeDir": str(job.audit_logs),
        "syncLogDateTimeDir": str(job.sync_logs),
        "syncLogDateTimeFile": str(job.log),
        "syncLogTempDir": str(job.sync_logs / "tempFiles"),
        "PATH": site.path if site.copier == BUILTIN else site.script_path,
        "LANG": "C.UTF-8",  # without it Java and others cannot open a file whose name is not ASCII
    }
    if site.audit_limit_seconds:
        variables["AUDIT_TIME_LIMIT_SECONDS"] = str(site.audit_limit_seconds)
    if site.aws_credentials is not None and site.aws_credentials.is_file():
        variables["AWS_SHARED_CREDENTIALS_FILE"] = str(site.aws_credentials.absolute())
    return variables
