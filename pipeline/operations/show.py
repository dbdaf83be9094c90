"""Tables for people: drawn on a terminal, plain aligned columns where a program reads them."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, cast

from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import Pulse, exact_seconds, human_bytes, human_count, human_seconds, no_pulse, printable
from pipeline.record.views import WorkStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, str]

_COLOURS = {
    "passed": "green",
    "no-proof": "yellow",
    "busy": "yellow",
    "done": "green",
    "ok": "green",
    "refused": "red",
    "skipped": "yellow",
    "failed": "red",
    "wrong": "red",
    "limited": "yellow",
    "not-restored": "yellow",
}
_TAKEN_FOR_TERMINALS = {"FORCE_COLOR", "TTY_COMPATIBLE"}  # variables by which rich takes a pipe for one
_NUMBERS = {"files", "bytes", "seconds"}
_FOR_MACHINES = {"faults", "wrong", "body", "attributes", "warnings", "extra", "options", "proof", "premis_event_type"}


class _Lines:
    """What stands in for rich's console where a program reads: each text as it is, in a line."""

    is_terminal = False

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def print(self, text: str = "", **_: Any) -> None:
        """Write it at once."""
        self.file.write(f"{text}\n")
        self.file.flush()


def console(stream: IO[str] | None = None) -> "Console":
    """Where results go; honours NO_COLOR, and breaks no line that is read by a program."""
    stream = stream or sys.stdout
    if not stream.isatty() and _TAKEN_FOR_TERMINALS.isdisjoint(os.environ):
        return cast("Console", _Lines(stream))
    from rich.console import Console  # noqa: PLC0415  # what only a person sees is imported for her alone

    return Console(file=stream, highlight=False, emoji=False, markup=False, soft_wrap=not stream.isatty())


def as_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout; in ASCII, so that no locale changes it and no terminal obeys it."""
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")


def result(
    options: Namespace, document: Mapping[str, Any], tell: "Callable[[Console], object]", *, status: int = 0
) -> int:
    """What a verb found: with `--json` one document, else as it tells a person; returns the verb's exit status."""
    if options.json:
        as_json(document)
    else:
        tell(console())
    return status


def safe(text: str) -> str:
    """Text from outside, without what a terminal would obey."""
    return printable(text)


def folder_line(found: Mapping[str, Any]) -> str:
    """How a folder of zips stands, in a line: see `status.look_at`."""
    seconds = found["oldest_waiting_seconds"]
    oldest = "" if seconds is None else f" (the oldest for {human_seconds(seconds)})"
    parts = [
        f"{found['waiting']} waiting{oldest}",
        f"{found['settling']} still changing",
        f"{found['refused']} refused",
    ]
    if found["incomplete"]:
        parts.append(f"not whole: {_some(found['incomplete'])}")
    if found["passed_over"]:
        parts.append(f"not taken, as they are no plain files: {_some(found['passed_over'])}")
    return ", ".join(parts)


def restores_lines(found: Mapping[str, Any] | None) -> list[str]:
    """The campaign of restores, in a line, if there is one: see `status.Standing.restores`."""
    if found is None:
        return []
    counts = ", ".join(f"{count:,} {state}" for state, count in found["counts"].items())
    cost = "" if found["cost"] is None else f"cost so far {found['cost']:.2f} {found['currency']}"
    left = found["seconds_left"]
    to_come = f"{human_bytes(found['bytes_to_come'])} to come" if found["bytes_to_come"] else ""
    done = f"done in {human_seconds(left)} of work at the rate of late" if left else ""
    risk = f"{found['at_risk']} at risk" if found["at_risk"] else ""
    return [f"restores: {'; '.join(filter(None, (counts, to_come, done, cost, risk)))}"]


def behind(fixity: Mapping[str, Any] | None, replicas: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What was not looked at in time, as `status.Standing` has it: a sentence each, and the option that looks at it."""
    if fixity and fixity["behind"]:
        never = f", {fixity['never']:,} of them never" if fixity["never"] else ""
        since = f", the oldest since {fixity['oldest'][:10]}" if fixity["oldest"] else ""
        rate = "none was in the last 30 days"
        if fixity["bytes_per_second"]:
            rate = f"at the rate of the last 30 days, {human_bytes(fixity['bytes_per_second'])}/s, it needs "
            rate += f"{fixity['hours_a_night']} hours a night"
        works = human_count(fixity["behind"], "work was", "works were")
        yield f"{works} not verified for more than {fixity['due_days']} days{never}{since}; {rate}", ()
    for name, one in replicas.items():
        if one["behind"]:
            copies = human_count(one["behind"], "second copy", "second copies")
            yield f"{copies} in {name} not looked at in time", ("--replica",)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _zip_bytes(size_bytes: int) -> str:
    """The zip's, in brackets; nothing while S3 has not told it."""
    return f"({human_bytes(size_bytes)})" if size_bytes else ""


def works_rows(works: Sequence[WorkStatus]) -> list[Row]:
    """Works with their stage, files, bytes, time and place."""
    rows: list[Row] = []
    for work in works:
        running = f" {100 * work.done_bytes // work.total_bytes}%" if work.total_bytes and work.owner else ""
        rows.append(
            {
                "work": work.work_rid,
                "stage": work.stage + running,
                "files": str(work.files or ""),
                "bytes": human_bytes(work.bytes) if work.bytes else _zip_bytes(work.zip_bytes),
                "seconds": exact_seconds(work.seconds),
                "taken up": "" if work.owner else _turn(work.taken_up_on),
                "archive path, or why not": work.archive_path or work.error,
            }
        )
    return rows


def _turn(moment: str) -> str:
    """When a lane takes a work up by itself: the time of day, if that is yet to come."""
    if not moment:
        return ""
    left = datetime.fromisoformat(moment) - datetime.now(UTC)
    return f"after {moment[11:19]}Z" if left.total_seconds() > 0 else "next"


def agreed(question: str, *, yes: bool) -> None:
    """Ask a person before something is done that cannot be undone; `yes` is her word beforehand.

    Raises:
        UsageError: she does not agree, or nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked, nothing was done", by_hand="the same with --yes")
    sys.stderr.write(f"{safe(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was done")


def event_line(event: Mapping[str, Any]) -> str:
    """An event of a work's history: when, which step, how it ended, where, and the few facts that fit on a line."""
    where = safe(event["agent"])
    return f"{event['at'][:19]} {event['step']:9} {event['outcome']:14} {where:14} {_told(event['detail'])}"


def sync_log_lines(logs: Sequence[Mapping[str, Any]], *, most: int = 3) -> list[str]:
    """The latest logs of a work's syncs and where the audit tool's are, the newest first: a line each."""
    lines = []
    for one in reversed(logs[-most:]):
        where = "" if one["there"] else f" (not to be seen here; it was written on {one['host']})"
        audits = f"; audit logs in {one['audit_logs']}" if one["audit_logs"] else ""
        lines.append(safe(f"{one['outcome']} {one['at'][:19]}Z: {one['log']}{where}{audits}"))
    if len(logs) > most:
        lines.append(f"and {len(logs) - most} earlier ones: log RID --all")
    return lines


def _told(detail: dict[str, Any]) -> str:
    """The few facts of an event that fit on a line."""
    faults = detail.get("faults") or detail.get("wrong") or []
    shown = {name: value for name, value in detail.items() if name not in _FOR_MACHINES and value not in ("", [], None)}
    line = str(detail["error"]) if "error" in detail else ", ".join(f"{name} {value}" for name, value in shown.items())
    lines = [safe(line), *(f"    {safe(': '.join(filter(None, fault.values())))}" for fault in faults[:20])]
    left_out = detail.get("faults_left_out", 0)
    if len(faults) > 20:
        where = "report.txt in quarantine" if left_out else "explain RID --json"
        lines.append(f"    and {human_count(len(faults) - 20 + left_out, 'more fault')}; all of them: {where}")
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> "Table":
    """The rows, which all have the same columns, as a terminal shows them."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  # as in `console`
    from rich.table import Table  # noqa: PLC0415  # as above
    from rich.text import Text  # noqa: PLC0415  # as above

    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    names = list(rows[0]) if rows else []
    for name in names:
        last = name == names[-1]
        drawn.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=not last, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(safe(value), style=_COLOURS.get(value.split(" ")[0], "")) for value in row.values()))
    return drawn


def tell(out: "Console", rows: Sequence[Row]) -> None:
    """Print rows: as a table on a terminal, elsewhere as columns of plain text, a line a row."""
    if not rows:
        return
    if out.is_terminal:
        out.print(table(rows))
        return
    lines = [list(rows[0]), *([safe(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    for line in lines:
        padded = [
            cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
            for name, cell, width in zip(rows[0], line, widths, strict=False)
        ]
        out.print("  ".join([*padded, line[-1]]).rstrip())


@contextmanager
def progress(what: str, *, counted: bool = False) -> Iterator[Pulse]:
    """A progress bar on stderr where that is a terminal; the pulse of a step moves it, by bytes or else by counts."""
    if not sys.stderr.isatty():
        yield no_pulse
        return
    from rich import progress as bars  # noqa: PLC0415  # as in `console`

    of_bytes = () if counted else (bars.DownloadColumn(), bars.TransferSpeedColumn())
    columns = (bars.TextColumn(what), bars.BarColumn(), *of_bytes, bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)
