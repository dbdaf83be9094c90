"""One call of the sync script: its log folders and the environment that BDRC's scripts and tools expect."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.steps.sync.site import Site

_ONE_SECOND = timedelta(seconds=1)


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
        audit_logs=logs / "audit-test-logs" / date / date_time,
        sync_logs=logs / "sync-logs" / date / date_time,
    )


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
        "PATH": site.path,
    }
    if site.audit_limit_seconds:
        variables["AUDIT_TIME_LIMIT_SECONDS"] = str(site.audit_limit_seconds)
    if site.aws_credentials is not None and site.aws_credentials.is_file():
        variables["AWS_SHARED_CREDENTIALS_FILE"] = str(site.aws_credentials.absolute())
    return variables
