"""The dates of each work's stages, in BDRC's `glacier_sync_progress`.

Where BDRC made the table it is as they made it: times may be whole seconds of another zone, names may be compared
without regard to case or marks, a name may be there twice. None of that may mix up two works, or hold one up.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import DataError, IntegrityError

from pipeline.record.engine import read
from pipeline.record.states import Phase, aware, bounded
from pipeline.record.tables import bags, progress, syncs, utc_in

_log = logging.getLogger(__name__)
_LIST_BYTES = 16 << 10  # a row of theirs is read whole with each stage, and by their reports
REQUESTED = "restore_requested_on"
_PLACE = ("aws_s3_bucket", "aws_s3_key")  # as BDRC's scripts note where a work lies
_BEFORE_DEBAG = (Phase.RESTORE, Phase.DOWNLOAD)


def date(
    connection: Connection, work_rid: str, phase: Phase, facts: Mapping[str, Any], *, at: datetime | None = None
) -> None:
    """Date a stage, and append what is known of it to `user_data`, as BDRC's own stages do.

    Args:
        connection: in a transaction.
        work_rid: the work.
        phase: the stage.
        facts: what is known of it, JSON-able.
        at: when it was done, in UTC without a zone; None: now.
    """
    _write(connection, work_rid, [_entry(phase.column, facts)], {phase.column: utc_in() if at is None else at})


def restore_asked(connection: Connection, work_rid: str, facts: Mapping[str, Any]) -> None:
    """Date that S3 was asked for the work, and that it has not come; as BDRC's own scripts do."""
    dates = {REQUESTED: utc_in(), Phase.RESTORE.column: None}
    _write(connection, work_rid, [_entry(REQUESTED, facts)], dates)


def never_asked(engine: Engine) -> Iterator[tuple[str, str, str]]:
    """Works that nobody asked S3 for, with bucket and key as BDRC's scripts noted them in `user_data`; oldest first."""
    query = select(progress.c.object_name, progress.c.user_data).order_by(progress.c.id)
    for row in read(
        engine, query.where(progress.c.restore_requested_on.is_(None), progress.c.sync_complete_on.is_(None))
    ):
        told = row.user_data if isinstance(row.user_data, list) else []
        entries = [entry["user_data"] for entry in told if isinstance(entry, dict) and "user_data" in entry]
        noted = [entry for entry in entries if isinstance(entry, dict)]
        bucket, key = (next((str(one[name]) for one in noted if one.get(name)), "") for name in _PLACE)
        if bucket and key:
            yield row.object_name, bucket, key


def _entry(stage: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    told = {"stage": stage, **bounded(facts, list_bytes=_LIST_BYTES)}
    return {"time_stamp": datetime.now(UTC).isoformat(), "user_data": told}


def date_if_none(connection: Connection, work_rid: str, phase: Phase, facts: Mapping[str, Any]) -> None:
    """Date a stage now, unless it has a date: it has come to pass, and nobody told when."""
    if dates(connection, work_rid)[phase.column] is None:
        date(connection, work_rid, phase, facts)


def hand_over(connection: Connection, name: str, bag_id: str, works: Sequence[str]) -> None:
    """A zip turned out to hold works, none of which has its name: what was dated under that goes to each of them.

    The row of the name goes, so that it does not stay as a work that is never home; unless it is not this zip's alone.
    """
    row = _exactly(name, _rows(connection, name, lock=True))
    if row is None or not _is_of_this_zip(connection, row, name, bag_id):
        return
    found = {phase.column: row[phase.column] for phase in _BEFORE_DEBAG if row[phase.column] is not None}
    for work_rid in works:
        _write(connection, work_rid, row["user_data"], found)
    connection.execute(delete(progress).where(progress.c.id == row["id"]))


def dates(connection: Connection, work_rid: str) -> dict[str, datetime | None]:
    """When each stage of the work was last done; None where it was not, or where nobody knows."""
    row = _exactly(work_rid, _rows(connection, work_rid))
    names = [REQUESTED, *(phase.column for phase in Phase)]
    return {name: None if row is None else _moment(row[name]) for name in names}


def _rows(connection: Connection, work_rid: str, *, lock: bool = False) -> list[RowMapping]:
    """The rows that the database finds under this name, the newest first."""
    name: ColumnElement[str] = progress.c.object_name
    if not work_rid.isascii() and connection.dialect.name in {"mysql", "mariadb"}:
        # A column of latin1 cannot even be compared with it; without an index, but such names are not BDRC's.
        name = literal_column("CONVERT(object_name USING utf8mb4)")
    query = select(progress).order_by(progress.c.id.desc())
    if not lock or connection.dialect.name == "sqlite":  # which has locked all that there is
        return list(connection.execute(query.where(name == work_rid)).mappings())
    # By their keys, found without a lock: a search through a table without the index would wait for other works' rows.
    keys = connection.scalars(select(progress.c.id).where(name == work_rid)).all()
    return list(connection.execute(query.where(progress.c.id.in_(keys)).with_for_update()).mappings()) if keys else []


def _exactly(work_rid: str, rows: list[RowMapping]) -> RowMapping | None:
    return next((row for row in rows if row["object_name"] == work_rid), None)


def _is_of_this_zip(connection: Connection, row: RowMapping, name: str, bag_id: str) -> bool:
    """Whether a row was made for this zip, and nothing else knows a work of that name."""
    before = {phase.column for phase in _BEFORE_DEBAG}
    told = row["user_data"] if isinstance(row["user_data"], list) else []
    if row["restore_requested_on"] or row["debag_complete_on"] or row["sync_complete_on"]:
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


def _write(
    connection: Connection, work_rid: str, entries: Sequence[Mapping[str, Any]], found: Mapping[str, Any]
) -> None:
    """Dates of a work, and what there is to say of them."""
    values = {**found, "update_time": utc_in()}
    row = _exactly(work_rid, _rows(connection, work_rid, lock=True))
    if row is None:
        told = [dict(entry) for entry in entries]
        new = insert(progress).values(object_name=work_rid, user_data=told, create_time=utc_in(), **values)
        try:
            with connection.begin_nested():
                connection.execute(new)
        except IntegrityError:
            # Another lane made it at this moment; or their table takes another name for this one, and lets in only one.
            row = next(iter(_rows(connection, work_rid, lock=True)), None)
            if row is None:
                raise
        except DataError as error:
            _log.warning(
                "%s: glacier_sync_progress cannot hold this name, so it has no dates: %s", work_rid, error.orig
            )
            return
        else:
            return
    if row["object_name"] != work_rid:
        entries = [{**entry, "user_data": {**entry["user_data"], "work": work_rid}} for entry in entries]
    told = row["user_data"]
    before = told if isinstance(told, list) else [] if told is None else [told]
    connection.execute(
        update(progress).where(progress.c.id == row["id"]).values(user_data=[*before, *entries], **values)
    )


def _moment(told: Any) -> datetime | None:
    # MySQL's 0000-00-00, which its old settings allowed, comes as text.
    return aware(told) if isinstance(told, datetime) else None
