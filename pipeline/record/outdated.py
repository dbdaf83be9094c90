"""What nobody needs any more, as far as the record can tell: for `tidy`, which takes it away."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Select, and_, delete, func, select

from pipeline.record.archived import CHECK
from pipeline.record.engine import read, tried_again, writing
from pipeline.record.states import BagState, Phase, aware, naive
from pipeline.record.tables import bags, events, utc_in

# Said again and again, and of each the latest says it all. No alarm hangs on how often it was said.
_REPEATED = ((CHECK, "passed"), (CHECK, "no-proof"), ("verify-replica", "passed"))

_AT_ONCE = 500
_SYNCED = (events.c.step == Phase.SYNC, events.c.outcome == "done")


def now(engine: Engine) -> datetime:
    """The database's time."""
    moment: datetime = aware(read(engine, select(utc_in().label("now")))[0].now)
    return moment


def routine_events(engine: Engine, before: datetime, *, limit: int) -> list[dict[str, Any]]:
    """Events that no work's story lacks: checks that found what a later one found, and messages without a bag in them.

    Args:
        engine: the record.
        before: older than that.
        limit: as many at most, the oldest first.
    """
    found: list[dict[str, Any]] = []
    for query in _routine(events, before):
        if len(found) < limit:
            rows = read(engine, query.order_by(events.c.id).limit(limit - len(found)))
            found += [{**row._mapping, "at": aware(row.at)} for row in rows]  # noqa: SLF001  # its public name
    return found


def routine_count(engine: Engine, before: datetime) -> int:
    """How many of them there are."""
    return sum(row.n for query in _routine(func.count().label("n"), before) for row in read(engine, query))


def _routine(what: Any, before: datetime) -> list[Select[Any]]:
    later = events.alias("later")
    # Never the newest: SQLite would give its number to the next one, which channels would take for one they know.
    old = and_(events.c.at < naive(before), events.c.id < select(func.max(later.c.id)).scalar_subquery())
    same = [later.c[name] == events.c[name] for name in ("work_rid", "step", "outcome")]
    said_again = select(later.c.id).where(later.c.id > events.c.id, *same).exists()
    query = select(what).where(old)
    repeated = [
        query.where(events.c.step == step, events.c.outcome == outcome, said_again) for step, outcome in _REPEATED
    ]
    return [*repeated, query.where(events.c.step == "intake", events.c.outcome == "ignored", events.c.work_rid == "")]


def forget_events(engine: Engine, ids: Sequence[int]) -> None:
    """Delete events, some at a time."""
    for first in range(0, len(ids), _AT_ONCE):
        _forget(engine, ids[first : first + _AT_ONCE])


@tried_again
def _forget(engine: Engine, ids: Sequence[int]) -> None:
    with writing(engine) as connection:
        connection.execute(delete(events).where(events.c.id.in_(ids)))


def replaced_since(engine: Engine, bag_id: str, work_rids: Sequence[str]) -> bool:
    """Whether another bag was let replace files of one of these works in the archive since this one came."""
    query = select(events.c.work_rid, events.c.bag_id, events.c.detail)
    replaced = dict.fromkeys(work_rids, False)
    for row in read(engine, query.where(events.c.work_rid.in_(work_rids), *_SYNCED).order_by(events.c.id)):
        before = replaced[row.work_rid] or bool(row.detail.get("replaced"))
        replaced[row.work_rid] = row.bag_id != bag_id and before
    return any(replaced.values())


def not_home(engine: Engine, work_rids: Sequence[str]) -> set[str]:
    """The bags of these works that are not home, also those that are over since a later one is; by the zips' names."""
    query = select(bags.c.bag_id).where(bags.c.work_rid.in_(work_rids), bags.c.state != BagState.DONE)
    return {row.bag_id for row in read(engine, query)}


def logs_needed(engine: Engine) -> dict[str, str]:
    """The logs of syncs that failed and whose bags are not home, by path, each with its work."""
    query = (
        select(events.c.work_rid, events.c.detail)
        .join(bags, bags.c.bag_id == events.c.bag_id)
        .where(events.c.step == Phase.SYNC, events.c.outcome == "failed", bags.c.state != BagState.DONE)
    )
    return {str(row.detail.get("log") or ""): row.work_rid for row in read(engine, query)}
