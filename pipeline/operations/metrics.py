"""What Prometheus is told: all of it is read from the record, the queues and the disks when it is asked for."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pipeline.foundation.errors import PipelineError
from pipeline.operations.status import Depths, Standing
from pipeline.record import SUPERSEDED, BagState, WantState, history, overview
from pipeline.record.history import STEPS, Ending
from pipeline.tasks.context import Site

_BOUNDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 43200)
_ASKED_SECONDS = 60.0  # SQS's own counts are no younger, and each question costs a little
_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)
_Sample = tuple[Sequence[str], float]
_log = logging.getLogger(__name__)


class Collector:
    """Counts the events of the record, and looks at what is there now, each time anew; AWS is asked once a minute."""

    def __init__(self, here: Site) -> None:
        self._here = here
        self._lock = threading.Lock()
        self._queues: list[Depths] = []
        self._asked_again = 0.0

    def collect(self) -> Iterator[Metric]:
        """Everything; what is out of reach is left out, and `pipeline_up` is 0."""
        stands, found = Standing(self._here), list[Metric]()
        with self._lock:
            try:
                found = [*_counted(self._here), *_now(stands), _depths(self._asked(stands)), *_folders(stands)]
            except PipelineError as error:
                _log.error("%s", error)
        yield _told(GaugeMetricFamily, "pipeline_up", "1 while database and queues answer", [], [([], bool(found))])
        yield from found
        yield _disks(stands)

    def _asked(self, stands: Standing) -> list[Depths]:
        if time.monotonic() >= self._asked_again:
            self._asked_again = time.monotonic() + _ASKED_SECONDS
            self._queues = stands.queues
        return self._queues


def _told(
    family: Callable[..., _Family], name: str, what: str, labels: Sequence[str], samples: Iterable[_Sample]
) -> _Family:
    made = family(name, what, labels=labels)
    for values, number in samples:
        made.add_metric(values, number)
    return made


def _counted(here: Site) -> Iterator[Metric]:
    """What ever happened, and how long it took; the durations first, so that no bucket is larger than all of them."""
    took = {step: history.taking(here.engine, step, _BOUNDS) for step in STEPS}
    endings = {(one.step, one.outcome, one.kind): one for one in history.endings(here.engine)}
    done = {step: endings.get((step, "done", ""), Ending(step, "done", "", 0, 0, 0.0)) for step in STEPS}
    yield _told(
        CounterMetricFamily,
        "pipeline_events",
        "What happened to works, by step, outcome and failure",
        ["step", "outcome", "kind"],
        [(labels, one.count) for labels, one in sorted(endings.items())],
    )
    amounts = [([step], one.bytes) for step, one in done.items()]
    yield _told(CounterMetricFamily, "pipeline_bytes", "Bytes that steps brought to their end", ["step"], amounts)
    durations = HistogramMetricFamily("pipeline_step_duration_seconds", "How long steps took", labels=["step"])
    names = [*map(str, map(float, _BOUNDS)), "+Inf"]
    for step, one in done.items():
        counts = map(float, [*accumulate(took[step]), one.count])
        durations.add_metric([step], list(zip(names, counts, strict=True)), one.seconds)
    yield durations
    taken = sum(one.count for one in endings.values() if (one.step, one.outcome) == ("lease", "taken-over"))
    what = "Works taken over from a lane that fell silent"
    yield _told(CounterMetricFamily, "pipeline_lease_takeovers", what, [], [([], taken)])


def _now(stands: Standing) -> Iterator[Metric]:
    bags = [([state], stands.bags.counts.get(state, 0)) for state in (*map(str, BagState), SUPERSEDED)]
    yield _told(GaugeMetricFamily, "pipeline_bags", "Bags by what is to be done about them", ["state"], bags)
    what = "Works whose archive copy failed its last check"
    yield _told(GaugeMetricFamily, "pipeline_fixity_failed_works", what, [], [([], len(stands.broken))])
    if keeps := stands.fixity:
        what = "Archived works that were not verified for longer than [fixity] due_days"
        yield _told(GaugeMetricFamily, "pipeline_fixity_behind_works", what, [], [([], keeps["behind"])])
        what = "Hours a night that verifying takes, at the rate of the last 30 days; 0: none was verified"
        yield _told(GaugeMetricFamily, "pipeline_fixity_hours_a_night", what, [], [([], keeps["hours_a_night"] or 0)])
    copies = [
        ([name, state], one[state]) for name, one in stands.replicas.items() for state in ("works", "failed", "behind")
    ]
    what = (
        "Works with a second copy in each replica, those whose copy failed its last look, and was not looked at in time"
    )
    yield _told(GaugeMetricFamily, "pipeline_replica_copies", what, ["replica", "state"], copies)
    owed = [([name, state], one[state]) for name, one in stands.callbacks.items() for state in ("waiting", "dead")]
    what = "What receivers of callbacks are still to be told, and what was given up"
    yield _told(GaugeMetricFamily, "pipeline_callbacks", what, ["callback", "state"], owed)
    leases = zip((["held"], ["expired"]), overview.held(stands.here.engine), strict=True)
    what = "Works that lanes hold, or held when they died"
    yield _told(GaugeMetricFamily, "pipeline_leases", what, ["state"], leases)
    lanes = [
        ([one.host, state], count)
        for one in stands.hosts
        for state, count in (("at_work", one.at_work), ("idle", one.alive - one.at_work), ("gone", one.silent))
    ]
    yield _told(GaugeMetricFamily, "pipeline_lanes", "Lanes of each host", ["host", "state"], lanes)
    wanted = stands.restores or {"counts": {}, "cost": None, "at_risk": 0}
    states = [([state], wanted["counts"].get(state, 0)) for state in WantState]
    yield _told(GaugeMetricFamily, "pipeline_restores", "Works wanted from cold storage", ["state"], states)
    what = "Restored copies of those that end soon, not fetched"
    yield _told(GaugeMetricFamily, "pipeline_restores_at_risk", what, [], [([], wanted["at_risk"])])
    what = "What restores have cost by the price settings"
    yield _told(GaugeMetricFamily, "pipeline_restore_cost", what, [], [([], wanted["cost"] or 0)])
    oldest = {"unfinished": stands.bags.oldest_unfinished, "refused": stands.bags.oldest_refused}
    ages = [([state], max(0.0, (stands.at - at).total_seconds()) if at else 0) for state, at in oldest.items()]
    what = "How long the oldest bag is known, or refused"
    yield _told(GaugeMetricFamily, "pipeline_oldest_bag_seconds", what, ["state"], ages)


def _depths(queues: Sequence[Depths]) -> Metric:
    """What AWS told last.

    Raises:
        PipelineError: a queue did not answer then.
    """
    samples: list[_Sample] = []
    for one in queues:
        if one.error is not None:
            raise one.error.with_traceback(None)
        samples += [([one.queue, state], count) for state, count in one.waiting.items()]
        samples += [([one.queue, "dead_letters"], one.dead["waiting"])] if one.dead else []
    return _told(GaugeMetricFamily, "pipeline_queue_messages", "Messages of each queue", ["queue", "state"], samples)


def _folders(stands: Standing) -> Iterator[Metric]:
    """The folders of zips; one that is out of reach has no figures, as the others would be missed."""
    for one in stands.folders:
        if "error" in one:
            _log.error("%s", one["error"])
    answer = [one for one in stands.folders if "error" not in one]
    zips = [
        ([one["source"], state], len(one[state]) if state == "incomplete" else one[state])
        for one in answer
        for state in ("waiting", "settling", "refused", "incomplete")
    ]
    yield _told(GaugeMetricFamily, "pipeline_folder_zips", "Zips of each folder", ["source", "state"], zips)
    oldest = [([one["source"]], one["oldest_waiting_seconds"] or 0) for one in answer]
    what = "How long the oldest one waits that is whole"
    yield _told(GaugeMetricFamily, "pipeline_folder_oldest_zip_seconds", what, ["source"], oldest)
    up = [([one["source"]], "error" not in one) for one in stands.folders]
    what = "1 while a folder can be read as it has to be"
    yield _told(GaugeMetricFamily, "pipeline_folder_up", what, ["source"], up)


def _disks(stands: Standing) -> Metric:
    room = [
        ([disk["what"].removesuffix("_root"), state], disk[f"{state}_bytes"])
        for disk in stands.disks
        if "error" not in disk
        for state in ("free", "total")
    ]
    return _told(GaugeMetricFamily, "pipeline_disk_bytes", "Room on the disks", ["folder", "state"], room)
