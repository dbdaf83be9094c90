"""What an operator asks the record."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, and_, func, select, union

from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import rfc3339
from pipeline.record.engine import reading
from pipeline.record.overview import superseded_in
from pipeline.record.states import BagRow, BagState, aware, bag_row, naive, stage_of
from pipeline.record.tables import bags, batches, leases, syncs, utc_in
from pipeline.record.turns import lane_died, turn_of

_ENDED = (BagState.DONE, BagState.SKIPPED)


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


def works(engine: Engine, *, bag_ids: Collection[str] | None = None, since: datetime | None = None) -> list[WorkStatus]:
    """The works of all bags, or of these, the one last heard of first; a zip of several works has a line for each.

    Args:
        engine: the record.
        bag_ids: of these alone.
        since: of those alone that were heard of since then.
    """
    query = _works_query().where(*_heard_of(since))
    if bag_ids is not None:
        query = query.where(bags.c.bag_id.in_(bag_ids))
    with reading(engine) as connection:
        over = superseded_in(connection)
        return _statuses(connection.execute(query), over)


def latest_works(engine: Engine, *, most_ended: int, since: datetime | None = None) -> tuple[list[WorkStatus], int]:
    """As `works`, but of the bags that are done or skipped the last few alone: there may be 100,000.

    Args:
        engine: the record.
        most_ended: so many bags that are done or skipped.
        since: of those alone that were heard of since then.

    Returns:
        The works, and how many bags were left out.
    """
    heard_of = _heard_of(since)
    count, latest = select(func.count()), select(bags.c.updated_on, bags.c.bag_id)
    on_the_way = bags.c.state.in_(set(BagState) - set(_ENDED))
    with reading(engine) as connection:
        over = superseded_in(connection)
        known = 0
        ended: list[Any] = []
        for state in _ENDED:  # each alone, by an index that has them in this order
            of_state = (bags.c.state == state, *heard_of)
            known += connection.scalar(count.where(*of_state)) or 0
            newest = latest.where(*of_state).order_by(bags.c.updated_on.desc()).limit(most_ended)
            ended += connection.execute(newest).all()
        shown = [row.bag_id for row in sorted(ended, key=lambda row: row.updated_on, reverse=True)[:most_ended]]
        rows = list(connection.execute(_works_query().where(on_the_way, *heard_of)))
        for some in batches(shown):
            rows += connection.execute(_works_query().where(bags.c.bag_id.in_(some)))
    rows.sort(key=lambda row: row.updated_on, reverse=True)
    return _statuses(rows, over), max(0, known - len(shown))


def _heard_of(since: datetime | None) -> list[ColumnElement[bool]]:
    return [] if since is None else [bags.c.updated_on >= naive(since)]


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


def other_spelling(engine: Engine, work_rid: str) -> str:
    """For a RID of which the record has no work: `; it knows W1FPL2251`, where w1fpl2251 was asked for; else empty."""
    alike = union(
        *(select(table.c.work_rid).where(func.lower(table.c.work_rid) == work_rid.lower()) for table in (bags, syncs))
    )
    with reading(engine) as connection:
        known = sorted(set(connection.scalars(alike)) - {work_rid})
    return f"; it knows {', '.join(known)}" if known else ""


def not_known(engine: Engine, work_rid: str) -> UsageError:
    """The record has no such work: what else it may be, and where else to look.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    return UsageError(
        f"{work_rid}: the record knows no such work{other_spelling(engine, work_rid)}; it may still wait in a queue, "
        "or lie in a bucket",
        go_on=("work", work_rid),
    )


def local_zips(engine: Engine, work_rids: Collection[str]) -> dict[tuple[str, str], BagRow]:
    """The bags of these works that are zips on a local disk, by path and by the stamp that the file had."""
    found: dict[tuple[str, str], BagRow] = {}
    with reading(engine) as connection:
        for some in batches(sorted(work_rids)):
            query = select(bags).where(bags.c.bucket == "", bags.c.work_rid.in_(some))
            for row in connection.execute(query):
                found[row.object_key, row.version_id] = bag_row(row)
    return found


def _statuses(rows: Iterable[Any], over: Collection[str]) -> list[WorkStatus]:
    """A line for each work that a bag holds, once that is known; the name of a zip of several works is no work."""
    found: list[WorkStatus] = []
    for bag_id, group in groupby(rows, key=lambda row: row.bag_id):
        bag, *others = group
        home = {row.synced_rid: row for row in (bag, *others) if row.synced_rid}
        names = {**home, **dict.fromkeys(bag.works or (() if home else (bag.work_rid,)))}
        found += [_work_status(bag, home.get(name), name, is_over=bag_id in over) for name in names]
    return found


def _work_status(row: Any, home: Any, work_rid: str, *, is_over: bool) -> WorkStatus:
    """A work of a bag; `home`: the same row with the work's sync, None where it has none."""
    stage = stage_of(row, held=bool(row.owner), superseded=is_over, home=home is not None)
    return WorkStatus(
        work_rid=work_rid,
        bag_id=row.bag_id,
        stage=stage,
        phase=row.phase,
        address=f"s3://{row.bucket}/{row.object_key}" if row.bucket else row.object_key,
        zip_bytes=row.size_bytes,
        files=0 if home is None else home.files,
        bytes=0 if home is None else home.bytes,
        archive_path="" if home is None else home.archive_path,
        seconds=((row.updated_on if home is None else home.synced_on) - row.seen_on).total_seconds(),
        done_bytes=(row.done_bytes or 0) if row.step == stage else 0,
        total_bytes=(row.total_bytes or 0) if row.step == stage else 0,
        owner=row.owner or "",
        failures=row.failures,
        error_kind=row.error_kind or "",
        error=row.error or "",
        updated_on=rfc3339(aware(row.updated_on)),
        taken_up_on=rfc3339(aware(turn)) if (turn := turn_of(row)) else "",
    )
