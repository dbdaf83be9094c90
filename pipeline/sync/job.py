"""What is run for a work: its log folders, its environment as BDRC's scripts and tools expect it, and what it prints.

What it prints goes to its log file, to the pipeline's log, and its last lines into the failure, if there is one. Memory
stays bounded however much that is, and so does the file: its beginning and its end are kept.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from pipeline.foundation import removal
from pipeline.foundation.errors import AuditFailed, PipelineError, SyncFailed
from pipeline.sync import process
from pipeline.sync.call import Call
from pipeline.sync.narrowing import SyncOptions
from pipeline.sync.site import BUILTIN, SyncSettings

LAST_LINES = 12
LOGGED_LINES = 200
LINE_BYTES = 1000
_END_BYTES = LAST_LINES * LINE_BYTES
_ONE_SECOND = timedelta(seconds=1)
_SYNC_LOGS, _AUDIT_LOGS = "sync-logs", "audit-test-logs"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobLogs:
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


class LoggedJob:
    """What is run for one call, in its log folders: the script, or the audit tool.

    Attributes:
        logs: its folders.
        transcript: takes what is printed.
    """

    def __init__(self, call: Call, chosen: SyncOptions, logs: JobLogs, transcript: "Transcript") -> None:
        self._call = call
        self._environment = {**_environment(call.site, logs), **chosen.environment()}
        self.logs = logs
        self.transcript = transcript

    def run(self, command: Sequence[str], *, time_limit_seconds: float, total_bytes: int = 0) -> process.Ended:
        """Run a command to its end.

        Args:
            command: with its arguments.
            time_limit_seconds: after so long it is stopped; 0 = never.
            total_bytes: for the pulse: while it runs nothing is proved yet.

        Raises:
            LeaseLost: it ran longer than it might.
            OSError: it cannot be run, or its log cannot be written.
        """
        ended = process.run(
            command,
            environment=self._environment,
            folder=self.logs.sync_logs,
            printed=self.transcript.add,
            beat=lambda: self._call.pulse(0, total_bytes),
            time_limit_seconds=time_limit_seconds,
            grace_seconds=self._call.site.grace_seconds,
            until=self._call.until,
        )
        self.transcript.note(f"exit status {ended.status}")
        if ended.overdue:
            raise self._call.overdue()
        return ended

    def failure(
        self, what: str, *, audited: bool, audits: Mapping[str, str], copy: str, **facts: object
    ) -> PipelineError:
        """What was run said no, or took too long; `audited`: it is a test of the work that failed."""
        last_lines = self.transcript.last_lines()
        said = f"it ended with: {' / '.join(last_lines[-3:])}" if last_lines else "it printed nothing"
        call, logs = self._call, self.logs
        return call.failure(
            AuditFailed if audited else SyncFailed,
            f"{what}; {said}",
            kept=f"its log is {logs.log}, the audit tool's logs are in {logs.audit_logs}; {copy}",
            by_hand="mend the work or the site's tests" if audited else "",
            audits=dict(audits),
            audit_logs=str(logs.audit_logs),
            log=str(logs.log),
            last_lines=last_lines,
            **facts,
        )


@contextmanager
def begun(call: Call, chosen: SyncOptions) -> Iterator[LoggedJob]:
    """A job with log folders of its own; at the end those that are empty are taken away.

    Raises:
        OSError: the folders cannot be made.
    """
    logs = _claimed(call.site.logs.absolute())
    try:
        with Transcript(logs.log, work_rid=call.work_rid, limit_bytes=call.site.log_limit_bytes) as transcript:
            yield LoggedJob(call, chosen, logs, transcript)
    finally:
        # So that a day's folders show where something is to be read.
        for folder in (logs.sync_logs / "tempFiles", logs.audit_logs):
            with suppress(OSError):  # it was never made, or something is in it: both are as they should be
                folder.rmdir()


def _claimed(logs: Path) -> JobLogs:
    """Log folders of its own.

    The names hold whole seconds, and works that end in the same second must not share a log or `syncLogTempDir`: making
    the folder is the claim, and who comes second takes the next free second as its time tag.
    """
    now = datetime.now(UTC).astimezone()
    while True:
        date, date_time = f"{now:%F}", f"{now:%F_%H.%M.%S}"
        job = JobLogs(date_time, logs / _AUDIT_LOGS / date / date_time, logs / _SYNC_LOGS / date / date_time)
        job.sync_logs.parent.mkdir(parents=True, exist_ok=True)
        try:
            job.sync_logs.mkdir()
        except FileExistsError:
            now += _ONE_SECOND
            continue
        job.audit_logs.mkdir(parents=True, exist_ok=True)
        return job


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


def log_days(logs: Path) -> Iterator[tuple[datetime, Path]]:
    """The folders of the logs of a day, of syncs and of audits, each with the end of that day; also half removed ones.

    Raises:
        OSError: they cannot be listed.
    """
    for name in (_SYNC_LOGS, _AUDIT_LOGS):
        for folder in sorted((logs / name).iterdir()) if (logs / name).is_dir() else ():
            with suppress(ValueError):
                day = datetime.strptime(folder.name.removesuffix(removal.REMOVED).lstrip("."), "%Y-%m-%d")  # noqa: DTZ007  # local, as `jobDate` is
                yield day.astimezone() + timedelta(days=1), folder


def _beginning(file: Path, size_bytes: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(size_bytes)
    except OSError:  # the folder of a call that has just begun, or is somebody else's
        return b""


def _environment(site: SyncSettings, job: JobLogs) -> dict[str, str]:
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


class Transcript:
    """Takes bytes as they come; lines are cut at `LINE_BYTES` for the log and the failure, never in the file.

    Args:
        file: `syncLogDateTimeFile`; made here.
        work_rid: begins each line in the pipeline's log.
        limit_bytes: how much the file holds before only the last lines are kept.
    """

    def __init__(self, file: Path, *, work_rid: str, limit_bytes: int) -> None:
        self._file = file.open("ab", buffering=0)
        self._name = file
        self._work_rid = work_rid
        self._room = limit_bytes
        self._omitted = 0
        self._logged = 0
        self._rest = b""  # of a line that has not ended yet
        self._end = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log(self._rest)
        if self._omitted:
            end = "\n".join(self.last_lines())
            self._write(f"\n[{self._omitted:,} more bytes were printed; the last lines]\n{end}\n".encode())
        self._file.close()

    def note(self, sentence: str) -> None:
        """A line of our own, for the file only, after what was printed so far."""
        between = b"" if self._end.endswith(b"\n") or not self._end else b"\n"
        self._write(between + f"[{self._work_rid}: {sentence}]\n".encode("utf-8", "backslashreplace"))

    def add(self, chunk: bytes) -> None:
        """Take what was printed.

        Raises:
            OSError: the log file cannot be written.
        """
        kept = chunk[: self._room]
        self._room -= len(kept)
        self._omitted += len(chunk) - len(kept)
        self._write(kept)
        self._end = (self._end + chunk)[-_END_BYTES:]
        if self._logged <= LOGGED_LINES:  # a flood is not even cut into lines
            *lines, rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._log(line)
            self._rest = rest[:LINE_BYTES]

    def last_lines(self) -> list[str]:
        """The last lines so far that are not blank."""
        return [text for line in self._end.split(b"\n") if (text := _text(line))][-LAST_LINES:]

    def _write(self, content: bytes) -> None:
        """All of it, though an unbuffered file may take it in parts."""
        while content:
            content = content[self._file.write(content) :]

    def _log(self, line: bytes) -> None:
        text = _text(line)
        if not text:
            return
        self._logged += 1
        if self._logged <= LOGGED_LINES:
            logger.debug("%s: sync script: %s", self._work_rid, text)
        elif self._logged == LOGGED_LINES + 1:
            logger.debug("%s: sync script: more lines are only in %s", self._work_rid, self._name)


def _text(line: bytes) -> str:
    """A line for people: as it is but cut, and without what could move a terminal's cursor."""
    text = line[:LINE_BYTES].decode("utf-8", "backslashreplace").rstrip()
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in text)
