"""Second copies: which archived work has one in which replica, and when it was last looked at."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, case, func, insert, select, update

from pipeline.record import history, outbox
from pipeline.record.engine import read, reading, tried_again, writing
from pipeline.record.leases import Leases
from pipeline.record.outbox import CallbackEvent
from pipeline.record.states import Step, aware
from pipeline.record.tables import replicas, syncs, utc_in

STEP: Step = "replicate"
"""The step under which second copies are in the events."""
_TOLD = (
    "work_rid",
    "bag_id",
    "replica",
    "content",
    "upload_id",
    "object_key",
    "version_id",
    "checksum",
    "bytes",
    "verdict",
)


@dataclass(frozen=True)
class SecondCopy:
    """A second copy of a work, or one that was begun; see the table `replicas`.

    Attributes:
        sent_on: when it was proved to be there; None: it is not yet.
        looked_on: when it was last looked at; None: never since.
    """

    work_rid: str
    bag_id: str
    replica: str
    content: str
    upload_id: str
    object_key: str
    version_id: str
    checksum: str
    bytes: int
    verdict: str
    sent_on: datetime | None
    looked_on: datetime | None

    @property
    def seen_on(self) -> datetime | None:
        """When it was last known to be right."""
        return self.looked_on or self.sent_on


def copies(engine: Engine, *, work_rid: str = "") -> list[SecondCopy]:
    """All second copies, or those of a work, also those that were begun; the latest last."""
    query = select(replicas).order_by(replicas.c.id)
    with reading(engine) as connection:
        rows = connection.execute(query.where(replicas.c.work_rid == work_rid) if work_rid else query)
        return list(map(_copy, rows))


def _copy(row: Row[Any]) -> SecondCopy:
    told = {name: getattr(row, name) for name in _TOLD}
    return SecondCopy(**told, sent_on=aware(row.sent_on), looked_on=aware(row.looked_on))


def of_bag(engine: Engine, bag_id: str) -> list[SecondCopy]:
    """The second copies of works that came in this bag, those that are proved to be there."""
    query = select(replicas).where(replicas.c.bag_id == bag_id, replicas.c.sent_on.is_not(None))
    with reading(engine) as connection:
        return list(map(_copy, connection.execute(query)))


def counts(engine: Engine, *, days: int = 0) -> dict[str, dict[str, int]]:
    """How many works have a copy in each replica, how many of those failed the last look, and are behind schedule.

    Args:
        engine: the record.
        days: at most between two looks; 0: no schedule is kept.
    """
    late = case((func.coalesce(replicas.c.looked_on, replicas.c.sent_on) < utc_in(-days * 24 * 3600), 1), else_=0)
    latest = select(func.max(replicas.c.id)).where(replicas.c.sent_on.is_not(None))
    latest = latest.group_by(replicas.c.work_rid, replicas.c.replica)
    told = (func.count().label("works"), func.sum(late).label("late"))
    query = select(replicas.c.replica, replicas.c.verdict, *told).where(replicas.c.id.in_(latest))
    found: dict[str, dict[str, int]] = {}
    for row in read(engine, query.group_by(replicas.c.replica, replicas.c.verdict)):
        one = found.setdefault(row.replica, {"works": 0, "failed": 0, "behind": 0})
        one["works"] += row.works
        one["failed"] += row.works if row.verdict == "failed" else 0
        one["behind"] += int(row.late) if days else 0
    return found


def missing(engine: Engine, bag_id: str, names: Collection[str]) -> bool:
    """Whether a work that came in this bag has no copy in one of these replicas."""
    if not names:
        return False
    with reading(engine) as connection:
        works = connection.scalars(select(syncs.c.work_rid).where(syncs.c.bag_id == bag_id)).all()
    there = {(one.work_rid, one.replica) for one in of_bag(engine, bag_id)}
    return any((work_rid, name) not in there for work_rid in works for name in names)


@tried_again
def begun(engine: Engine, leases: Leases, held: Collection[str], copy: Mapping[str, Any]) -> None:
    """Keep the id of an upload before its first part is sent, so that a killed one is gone on with.

    Args:
        engine: the record.
        leases: ours.
        held: the works that have to be ours.
        copy: `work_rid`, `bag_id`, `replica`, `content`, `upload_id`, `object_key`.

    Raises:
        LeaseLost: one is not; nothing was written.
    """
    with writing(engine) as connection:
        leases.see_held(connection, *held)
        _write(connection, {**copy, "version_id": "", "checksum": "", "bytes": 0, "sent_on": None})


@tried_again
def sent(
    engine: Engine, leases: Leases, held: Collection[str], copy: Mapping[str, Any], *, facts: Mapping[str, Any]
) -> None:
    """A second copy is there, and proved: its row and the event, in one transaction, if the work is still ours.

    Args:
        engine: the record.
        leases: ours.
        held: the works that have to be ours.
        copy: as for `begun`, and `version_id`, `checksum`, `bytes`.
        facts: for the event, with the `bucket`.

    Raises:
        LeaseLost: it is not; nothing was written.
    """
    with writing(engine) as connection:
        leases.see_held(connection, *held)
        _write(connection, {**copy, "upload_id": "", "sent_on": utc_in()})
        told = {"work_rid": copy["work_rid"], "bag_id": copy["bag_id"]}
        agent = leases.owner.rpartition("/")[0]
        history.add(connection, STEP, "done", {"replica": copy["replica"], **facts}, agent=agent, **told)
        place = {"name": copy["replica"], "bucket": facts["bucket"], "key": copy["object_key"]}
        there = {"replica": {**place, "version_id": copy["version_id"], "bytes": copy["bytes"]}}
        outbox.announce(connection, CallbackEvent.REPLICATED, there, **told)


@tried_again
def let_go(engine: Engine, copy: SecondCopy) -> None:
    """An upload that was begun is gone, so that nobody goes on with it."""
    known = [replicas.c[name] == getattr(copy, name) for name in ("work_rid", "bag_id", "replica", "upload_id")]
    with writing(engine) as connection:
        connection.execute(update(replicas).where(*known).values(upload_id=""))


def _write(connection: Any, values: Mapping[str, Any]) -> None:
    known = [replicas.c[name] == values[name] for name in ("work_rid", "bag_id", "replica")]
    values = {**values, "verdict": "", "looked_on": None}
    if not connection.execute(update(replicas).where(*known).values(values)).rowcount:
        connection.execute(insert(replicas).values(values))


@tried_again
def looked(engine: Engine, copy: SecondCopy, verdict: str, facts: Mapping[str, Any], *, agent: str) -> None:
    """A copy was looked at: its row and the event."""
    known = [replicas.c[name] == getattr(copy, name) for name in ("work_rid", "bag_id", "replica", "checksum")]
    with writing(engine) as connection:
        connection.execute(update(replicas).where(*known).values(verdict=verdict, looked_on=utc_in()))
        told = {"work_rid": copy.work_rid, "bag_id": copy.bag_id}
        history.add(connection, "verify-replica", verdict, {"replica": copy.replica, **facts}, agent=agent, **told)
