"""What operators are told, and when: one digest of what is new instead of a hundred messages.

Of dead letters SQS tells only how many there are, and it moves some by itself. What lanes moved is in the record. So
whatever is there beyond that, and beyond what a channel knew to be there, is news.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.foundation.arguments import command
from pipeline.foundation.work import human_bytes, human_count, human_seconds, printable
from pipeline.operations import channels, show
from pipeline.operations.channels import Note
from pipeline.operations.status import Standing
from pipeline.record import CHECK, BagState, Phase, history, outbox
from pipeline.record import notices as state
from pipeline.record.notices import Moved, Told, Trouble
from pipeline.record.overview import AtRisk
from pipeline.settings import Notify

MOST_LINES = 50
_LIST = command("dead-letters", "list")
_PASSING = {BagState.DONE, BagState.UNFINISHED, BagState.NOT_RESTORED}
_BEHIND = "fixity"  # among the bags whose expiry was told: that checks are behind schedule was
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


@dataclass(frozen=True)
class News:
    """What a channel has yet to tell; `digest` is the day's, empty on any other occasion.

    Attributes:
        fixity: that fixity checks fell behind their schedule, or are on it again.
    """

    troubles: Sequence[Trouble]
    expiring: Sequence[AtRisk]
    digest: Sequence[str]
    now: Told
    grown: Sequence[Grown] = ()
    fixity: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.troubles or self.expiring or self.digest or self.grown or self.fixity)


def tell(stands: Standing, channel: str) -> str:
    """Send a channel what is new, if anything is and it is this caller's turn; returns the subject, else nothing.

    Args:
        stands: how things stand.
        channel: its name.

    Raises:
        NotDelivered: it did not arrive; it is sent again after the interval.
        DatabaseUnavailable: the database is out of reach.
    """
    here, today = stands.here, stands.at
    chosen = here.settings.notify
    known = state.told(here.engine, channel, today=f"{today:%F}")
    compared = compare(stands, known)
    news = new_to(stands, known, compared)
    if not news or not state.claim(here.engine, channel, known, interval_seconds=chosen.interval_seconds):
        expected = compared.untold(known.event_id)
        if expected != known.dead_letters:
            state.expect(here.engine, channel, known, expected)
        return ""
    note = compose(news, environment=here.settings.environment)
    channels.send(chosen, channel, note)
    state.sent(here.engine, channel, news.now)
    return note.subject


def sample(chosen: Notify, *, environment: str) -> Note:
    """A message that looks like the real ones, and says that it is none."""
    now = datetime.now(UTC)
    trouble = Trouble(0, now, "W0SAMPLE", "failed", "sync-failed", "W0SAMPLE: this is only a test", "failed", 1)
    late = AtRisk("W0SAMPLE", "", now + timedelta(hours=chosen.expiry_hours), chosen.expiry_hours)
    told = Told(0, "", ())
    news = News([trouble], [late], ["nothing: this is only a test"], told, [Grown("sample", 3, 1)])
    note = compose(news, environment=environment)
    return Note(f"Test: {note.subject}", note.text, {**note.facts, "test": True})


def compose(news: News, *, environment: str) -> Note:
    """The message."""
    works = _by_work(one for one in news.troubles if one.outcome == "failed")
    dead = [one for one in news.troubles if one.outcome == "dead-lettered"]
    parts = [
        _section("Failed", [_told_of(ones) for ones in works]),
        _section("Moved to the dead-letter queue", [f"{_name(one)}: {_line(one.error)}" for one in dead]),
        _section(
            "Dead letters that no lane moved (SQS does after too many deliveries)",
            [f"queue {one.queue}: {one.new} more, {one.count} in all; {_LIST}" for one in news.grown],
        ),
        _section(
            "Restored copies that go away soon",
            [f"{one.work_rid}: in {one.hours_left:.0f} h, on {one.expires_on:%F %H:%M} UTC" for one in news.expiring],
        ),
        _section("Fixity checks", news.fixity),
        _section("The last 24 hours", news.digest),
        "See everything: run_pipeline.py status",
    ]
    counts = [
        (len(works), "work failed", "works failed"),
        (len(dead) + sum(one.new for one in news.grown), "dead letter", "dead letters"),
        (len(news.expiring), "restore expires soon", "restores expire soon"),
        (len(news.fixity), "change of the fixity schedule", "changes of the fixity schedule"),
    ]
    heads = [human_count(count, one, many) for count, one, many in counts if count]
    facts: dict[str, Any] = {
        "environment": environment,
        "failed": [_facts(ones[-1]) for ones in works],
        "dead_letters": [_facts(one) for one in dead],
        "dead_letter_queues": [{"queue": one.queue, "new": one.new, "dead_letters": one.count} for one in news.grown],
        "expiring": [{"work": one.work_rid, "expires_on": one.expires_on.isoformat()} for one in news.expiring],
        "fixity": list(news.fixity),
        "digest": list(news.digest),
    }
    subject = f"Bag pipeline ({environment}): {', '.join(heads) or 'daily digest'}"
    return Note(subject, "\n\n".join(filter(None, parts)) + "\n", facts)


def new_to(stands: Standing, known: Told, compared: Compared) -> News:
    """What a channel has yet to tell, by what it knows.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    chosen, today = stands.here.settings.notify, stands.at
    found = state.troubles(stands.here.engine, after=known.event_id)
    late = [one for one in stands.at_risk if one.hours_left > 0]
    event_id = found[-1].event_id if found else known.event_id
    rotten = {one.work_rid for one in stands.broken} if found else set()
    behind, was_behind = [what for what, _ in show.behind(stands.fixity, stands.replicas)], _BEHIND in known.warned
    digest_due = 0 <= chosen.digest_hour <= today.hour and known.digest_on < f"{today:%F}"
    return News(
        troubles=[one for one in found if _worth_telling(one, chosen, rotten)],
        expiring=[one for one in late if one.bag_id not in known.warned],
        digest=_digest(stands) if digest_due else [],
        grown=compared.grown,
        fixity=[] if was_behind == bool(behind) else behind or ["on schedule again"],
        now=Told(
            event_id=event_id,
            digest_on=f"{today:%F}" if digest_due else known.digest_on,
            warned=(*(one.bag_id for one in late), *([_BEHIND] if behind else [])),
            dead_letters=compared.once_told(event_id),
        ),
    )


def compare(stands: Standing, known: Told) -> Compared:
    """What is new to a channel. A queue that it has not heard of is no news: it begins there.

    Args:
        stands: how things stand.
        known: what the channel knows.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    lying = stands.dead_letters  # asked first: what lanes move meanwhile must not be missed
    moved = state.moved(stands.here.engine, after=known.event_id, recent_seconds=_UNSURE_SECONDS)
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


def _worth_telling(trouble: Trouble, chosen: Notify, rotten: Collection[str]) -> bool:
    """Not what has passed by itself, nor what most likely will."""
    if trouble.outcome == "dead-lettered":
        return True
    if trouble.step == CHECK:
        return trouble.work_rid in rotten
    if trouble.step in {Phase.RESTORE, outbox.STEP}:  # paid for again; or a receiver was not told
        return True
    if trouble.state == BagState.FAILED:
        return bool(trouble.failures >= chosen.patience)
    return trouble.state not in _PASSING


def _digest(stands: Standing) -> list[str]:
    engine, since = stands.here.engine, stands.at - timedelta(days=1)
    works, size = history.home(engine, since=since)
    lines = [f"{human_count(works, 'work')} came home, {human_bytes(size)}"]
    lines += [
        f"{kind.kind}: {human_count(kind.count, 'time')}, {human_count(kind.works, 'work')}"
        for kind in history.failures(engine, since=since)
    ]
    lines.append("bags now: " + (", ".join(f"{n} {name}" for name, n in sorted(stands.bags.counts.items())) or "none"))
    if oldest := stands.bags.oldest_unfinished:
        waits = human_seconds((stands.at - oldest).total_seconds())
        lines.append(f"the oldest that is to come home is known for {waits}")
    if broken := len(stands.broken):
        what = human_count(broken, "archived work")
        lines.append(f"{what} whose last fixity check failed; run_pipeline.py status")
    lines += [what for what, _ in show.behind(stands.fixity, stands.replicas)]
    lines += show.restores_lines(stands.restores)
    for one in stands.dead_letters:
        if one.error:
            lines.append(f"queue {one.queue}: {_line(str(one.error))}")
        elif count := sum((one.dead or {}).values()):
            lines.append(f"queue {one.queue}: {human_count(count, 'dead letter')}; {_LIST}")
    return lines


def _by_work(troubles: Any) -> list[list[Trouble]]:
    """The troubles of each work, in order; a message that names none stands for itself."""
    found: dict[tuple[str, int], list[Trouble]] = {}
    for one in troubles:
        found.setdefault((one.work_rid, 0 if one.work_rid else one.event_id), []).append(one)
    return list(found.values())


def _told_of(ones: Sequence[Trouble]) -> str:
    last = ones[-1]
    times = f", {human_count(len(ones), 'time')}" if len(ones) > 1 else ""
    told, as_it_is = _line(last.error), command("explain", last.work_rid)
    more = f"; as it is written: {as_it_is}" if last.work_rid and told not in last.error else ""
    return f"{_name(last)} ({_line(last.kind)}{times}): {told}{more}"


def _facts(trouble: Trouble) -> dict[str, str]:
    return {"work": trouble.work_rid, "kind": trouble.kind, "error": _line(trouble.error)}


def _section(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    more = [f"- and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n".join([f"{title}:", *(f"- {line}" for line in lines[:MOST_LINES]), *more])


def _name(trouble: Trouble) -> str:
    return trouble.work_rid or "a message"


def _line(text: str) -> str:
    return channels.inert(printable(text[:1000]))
