"""Whether intake is paused: an operator's last word on it, in the events, so that it is known who said it and when."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, insert, select

from pipeline.record.clock import utc_in
from pipeline.record.engine import reading, tried_again, writing
from pipeline.record.states import aware
from pipeline.record.tables import events

_ALL_WORKS = "*"  # no RID: such an event concerns every work
_STEP, _PAUSED, _RESUMED = "intake", "paused", "resumed"


@dataclass(frozen=True)
class Pause:
    """Intake is paused: by whom, since when, why."""

    by: str
    since: datetime
    reason: str


def pause_of(engine: Engine) -> Pause | None:
    """The pause that stands; None: there is none.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    query = (
        select(events.c.at, events.c.outcome, events.c.detail)
        .where(events.c.work_rid == _ALL_WORKS, events.c.outcome.in_([_PAUSED, _RESUMED]))
        .order_by(events.c.id.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        row = connection.execute(query).first()
    if row is None or row.outcome != _PAUSED:
        return None
    return Pause(row.detail.get("by", ""), aware(row.at), row.detail.get("reason", ""))


@tried_again
def set_pause(engine: Engine, *, paused: bool, agent: str, by: str, reason: str) -> None:
    """Pause the intake of every lane on every host, or let it go on; each obeys before it takes anything in.

    Raises:
        DatabaseUnavailable: the database is out of reach; nothing was changed.
    """
    with writing(engine) as connection:
        connection.execute(
            insert(events).values(
                at=utc_in(),
                work_rid=_ALL_WORKS,
                bag_id="",
                step=_STEP,
                outcome=_PAUSED if paused else _RESUMED,
                agent=agent,
                detail={"by": by, "reason": reason},
            )
        )
