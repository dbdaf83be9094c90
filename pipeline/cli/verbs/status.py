"""`run_pipeline.py status [RID]`: what waits, runs, is done, failed, and why."""

import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.foundation.arguments import way_on
from pipeline.foundation.work import human_bytes, human_count, human_seconds, rfc3339
from pipeline.operations import show, sync_logs
from pipeline.operations.status import Standing
from pipeline.record import SUPERSEDED, stories, views
from pipeline.record.views import WorkStatus
from pipeline.tasks import context
from pipeline.tasks.context import Site

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SHOWN = 200
_FIRST = {"refused": 0, "failed": 1, "not-restored": 2, "sync": 3, "debag": 3, "download": 3, "waiting": 4}
"""Who needs a person comes first, then who is on the way; of what has ended, the latest."""
_Part = str | Sequence[show.Row]


def main(options: Namespace) -> int:
    """Show it, once or until Ctrl-C; queues that do not answer are shown as such, the record has to.

    Raises:
        UsageError: nothing is known of the work that is asked for.
    """
    here = context.open_site(lane="status")
    if options.rid:
        return _one(here, options)
    if options.watch:
        return _watch(here, show.console(), options)
    told = _document(here, options)
    return show.result(options, told, lambda out: _print(out, told))


def _document(here: Site, options: Namespace) -> dict[str, Any]:
    most_ended = sys.maxsize if options.all else _SHOWN
    return Standing(here, within_hours=options.expiring).document(most_ended=most_ended)


def _watch(here: Site, out: "Console", options: Namespace) -> int:
    """On a terminal a table that moves; elsewhere, or as JSON, one after the other."""
    from rich.live import Live  # noqa: PLC0415  # few look so

    live = Live(console=out, auto_refresh=False, screen=True) if out.is_terminal and not options.json else None
    try:
        if live is not None:
            live.start()
        while True:
            told = _document(here, options)
            if live is not None:
                live.update(_drawn(told, lines=out.height), refresh=True)
            elif options.json:
                show.as_json(told)
            else:
                out.print(f"-- {told['at'][:19]}Z")
                _print(out, told)
            out.file.flush()
            time.sleep(options.watch)
    except KeyboardInterrupt:
        return 0
    finally:
        if live is not None:
            live.stop()


def _print(out: "Console", told: dict[str, Any]) -> None:
    for part in _parts(told, most=_SHOWN):
        if isinstance(part, str):
            out.print(part)
        else:
            show.tell(out, part)


def _drawn(told: dict[str, Any], *, lines: int) -> "RenderableType":
    """What fits on a screen."""
    from rich.console import Group  # noqa: PLC0415  # as above
    from rich.text import Text  # noqa: PLC0415  # as above

    parts = _parts(told, most=max(5, lines - 20))
    head = Text(f"{told['at'][:19]}Z   Ctrl-C ends this", style="dim")
    return Group(head, *(Text(part) if isinstance(part, str) else show.table(part) for part in parts))


def _parts(told: dict[str, Any], *, most: int) -> Iterator[_Part]:
    """Lines and tables, in the order in which a person needs them."""
    needed = told["needs_you"]
    yield from (show.safe(f"needs you: {one['what']}; {way_on(one['go_on'], one['by_hand'])}") for one in needed)
    if not needed:
        yield "all is well"
    yield from map(_queue_line, told["queues"])
    for folder in told["folders"]:
        line = show.safe(folder["error"]) if "error" in folder else show.folder_line(folder)
        yield f"folder {show.safe(folder['folder'])}: {line}"
    yield from map(_host_line, told["hosts"])
    if _waits(told) and not told["lanes"] and all(host["gone"] for host in told["hosts"]):
        yield "no lane runs; what waits is taken in by: run_pipeline.py run"
    counts = ", ".join(f"{n} {state}" for state, n in sorted(told["bags"].items())) or "none seen yet"
    waits = _since("the oldest of those to come home waits", told, "oldest_unfinished")
    refused = _since("the oldest refused one is refused", told, "oldest_refused")
    yield "; ".join(filter(None, [f"bags: {counts}", waits, refused]))
    yield from show.restores_lines(told["restores"])
    yield from _callback_lines(told["callbacks"])
    yield "disk: " + "; ".join(map(_disk_line, told["disk"]))
    for one in told["at_risk"]:
        left = f"ends in {one['hours_left']:.1f} h" if one["hours_left"] > 0 else "has ended"
        yield f"at risk: {one['work_rid']}: not downloaded yet, its restored copy {left}"
    if broken := told["fixity_failed"]:
        yield [_broken_row(one) for one in broken[:most]]
        yield from _more(len(broken) - most)
    if told["lanes"]:
        yield [_lane_row(lane) for lane in told["lanes"]]
    works = [WorkStatus(**work) for work in told["works"] if work["stage"] != SUPERSEDED]
    works.sort(key=lambda work: _FIRST.get(work.stage, len(_FIRST)))
    if works:
        yield show.works_rows(works[:most])
    yield from _more(max(0, len(works) - most) + told["works_left_out"])
    if over := told["bags"].get(SUPERSEDED, 0):
        what = human_count(over, "bag")
        yield f"{SUPERSEDED} by a later bag that came home: {what}; what is kept: run_pipeline.py quarantine list"
    for message in told["messages_not_understood"]:
        name = message.get("file") or f"message {message.get('message_id', '')}"
        yield show.safe(f"not understood, {message['at']}: {name}: {message['error']}")


def _more(left_out: int) -> Iterator[str]:
    if left_out > 0:
        yield f"and {left_out:,} more; all of them: run_pipeline.py status --json --all"


def _broken_row(one: dict[str, Any]) -> show.Row:
    return {
        "work": one["work_rid"],
        "fixity check": "failed",
        "when": f"{one['failed_on'][:19]}Z",
        "what is wrong, and how to go on": one["error"],
    }


def _since(what: str, told: dict[str, Any], name: str) -> str:
    since = told[name]
    return f"{what} since {since[:19]}Z ({human_seconds(told[f'{name}_seconds'])})" if since else ""


def _queue_line(queue: dict[str, Any]) -> str:
    if "error" in queue:
        return f"queue {queue['queue']}: {show.safe(queue['error'])}"
    parts = [f"{queue['waiting']} waiting", f"{queue['in_flight']} in flight"]
    dead = queue["dead_letters"]
    parts.append("no dead-letter queue" if dead is None else human_count(dead, "dead letter"))
    return f"queue {queue['queue']}: {', '.join(parts)}"


def _host_line(host: dict[str, Any]) -> str:
    lanes, ago = human_count(host["lanes"], "lane"), human_seconds(host["seen_seconds"])
    if host["gone"]:
        return show.safe(f"host {host['host']}: {lanes} not seen for {ago}: gone?")
    return show.safe(f"host {host['host']}: {lanes}, {host['at_work']} at work, seen {ago} ago")


def _callback_lines(told: dict[str, Any]) -> list[str]:
    owed = [f"{name}: {one['waiting']} waiting, {one['dead']} given up" for name, one in told.items()]
    return [f"callbacks: {show.safe('; '.join(owed))}"] if owed else []


def _waits(told: dict[str, Any]) -> bool:
    """Whether there is something for a lane to do, now or later."""
    in_queues = any(queue.get(state) for queue in told["queues"] for state in ("waiting", "in_flight", "delayed"))
    in_folders = any(folder.get(state) for folder in told["folders"] for state in ("waiting", "settling"))
    return in_queues or in_folders or told["oldest_unfinished"] is not None


def _disk_line(disk: dict[str, Any]) -> str:
    name = disk["what"].removesuffix("_root")
    if "error" in disk:
        return show.safe(f"{name} {disk['error']}")
    ours = disk["used_by_pipeline_bytes"]
    return f"{name} {human_bytes(disk['free_bytes'])} free" + (f", {human_bytes(ours)} in use" if ours else "")


def _lane_row(lane: dict[str, Any]) -> show.Row:
    done, total, left = lane["done_bytes"], lane["total_bytes"], lane["seconds_left"]
    return {
        "lane": lane["lane"],
        "at work on": lane["work_rid"],
        "step": lane["step"] or "just begun",
        "done": f"{100 * done // total}% of {human_bytes(total)}" if total else "",
        "rate": f"{human_bytes(lane['bytes_per_second'])}/s" if lane["bytes_per_second"] else "",
        "time left": "" if left is None else f"{left // 60}:{left % 60:02} min",
        "taken up if it dies": f"after {lane['lease_until'][11:19]}Z",
    }


def _one(here: Site, options: Namespace) -> int:
    story = stories.asked_story(here.engine, options.rid)
    work_rid = story.work_rid
    own = {known.row.bag.bag_id for known in story.bags if known.row.bag.work_rid == work_rid}
    works = views.works(here.engine, bag_ids=[known.row.bag.bag_id for known in story.bags])
    works = [work for work in works if work.work_rid == work_rid or work.bag_id in own]
    history = [{**event, "at": rfc3339(event["at"])} for event in story.events]
    logs = [asdict(one) for one in sync_logs.of(here, work_rid, story.events)]

    def tell(out: "Console") -> None:
        show.tell(out, show.works_rows(works))
        for event in history:
            out.print(show.event_line(event))
        for line in show.sync_log_lines(logs):
            out.print(f"sync log: {line}", soft_wrap=True)

    document = {"works": [asdict(work) for work in works], "history": history, "sync_logs": logs}
    return show.result(options, document, tell)
