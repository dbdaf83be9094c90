"""When which archived work is checked: whose check it is, when its last one ended, and how all keep to the schedule."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Select, case, delete, func, insert, literal, or_, select, union_all, update
from sqlalchemy.exc import IntegrityError

from pipeline.record import history
from pipeline.record.archived import CHECK, Archived
from pipeline.record.engine import reading, tried_again, writing
from pipeline.record.states import aware, naive
from pipeline.record.tables import batches, checks, syncs, utc_in

_DAY = 24 * 3600
_LATELY = -30 * _DAY


@tried_again
def claim(engine: Engine, work: Archived, *, seconds: int) -> bool:
    """Whether the next check of the work is ours for so long: nobody else is at it, or has ended one since it was read.

    Of many hosts that check what is due each then does a part.
    """
    row, until = checks.c.work_rid == work.work_rid, {"until": utc_in(seconds)}
    same = checks.c.checked_on.is_(None) if work.checked_on is None else checks.c.checked_on == naive(work.checked_on)
    free = or_(checks.c.until.is_(None), checks.c.until <= utc_in())
    try:
        with writing(engine) as connection:
            if connection.execute(update(checks).where(row, same, free).values(until)).rowcount:
                return True
            if connection.execute(select(literal(1)).where(row)).first() is not None:
                return False
            connection.execute(insert(checks).values(work_rid=work.work_rid, bytes=0, seconds=0, **until))
    except IntegrityError:
        return False  # another has begun it between our look and our insert
    return True


def go_on(engine: Engine, work_rid: str, *, seconds: int) -> None:
    """It goes on, and stays ours for so long; with 0 it is given up, and comes after all others."""
    with writing(engine) as connection:
        connection.execute(update(checks).where(checks.c.work_rid == work_rid).values(until=utc_in(seconds)))


@tried_again
def ended(engine: Engine, work: Archived, verdict: str, facts: Mapping[str, Any], *, agent: str) -> None:
    """A check of a work ended, which somebody has claimed: its row, and the event."""
    row = {"checked_on": utc_in(), "until": None, "bytes": facts["bytes"], "seconds": facts["seconds"]}
    with writing(engine) as connection:
        connection.execute(update(checks).where(checks.c.work_rid == work.work_rid).values(row))
        history.add(connection, CHECK, verdict, facts, agent=agent, work_rid=work.work_rid, bag_id=work.bag_id)


def listed(engine: Engine) -> set[str]:
    """The works that have no sync row and are on the schedule all the same: the archive has them, or had them."""
    with reading(engine) as connection:
        return set(connection.scalars(select(checks.c.work_rid).where(~_synced().exists())))


@tried_again
def enrol(engine: Engine, come: Collection[str], gone: Collection[str]) -> None:
    """Works without a sync row that the archive has are on the schedule from now on, others no more."""
    for some in batches(sorted(come)):
        # Another host sees the same archive, and has put them there.
        with suppress(IntegrityError), writing(engine) as connection:
            connection.execute(insert(checks), [{"work_rid": rid, "bytes": 0, "seconds": 0} for rid in some])
    for some in batches(sorted(gone)):
        with writing(engine) as connection:
            connection.execute(delete(checks).where(checks.c.work_rid.in_(some), ~_synced().exists()))


def _synced() -> Select[Any]:
    return select(syncs.c.id).where(syncs.c.work_rid == checks.c.work_rid)


@dataclass(frozen=True)
class Schedule:
    """How the fixity checks keep to their schedule.

    Attributes:
        works: how many works are on it.
        behind: how many of them were not looked at for longer than they may be; `never`: those without any proof of
            ours, which are among them.
        oldest: when that one was last looked at, or archived, of which this is longest ago; None: none is behind.
        bytes_per_second: of the checks of the last 30 days; None: there were none.
        hours_a_night: that checks have to take at that rate; None: not known.
    """

    works: int
    behind: int
    never: int
    oldest: datetime | None
    bytes_per_second: int | None
    hours_a_night: float | None


def standing(engine: Engine, *, days: int) -> Schedule:
    """How the checks stand, if each work is to be checked at least once in so many days."""
    came = select(syncs.c.work_rid, func.max(syncs.c.synced_on).label("at"), func.max(syncs.c.bytes).label("bytes"))
    home = came.group_by(syncs.c.work_rid).subquery()
    seen = case((checks.c.checked_on > home.c.at, checks.c.checked_on), else_=home.c.at).label("seen")
    size = case((checks.c.bytes > 0, checks.c.bytes), else_=home.c.bytes).label("bytes")
    lately = checks.c.checked_on > utc_in(_LATELY)
    last = [
        case((lately, what), else_=0).label(name)
        for what, name in ((checks.c.bytes, "read"), (checks.c.seconds, "seconds"))
    ]
    known = select(seen, size, *last).select_from(home.outerjoin(checks, checks.c.work_rid == home.c.work_rid))
    others = select(checks.c.checked_on, checks.c.bytes, *last).where(~_synced().exists())
    works = union_all(known, others).subquery().c
    late = works.seen < utc_in(-days * _DAY)
    query = select(
        func.count().label("works"),
        func.sum(case((or_(works.seen.is_(None), late), 1), else_=0)).label("behind"),
        func.sum(case((works.seen.is_(None), 1), else_=0)).label("never"),
        func.min(case((late, works.seen))).label("oldest"),
        func.sum(works.bytes).label("bytes"),
        func.sum(case((works.bytes > 0, 1), else_=0)).label("sized"),
        func.sum(works.read).label("read"),
        func.sum(works.seconds).label("seconds"),
    )
    with reading(engine) as connection:
        row = connection.execute(query).one()
    rate = float(row.read) / row.seconds if row.read and row.seconds else None
    # Works of which nobody knows the size are taken to be as large as the others.
    every = float(row.bytes) * row.works / int(row.sized) if row.sized else 0.0
    return Schedule(
        works=row.works,
        behind=int(row.behind or 0),
        never=int(row.never or 0),
        oldest=aware(row.oldest),
        bytes_per_second=rate and round(rate),
        hours_a_night=rate and round(every / days / rate / 3600, 1),
    )
