"""What Prometheus is told: all of it is read from the record, the queues and the disks when it is asked for."""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pipeline import intake, record
from pipeline.foundation.errors import PipelineError
from pipeline.operations.status import look_at
from pipeline.record import SUPERSEDED, BagState, history, overview, views
from pipeline.record import lanes as roll
from pipeline.record.history import STEPS, Tally
from pipeline.tasks.context import Site
from pipeline.tasks.presence import silent_seconds

_BOUNDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 43200)
_ASKED_SECONDS = 60.0  # SQS's own counts are no younger, and each question costs a little
_log = logging.getLogger(__name__)


class Collector:
    """Counts the events of the record, and looks at what is there now, each time anew."""

    def __init__(self, here: Site) -> None:
        self._here = here
        self._lock = threading.Lock()
        self._told: list[Metric] | PipelineError = []
        self._asked_again = 0.0

    def collect(self) -> Iterator[Metric]:
        """Everything; what is out of reach is left out, and `pipeline_up` is 0."""
        up = GaugeMetricFamily("pipeline_up", "1 while database and queues answer")
        found: list[Metric] = []
        with self._lock:
            try:
                found = [*self._counted(), *self._now(), *self._queues(), *self._folders()]
                up.add_metric([], 1)
            except PipelineError as error:
                _log.error("%s", error)
                up.add_metric([], 0)
        yield up
        yield from found
        yield self._disks()

    def _counted(self) -> Iterator[Metric]:
        engine = self._here.engine
        took = {step: history.taking(engine, step, _BOUNDS) for step in STEPS}
        tallies = {(one.step, one.outcome, one.kind): one for one in history.tallies(engine)}
        happened = CounterMetricFamily(
            "pipeline_events",
            "What happened to works, by step, outcome and failure",
            labels=["step", "outcome", "kind"],
        )
        for labels, one in sorted(tallies.items()):
            happened.add_metric(labels, one.count)
        yield happened
        amounts = CounterMetricFamily("pipeline_bytes", "Bytes that steps brought to their end", labels=["step"])
        durations = HistogramMetricFamily("pipeline_step_duration_seconds", "How long steps took", labels=["step"])
        for step in STEPS:
            done = tallies.get((step, "done", ""), Tally(step, "done", "", 0, 0, 0.0))
            amounts.add_metric([step], done.bytes)
            names = [*map(str, map(float, _BOUNDS)), "+Inf"]
            counts = map(float, [*accumulate(took[step]), done.count])
            durations.add_metric([step], list(zip(names, counts, strict=True)), done.seconds)
        yield amounts
        yield durations
        taken = CounterMetricFamily("pipeline_lease_takeovers", "Works taken over from a lane that fell silent")
        over = tallies.get(("lease", "taken-over", ""))
        taken.add_metric([], over.count if over else 0)
        yield taken

    def _now(self) -> Iterator[Metric]:
        bags = GaugeMetricFamily("pipeline_bags", "Bags by what is to be done about them", labels=["state"])
        counts = views.counts(self._here.engine)
        for state in (*map(str, BagState), SUPERSEDED):
            bags.add_metric([state], counts.get(state, 0))
        yield bags
        broken = GaugeMetricFamily("pipeline_fixity_failed_works", "Works whose archive copy failed its last check")
        broken.add_metric([], len(record.broken(self._here.engine)))
        yield broken
        held, over = overview.held(self._here.engine)
        leases = GaugeMetricFamily("pipeline_leases", "Works that lanes hold, or held when they died", labels=["state"])
        leases.add_metric(["held"], held)
        leases.add_metric(["expired"], over)
        yield leases
        yield self._lanes()
        oldest = GaugeMetricFamily(
            "pipeline_oldest_bag_seconds", "How long the oldest bag is known, or refused", labels=["state"]
        )
        now = datetime.now(UTC)
        for state, since in (
            ("unfinished", overview.oldest_unfinished(self._here.engine)),
            ("refused", overview.oldest_refused(self._here.engine)),
        ):
            oldest.add_metric([state], max(0.0, (now - since).total_seconds()) if since else 0)
        yield oldest

    def _lanes(self) -> Metric:
        lanes = GaugeMetricFamily("pipeline_lanes", "Lanes of each host", labels=["host", "state"])
        for one in roll.hosts(self._here.engine, silent_seconds=silent_seconds(self._here)):
            lanes.add_metric([one.host, "at_work"], one.at_work)
            lanes.add_metric([one.host, "idle"], one.alive - one.at_work)
            lanes.add_metric([one.host, "gone"], one.silent)
        return lanes

    def _queues(self) -> list[Metric]:
        """What AWS was asked last: once a minute at most, however often this is scraped, also where it failed.

        Raises:
            PipelineError: it did not answer then.
        """
        if time.monotonic() >= self._asked_again:
            self._asked_again = time.monotonic() + _ASKED_SECONDS
            try:
                self._told = list(self._asked())
            except PipelineError as error:
                self._told = error
        if isinstance(self._told, PipelineError):
            raise self._told.with_traceback(None)
        return self._told

    def _asked(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("pipeline_queue_messages", "Messages of each queue", labels=["queue", "state"])
        for source in self._here.settings.sources:
            sqs = self._here.sqs(source)
            queue = intake.find_queue(sqs, source=source.name, queue=source.queue)
            for state, count in intake.depth(sqs, queue.url).items():
                depth.add_metric([source.queue, state], count)
            if queue.dead_letter_url:
                dead = intake.depth(sqs, queue.dead_letter_url)
                depth.add_metric([source.queue, "dead_letters"], dead["waiting"])
        yield depth

    def _folders(self) -> Iterator[Metric]:
        """The folders of zips; one that is out of reach has no figures, as the others would be missed."""
        zips = GaugeMetricFamily("pipeline_folder_zips", "Zips of each folder", labels=["source", "state"])
        oldest = GaugeMetricFamily(
            "pipeline_folder_oldest_zip_seconds", "How long the oldest one waits that is whole", labels=["source"]
        )
        up = GaugeMetricFamily("pipeline_folder_up", "1 while a folder can be read as it has to be", labels=["source"])
        for folder in self._here.settings.folders:
            try:
                found = look_at(folder)
            except PipelineError as error:
                _log.error("%s", error)
                up.add_metric([folder.name], 0)
                continue
            up.add_metric([folder.name], 1)
            for state in ("waiting", "settling", "refused"):
                zips.add_metric([folder.name, state], found[state])
            zips.add_metric([folder.name, "incomplete"], len(found["incomplete"]))
            oldest.add_metric([folder.name], found["oldest_waiting_seconds"] or 0)
        yield from (zips, oldest, up)

    def _disks(self) -> Metric:
        disks = GaugeMetricFamily("pipeline_disk_bytes", "Room on the disks", labels=["folder", "state"])
        chosen = self._here.settings
        for name, folder in (
            ("staging", chosen.staging),
            ("quarantine", chosen.quarantine),
            ("archive", chosen.archive_root),
        ):
            if folder.is_dir():
                usage = shutil.disk_usage(folder)
                disks.add_metric([name, "free"], usage.free)
                disks.add_metric([name, "total"], usage.total)
        return disks
