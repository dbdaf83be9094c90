"""Dead letters that no lane moved: SQS does it by itself, after too many deliveries, and tells nobody.

All that SQS tells is how many there are. What lanes moved is in the record and told by itself; so whatever is there
beyond that, and beyond what a channel knew to be there, is news.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.operations.status import Standing
from pipeline.record import notices
from pipeline.record.notices import Moved, Told

_UNSURE_SECONDS = 120
"""For so long after a message was moved the queue's count may be the one from before: SQS promises a minute."""


@dataclass(frozen=True)
class Grown:
    """A dead-letter queue with so many messages, some of them new and moved there by no lane."""

    queue: str
    count: int
    new: int


@dataclass(frozen=True)
class Compared:
    """What lies in the dead-letter queues, against what a channel expects there.

    Attributes:
        grown: the queues with more.
        counts: what is there, by URL; what is expected where that cannot be told now.
        expected: what the channel knew of, and what lanes moved since.
        moved: what lanes moved lately, at least since the channel was told something.
    """

    grown: Sequence[Grown]
    counts: Mapping[str, int]
    expected: Mapping[str, int]
    moved: Sequence[Moved]

    def once_told(self, event_id: int) -> dict[str, int]:
        """What the channel knows of as soon as it was told everything up to an event."""
        return _without(self.counts, self.moved, event_id)

    def untold(self, event_id: int) -> dict[str, int]:
        """What it knows of while it is told nothing: what is new stays so, what was taken out is expected no more."""
        fewer = {url: min(count, self.expected.get(url, count)) for url, count in self.counts.items()}
        return _without(fewer, self.moved, event_id)


def compare(stands: Standing, known: Told) -> Compared:
    """What is new to a channel. A queue that it has not heard of is no news: it begins there.

    Args:
        stands: how things stand.
        known: what the channel knows.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    lying = stands.dead_letters  # asked first: what lanes move meanwhile must not be missed
    moved = notices.moved(stands.here.engine, after=known.event_id, recent_seconds=_UNSURE_SECONDS)
    since = Counter(one.url for one in moved if one.event_id > known.event_id)
    unsure = {one.url for one in moved if one.seconds < _UNSURE_SECONDS}
    expected = {url: count + since[url] for url, count in known.dead_letters.items()}
    certain = {one.dead_url: sum(one.dead.values()) for one in lying if one.dead and one.dead_url not in unsure}
    counts = expected | certain
    new = {url: count - expected.get(url, count) for url, count in certain.items()}
    grown = [Grown(one.queue, counts[one.dead_url], new[one.dead_url]) for one in lying if new.get(one.dead_url, 0) > 0]
    return Compared(grown, counts, expected, moved)


def _without(counts: Mapping[str, int], moved: Sequence[Moved], event_id: int) -> dict[str, int]:
    """As many as there were when that event was the last: what lanes moved later is counted by its own events."""
    later = Counter(one.url for one in moved if one.event_id > event_id)
    return {url: count - later[url] for url, count in sorted(counts.items())}
