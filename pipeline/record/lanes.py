"""The lanes: which are alive, at work or not, and on which hosts, by the database's clock; and whether they are paused.

That intake is paused is an operator's last word on it, in the events, so that it is known who said it and when.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, case, delete, func, insert, or_, select, update

from pipeline.foundation.errors import DatabaseUnavailable
from pipeline.record import history
from pipeline.record.engine import read, reading, tried_again, writing
from pipeline.record.states import aware
from pipeline.record.tables import events, lanes, leases, utc_in

_KEPT_SECONDS = 86_400
_ALL_WORKS = "*"  # no RID: such an event concerns every work
_PAUSED, _RESUMED = "paused", "resumed"


@dataclass(frozen=True)
class HostLanes:
    """The lanes of a host.

    Attributes:
        alive: lanes that were seen lately.
        at_work: how many of those hold a work.
        silent: lanes that were not seen lately and did not end in order: killed, cut off, or their host is gone.
        seen_seconds: since the last of them was seen.
    """

    host: str
    alive: int
    at_work: int
    silent: int
    seen_seconds: float


@tried_again
def seen(engine: Engine, owner: str, *, host: str) -> None:
    """A lane is alive; it is on the roll from now on."""
    with writing(engine) as connection:
        renewed = connection.execute(update(lanes).where(lanes.c.owner == owner).values(seen_on=utc_in()))
        if not renewed.rowcount:
            connection.execute(insert(lanes).values(owner=owner, host=host, begun_on=utc_in(), seen_on=utc_in()))


def clear_silent(engine: Engine, *, host: str, silent_seconds: int) -> None:
    """Strike off the lanes of a host that fell silent, as it has a new one; those of other hosts after a day."""
    here = and_(lanes.c.host == host, lanes.c.seen_on < utc_in(-silent_seconds))
    silent = or_(here, lanes.c.seen_on < utc_in(-_KEPT_SECONDS))
    with reading(engine) as connection:
        owners = connection.scalars(select(lanes.c.owner).where(silent)).all()
    for owner in owners:  # each for itself, by its key: a row that a frozen lane has in hand must not hold up others
        _strike_off(engine, owner, silent)


def _strike_off(engine: Engine, owner: str, silent: ColumnElement[bool]) -> None:
    try:
        with writing(engine) as connection:
            connection.execute(delete(lanes).where(lanes.c.owner == owner, silent))
    except DatabaseUnavailable as error:
        if not error.rolled_back:
            raise


@tried_again
def ended(engine: Engine, owner: str) -> None:
    """A lane ends in order.

    Raises:
        DatabaseUnavailable: the database is out of reach; the lane is told as silent after a while.
    """
    with writing(engine) as connection:
        connection.execute(delete(lanes).where(lanes.c.owner == owner))


def hosts(engine: Engine, *, silent_seconds: int) -> list[HostLanes]:
    """Every host that has lanes, or had some that did not end in order within the last day, by its name.

    Args:
        engine: the progress database.
        silent_seconds: after which a lane that was not seen is silent.
    """
    alive = lanes.c.seen_on >= utc_in(-silent_seconds)
    holds = select(leases.c.owner).where(leases.c.owner == lanes.c.owner, leases.c.until > utc_in()).exists()
    query = (
        select(
            lanes.c.host,
            func.sum(case((alive, 1), else_=0)).label("alive"),
            func.sum(case((and_(alive, holds), 1), else_=0)).label("at_work"),
            func.count().label("lanes"),
            func.max(lanes.c.seen_on).label("seen_on"),
            utc_in().label("now"),
        )
        .group_by(lanes.c.host)
        .order_by(lanes.c.host)
    )
    rows = read(engine, query)
    return [_host(row) for row in rows]


def _host(row: Any) -> HostLanes:
    return HostLanes(
        host=row.host,
        alive=int(row.alive),
        at_work=int(row.at_work),
        silent=int(row.lanes - row.alive),
        seen_seconds=max(0.0, (row.now - row.seen_on).total_seconds()),
    )


@dataclass(frozen=True)
class Pause:
    """Intake is paused: by whom, since when, why."""

    by: str
    since: datetime
    reason: str


def pause_of(engine: Engine) -> Pause | None:
    """The pause that stands; None: there is none."""
    query = (
        select(events.c.at, events.c.outcome, events.c.detail)
        .where(events.c.work_rid == _ALL_WORKS, events.c.outcome.in_([_PAUSED, _RESUMED]))
        .order_by(events.c.id.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        row = connection.execute(query).first()
    if row is None or row.outcome != _PAUSED:
        return None
    return Pause(row.detail.get("by", ""), aware(row.at), row.detail.get("reason", ""))


@tried_again
def set_pause(engine: Engine, *, paused: bool, agent: str, by: str, reason: str) -> None:
    """Pause the intake of every lane on every host, or let it go on; each obeys before it takes anything in.

    Raises:
        DatabaseUnavailable: the database is out of reach; nothing was changed.
    """
    outcome, detail = _PAUSED if paused else _RESUMED, {"by": by, "reason": reason}
    with writing(engine) as connection:
        history.add(connection, "intake", outcome, detail, agent=agent, work_rid=_ALL_WORKS)
