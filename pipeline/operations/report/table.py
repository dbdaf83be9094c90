"""The works as CSV (RFC 4180), for spreadsheets."""

import csv
from collections.abc import Iterable
from typing import IO

from pipeline.foundation.work import printable
from pipeline.record.views import WorkStatus

COLUMNS = (
    *("work_rid", "bag_id", "stage", "address", "zip_bytes", "files", "bytes", "seconds"),
    *("archive_path", "failures", "error_kind", "error", "updated_on"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(works: Iterable[WorkStatus], out: IO[str]) -> None:
    """A line for each work under a line of names."""
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for work in works:
        writer.writerow([_cell(getattr(work, name)) for name in COLUMNS])


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula is quoted, as OWASP advises."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
