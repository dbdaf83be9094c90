"""The logs of a work's syncs and audits: the record knows where they are, in whichever folder of whichever day."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import sync
from pipeline.foundation.work import rfc3339
from pipeline.tasks.context import Site

_DAYS = (
    2  # that are looked through for the log of a sync which runs, or was killed: the record knows it not yet, or never
)
_UNTOLD = "not recorded"


@dataclass(frozen=True)
class SyncLog:
    """One call of the sync script, or of the audit tool by the built-in copier.

    Attributes:
        at: when it was recorded, RFC 3339; of one that is not recorded: when its log was last written.
        outcome: `done`, `failed`, or `not recorded`: it runs, or was killed.
        host: whose disk it was written to.
        log: what was printed.
        audit_logs: the folder of the audit tool's logs; empty where it left none that this host sees.
        there: whether this host sees the log.
    """

    at: str
    outcome: str
    host: str
    log: str
    audit_logs: str
    there: bool

    @property
    def files(self) -> list[Path]:
        """The log, and every file that the audit tool left."""
        left = sorted(path for path in Path(self.audit_logs).rglob("*") if path.is_file()) if self.audit_logs else []
        return [Path(self.log), *left]


def of(here: Site, work_rid: str, events: Iterable[Mapping[str, Any]]) -> list[SyncLog]:
    """The logs of a work's syncs, the oldest first.

    Args:
        here: this site; what another host wrote is named, and shown where the disk is shared.
        work_rid: the work.
        events: what the record tells of it, in its order.
    """
    told = [
        _told(event["at"], str(event["outcome"]), str(event["agent"]).partition("/")[0], event["detail"]["log"])
        for event in events
        if event["step"] == "sync" and event["detail"].get("log")
    ]
    known = {one.log for one in told}
    logs = map(str, sync.logs_of(here.settings.logs.absolute(), work_rid, days=_DAYS))
    written = ((datetime.fromtimestamp(Path(log).stat().st_mtime, UTC), log) for log in logs if log not in known)
    return told + [_told(at, _UNTOLD, here.host, log) for at, log in written]


def _told(at: datetime, outcome: str, host: str, log: str) -> SyncLog:
    audits = sync.audit_logs_of(Path(log))
    return SyncLog(rfc3339(at), outcome, host, log, str(audits) if audits.is_dir() else "", Path(log).is_file())
