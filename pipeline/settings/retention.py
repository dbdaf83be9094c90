"""The section of `luigi.cfg` that says after how long what nobody needs any more goes: `[retention]`."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.declared import setting, within

_DAYS = within(0, 36_500)


@dataclass(frozen=True)
class Retention:
    """`[retention]`: what `tidy` takes away, and after how many days; 0: never."""

    done_days: int = setting(0, "zips in the done folders whose works are home", _DAYS)
    quarantined_days: int = setting(0, "quarantined zips whose works another bag brought home", _DAYS)
    replaced_days: int = setting(0, "what an operator replaced in the archive: the only copy of it", _DAYS)
    leftovers_days: int = setting(30, "hidden folders in the archive that killed copies left", _DAYS)
    sync_logs_days: int = setting(1825, "logs of syncs and audits", _DAYS)
    uploads_days: int = setting(30, "uploads of second copies that never ended", _DAYS)
    dead_letters_days: int = setting(
        0, "dead letters whose works are all home; SQS itself keeps none longer than 14 days", _DAYS
    )
    events_years: int = setting(10, "years: routine events, which go to a file first", within(0, 100))
    events_path: Path | None = setting(None, "where that file is kept; empty: `events` among the logs", text="")
