"""BDRC's own table, `glacier_sync_progress`: when each stage of a work was done, and what is known of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from pipeline.steps.record.clock import utc_in
from pipeline.steps.record.tables import bags, progress, syncs
from pipeline.steps.record.words import Phase

_BEFORE_DEBAG = (Phase.RESTORE, Phase.DOWNLOAD)


def date(
    connection: Connection, work_rid: str, phase: Phase, facts: Mapping[str, Any], *, at: datetime | None = None
) -> None:
    """Date a stage, and append what is known of it to `user_data`, as BDRC's stages do.

    Args:
        connection: in a transaction.
        work_rid: the work.
        phase: the stage.
        facts: what is known of it, JSON-able.
        at: when it was done, in UTC without a zone; None: now.
    """
    entry = {"time_stamp": datetime.now(UTC).isoformat(), "user_data": {"stage": phase.column, **facts}}
    _write(connection, work_rid, [entry], {phase.column: utc_in() if at is None else at})


def hand_over(connection: Connection, name: str, bag_id: str, works: Sequence[str]) -> None:
    """A zip turned out to hold works, none of which has its name: what was dated under that goes to each of them.

    The row of the name goes, so that it does not stay as a work that is never home; unless it is not this zip's alone.
    """
    row = _row(connection, name)
    if row is None or not _is_of_this_zip(connection, row, name, bag_id):
        return
    dates = {phase.column: value for phase in _BEFORE_DEBAG if (value := getattr(row, phase.column)) is not None}
    for work_rid in works:
        _write(connection, work_rid, row.user_data, dates)
    connection.execute(delete(progress).where(progress.c.id == row.id))


def _is_of_this_zip(connection: Connection, row: Row[Any], name: str, bag_id: str) -> bool:
    """Whether a row was made for this zip, and nothing else knows a work of that name."""
    before = {phase.column for phase in _BEFORE_DEBAG}
    told = row.user_data if isinstance(row.user_data, list) else []
    if row.restore_requested_on or row.debag_complete_on or row.sync_complete_on:
        return False
    if not told or not all(isinstance(entry, dict) and _stage(entry) in before for entry in told):
        return False
    if connection.execute(select(syncs.c.id).where(syncs.c.work_rid == name).limit(1)).first() is not None:
        return False
    others = select(bags.c.works).where(bags.c.work_rid == name, bags.c.bag_id != bag_id)
    return all(held is not None and name not in held for held in connection.scalars(others))


def _stage(entry: Mapping[str, Any]) -> str:
    """The stage that an entry of `user_data` tells of, if the pipeline wrote it."""
    known = entry.get("user_data")
    return str(known.get("stage", "")) if isinstance(known, dict) else ""


def _row(connection: Connection, work_rid: str) -> Row[Any] | None:
    query = select(progress).where(progress.c.object_name == work_rid)
    return connection.execute(query.order_by(progress.c.id.desc()).limit(1).with_for_update()).first()


def _write(
    connection: Connection, work_rid: str, entries: Sequence[Mapping[str, Any]], dates: Mapping[str, Any]
) -> None:
    """Dates of a work, and what there is to say of them."""
    values = {**dates, "update_time": utc_in()}
    row = _row(connection, work_rid)
    if row is None:
        told = [dict(entry) for entry in entries]
        connection.execute(
            insert(progress).values(object_name=work_rid, user_data=told, create_time=utc_in(), **values)
        )
        return
    told = row.user_data if isinstance(row.user_data, list) else []
    connection.execute(update(progress).where(progress.c.id == row.id).values(user_data=[*told, *entries], **values))
