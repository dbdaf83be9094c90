"""Taking away what nobody needs any more: what would go, and why each may; then each by itself, asked again before."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.foundation import failpoints
from pipeline.foundation.errors import DatabaseUnavailable, PipelineError, Stopping
from pipeline.foundation.work import human_count
from pipeline.operations import outlived, repair, spent
from pipeline.operations.outlived import Old
from pipeline.record import outdated
from pipeline.settings import Settings
from pipeline.tasks.context import Site

_log = logging.getLogger("pipeline.tidy")
_DAYS_A_YEAR = 365.25

_Find = Callable[[Site, datetime], Iterator[Old]]
KINDS: dict[str, tuple[str, _Find]] = {
    "done_days": ("home from this very file, and proved in the archive", outlived.done_zips),
    "quarantined_days": ("the work is home from a later bag, and proved in the archive", outlived.quarantined),
    "replaced_days": ("the settings say so: IT IS THE ONLY COPY of what was replaced", outlived.replaced),
    "leftovers_days": ("the work is home and proved, and no bag of it is on its way", outlived.leftovers),
    "sync_logs_days": ("no work waits that failed then", outlived.sync_logs),
    "uploads_days": ("the archive has the work, from which it is sent again", spent.unfinished_uploads),
    "dead_letters_days": ("each of its works is home; what it said goes into the record", spent.dead_letters),
    "events_years": ("a later one says the same, or it is of no work; written to a file first", spent.routine_events),
}
"""By its setting: why one of a kind may go, and where those are found that are old enough."""


@dataclass
class Heap:
    """What there is of a kind.

    Attributes:
        kind: its setting.
        why: why one may go.
        older_than: for how long it is kept.
        going: what may go.
        staying: what is old enough and has to stay, each with the reason.
        error: why it could not be looked at; empty: it was.
    """

    kind: str
    why: str
    older_than: str
    going: list[Old] = field(default_factory=list)
    staying: list[tuple[Old, str]] = field(default_factory=list)
    error: str = ""

    @property
    def size_bytes(self) -> int:
        """The room that it makes."""
        return sum(one.size_bytes for one in self.going)


def kept_for(chosen: Settings) -> dict[str, tuple[str, timedelta | None]]:
    """For how long each kind is kept, by its setting: for a person, and as time; None: for ever."""
    found: dict[str, tuple[str, timedelta | None]] = {}
    for kind in KINDS:
        count = int(getattr(chosen.retention, kind))
        unit, days = ("year", count * _DAYS_A_YEAR) if kind.endswith("years") else ("day", count)
        found[kind] = (human_count(count, unit), timedelta(days=days)) if count else ("for ever", None)
    return found


def plan(here: Site) -> list[Heap]:
    """What would go, kind by kind; nothing is changed.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    now, heaps = outdated.now(here.engine), []
    for kind, (told, age) in kept_for(here.settings).items():
        if age is None:
            continue
        why, find = KINDS[kind]
        heap = Heap(kind, why, told)
        try:
            for one in find(here, now - age):
                if needed := one.needed():
                    heap.staying.append((one, needed))
                else:
                    heap.going.append(one)
        except DatabaseUnavailable:
            raise
        except (PipelineError, OSError) as error:
            heap.error = str(error)
        heaps.append(heap)
    return heaps


def take_away(here: Site, heaps: Sequence[Heap]) -> int:
    """Take away what may go; what may not any more is told among what stays. Returns how many could not be.

    Raises:
        Stopping: a signal came; what is gone is gone.
        DatabaseUnavailable: the database is out of reach; the same.
    """
    failed = 0
    for heap in heaps:
        going, heap.going = heap.going, []
        for one in going:
            if here.stopping.is_set():
                raise Stopping("stopped as asked")
            try:
                needed = _take_away(here, one, heap)
            except (DatabaseUnavailable, Stopping):
                raise
            except (PipelineError, OSError) as error:
                needed, failed = str(error), failed + 1
            if needed:
                heap.staying.append((one, needed))
            else:
                heap.going.append(one)
    return failed


def _take_away(here: Site, one: Old, heap: Heap) -> str:
    """Why it stays; empty: it is gone."""
    needed = "a lane took its work over meanwhile"
    with here.leased(one.work_rid, one.bag_id) if one.work_rid else nullcontext(True) as ours:
        needed = one.needed() if ours else "a lane works on it"
        if not needed:
            failpoints.before(failpoints.Act.DELETE)
            one.go()
            failpoints.after(failpoints.Act.DELETE)
            _log.info("gone: %s (%s: %s)", one.what, heap.kind, heap.why)
            if one.work_rid:
                facts = {"what": one.what, "why": heap.why, "by": repair.operator()}
                here.record.note("work", "tidied", facts, work_rid=one.work_rid, bag_id=one.bag_id)
    return needed


def in_words(chosen: Settings) -> str:
    """For how long each kind is kept, in a line."""
    return ", ".join(
        f"{kind.rpartition('_')[0].replace('_', ' ')} {told}" for kind, (told, _) in kept_for(chosen).items()
    )
