"""What receivers of callbacks are still to be told: a row each, committed with what it tells, gone once it is sent.

Whoever opens the record says once which receivers there are. Without any, nothing is asked and nothing written.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from pipeline.foundation.arguments import without_way
from pipeline.foundation.errors import PermanentError, PipelineError
from pipeline.record import history
from pipeline.record.engine import read, tried_again, writing
from pipeline.record.states import Step, aware, storable
from pipeline.record.tables import bags, outbox, utc_in

STEP: Step = "callback"
"""The step under which what was given up is in the events."""
_RECEIVERS = "pipeline_callbacks"
_SAID = 2000
"""So many characters of a failure are told."""
_AS_TOLD = ("id", "message_id", "callback", "event", "work_rid", "data", "attempts", "error")


class CallbackEvent(StrEnum):
    """What receivers are told of a work."""

    HOME = "home"
    FAILED = "failed"
    REPLICATED = "replicated"


@dataclass(frozen=True)
class CallbackRow:
    """What one receiver is to be told; see the table `outbox`.

    Attributes:
        due_on: when it is sent next; None: it was given up.
        is_late: it has been tried for as long as the receiver is waited for.
    """

    id: int
    message_id: str
    callback: str
    event: str
    work_rid: str
    data: dict[str, Any]
    attempts: int
    error: str
    made_on: datetime
    due_on: datetime | None
    is_late: bool = False


def set_receivers(engine: Engine, receivers: Callable[[str, str], Sequence[str]]) -> None:
    """From now on whatever is committed through this engine is kept for receivers.

    Args:
        engine: the record.
        receivers: their names, by event and source.
    """
    engine.update_execution_options(**{_RECEIVERS: receivers})


def announce(
    connection: Connection, event: CallbackEvent, facts: Mapping[str, Any], *, work_rid: str, bag_id: str
) -> None:
    """Keep it for the receivers that want it, in the caller's transaction."""
    receivers = connection.get_execution_options().get(_RECEIVERS)
    if receivers is None:
        return
    came = select(bags.c.source, bags.c.bucket, bags.c.object_key).where(bags.c.bag_id == bag_id)
    source, bucket, key = connection.execute(came).first() or ("", "", "")
    about = {"rid": work_rid, "bag_id": bag_id, "source": source, "bucket": bucket, "key": key}
    row = {
        "message_id": str(uuid.uuid4()),
        "event": event,
        "work_rid": work_rid,
        "data": {**about, **facts},
        "made_on": utc_in(),
        "begun_on": utc_in(),
        "due_on": utc_in(),
        "attempts": 0,
        "error": "",
    }
    if names := receivers(event, source):
        connection.execute(insert(outbox).values([{**row, "callback": name} for name in names]))


def of_homecoming(facts: Mapping[str, Any], *, archive_path: str, files: int, size_bytes: int) -> dict[str, Any]:
    """What receivers are told of a work that came home; `facts` are those of the sync."""
    proof = facts.get("proof") or {"name": "", "sha512": ""}
    digests = {"digests_file": proof["name"], "digests_sha512": proof["sha512"]}
    return {"archive_path": archive_path, "files": files, "bytes": size_bytes, **digests}


def of_failure(error: PipelineError, step: Step) -> dict[str, Any]:
    """What receivers are told of a failure; one that is final no lane tries again by itself."""
    said = storable(without_way(str(error))[:_SAID])
    told = {"step": str(step), "kind": error.kind, "error": said, "go_on": error.go_on, "by_hand": error.by_hand}
    return {**told, "final": isinstance(error, PermanentError)}


@tried_again
def claim(engine: Engine, callback: str, *, seconds: float, give_up_seconds: float) -> CallbackRow | None:
    """What the caller is to tell the receiver next: of what is due, what was tried least, in order.

    For so many seconds nobody else gets it.
    """
    due = (outbox.c.callback == callback, outbox.c.due_on <= utc_in())
    late = (outbox.c.begun_on <= utc_in(-round(give_up_seconds))).label("is_late")
    line = select(outbox, late).where(*due).order_by(outbox.c.attempts, outbox.c.id).limit(1)
    while rows := read(engine, line):
        (row,) = rows
        mine = update(outbox).where(outbox.c.id == row.id, outbox.c.attempts == row.attempts, *due)
        with writing(engine) as connection:
            begun = {} if row.attempts else {"begun_on": utc_in()}
            mine = mine.values(attempts=row.attempts + 1, due_on=utc_in(round(seconds)), **begun)
            if connection.execute(mine).rowcount:
                return _row(row, attempts=row.attempts + 1, is_late=bool(row.attempts and row.is_late))
    return None


@tried_again
def sent(engine: Engine, row: CallbackRow) -> None:
    """The receiver has taken it."""
    with writing(engine) as connection:
        connection.execute(delete(outbox).where(outbox.c.id == row.id))


@tried_again
def not_taken(
    engine: Engine, row: CallbackRow, error: str, *, seconds: float, dead: Mapping[str, Any] | None, agent: str
) -> None:
    """The receiver has not taken it, unless somebody else has it by now: it is sent again later, or given up.

    Args:
        engine: the record.
        row: what was tried.
        error: why not.
        seconds: until it is sent again.
        dead: given up; what the event tells of that.
        agent: who tried.
    """
    due = utc_in(round(seconds)) if dead is None else None
    mine = update(outbox).where(outbox.c.id == row.id, outbox.c.attempts == row.attempts)
    with writing(engine) as connection:
        changed = connection.execute(mine.values(due_on=due, error=storable(error))).rowcount
        if changed and dead is not None:
            told = {"work_rid": row.work_rid, "bag_id": str(row.data["bag_id"])}
            history.add(connection, STEP, "failed", dead, agent=agent, **told)


@tried_again
def send_again(engine: Engine, callback: str) -> int:
    """What was given up is due again; returns how many."""
    dead = update(outbox).where(outbox.c.callback == callback, outbox.c.due_on.is_(None))
    with writing(engine) as connection:
        return int(connection.execute(dead.values(due_on=utc_in(), attempts=0)).rowcount)


@tried_again
def drop(engine: Engine, callback: str, *, waiting: bool) -> int:
    """Forget what was given up, and what waits too if asked to; returns how many."""
    theirs = delete(outbox).where(outbox.c.callback == callback)
    with writing(engine) as connection:
        return int(connection.execute(theirs if waiting else theirs.where(outbox.c.due_on.is_(None))).rowcount)


def undelivered(engine: Engine) -> dict[str, dict[str, int]]:
    """What each receiver is still to be told, by its name: how many, how many were given up, how long one is due."""
    what = (func.count(outbox.c.due_on), func.count(), func.min(outbox.c.due_on), utc_in())
    found = {}
    for name, waiting, count, first, now in read(engine, select(outbox.c.callback, *what).group_by(outbox.c.callback)):
        due_seconds = max(0, round((aware(now) - aware(first or now)).total_seconds()))
        found[name] = {"waiting": waiting, "dead": count - waiting, "due_seconds": due_seconds}
    return found


def rows(engine: Engine, callback: str = "", *, limit: int | None = None) -> list[CallbackRow]:
    """What receivers are still to be told, or that one, what was given up first, each in order."""
    query = select(outbox).order_by(outbox.c.due_on.is_not(None), outbox.c.callback, outbox.c.id).limit(limit)
    return list(map(_row, read(engine, query.where(outbox.c.callback == callback) if callback else query)))


def _row(row: Any, **changed: Any) -> CallbackRow:
    told = {name: getattr(row, name) for name in _AS_TOLD}
    return CallbackRow(**{**told, **changed}, made_on=aware(row.made_on), due_on=aware(row.due_on))
