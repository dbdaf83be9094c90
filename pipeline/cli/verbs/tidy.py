"""`run_pipeline.py tidy`: take away what nobody needs any more, as `[retention]` has it."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from pipeline.foundation import logs
from pipeline.foundation.signals import stopping_on_signals
from pipeline.foundation.work import human_bytes, human_count
from pipeline.lanes import processes
from pipeline.operations import show, tidy
from pipeline.operations.tidy import Heap
from pipeline.tasks import context

_NAMED = 20  # things of a kind that are shown; all are in the JSON


def main(options: Namespace) -> int:
    """Show what would go, ask, and take it away; 1: a kind could not be looked at, or something not be taken away.

    Raises:
        UsageError: nobody agreed; nothing was done.
        DatabaseUnavailable: the database is out of reach.
        Stopping: a signal came.
    """
    here = context.open_site(lane="tidy")
    logs.log_to(here.settings.logs, "tidy", verbose=options.verbose, json_lines=here.settings.log_json)
    heaps = tidy.plan(here)
    failed, count = sum(bool(heap.error) for heap in heaps), sum(len(heap.going) for heap in heaps)
    if not options.json:
        _tell(show.console(), heaps, "goes")
    if count and not options.plan:
        room = human_bytes(sum(heap.size_bytes for heap in heaps))
        show.agreed(f"{human_count(count, 'thing')}, {room}, will be deleted. Delete?", yes=options.yes)
        with stopping_on_signals(here.stopping.set):
            failed += tidy.take_away(here, heaps)
    status = processes.EXIT_FAILED if failed else processes.EXIT_DONE
    ended = "would go" if options.plan else "gone"
    return show.result(options, _document(heaps), lambda out: _sum_up(out, heaps, ended), status=status)


def _tell(out: Console, heaps: Sequence[Heap], verb: str) -> None:
    rows = [
        {
            "kind": heap.kind.rpartition("_")[0].replace("_", " "),
            "older than": heap.older_than,
            verb: str(len(heap.going)),
            "room": human_bytes(heap.size_bytes),
            "stays": str(len(heap.staying)),
            "why it may go": heap.error or heap.why,
        }
        for heap in heaps
    ]
    show.tell(out, rows)
    for heap in heaps:
        for one in heap.going[:_NAMED]:
            out.print(show.safe(f"goes: {one.what}"))
        if len(heap.going) > _NAMED:
            out.print(f"goes: and {len(heap.going) - _NAMED} more; all of them: --plan --json")


def _sum_up(out: Console, heaps: Sequence[Heap], ended: str) -> None:
    for heap in heaps:
        for why, count in Counter(why for _, why in heap.staying).most_common(_NAMED):
            example = next(one.what for one, told in heap.staying if told == why)
            out.print(show.safe(f"stays: {example}{f' and {count - 1} more' if count > 1 else ''}: {why}"))
    room = human_bytes(sum(heap.size_bytes for heap in heaps))
    out.print(f"{human_count(sum(len(heap.going) for heap in heaps), 'thing')} {ended}, {room}")


def _document(heaps: Sequence[Heap]) -> dict[str, Any]:
    return {
        "kinds": [
            {
                "kind": heap.kind,
                "older_than": heap.older_than,
                "why": heap.why,
                "bytes": heap.size_bytes,
                "goes": [{"what": one.what, "work_rid": one.work_rid, "bytes": one.size_bytes} for one in heap.going],
                "stays": [{"what": one.what, "work_rid": one.work_rid, "why": why} for one, why in heap.staying],
                "error": heap.error,
            }
            for heap in heaps
        ]
    }
