"""What the record knows of archived works: which proof was kept with each, and when it was last checked."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, and_, or_, select

from pipeline.record import stages
from pipeline.record.engine import read, reading
from pipeline.record.states import BagState, Phase, aware
from pipeline.record.tables import bags, checks, events, progress, syncs

CHECK: Final = "verify"
"""The step under which fixity checks are in the events."""
FORGOTTEN = "forgotten"
"""The outcome under which an operator's word that ends an alarm is in them."""
ENDS_ALARM = frozenset({(CHECK, "passed"), (CHECK, FORGOTTEN), (str(Phase.SYNC), "done")})
"""What says, after a check that failed, that the copy needs nobody any more: by step and outcome."""


@dataclass(frozen=True)
class Archived:
    """A work in the archive.

    Attributes:
        work_rid: the work.
        bag_id: the bag that it came in last; empty where the record does not know the work.
        bytes: its payload, by the record.
        proof: `name` and `sha512` of the digests kept with it; empty where none were.
        sync_id: the number of its sync row; another number means that it was synced again.
        synced_on: when it came.
        dated: whether it has the date of a sync, also one of which there is no row (any more).
        checked_on: when its last fixity check ended.
        begun_on: when one was last begun that has not ended, and a lease later; None: none was.
    """

    work_rid: str
    bag_id: str = ""
    bytes: int = 0
    proof: tuple[str, str] | None = None
    sync_id: int = 0
    synced_on: datetime | None = None
    checked_on: datetime | None = None
    dated: bool = False
    begun_on: datetime | None = None

    @property
    def is_home(self) -> bool:
        """Whether the record says that it came home."""
        return self.dated or self.sync_id > 0

    @property
    def seen_on(self) -> datetime:
        """When its bytes were last known to be right, or looked at; long ago where nobody knows."""
        known = [moment for moment in (self.synced_on, self.checked_on) if moment is not None]
        return max(known, default=datetime.min.replace(tzinfo=UTC))

    @property
    def turn(self) -> datetime:
        """Who has the earliest is checked first; what was read half goes to the end, or it would keep all others."""
        return max(self.seen_on, self.begun_on or self.seen_on)


def archived(engine: Engine, *, work_rid: str = "") -> dict[str, Archived]:
    """All works with a sync row, a sync's date, or a fixity check (or one of them), by RID, each by its latest row."""
    rows = select(syncs.c.id, syncs.c.work_rid, syncs.c.bag_id, syncs.c.bytes, syncs.c.facts, syncs.c.synced_on)
    looks = select(checks)
    if work_rid:
        rows, looks = rows.where(syncs.c.work_rid == work_rid), looks.where(checks.c.work_rid == work_rid)
    with reading(engine) as connection:
        dated = _dated(connection, work_rid)
        found = {rid: Archived(rid, dated=True) for rid in dated}
        for row in connection.execute(looks):
            moments = {"checked_on": aware(row.checked_on), "begun_on": aware(row.until)}
            found[row.work_rid] = Archived(row.work_rid, dated=row.work_rid in dated, **moments)
        for row in connection.execute(rows.order_by(syncs.c.id)):
            found[row.work_rid] = replace(
                found.get(row.work_rid, Archived(row.work_rid)),
                bag_id=row.bag_id,
                bytes=row.bytes,
                proof=_proof(row.facts),
                sync_id=row.id,
                synced_on=aware(row.synced_on),
            )
    return found


def _dated(connection: Connection, work_rid: str) -> set[str]:
    """The works with the date of a sync, or that one, if it has."""
    column = Phase.SYNC.column
    if work_rid:
        return {work_rid} if stages.dates(connection, work_rid)[column] else set()
    query = select(progress.c.object_name, progress.c[column].label("at")).where(progress.c[column].is_not(None))
    return {row.object_name for row in connection.execute(query) if isinstance(row.at, datetime)}


def on_the_way(engine: Engine, *, but: Collection[str] = ()) -> set[str]:
    """The works of bags that are not home: what the archive has under their names may be a part of them.

    Args:
        engine: the record.
        but: bags that do not count.
    """
    query = select(bags.c.bag_id, bags.c.work_rid, bags.c.works).where(bags.c.state != BagState.DONE)
    rows = [row for row in read(engine, query) if row.bag_id not in but]
    return {name for row in rows for name in (row.work_rid, *(row.works or ()))}


def sources(engine: Engine) -> dict[str, str]:
    """From which source each bag came, by bag identity."""
    with reading(engine) as connection:
        return {row.bag_id: row.source for row in connection.execute(select(bags.c.bag_id, bags.c.source))}


@dataclass(frozen=True)
class Broken:
    """An archived work whose last fixity check failed.

    Attributes:
        bag_id: the bag that it came in, as far as the record knows.
        failed_on: when the check ended.
        error: what was wrong, and the command to go on.
        wrong_files: how many of its files are not what they were, or gone.
    """

    work_rid: str
    bag_id: str
    failed_on: datetime
    error: str
    wrong_files: int


def broken(engine: Engine, *, work_rid: str = "") -> list[Broken]:
    """The works whose archive copy failed its last fixity check, and of which nothing in `ENDS_ALARM` was told since.

    By RID; of all, or of that work alone. A check that found no proof says nothing about the copy, and takes nothing
    back.
    """
    later = events.alias("later")
    told = [*ENDS_ALARM, (CHECK, "failed")]
    news = or_(*(and_(later.c.step == step, later.c.outcome == outcome) for step, outcome in told))
    since = select(later.c.id).where(later.c.work_rid == events.c.work_rid, later.c.id > events.c.id, news)
    query = select(events).where(events.c.step == CHECK, events.c.outcome == "failed", ~since.exists())
    if work_rid:
        query = query.where(events.c.work_rid == work_rid)
    with reading(engine) as connection:
        return sorted(map(_broken, connection.execute(query)), key=lambda one: one.work_rid)


def _broken(row: Any) -> Broken:
    facts = row.detail if isinstance(row.detail, dict) else {}
    return Broken(
        work_rid=row.work_rid,
        bag_id=row.bag_id,
        failed_on=aware(row.at),
        error=str(facts.get("error") or f"{row.work_rid}: the archive copy failed its check"),
        wrong_files=int(facts.get("wrong_files") or 0),
    )


def _proof(facts: Any) -> tuple[str, str] | None:
    proof = facts.get("proof") if isinstance(facts, dict) else None
    return (proof["name"], proof["sha512"]) if proof else None
