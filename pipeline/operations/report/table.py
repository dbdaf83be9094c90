"""The works as CSV (RFC 4180), for spreadsheets."""

import csv
from collections.abc import Iterable
from typing import IO

from pipeline.foundation.work import printable, rfc3339
from pipeline.record.replicas import SecondCopy
from pipeline.record.views import WorkStatus

COLUMNS = (
    *("work_rid", "bag_id", "stage", "address", "zip_bytes", "files", "bytes", "seconds"),
    *("archive_path", "failures", "error_kind", "error", "updated_on"),
)
COPIES = ("second_copies", "second_copies_seen_on")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(works: Iterable[WorkStatus], out: IO[str], *, copies: Iterable[SecondCopy]) -> None:
    """A line for each work under a line of names; `copies` are all second copies, the latest last."""
    there: dict[str, dict[str, SecondCopy]] = {}
    for copy in copies:
        if copy.sent_on:
            there.setdefault(copy.work_rid, {})[copy.replica] = copy
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, *COPIES])
    for work in works:
        own = there.get(work.work_rid, {})
        seen = min((rfc3339(one.seen_on) for one in own.values() if one.seen_on), default="")
        writer.writerow([*(_cell(getattr(work, name)) for name in COLUMNS), _cell(" ".join(sorted(own))), seen])


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula is quoted, as OWASP advises."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
