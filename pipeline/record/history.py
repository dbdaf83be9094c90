"""What happens is added to the events here; and counted by the database: all for `metrics`, of a time for reports.

However many works there are, few rows are read: an index has all that is counted, in the order in which it is.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, literal, select, union_all

from pipeline.record.engine import read, reading
from pipeline.record.states import Phase, Step, aware, bounded, naive
from pipeline.record.tables import events, utc_in

STEPS = (Phase.DOWNLOAD, Phase.DEBAG, Phase.SYNC)
"""The steps that take time, in order."""


@dataclass(frozen=True)
class Ending:
    """How often a step ended so, and what it came to; `kind` is a failure's name."""

    step: str
    outcome: str
    kind: str
    count: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Happening:
    """One thing that happened to a work: when it ended, and how long it took, 0 where nobody said."""

    at: datetime
    work_rid: str
    step: str
    outcome: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Kind:
    """Failures of one name: how often, of how many works, and the last one's words."""

    kind: str
    count: int
    works: int
    latest: str


def add(
    connection: Connection,
    step: Step,
    outcome: str,
    detail: Mapping[str, Any],
    *,
    agent: str,
    work_rid: str = "",
    bag_id: str = "",
) -> None:
    """Add an event, as of now; what the figures count of it, only what failed or is done has."""
    counted: dict[str, Any] = {}
    if outcome == "failed":
        counted = {"kind": str(detail.get("kind") or "")[:64]}
    elif outcome == "done":
        counted = {name: detail.get(name) or 0 for name in ("seconds", "bytes")}
    row = {"step": step, "outcome": outcome, "detail": bounded(detail), "agent": agent, **counted}
    connection.execute(insert(events).values(at=utc_in(), work_rid=work_rid, bag_id=bag_id, **row))


def endings(engine: Engine) -> list[Ending]:
    """All that ever happened."""
    of = (events.c.step, events.c.outcome, events.c.kind)
    query = select(*of, func.count().label("n"), func.sum(events.c.bytes), func.sum(events.c.seconds)).group_by(*of)
    rows = read(engine, query)
    return [
        Ending(step, outcome, kind or "", count, int(size or 0), float(seconds or 0))
        for step, outcome, kind, count, size, seconds in rows
    ]


def taking(engine: Engine, step: Step, bounds: Sequence[float]) -> list[int]:
    """How often a step took no longer than the first bound, longer than that but not than the second, and so on."""
    found = _ranges(engine, events.c.seconds, [-1, *bounds], [func.count()], [*_done(step), events.c.kind.is_(None)])
    return [count for (count,) in found]


def home(engine: Engine, *, since: datetime) -> tuple[int, int]:
    """How many works came home, and their bytes."""
    query = select(func.count(events.c.work_rid.distinct()), func.sum(events.c.bytes))
    with reading(engine) as connection:
        works, size = connection.execute(query.where(*_done(Phase.SYNC), events.c.at >= naive(since))).one()
    return works, int(size or 0)


def rate(engine: Engine, *, since: datetime) -> float | None:
    """Bytes that a lane brought home in a second of its work; None: none did."""
    query = select(events.c.step, func.sum(events.c.bytes), func.sum(events.c.seconds)).group_by(events.c.step)
    done = (events.c.step.in_(STEPS), events.c.outcome == "done", events.c.at >= naive(since))
    found = {step: (int(size or 0), float(seconds or 0)) for step, size, seconds in read(engine, query.where(*done))}
    seconds = sum(took for _, took in found.values())
    size = found.get(str(Phase.SYNC), (0, 0.0))[0]
    return size / seconds if size and seconds else None


def home_over_time(engine: Engine, moments: Sequence[datetime]) -> list[tuple[int, int]]:
    """The bytes that came home, and how often some did, after each moment up to the next one."""
    what = [func.sum(events.c.bytes), func.count()]
    found = _ranges(engine, events.c.at, list(map(naive, moments)), what, _done(Phase.SYNC))
    return [(int(size or 0), count) for size, count in found]


def failures(engine: Engine, *, since: datetime) -> list[Kind]:
    """Failures on the way by kind, the most frequent first."""
    newest = func.max(events.c.id).label("newest")
    query = select(events.c.kind, func.count().label("n"), func.count(events.c.work_rid.distinct()).label("works"))
    failed = (events.c.outcome == "failed", events.c.step.in_(["intake", *STEPS]), events.c.at >= naive(since))
    with reading(engine) as connection:
        rows = connection.execute(query.add_columns(newest).where(*failed).group_by(events.c.kind)).all()
        last = select(events.c.id, events.c.detail).where(events.c.id.in_([row.newest for row in rows]))
        words = {row.id: str(row.detail.get("error") or "") for row in connection.execute(last)}
    found = [Kind(row.kind or "unnamed", row.n, row.works, words[row.newest]) for row in rows]
    return sorted(found, key=lambda kind: (-kind.count, kind.kind))


def quantiles(engine: Engine, step: Step, shares: Sequence[float], *, since: datetime) -> tuple[Ending, list[float]]:
    """What a step that was done came to, and within how many seconds these shares of it were; none where it was not."""
    mine = [*_done(step), events.c.at >= naive(since)]
    amounts = select(func.count().label("n"), func.sum(events.c.bytes), func.sum(events.c.seconds)).where(*mine)
    ordered = select(events.c.seconds).where(*mine, events.c.kind.is_(None)).order_by(events.c.seconds).limit(1)
    with reading(engine) as connection:
        count, size, seconds = connection.execute(amounts).one()
        places = [min(count - 1, int(count * share)) for share in shares] if count else []
        rows = [ordered.offset(place).scalar_subquery().label(f"q{n}") for n, place in enumerate(places)]
        found = list(connection.execute(select(*rows)).one()) if rows else []
    return Ending(step, "done", "", count, int(size or 0), float(seconds or 0)), found


def first(engine: Engine, *, since: datetime) -> datetime | None:
    """When the first thing was seen, done, or failed."""
    ends = [("intake", "seen"), *((step, outcome) for step in STEPS for outcome in ("done", "failed"))]
    earliest = select(func.min(events.c.at)).where(events.c.at >= naive(since))
    looks = [earliest.where(events.c.step == step, events.c.outcome == outcome) for step, outcome in ends]
    with reading(engine) as connection:
        moments = connection.execute(select(*(look.scalar_subquery().label(f"m{n}") for n, look in enumerate(looks))))
        found = [moment for moment in moments.one() if moment is not None]
    began: datetime | None = aware(min(found, default=None))
    return began


def happenings(engine: Engine, work_rids: Collection[str], *, since: datetime) -> list[Happening]:
    """What was seen of these works, done, and what failed, oldest first."""
    # Few works have few events, which are found by the work; of their other facts an index would name many more.
    query = select(events.c.at, events.c.work_rid, events.c.step, events.c.outcome, events.c.seconds)
    with reading(engine) as connection:
        rows = connection.execute(query.where(events.c.work_rid.in_(work_rids)).order_by(events.c.id)).all()
    return [
        Happening(at, row.work_rid, row.step, row.outcome, row.seconds or 0.0)
        for row in rows
        if (at := aware(row.at)) >= since
        and row.step in {"intake", *STEPS}
        and row.outcome in {"seen", "done", "failed"}
    ]


def _done(step: Step) -> list[ColumnElement[bool]]:
    return [events.c.step == step, events.c.outcome == "done"]


def _ranges(
    engine: Engine,
    column: ColumnElement[Any],
    edges: Sequence[Any],
    what: Sequence[ColumnElement[Any]],
    where: Sequence[ColumnElement[bool]],
) -> list[Sequence[Any]]:
    """What there is between each edge and the next: a stretch of an index each, in one statement."""
    looks = [
        select(literal(number).label("number"), *what).where(*where, column > low, column <= high)
        for number, (low, high) in enumerate(pairwise(edges))
    ]
    with reading(engine) as connection:
        return [row[1:] for row in sorted(connection.execute(union_all(*looks)).all())] if looks else []
