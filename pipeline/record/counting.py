"""What happened, for whoever counts it: each event once, in order."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Engine, case, func, select

from pipeline.record.clock import utc_in
from pipeline.record.engine import reading
from pipeline.record.tables import events, leases

_SETTLE_SECONDS = 2
_AT_ONCE = 5000


@dataclass(frozen=True)
class Counted:
    """An event, as far as it is counted; `seconds` and `bytes` are 0 where it has none."""

    event_id: int
    step: str
    outcome: str
    kind: str
    seconds: float
    bytes: int


def counted(engine: Engine, *, after: int = 0) -> Iterator[Counted]:
    """Every event after one, oldest first; the very youngest wait for the next time, since they may come out of order.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    settled = case((events.c.at <= utc_in(-_SETTLE_SECONDS), 1), else_=0)
    columns = (events.c.id, events.c.step, events.c.outcome, events.c.detail, settled.label("settled"))
    while True:
        query = select(*columns).where(events.c.id > after).order_by(events.c.id).limit(_AT_ONCE)
        with reading(engine) as connection:
            rows = connection.execute(query).all()
        for row in rows:
            if not row.settled:
                return
            after = row.id
            facts = row.detail if isinstance(row.detail, dict) else {}
            yield Counted(
                event_id=row.id,
                step=row.step,
                outcome=row.outcome,
                kind=str(facts.get("kind") or ""),
                seconds=float(facts.get("seconds") or 0),
                bytes=int(facts.get("bytes") or 0),
            )
        if len(rows) < _AT_ONCE:
            return


def held(engine: Engine) -> tuple[int, int]:
    """How many leases are held, and how many ran out and were not taken over yet.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    query = select(func.count(), func.sum(case((leases.c.until < utc_in(), 1), else_=0))).select_from(leases)
    with reading(engine) as connection:
        row = connection.execute(query).one()
    over = int(row[1] or 0)
    return int(row[0]) - over, over
