"""What a time came to, in figures: counted in the record, however much happened in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.foundation.work import human_bytes
from pipeline.record import Phase, campaign, history, views
from pipeline.record.campaign import Totals
from pipeline.record.history import STEPS, Happening, Kind
from pipeline.record.views import WorkStatus
from pipeline.tasks.context import Site

MOST_ROWS = 5000
MOST_IN_TIMELINE = 40
_WIDTHS = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 360)] + [timedelta(days=days) for days in (1, 7)]
_MOST_BUCKETS = 60
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.9, 1)


@dataclass(frozen=True)
class Bucket:
    """What came home in a stretch of time."""

    start: datetime
    width: timedelta
    bytes: int
    times: int


@dataclass(frozen=True)
class Durations:
    """How long a step took; seconds. `box` are what 5, 25, 50, 75 and 95 of 100 were within."""

    step: str
    count: int
    box: Sequence[float]
    ninetieth: float
    longest: float
    bytes_per_second: float

    @property
    def median(self) -> float:
        """What half of them were within."""
        return self.box[2]


@dataclass(frozen=True)
class Story:
    """A time, and what is known of it.

    Attributes:
        began: when the first thing happened in it.
        works: those that were heard of in it, the latest first, as far as a page shows them.
        left_out: how many more there are.
        home: how many works came home, and their bytes.
        restores: how the campaign stands now.
    """

    since: datetime
    until: datetime
    began: datetime
    works: Sequence[WorkStatus]
    left_out: int
    home: tuple[int, int]
    throughput: Sequence[Bucket]
    durations: Sequence[Durations]
    failures: Sequence[Kind]
    latest: Sequence[Happening]
    restores: Totals
    currency: str


def story(here: Site, *, since: datetime) -> Story:
    """What is known of the time from then to now.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    engine, until = here.engine, datetime.now(UTC)
    began = history.first(engine, since=since) or since
    works, left_out = views.latest_works(engine, most_ended=MOST_ROWS, since=since)
    latest = {work.work_rid for work in works[:MOST_IN_TIMELINE]}
    return Story(
        since=since,
        until=until,
        began=began,
        works=works,
        left_out=left_out,
        home=history.home(engine, since=since),
        throughput=_throughput(engine, began, until),
        durations=[one for step in STEPS for one in _durations(engine, step, since)],
        failures=history.failures(engine, since=since),
        latest=history.happenings(engine, latest, since=since),
        restores=campaign.totals(engine, within_hours=0),
        currency=here.settings.restore.currency,
    )


def totals(told: Story) -> list[tuple[str, str]]:
    """The figures at the head of the page: what, and how much."""
    works, size = told.home
    states = [work.stage for work in told.works]
    failed = sum(state in {"failed", "refused"} for state in states)
    to_do = sum(state not in {"done", "failed", "refused", "skipped", "superseded"} for state in states)
    hours = max((told.until - told.began).total_seconds() / 3600, 1 / 3600)
    return [
        ("works came home", f"{works:,}"),
        ("archived", human_bytes(size)),
        ("on average", f"{human_bytes(size / hours)}/h"),
        ("failed or refused now", f"{failed:,}"),
        ("still to do", f"{to_do:,}"),
        ("failures on the way", f"{sum(kind.count for kind in told.failures):,}"),
        *_restores(told),
    ]


def _restores(told: Story) -> list[tuple[str, str]]:
    """The campaign of restores, where there is one."""
    if not told.restores.counts:
        return []
    cost = "not known" if told.restores.cost is None else f"{told.restores.cost:.2f} {told.currency}"
    counts = ", ".join(f"{count:,} {state}" for state, count in told.restores.counts.items())
    return [("wanted from cold storage", counts), ("restores have cost", cost)]


def _throughput(engine: Any, began: datetime, until: datetime) -> list[Bucket]:
    """What came home over time, in stretches of equal width; empty when nothing did."""
    width = next((width for width in _WIDTHS if (until - began) / width <= _MOST_BUCKETS), _WIDTHS[-1])
    first, last = (math.floor(moment.timestamp() / width.total_seconds()) for moment in (began, until))
    starts = [datetime.fromtimestamp(n * width.total_seconds(), tz=UTC) for n in range(first, last + 2)]
    found = history.home_over_time(engine, starts)
    buckets = [Bucket(start, width, *amounts) for start, amounts in zip(starts, found, strict=False)]
    return buckets if any(bucket.times for bucket in buckets) else []


def _durations(engine: Any, step: Phase, since: datetime) -> list[Durations]:
    """How long a step took; nothing where it never ran."""
    done, within = history.quantiles(engine, step, _SHARES, since=since)
    if not done.count:
        return []
    *box, ninetieth, longest = within
    return [Durations(step, done.count, box, ninetieth, longest, done.bytes / (done.seconds or 1))]
