"""What happened in a time, step by step, for those who look back on it: the report."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select

from pipeline.record.engine import reading
from pipeline.record.states import Phase, naive
from pipeline.record.tables import events

STEPS = (Phase.DOWNLOAD, Phase.DEBAG, Phase.SYNC)
"""The steps that take time, in order."""


@dataclass(frozen=True)
class Happening:
    """One thing that happened to a bag.

    Attributes:
        at: when it ended.
        step: `intake`, or one of STEPS.
        outcome: `seen`, `done`, `failed`.
        seconds: how long the step took, 0 where nobody said.
        bytes: how much it brought.
        kind: the failure's name.
        error: the failure, for people.
    """

    at: datetime
    work_rid: str
    bag_id: str
    step: str
    outcome: str
    agent: str
    seconds: float = 0.0
    bytes: int = 0
    kind: str = ""
    error: str = ""


def happenings(engine: Engine, *, since: datetime) -> list[Happening]:
    """What was seen, done, and what failed, oldest first.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    query = (
        select(events)
        .where(
            events.c.at >= naive(since),
            events.c.step.in_(["intake", *STEPS]),
            events.c.outcome.in_(["seen", "done", "failed"]),
        )
        .order_by(events.c.id)
    )
    with reading(engine) as connection:
        return [_happening(row) for row in connection.execute(query)]


def _happening(row: Any) -> Happening:
    facts = row.detail if isinstance(row.detail, dict) else {}
    return Happening(
        at=row.at.replace(tzinfo=UTC),
        work_rid=row.work_rid,
        bag_id=row.bag_id,
        step=row.step,
        outcome=row.outcome,
        agent=row.agent,
        seconds=float(facts.get("seconds") or 0),
        bytes=int(facts.get("bytes") or 0),
        kind=str(facts.get("kind") or ""),
        error=str(facts.get("error") or ""),
    )
