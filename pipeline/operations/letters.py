"""Dead letters that no lane moved: SQS does it by itself, after too many deliveries, and tells nobody.

All that SQS tells is how many there are. What lanes moved is in the record and told by itself; so whatever is there
beyond that, and beyond what a channel knew to be there, is news.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import intake
from pipeline.foundation.errors import PipelineError
from pipeline.record import notices
from pipeline.record.notices import Moved, Told
from pipeline.tasks.context import Site

_UNSURE_SECONDS = 120
"""For so long after a message was moved the queue's count may be the one from before: SQS promises a minute."""


@dataclass(frozen=True)
class Lying:
    """How many messages lie in a queue's dead-letter queue; or why nobody knows."""

    queue: str
    url: str
    count: int
    error: str = ""


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


def look(here: Site) -> list[Lying]:
    """How many dead letters there are, queue by queue; one that does not answer soon is told as such."""
    found: dict[str, Lying] = {}
    for source in here.settings.sources:
        try:
            sqs = here.sqs(source, hasty=True)
            url = intake.find_queue(sqs, source=source.name, queue=source.queue).dead_letter_url
            count = sum(intake.depth(sqs, url).values()) if url else 0
        except PipelineError as error:
            found[source.name] = Lying(source.queue, "", 0, str(error))
        else:
            if url:
                found.setdefault(url, Lying(source.queue, url, count))  # several queues may share one
    return list(found.values())


def compare(here: Site, lying: Sequence[Lying], known: Told) -> Compared:
    """What is new to a channel. A queue that it has not heard of is no news: it begins there.

    Args:
        here: this site.
        lying: what was seen, before this is called: what lanes moved meanwhile must not be missed.
        known: what the channel knows.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    moved = notices.moved(here.engine, after=known.event_id, recent_seconds=_UNSURE_SECONDS)
    since = Counter(one.url for one in moved if one.event_id > known.event_id)
    unsure = {one.url for one in moved if one.seconds < _UNSURE_SECONDS}
    expected = {url: count + since[url] for url, count in known.dead_letters.items()}
    certain = [one for one in lying if one.url and one.url not in unsure]
    counts = expected | {one.url: one.count for one in certain}
    more = [(one, one.count - expected.get(one.url, one.count)) for one in certain]
    grown = [Grown(one.queue, one.count, new) for one, new in more if new > 0]
    return Compared(grown, counts, expected, moved)


def _without(counts: Mapping[str, int], moved: Sequence[Moved], event_id: int) -> dict[str, int]:
    """As many as there were when that event was the last: what lanes moved later is counted by its own events."""
    later = Counter(one.url for one in moved if one.event_id > event_id)
    return {url: count - later[url] for url, count in sorted(counts.items())}
