"""Bags that a person need not decide about any more: a later bag brought their works home."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from pipeline.record.engine import reading
from pipeline.record.states import BagState
from pipeline.record.tables import bags, syncs

_STUCK = (BagState.REFUSED, BagState.NOT_RESTORED)
"""What no lane takes up by itself: any other bag comes home, or ends in one of these."""
_AT_ONCE = 500  # parameters of one statement


def superseded(engine: Engine) -> dict[str, str]:
    """The bags that are refused or frozen, and whose works are all home in bags that were seen later; with their state.

    By when they were seen, as `explain` and `retry` choose a work's newest bag: a bag that is refused because the
    archive has other content was seen after the one that brought it, and stays for a person to decide.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    with reading(engine) as connection:
        return superseded_in(connection)


def superseded_in(connection: Connection) -> dict[str, str]:
    """As `superseded`, on a connection that is there."""
    query = select(bags.c.bag_id, bags.c.work_rid, bags.c.works, bags.c.state, bags.c.seen_on)
    stuck = connection.execute(query.where(bags.c.state.in_(_STUCK))).all()
    home = _home(connection, {name for row in stuck for name in _names(row)})
    return {row.bag_id: str(row.state) for row in stuck if _is_over(row, home)}


def _names(row: Any) -> tuple[str, ...]:
    """What a bag holds; until it was debagged all that is known is what its zip is called."""
    return tuple(row.works or (row.work_rid,))


def _is_over(row: Any, home: Mapping[str, datetime]) -> bool:
    names = _names(row)
    since = [home[name] for name in names if name in home]
    # Some of a zip's works may be home by the zip itself; those that are not have to be by a later one.
    return len(since) == len(names) and min(since) >= row.seen_on and bool(max(since) > row.seen_on)


def _home(connection: Connection, names: Collection[str]) -> dict[str, datetime]:
    """When the latest bag was first seen by which each work is home, or the zip of that name with all that it held."""
    found: dict[str, datetime] = {}
    wanted = sorted(names)
    for first in range(0, len(wanted), _AT_ONCE):
        some = wanted[first : first + _AT_ONCE]
        works = (
            select(syncs.c.work_rid, func.max(bags.c.seen_on))
            .join(bags, bags.c.bag_id == syncs.c.bag_id)
            .where(syncs.c.work_rid.in_(some))
            .group_by(syncs.c.work_rid)
        )
        # The state is compared here: SQLite would look for the few names among all that are done.
        zips = select(bags.c.work_rid, bags.c.seen_on, bags.c.state).where(bags.c.work_rid.in_(some))
        home = [(row.work_rid, row.seen_on) for row in connection.execute(zips) if row.state == BagState.DONE]
        for name, seen_on in (*connection.execute(works), *home):
            found[name] = max(seen_on, found.get(name, seen_on))
    return found
