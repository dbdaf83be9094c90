"""What the record knows of archived works: which proof was kept with each, and when it was last checked."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, func, select

from pipeline.steps.record.engine import reading
from pipeline.steps.record.tables import events, syncs

CHECK = "verify"
"""The step under which fixity checks are in the events."""


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
        checked_on: when its last fixity check ended.
    """

    work_rid: str
    bag_id: str = ""
    bytes: int = 0
    proof: tuple[str, str] | None = None
    sync_id: int = 0
    synced_on: datetime | None = None
    checked_on: datetime | None = None

    @property
    def seen_on(self) -> datetime:
        """When its bytes were last known to be right, or looked at; long ago where nobody knows."""
        known = [moment for moment in (self.synced_on, self.checked_on) if moment is not None]
        return max(known, default=datetime.min.replace(tzinfo=UTC))


def archived(engine: Engine, *, work_rid: str = "") -> dict[str, Archived]:
    """All works with a sync row or a fixity check (or one of them), by RID, each by its latest row.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    rows = select(syncs.c.id, syncs.c.work_rid, syncs.c.bag_id, syncs.c.bytes, syncs.c.facts, syncs.c.synced_on)
    checks = select(events.c.work_rid, func.max(events.c.at).label("at")).where(events.c.step == CHECK)
    if work_rid:
        rows, checks = rows.where(syncs.c.work_rid == work_rid), checks.where(events.c.work_rid == work_rid)
    with reading(engine) as connection:
        checked = {row.work_rid: row.at for row in connection.execute(checks.group_by(events.c.work_rid))}
        found = {rid: Archived(rid, checked_on=_utc(at)) for rid, at in checked.items()}
        for row in connection.execute(rows.order_by(syncs.c.id)):
            found[row.work_rid] = Archived(
                work_rid=row.work_rid,
                bag_id=row.bag_id,
                bytes=row.bytes,
                proof=_proof(row.facts),
                sync_id=row.id,
                synced_on=_utc(row.synced_on),
                checked_on=_utc(checked.get(row.work_rid)),
            )
    return found


def _proof(facts: Any) -> tuple[str, str] | None:
    proof = facts.get("proof") if isinstance(facts, dict) else None
    return (proof["name"], proof["sha512"]) if proof else None


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
