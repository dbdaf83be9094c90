"""How the whole line stands: who is at work, what is at risk, what waits longest, what nobody need decide about."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, case, func, select

from pipeline.foundation.work import rfc3339
from pipeline.record.engine import read, reading
from pipeline.record.states import SUPERSEDED, BagRow, BagState, aware, bag_row
from pipeline.record.tables import bags, batches, events, leases, syncs, utc_in
from pipeline.record.turns import TO_COME

_MOST_LOOKED_AT = 1000
_CLEARED = ("dropped", "resent")
_STUCK = (BagState.REFUSED, BagState.NOT_RESTORED)
"""What no lane takes up by itself: any other bag comes home, or ends in one of these."""
SAID = 2000
"""So many characters of a message that was not understood are kept."""


@dataclass(frozen=True)
class AtWork:
    """A lane that holds a work.

    Attributes:
        owner: host, process, lane.
        step_seconds: since the step began, as far as the record tells.
        until: when the lease ends, unless it is renewed.
    """

    work_rid: str
    bag_id: str
    owner: str
    step: str
    done_bytes: int
    total_bytes: int
    step_seconds: float
    until: datetime


def holders(engine: Engine) -> list[AtWork]:
    """Every lane that holds a work, by its name."""
    query = (
        select(leases, bags.c.updated_on, utc_in().label("now"))
        .outerjoin(bags, bags.c.bag_id == leases.c.bag_id)
        .where(leases.c.until > utc_in())
        .order_by(leases.c.owner, leases.c.work_rid)
    )
    rows = read(engine, query)
    return [
        AtWork(
            work_rid=row.work_rid,
            bag_id=row.bag_id,
            owner=row.owner.rpartition("/")[0],  # its last part only tells apart what has the same number twice
            step=row.step,
            done_bytes=row.done_bytes,
            total_bytes=row.total_bytes,
            step_seconds=(row.now - max(row.taken_on, row.updated_on or row.taken_on)).total_seconds(),
            until=aware(row.until),
        )
        for row in rows
    ]


def held(engine: Engine) -> tuple[int, int]:
    """How many leases are held, and how many ran out and were not taken over yet."""
    query = select(func.count(), func.sum(case((leases.c.until < utc_in(), 1), else_=0))).select_from(leases)
    with reading(engine) as connection:
        row = connection.execute(query).one()
    over = int(row[1] or 0)
    return int(row[0]) - over, over


def refused(engine: Engine) -> list[BagRow]:
    """The bags that are refused and not superseded, the oldest first."""
    query = select(bags).where(bags.c.state == BagState.REFUSED).order_by(bags.c.seen_on, bags.c.bag_id)
    with reading(engine) as connection:
        over = superseded_in(connection)
        return [bag_row(row) for row in connection.execute(query) if row.bag_id not in over]


def failed_with(engine: Engine, kind: str) -> list[str]:
    """The bags that failed or were refused with an error of this kind, and are not superseded, the oldest first."""
    query = (
        select(bags.c.bag_id)
        .where(bags.c.state.in_([BagState.FAILED, BagState.REFUSED, BagState.NOT_RESTORED]), bags.c.error_kind == kind)
        .order_by(bags.c.seen_on, bags.c.bag_id)
    )
    with reading(engine) as connection:
        over = superseded_in(connection)
        return [bag_id for bag_id in connection.scalars(query) if bag_id not in over]


@dataclass(frozen=True)
class AtRisk:
    """A bag of which no zip was downloaded yet, and whose restored copy goes away soon, or has gone."""

    work_rid: str
    bag_id: str
    expires_on: datetime
    hours_left: float


def at_risk(engine: Engine, *, within_hours: int) -> list[AtRisk]:
    """Bags that need a restored copy which lasts no longer than that, the first one first."""
    query = (
        select(bags.c.work_rid, bags.c.bag_id, bags.c.restore_expires_on, utc_in().label("now"))
        .where(
            bags.c.restore_expires_on <= utc_in(within_hours * 3600),
            bags.c.state.in_(TO_COME),
            bags.c.phase == "",
        )
        .order_by(bags.c.restore_expires_on, bags.c.bag_id)
    )
    rows = read(engine, query)
    return [
        AtRisk(
            work_rid=row.work_rid,
            bag_id=row.bag_id,
            expires_on=aware(row.restore_expires_on),
            hours_left=round((row.restore_expires_on - row.now).total_seconds() / 3600, 2),
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Bags:
    """The bags as they stand.

    Attributes:
        counts: how many are in which state, and `superseded`, which are in no other; states without any are left out.
        oldest_unfinished: when that bag was first seen which has waited longest of those to come home by themselves.
        oldest_refused: since when that bag is refused which has been so longest, and which nobody has decided about.
    """

    counts: Mapping[str, int]
    oldest_unfinished: datetime | None
    oldest_refused: datetime | None


def bags_now(engine: Engine) -> Bags:
    """The bags as they stand."""
    waits = select(func.min(bags.c.seen_on)).where(bags.c.state.in_(TO_COME))
    stays = select(bags.c.updated_on, bags.c.bag_id).where(bags.c.state == BagState.REFUSED)
    with reading(engine) as connection:
        rows = connection.execute(select(bags.c.state, func.count().label("n")).group_by(bags.c.state))
        found = Counter({str(row.state): int(row.n) for row in rows})
        over = superseded_in(connection)
        oldest = connection.scalar(waits)
        since = [row.updated_on for row in connection.execute(stays) if row.bag_id not in over]
    found.subtract(over.values())
    found[SUPERSEDED] = len(over)
    counts = {state: count for state, count in found.items() if count > 0}
    return Bags(counts, aware(oldest), aware(min(since, default=None)))


def unreadable_messages(engine: Engine, *, limit: int = 20) -> list[dict[str, Any]]:
    """The latest messages that were not understood, newest first; not those that were dropped or sent back since.

    Among the dead letters a message has another identity: it is known again by what it says.
    """
    query = (
        select(events.c.at, events.c.outcome, events.c.detail)
        .where(events.c.step == "intake", events.c.outcome.in_(["failed", *_CLEARED]), events.c.bag_id == "")
        .order_by(events.c.id.desc())
        .limit(_MOST_LOOKED_AT)
    )
    cleared: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    with reading(engine) as connection:
        for row in connection.execute(query):
            body = str(row.detail.get("body", ""))[:SAID]
            if row.outcome in _CLEARED:
                cleared[body] += bool(body)
            elif cleared[body]:
                cleared[body] -= 1
            elif "message_id" in row.detail or "file" in row.detail:  # else it was understood, and S3 did not answer
                found.append({"at": rfc3339(aware(row.at)), **row.detail})
    return found[:limit]


def superseded(engine: Engine) -> dict[str, str]:
    """The bags that are refused or frozen, and whose works are all home in bags that were seen later; with their state.

    By when they were seen, as `explain` and `retry` choose a work's newest bag: a bag that is refused because the
    archive has other content was seen after the one that brought it, and stays for a person to decide.
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
    for some in batches(sorted(names)):
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
