"""What the channels of notifications have yet to tell, and who may tell it: many hosts, one message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from pipeline.record.engine import read, reading, tried_again, writing
from pipeline.record.states import aware
from pipeline.record.tables import bags, events, notices, utc_in

_SETTLE_SECONDS = 2
"""An event may become visible after one with a higher number; what is younger waits for the next time."""
_MOST = 10_000


@dataclass(frozen=True)
class Told:
    """What a channel was told last.

    Attributes:
        event_id: the number of the event.
        digest_on: the day of the digest.
        warned: the bags whose expiry it knows.
        dead_letters: how many there were in each dead-letter queue (by URL) when that event was the last one.
        tried_on: when somebody last set out to send, by which one that knows what we know is told from a later one.
    """

    event_id: int
    digest_on: str
    warned: tuple[str, ...]
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    tried_on: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Trouble:
    """A failure or a dead letter; `state` and `failures` are the bag's now, empty and 0 where no bag is meant.

    Attributes:
        step: what failed; `verify` is a fixity check of a work that is home.
    """

    event_id: int
    at: datetime
    work_rid: str
    outcome: str
    kind: str
    error: str
    state: str
    failures: int
    step: str = ""


@dataclass(frozen=True)
class Moved:
    """A message that a lane moved to the dead-letter queue of that URL, and how long ago that was."""

    event_id: int
    url: str
    seconds: float


@tried_again
def told(engine: Engine, channel: str, *, today: str) -> Told:
    """What a channel knows; a new one knows everything up to now, and begins here."""
    with reading(engine) as connection:
        row = connection.execute(select(notices).where(notices.c.channel == channel)).first()
    if row is not None:
        return Told(row.event_id, row.digest_on, tuple(row.warned), dict(row.dead_letters or {}), row.tried_on)
    try:
        with writing(engine) as connection:
            newest = int(connection.scalar(select(func.max(events.c.id))) or 0)
            connection.execute(
                insert(notices).values(
                    channel=channel, tried_on=utc_in(-86400), event_id=newest, digest_on=today, warned=[]
                )
            )
    except IntegrityError:
        pass  # another host began it at the same moment
    return told(engine, channel, today=today)


@tried_again
def claim(engine: Engine, channel: str, known: Told, *, interval_seconds: int) -> bool:
    """Whether the caller is to send now: nobody else did since `known` was read, nor within the interval."""
    with writing(engine) as connection:
        mine = connection.execute(
            update(notices)
            .where(_unchanged(channel, known), notices.c.tried_on <= utc_in(-interval_seconds))
            .values(tried_on=utc_in())
        )
        return mine.rowcount > 0


def _unchanged(channel: str, known: Told) -> ColumnElement[bool]:
    return and_(
        notices.c.channel == channel,
        notices.c.event_id == known.event_id,
        notices.c.digest_on == known.digest_on,
        notices.c.tried_on == known.tried_on,
    )


@tried_again
def expect(engine: Engine, channel: str, known: Told, dead_letters: Mapping[str, int]) -> None:
    """So many dead letters are no news to the channel, though it is not told: they are fewer, or it begins here."""
    with writing(engine) as connection:
        changed = update(notices).where(_unchanged(channel, known))
        connection.execute(changed.values(dead_letters=dict(dead_letters)))


@tried_again
def sent(engine: Engine, channel: str, now: Told) -> None:
    """It was sent: the channel now knows this.

    Raises:
        DatabaseUnavailable: the database is out of reach; the same is sent once more, after the interval.
    """
    with writing(engine) as connection:
        connection.execute(
            update(notices)
            .where(notices.c.channel == channel)
            .values(
                event_id=now.event_id,
                digest_on=now.digest_on,
                warned=list(now.warned),
                dead_letters=dict(now.dead_letters),
            )
        )


def troubles(engine: Engine, *, after: int) -> list[Trouble]:
    """Failures and dead letters after an event, oldest first."""
    query = (
        select(events, bags.c.state, bags.c.failures, utc_in(-_SETTLE_SECONDS).label("settled"))
        .outerjoin(bags, bags.c.bag_id == events.c.bag_id)
        .where(events.c.id > after, events.c.outcome.in_(["failed", "dead-lettered"]))
        .order_by(events.c.id)
        .limit(_MOST)
    )
    found: list[Trouble] = []
    with reading(engine) as connection:
        for row in connection.execute(query):
            if aware(row.at) > aware(row.settled):
                break
            found.append(_trouble(row))
    return found


def moved(engine: Engine, *, after: int, recent_seconds: int) -> list[Moved]:
    """What lanes moved to dead-letter queues after an event, or so lately, oldest first, also the very youngest."""
    query = (
        select(events.c.id, events.c.at, events.c.detail, utc_in().label("now"))
        .where(
            events.c.step == "intake",
            events.c.outcome == "dead-lettered",
            or_(events.c.id > after, events.c.at > utc_in(-recent_seconds)),
        )
        .order_by(events.c.id)
    )
    rows: Sequence[Any] = read(engine, query)
    return [
        Moved(row.id, str(row.detail.get("queue", "")), (aware(row.now) - aware(row.at)).total_seconds())
        for row in rows
    ]


def _trouble(row: Any) -> Trouble:
    facts = row.detail if isinstance(row.detail, dict) else {}
    return Trouble(
        event_id=row.id,
        at=aware(row.at),
        work_rid=row.work_rid,
        outcome=row.outcome,
        kind=str(facts.get("kind") or facts.get("ErrorKind") or ""),
        error=str(facts.get("error") or facts.get("Reason") or ""),
        state=row.state or "",
        failures=row.failures or 0,
        step=row.step,
    )
