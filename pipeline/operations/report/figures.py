"""What a time came to, in figures; pure."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.foundation.work import human_bytes
from pipeline.record.history import STEPS, Happening
from pipeline.record.views import WorkStatus

_WIDTHS = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 360)] + [timedelta(days=days) for days in (1, 7)]
_MOST_BUCKETS = 60


@dataclass(frozen=True)
class Story:
    """A time, and what is known of it."""

    since: datetime
    until: datetime
    works: Sequence[WorkStatus]
    happenings: Sequence[Happening]

    @property
    def began(self) -> datetime:
        """When the first thing happened in it."""
        moments = [one.at - timedelta(seconds=one.seconds) for one in self.happenings]
        return max(self.since, min(moments, default=self.since))

    def done(self, step: str) -> list[Happening]:
        """What that step brought to its end."""
        return [one for one in self.happenings if one.step == step and one.outcome == "done"]


@dataclass(frozen=True)
class Bucket:
    """What came home in a stretch of time."""

    start: datetime
    width: timedelta
    bytes: int
    works: int


@dataclass(frozen=True)
class Durations:
    """How long a step took; seconds."""

    step: str
    count: int
    median: float
    ninetieth: float
    longest: float
    bytes_per_second: float


@dataclass(frozen=True)
class Kind:
    """Failures of one name: how often, of how many works, and the last one's words."""

    kind: str
    count: int
    works: int
    latest: str


def totals(story: Story) -> list[tuple[str, str]]:
    """The figures at the head of the page: what, and how much."""
    home = story.done("sync")
    states = [work.stage for work in story.works]
    failed = sum(state in {"failed", "refused"} for state in states)
    hours = max((story.until - story.began).total_seconds() / 3600, 1 / 3600)
    return [
        ("works came home", f"{len({one.work_rid for one in home}):,}"),
        ("archived", human_bytes(sum(one.bytes for one in home))),
        ("on average", f"{human_bytes(sum(one.bytes for one in home) / hours)}/h"),
        ("failed or refused now", f"{failed:,}"),
        (
            "still to do",
            f"{sum(state not in {'done', 'failed', 'refused', 'skipped', 'superseded'} for state in states):,}",
        ),
        ("failures on the way", f"{sum(kind.count for kind in failures(story)):,}"),
    ]


def throughput(story: Story) -> list[Bucket]:
    """What came home over time, in stretches of equal width; empty when nothing did."""
    home = story.done("sync")
    if not home:
        return []
    span = story.until - story.began
    width = next((width for width in _WIDTHS if span / width <= _MOST_BUCKETS), _WIDTHS[-1])
    first = math.floor(story.began.timestamp() / width.total_seconds())
    last = math.floor(story.until.timestamp() / width.total_seconds())
    amounts: dict[int, list[int]] = defaultdict(list)
    for one in home:
        amounts[math.floor(one.at.timestamp() / width.total_seconds())].append(one.bytes)
    return [
        Bucket(
            start=datetime.fromtimestamp(number * width.total_seconds(), tz=UTC),
            width=width,
            bytes=sum(amounts[number]),
            works=len(amounts[number]),
        )
        for number in range(first, last + 1)
    ]


def durations(story: Story) -> list[Durations]:
    """How long each step took, in their order; steps that never ran are left out."""
    found = []
    for step in STEPS:
        done = story.done(step)
        if not done:
            continue
        seconds = sorted(one.seconds for one in done)
        found.append(
            Durations(
                step=step,
                count=len(done),
                median=seconds[len(seconds) // 2],
                ninetieth=seconds[min(len(seconds) - 1, len(seconds) * 9 // 10)],
                longest=seconds[-1],
                bytes_per_second=sum(one.bytes for one in done) / (sum(seconds) or 1),
            )
        )
    return found


def failures(story: Story) -> list[Kind]:
    """Failures by kind, the most frequent first."""
    by_kind: dict[str, list[Happening]] = defaultdict(list)
    for one in story.happenings:
        if one.outcome == "failed":
            by_kind[one.kind or "unnamed"].append(one)
    found = [
        Kind(kind=kind, count=len(ones), works=len({one.work_rid for one in ones}), latest=ones[-1].error)
        for kind, ones in by_kind.items()
    ]
    return sorted(found, key=lambda kind: (-kind.count, kind.kind))
