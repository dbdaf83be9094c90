"""Whose turn it is: bags that were begun and that nobody works on, and from when on a lane takes each of them up."""

from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select, true

from pipeline.foundation.errors import LeaseLost, NotRestored, RestoreExpired
from pipeline.foundation.work import Bag
from pipeline.record.engine import read, reading
from pipeline.record.states import BagState
from pipeline.record.tables import bags, events, lanes, leases, utc_in

TO_COME = (BagState.UNFINISHED, BagState.FAILED)
"""What a lane takes up by itself, when its time has come."""
_IN_ORDER = {"done", "failed", "asked"}
_MOST_LOOKED_AT = 100
_EFFORTS = ("failed", "asked", "seen")
_FROZEN = {NotRestored("").kind, RestoreExpired("").kind}
_MOST_FAILURES = 2000
_taken = leases.alias("taken")  # a query that asks this may have the leases in it besides


def unfinished(
    engine: Engine,
    *,
    host: str,
    others_after_seconds: int = 0,
    dead_after_seconds: int = 0,
    failed: bool | None = None,
    ends_within_hours: int | None = None,
    limit: int = 1000,
) -> list[str]:
    """Bags that somebody began and nobody works on: their lease has expired, their time to be tried again has come.

    Bags whose staging lies on this host come first, then those that were never begun anywhere. What another host has
    in its staging is left to that host for a while longer: here it would have to be downloaded again. Among those, the
    one whose restored copy ends first comes first.

    A lease that has expired and is still there is that of a lane that died. Its work waits for no other delay.

    Args:
        engine: the progress database.
        host: this host.
        others_after_seconds: how long what another host gave back, or failed with, is left to it.
        dead_after_seconds: the same of what a lane of another host died of, from the end of its lease.
        failed: only those that failed and are to be tried again, or only the others; None: all.
        ends_within_hours: only those of which no zip is here, and whose restored copy ends within so long.
        limit: so many at most.
    """
    to_be_retried = and_(bags.c.state == BagState.FAILED, ~lane_died())
    query = select(bags.c.bag_id).where(
        bags.c.state.in_(TO_COME),
        true() if failed is None else to_be_retried if failed else ~to_be_retried,
        _is_due(host, others_after_seconds=others_after_seconds, dead_after_seconds=dead_after_seconds),
        ~_leased(_taken.c.until > utc_in()),
    )
    if ends_within_hours is not None:
        until = utc_in(3600 * ends_within_hours)
        query = query.where(bags.c.phase == "", bags.c.restore_expires_on.between(utc_in(), until))
    order = (
        (bags.c.host != host),
        bags.c.restore_expires_on.is_(None),  # databases differ in where they put what has none
        bags.c.restore_expires_on,
        bags.c.seen_on,
    )
    with reading(engine) as connection:
        return list(connection.scalars(query.order_by(*order).limit(limit)))


def _is_due(host: str, *, others_after_seconds: int, dead_after_seconds: int) -> ColumnElement[bool]:
    """Whether a lane of this host may take the bag up by now; see `unfinished`."""
    due = or_(bags.c.retry_on.is_(None), bags.c.retry_on <= utc_in())
    given_back = func.coalesce(bags.c.retry_on, bags.c.updated_on) <= utc_in(-others_after_seconds)
    died = lane_died()
    return or_(
        and_(bags.c.host.in_([host, ""]), or_(due, died)),
        and_(due, given_back, ~died),
        and_(died, ~_leased(_taken.c.until > utc_in(-dead_after_seconds))),
    )


def deaths(engine: Engine, bag: Bag) -> int:
    """How many lanes have died of a bag since a step of it last ended in order, or a person asked for it again.

    A lane that lost its lease and says so, or was seen since, was alive: it stood still, or was cut off.
    """
    query = (
        select(events.c.at, events.c.step, events.c.outcome, events.c.agent, events.c.detail)
        .where(events.c.work_rid == bag.work_rid, events.c.bag_id == bag.bag_id)
        .order_by(events.c.id.desc())
        .limit(_MOST_LOOKED_AT)
    )
    with reading(engine) as connection:
        rows = connection.execute(query).all()
        since = list(takewhile(lambda row: row.outcome not in _IN_ORDER, rows))
        taken = [(row.detail["from"], row.at) for row in since if (row.step, row.outcome) == ("lease", "taken-over")]
        known = select(lanes.c.owner, lanes.c.seen_on).where(lanes.c.owner.in_([owner for owner, _ in taken]))
        seen = {row.owner: row.seen_on for row in connection.execute(known)} if taken else {}
    told = {row.agent for row in since if row.outcome == LeaseLost("").kind}
    return sum(1 for owner, at in taken if owner.rpartition("/")[0] not in told and seen.get(owner, at) <= at)


def failing_seconds(engine: Engine, bag: Bag) -> float:
    """For how long a bag has failed for reasons that may pass, since it was first seen or last asked for by a person.

    Time in which it was frozen does not count: nothing was tried.
    """
    query = (
        select(events.c.at, events.c.outcome, events.c.detail, utc_in().label("now"))
        .where(events.c.work_rid == bag.work_rid, events.c.bag_id == bag.bag_id, events.c.outcome.in_(_EFFORTS))
        .order_by(events.c.id.desc())
        .limit(_MOST_FAILURES)
    )
    rows = read(engine, query)
    failures = list(takewhile(lambda row: row.outcome == "failed" and row.detail.get("kind") not in _FROZEN, rows))
    return float((failures[-1].now - failures[-1].at).total_seconds()) if failures else 0.0


def lane_died() -> ColumnElement[bool]:
    """Whether the lane that worked on the bag died, and nobody has taken the bag up since."""
    return _leased(_taken.c.bag_id == bags.c.bag_id, _taken.c.until <= utc_in())


def _leased(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the bag's work has a lease of which this is true."""
    return select(_taken.c.work_rid).where(_taken.c.work_rid == bags.c.work_rid, *conditions).correlate(bags).exists()


def turn_of(row: Any) -> datetime | None:
    """From when on a lane takes a bag up by itself, in UTC without a zone; None: no lane does.

    Where the moment is over the next lane that is free takes it up. Of a bag that a lane holds it is the end of the
    lease, and only comes if that lane dies.

    Args:
        row: of `bags`, with `until` of the lease that is held, if any, and `lane_died`.
    """
    if row.state not in TO_COME:
        return None
    moment: datetime = row.until or (None if row.lane_died else row.retry_on) or row.updated_on
    return moment
