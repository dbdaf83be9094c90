"""What is wanted back from cold storage: a line of objects, and how far each one is.

S3 is asked only for what was claimed here first, by a conditional update: so no two hosts ask for the same object, and
what is asked for and not home stays within the limits at every instant.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from pipeline.foundation.work import Bag
from pipeline.record import history, stages
from pipeline.record.engine import tried_again, writing
from pipeline.record.states import aware, naive, storable
from pipeline.record.tables import batches, utc_in, wants

_UNSURE_SECONDS = 120  # after which a claim of which nothing was heard is looked into
_AT_ONCE = 500


class WantState(StrEnum):
    """How far a wanted object is, in order."""

    WANTED = "wanted"
    PAUSED = "paused"
    ASKING = "asking"  # claimed: whether S3 was asked is only known when the answer is booked
    ASKED = "asked"
    READY = "ready"
    HOME = "home"
    FAILED = "failed"
    CANCELLED = "cancelled"


IN_FLIGHT = (WantState.ASKING, WantState.ASKED, WantState.READY)
OPEN = (WantState.WANTED, WantState.PAUSED, *IN_FLIGHT)


@dataclass(frozen=True)
class Want:
    """One wanted object.

    Attributes:
        attempts: how often S3 was asked.
        cost: so far, by the price settings; None: there are none.
        wait_seconds: of a new one: after how long S3 is asked how it stands; None: it is to be asked for.
    """

    bag: Bag
    storage_class: str
    tier: str
    days: int
    state: WantState = WantState.WANTED
    place: int = 0
    attempts: int = 0
    cost: float | None = None
    asked_on: datetime | None = None
    expires_on: datetime | None = None
    error: str = ""
    id: int = 0
    wait_seconds: int | None = None


@dataclass(frozen=True)
class Limits:
    """What may be asked for and not home: so many works, so many bytes; and what is fetched within a day, if known."""

    works: int
    bytes: int
    bytes_per_day: float | None


def object_id(bag: Bag) -> str:
    """What tells an object from any other, however long its key is."""
    return hashlib.sha256(f"{bag.bucket}\0{bag.key}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def want(engine: Engine, new: Sequence[Want], *, first: bool = False) -> int:
    """Put objects into the line, in this order; what is in it stays as it is. Returns how many are new in it.

    Args:
        engine: the record.
        new: what is wanted.
        first: before all that waits, also what waits already.
    """
    added = 0
    for at in range(0, len(new), _AT_ONCE):
        # Each batch goes before the one that was put first before it: so the last one has to be put first.
        part = new[max(0, len(new) - at - _AT_ONCE) : len(new) - at] if first else new[at : at + _AT_ONCE]
        try:
            added += _put(engine, part, first=first)
        except IntegrityError:  # another host put the very first ones, at the same moment
            added += _put(engine, part, first=first)
    return added


@tried_again
def _put(engine: Engine, new: Sequence[Want], *, first: bool) -> int:
    by_id = {object_id(one.bag): one for one in new}
    with writing(engine) as connection:
        _in_turn(connection)
        there = {
            row.object_id: row
            for some in batches(list(by_id))
            for row in connection.execute(select(wants).where(wants.c.object_id.in_(some)))
        }
        low, high = connection.execute(select(func.min(wants.c.place), func.max(wants.c.place))).one()
        start = (low or 0) - len(by_id) if first else (high or 0) + 1
        added = 0
        for place, (known, one) in enumerate(by_id.items(), start):
            row = there.get(known)
            if row is not None and row.state in OPEN:
                if first and row.state in {WantState.WANTED, WantState.PAUSED}:
                    connection.execute(update(wants).where(wants.c.id == row.id).values(place=place))
                continue
            added += 1
            values = _columns(one) | {"object_id": known, "place": place}
            if row is None:
                connection.execute(insert(wants).values(values))
            else:
                connection.execute(update(wants).where(wants.c.id == row.id).values(values))
        return added


def _columns(one: Want) -> dict[str, Any]:
    bag = one.bag
    told = {name: getattr(bag, name) for name in ("work_rid", "source", "bucket", "etag", "version_id", "size_bytes")}
    waits = one.wait_seconds is not None
    return told | {
        "object_key": bag.key,
        "bag_id": bag.bag_id,
        "storage_class": one.storage_class,
        "tier": one.tier,
        "days": one.days,
        "state": WantState.ASKED if waits else WantState.WANTED,
        "attempts": 0,
        "cost": None,
        "wanted_on": utc_in(),
        "asked_on": None,
        "expires_on": None,
        "look_on": utc_in(one.wait_seconds) if one.wait_seconds is not None else None,
        "updated_on": utc_in(),
        "error": None,
    }


def _in_turn(connection: Connection) -> None:
    """One at a time until the commit, by a lock on the oldest row, which is never deleted; SQLite has its own."""
    connection.execute(select(wants.c.id).order_by(wants.c.id).limit(1).with_for_update()).first()


@tried_again
def claim(engine: Engine, limits: Limits) -> Want | None:
    """The next that S3 is to be asked for, as far as there is room; it is the caller's from now on.

    What is larger than all the room there may be is passed over. Of everything else the order holds: a large one at the
    front waits until there is room for it.
    """
    fits = wants.c.size_bytes <= limits.bytes
    line = select(wants).where(wants.c.state == WantState.WANTED, fits).order_by(wants.c.place, wants.c.id).limit(1)
    with writing(engine) as connection:
        _in_turn(connection)
        row = connection.execute(line).first()
        if row is None:
            return None
        works, size = connection.execute(
            select(func.count(), func.sum(wants.c.size_bytes)).where(wants.c.state.in_(IN_FLIGHT))
        ).one()
        taken = int(size or 0) + row.size_bytes
        in_time = limits.bytes_per_day is None or not works or taken <= limits.bytes_per_day * row.days
        if works >= limits.works or taken > limits.bytes or not in_time:
            return None
        mine = connection.execute(
            update(wants)
            .where(wants.c.id == row.id, wants.c.state == WantState.WANTED)
            .values(state=WantState.ASKING, asked_on=utc_in(), look_on=utc_in(_UNSURE_SECONDS), updated_on=utc_in())
        )
        return want_of(row) if mine.rowcount else None


@tried_again
def asked(engine: Engine, one: Want, *, cost: float | None, look_seconds: float, agent: str) -> None:
    """S3 was asked: what that costs, and when it is looked at, unless an event comes before.

    BDRC's table is told too: their reports count on the dates.
    """
    with writing(engine) as connection:
        booked = change(
            connection,
            one,
            WantState.ASKING,
            state=WantState.ASKED,
            attempts=wants.c.attempts + 1,
            cost=func.coalesce(wants.c.cost, 0) + cost if cost is not None else wants.c.cost,
            look_on=utc_in(round(look_seconds)),
            error=None,
        )
        if booked:
            detail = {"from": one.bag.address, "tier": one.tier, "days": one.days, "cost": cost}
            stages.restore_asked(connection, one.bag.work_rid, detail)
            where = {"work_rid": one.bag.work_rid, "bag_id": one.bag.bag_id}
            history.add(connection, "restore", "requested", detail, agent=agent, **where)


@tried_again
def give_back(engine: Engine, one: Want, *, error: str = "", first: bool = False) -> None:
    """It is to be asked for (again): S3 refused, was never asked, or the copy is gone."""
    with writing(engine) as connection:
        place = one.place
        if first:
            place = min(place, (connection.scalar(select(func.min(wants.c.place))) or 0) - 1)
        change(
            connection,
            one,
            *IN_FLIGHT,
            state=WantState.WANTED,
            place=place,
            look_on=None,
            expires_on=None,
            error=storable(error) or None,
        )


@tried_again
def failed(engine: Engine, one: Want, error: str) -> None:
    """It cannot come home by itself."""
    with writing(engine) as connection:
        change(connection, one, *IN_FLIGHT, state=WantState.FAILED, look_on=None, error=storable(error))


@tried_again
def ready(engine: Engine, one: Want, *, bag: Bag, expires_on: datetime | None) -> None:
    """A copy is there, of these bytes."""
    with writing(engine) as connection:
        told = {"etag": bag.etag, "version_id": bag.version_id, "size_bytes": bag.size_bytes, "bag_id": bag.bag_id}
        change(connection, one, *IN_FLIGHT, state=WantState.READY, expires_on=naive(expires_on), look_on=None, **told)


@tried_again
def look_later(engine: Engine, one: Want, *, seconds: float) -> bool:
    """It is looked at again after a while; whether it was the caller's turn to look now."""
    due = or_(wants.c.look_on.is_(None), wants.c.look_on <= utc_in())
    with writing(engine) as connection:
        values = {"look_on": utc_in(round(seconds)), "updated_on": utc_in()}
        mine = update(wants).where(wants.c.id == one.id, wants.c.state.in_(IN_FLIGHT), due).values(values)
        return connection.execute(mine).rowcount > 0


def change(connection: Connection, one: Want, *states: str, **values: Any) -> bool:
    """Change a want that is still in one of these states; whether it was."""
    # Who was frozen meanwhile knows of an earlier request: what it found then says nothing of this one.
    as_known = (wants.c.id == one.id, wants.c.state.in_(states), wants.c.attempts == one.attempts)
    mine = update(wants).where(*as_known)
    return connection.execute(mine.values(**values, updated_on=utc_in())).rowcount > 0


def want_of(row: Row[Any]) -> Want:
    """A row of the table `wants`."""
    told = {name: getattr(row, name) for name in ("work_rid", "source", "bucket", "etag", "version_id", "size_bytes")}
    return Want(
        bag=Bag(key=row.object_key, **told),
        state=WantState(row.state),
        asked_on=aware(row.asked_on),
        expires_on=aware(row.expires_on),
        error=row.error or "",
        **{name: getattr(row, name) for name in ("id", "storage_class", "tier", "days", "place", "attempts", "cost")},
    )
