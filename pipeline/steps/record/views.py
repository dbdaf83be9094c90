"""What an operator asks the record."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Select, and_, func, or_, select, union

from pipeline.steps.record.clock import utc_in
from pipeline.steps.record.engine import reading
from pipeline.steps.record.superseded import SUPERSEDED, superseded_in
from pipeline.steps.record.tables import bags, events, leases, syncs
from pipeline.steps.record.turns import lane_died, turn_of
from pipeline.steps.record.words import BagRow, BagState, bag_row, step_after

_AT_ONCE = 500  # parameters of one statement
_ENDED = (BagState.DONE, BagState.SKIPPED)
_MOST_LOOKED_AT = 1000
_CLEARED = ("dropped", "resent")
SAID = 2000
"""So many characters of a message that was not understood are kept."""


@dataclass(frozen=True)
class WorkStatus:
    """One work, as `status` shows it.

    Attributes:
        stage: `waiting`, `download`, `debag`, `sync` (running), `failed`, `not-restored`, `refused`, `skipped`, `done`;
            `superseded`: it was refused or is frozen, and a later bag brought its works home.
        phase: the last step that is done.
        done_bytes: of the running step.
        total_bytes: of the running step.
        seconds: from when the bag was first seen to when it was last heard of.
        taken_up_on: from when on a lane takes it up by itself; empty: no lane does; see `turns.turn_of`.
    """

    work_rid: str
    bag_id: str
    stage: str
    phase: str
    address: str
    zip_bytes: int
    files: int
    bytes: int
    archive_path: str
    seconds: float
    done_bytes: int
    total_bytes: int
    owner: str
    failures: int
    error_kind: str
    error: str
    updated_on: str
    taken_up_on: str


def works(engine: Engine, *, work_rid: str = "") -> list[WorkStatus]:
    """All works (or one), the one last heard of first; a zip of several works has a line for each that is home.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    query = _works_query()
    if work_rid:
        query = query.where(or_(bags.c.work_rid == work_rid, syncs.c.work_rid == work_rid))
    with reading(engine) as connection:
        over = superseded_in(connection)
        return [_work_status(row, is_over=row.bag_id in over) for row in connection.execute(query)]


def latest_works(engine: Engine, *, most_ended: int) -> tuple[list[WorkStatus], int]:
    """As `works`, but of the bags that are done or skipped the last few alone: there may be 100,000.

    Args:
        engine: the record.
        most_ended: so many bags that are done or skipped.

    Returns:
        The works, and how many bags were left out.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    ended = bags.c.state.in_(_ENDED)
    latest = select(bags.c.bag_id).where(ended).order_by(bags.c.updated_on.desc(), bags.c.bag_id).limit(most_ended)
    with reading(engine) as connection:
        over = superseded_in(connection)
        count = connection.scalar(select(func.count()).where(ended)) or 0
        shown = list(connection.scalars(latest))
        rows = list(connection.execute(_works_query().where(bags.c.state.in_(set(BagState) - set(_ENDED)))))
        for first in range(0, len(shown), _AT_ONCE):
            some = shown[first : first + _AT_ONCE]
            rows += connection.execute(_works_query().where(bags.c.bag_id.in_(some)))
    rows.sort(key=lambda row: row.updated_on, reverse=True)
    return [_work_status(row, is_over=row.bag_id in over) for row in rows], max(0, count - len(shown))


def _works_query() -> Select[Any]:
    held = and_(leases.c.bag_id == bags.c.bag_id, leases.c.work_rid == bags.c.work_rid, leases.c.until > utc_in())
    return (
        select(
            bags,
            syncs.c.work_rid.label("synced_rid"),
            syncs.c.archive_path,
            syncs.c.files,
            syncs.c.bytes,
            syncs.c.synced_on,
            leases.c.owner,
            leases.c.until,
            leases.c.step,
            leases.c.done_bytes,
            leases.c.total_bytes,
            lane_died().label("lane_died"),
        )
        .outerjoin(syncs, syncs.c.bag_id == bags.c.bag_id)
        .outerjoin(leases, held)
        .order_by(bags.c.updated_on.desc(), bags.c.bag_id, syncs.c.work_rid)
    )


def works_like(engine: Engine, beginning: str, *, most: int) -> list[str]:
    """The works whose RID begins so; none at all when they are more than that: some would pass for all.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    known = union(
        *(
            select(table.c.work_rid).where(table.c.work_rid.startswith(beginning, autoescape=True))
            for table in (bags, syncs)
        )
    )
    with reading(engine) as connection:
        found = list(connection.scalars(known.limit(most + 1)))
    return sorted(rid for rid in found if rid.startswith(beginning)) if len(found) <= most else []


def other_spelling(engine: Engine, work_rid: str) -> str:
    """For a RID of which the record has no work: `; it knows W1FPL2251`, where w1fpl2251 was asked for; else empty.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    alike = union(
        *(select(table.c.work_rid).where(func.lower(table.c.work_rid) == work_rid.lower()) for table in (bags, syncs))
    )
    with reading(engine) as connection:
        known = sorted(set(connection.scalars(alike)) - {work_rid})
    return f"; it knows {', '.join(known)}" if known else ""


def local_zips(engine: Engine, work_rids: Collection[str]) -> dict[tuple[str, str], BagRow]:
    """The bags of these works that are zips on a local disk, by path and by the stamp that the file had.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    names = sorted(work_rids)
    found: dict[tuple[str, str], BagRow] = {}
    with reading(engine) as connection:
        for first in range(0, len(names), _AT_ONCE):
            query = select(bags).where(bags.c.bucket == "", bags.c.work_rid.in_(names[first : first + _AT_ONCE]))
            for row in connection.execute(query):
                found[row.object_key, row.version_id] = bag_row(row)
    return found


def history(engine: Engine, work_rid: str, *, limit: int = 1000) -> list[dict[str, Any]]:
    """What happened to a work, oldest first.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    query = select(events).where(events.c.work_rid == work_rid).order_by(events.c.id.desc()).limit(limit)
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return [
        {
            "at": _rfc3339(row.at),
            "bag_id": row.bag_id,
            "step": row.step,
            "outcome": row.outcome,
            "agent": row.agent,
            "detail": row.detail,
        }
        for row in reversed(rows)
    ]


def counts(engine: Engine) -> dict[str, int]:
    """How many bags are in which state; states without any are left out. Those that are superseded are in no other.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    with reading(engine) as connection:
        rows = connection.execute(select(bags.c.state, func.count()).group_by(bags.c.state)).all()
        over = superseded_in(connection)
    found = Counter({row[0]: row[1] for row in rows})
    found.subtract(over.values())
    found[SUPERSEDED] = len(over)
    return {state: count for state, count in found.items() if count > 0}


def unreadable_messages(engine: Engine, *, limit: int = 20) -> list[dict[str, Any]]:
    """The latest messages that were not understood, newest first; not those that were dropped or sent back since.

    Among the dead letters a message has another identity: it is known again by what it says.

    Raises:
        DatabaseUnavailable: the database is out of reach.
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
                found.append({"at": _rfc3339(row.at), **row.detail})
    return found[:limit]


def _rfc3339(moment: datetime) -> str:
    return moment.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")


def _work_status(row: Any, *, is_over: bool) -> WorkStatus:
    stage = SUPERSEDED if is_over else str(row.state)
    if stage != BagState.DONE and row.owner:
        stage = step_after(row.phase)
    elif stage == BagState.UNFINISHED:
        stage = "waiting"
    return WorkStatus(
        work_rid=row.synced_rid or row.work_rid,
        bag_id=row.bag_id,
        stage=stage,
        phase=row.phase,
        address=f"s3://{row.bucket}/{row.object_key}" if row.bucket else row.object_key,
        zip_bytes=row.size_bytes,
        files=row.files or 0,
        bytes=row.bytes or 0,
        archive_path=row.archive_path or "",
        seconds=((row.synced_on or row.updated_on) - row.seen_on).total_seconds(),
        done_bytes=(row.done_bytes or 0) if row.step == stage else 0,
        total_bytes=(row.total_bytes or 0) if row.step == stage else 0,
        owner=row.owner or "",
        failures=row.failures,
        error_kind=row.error_kind or "",
        error=row.error or "",
        updated_on=_rfc3339(row.updated_on),
        taken_up_on=_rfc3339(turn) if (turn := turn_of(row)) else "",
    )
