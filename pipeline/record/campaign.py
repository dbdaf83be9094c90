"""How the campaign of restores stands: what is wanted, how far it is, what it has cost; it follows what bags become."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select, update

from pipeline.record.engine import read, reading, tried_again, writing
from pipeline.record.states import BagState, aware
from pipeline.record.tables import bags, batches, utc_in, wants
from pipeline.record.wants import IN_FLIGHT, OPEN, Want, WantState, change, want_of


def wanted(engine: Engine, *, work_rids: Collection[str] | None = None, open_only: bool = False) -> list[Want]:
    """What is in the line, in order; of these works, if any are named."""
    states = OPEN if open_only else tuple(WantState)
    query = select(wants).where(wants.c.state.in_(states)).order_by(wants.c.place, wants.c.id)
    if work_rids is None:
        return [want_of(row) for row in read(engine, query)]
    found = [row for some in batches(list(work_rids)) for row in read(engine, query.where(wants.c.work_rid.in_(some)))]
    return [want_of(row) for row in found]


def due(engine: Engine, *, limit: int) -> list[Want]:
    """What S3 is to be asked about: no event came, or the copy should be gone by now."""
    gone = and_(wants.c.look_on.is_(None), wants.c.expires_on <= utc_in())
    is_due = and_(wants.c.state.in_(IN_FLIGHT), or_(wants.c.look_on <= utc_in(), gone), _no_zip())
    return [want_of(row) for row in read(engine, select(wants).where(is_due).order_by(wants.c.look_on).limit(limit))]


def _no_zip() -> ColumnElement[bool]:
    """Whether nothing was fetched of a want yet."""
    return ~select(bags.c.bag_id).where(bags.c.bag_id == wants.c.bag_id, bags.c.phase != "").exists()


def any_open(engine: Engine) -> bool:
    """Whether anything is wanted that is not home."""
    with reading(engine) as connection:
        return connection.scalar(select(wants.c.id).where(wants.c.state.in_(OPEN)).limit(1)) is not None


@tried_again
def settle(engine: Engine, *, home: Callable[[Want], float | None]) -> None:
    """Follow what has become of the bags: announced, home, refused, or frozen again.

    Args:
        engine: the record.
        home: what it costs that a want's bytes left S3, by the want; None: not known.
    """
    followed = (*IN_FLIGHT, WantState.FAILED)
    query = (
        select(wants, bags.c.state.label("bag_state"), bags.c.phase, bags.c.restore_expires_on, bags.c.event_time)
        .add_columns(bags.c.error.label("bag_error"), utc_in().label("now"))
        .join(bags, bags.c.bag_id == wants.c.bag_id)
        .where(wants.c.state.in_(followed))
    )
    for row in read(engine, query):
        values = _followed(row)
        if values.get("state") == WantState.HOME and (more := home(want_of(row))) is not None:
            values["cost"] = func.coalesce(wants.c.cost, 0) + more
        if values:
            with writing(engine) as connection:
                change(connection, want_of(row), row.state, **values)


def _followed(row: Any) -> dict[str, Any]:
    """What changes of a want, by its bag."""
    now, ends = aware(row.now), aware(row.restore_expires_on)
    if row.bag_state == BagState.DONE:
        return {"state": WantState.HOME, "look_on": None, "error": None}
    if row.state == WantState.FAILED:
        return {}
    if row.bag_state in {BagState.REFUSED, BagState.SKIPPED}:
        return {"state": WantState.FAILED, "look_on": None, "error": row.bag_error}
    if row.bag_state == BagState.NOT_RESTORED:
        is_news = row.state == WantState.READY and (row.look_on is None or aware(row.look_on) > now)
        return {"look_on": utc_in(), "state": WantState.ASKED} if is_news else {}
    heard = row.event_time is not None and row.asked_on is not None and row.event_time > row.asked_on
    if row.state == WantState.ASKED and ends is not None and (heard or ends > now):
        return {"state": WantState.READY, "expires_on": row.restore_expires_on, "look_on": None}
    return {}


def home(engine: Engine, bag_ids: Collection[str]) -> set[str]:
    """Those of the bags that are home."""
    query, found = select(bags.c.bag_id).where(bags.c.state == BagState.DONE), set[str]()
    for some in batches(list(bag_ids)):
        found.update(row.bag_id for row in read(engine, query.where(bags.c.bag_id.in_(some))))
    return found


@dataclass(frozen=True)
class Totals:
    """The campaign in figures.

    Attributes:
        counts: objects by state; none of the states that have none.
        bytes_to_come: of all that is open.
        cost: so far; None: nothing was asked for, or no price is set.
        at_risk: copies that end soon, or have, with nothing fetched of them.
    """

    counts: dict[str, int]
    bytes_to_come: int
    requests: int
    cost: float | None
    at_risk: int


def totals(engine: Engine, *, within_hours: int) -> Totals:
    """The campaign in figures; copies that end within so long are at risk."""
    of = (wants.c.state, func.count(), func.sum(wants.c.size_bytes), func.sum(wants.c.attempts), func.sum(wants.c.cost))
    ends = and_(wants.c.state == WantState.READY, wants.c.expires_on <= utc_in(3600 * within_hours), _no_zip())
    with reading(engine) as connection:
        rows = connection.execute(select(*of).group_by(wants.c.state)).all()
        at_risk = connection.scalar(select(func.count()).where(ends)) or 0
    costs = [float(cost) for *_, cost in rows if cost is not None]
    return Totals(
        counts={str(state): count for state, count, *_ in rows},
        bytes_to_come=sum(int(size) for state, _, size, *_ in rows if state in OPEN),
        requests=sum(int(attempts) for *_, attempts, _ in rows),
        cost=sum(costs) if costs else None,
        at_risk=at_risk,
    )


@tried_again
def move(engine: Engine, states: Collection[str], *, to: WantState, work_rids: Collection[str]) -> list[str]:
    """Bring what is in one of these states into another; of these works, or of all if none is named. Returns which."""
    of_state = wants.c.state.in_(states)
    with writing(engine) as connection:
        rows = connection.execute(select(wants.c.id, wants.c.work_rid).where(of_state).order_by(wants.c.place)).all()
        mine = [row for row in rows if not work_rids or row.work_rid in work_rids]
        values = {"state": to, "updated_on": utc_in()}
        done = [
            connection.execute(update(wants).where(wants.c.id == row.id, of_state).values(values)).rowcount
            for row in mine
        ]
    return [row.work_rid for row, changed in zip(mine, done, strict=True) if changed]
