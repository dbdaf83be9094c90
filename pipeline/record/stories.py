"""All that the record knows of one work, for whoever has to explain it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, or_, select

from pipeline.foundation.work import asked_rid
from pipeline.record import stages
from pipeline.record.engine import reading
from pipeline.record.overview import superseded_in
from pipeline.record.states import BagRow, BagState, aware, bag_row, stage_of
from pipeline.record.tables import bags, events, leases, syncs, utc_in, wants
from pipeline.record.turns import lane_died
from pipeline.record.views import not_known

_OF_AN_EVENT = ("at", "work_rid", "bag_id", "step", "outcome", "agent", "detail")


@dataclass(frozen=True)
class Holder:
    """Who works on a bag now: host, process and lane, until when unless the lease is renewed, and how far it is."""

    owner: str
    step: str
    done_bytes: int
    total_bytes: int
    taken_on: datetime
    until: datetime


@dataclass(frozen=True)
class ArchivedCopy:
    """A work of a bag that is home; `facts` are those of the sync."""

    work_rid: str
    archive_path: str
    files: int
    bytes: int
    synced_on: datetime
    facts: dict[str, Any]


@dataclass(frozen=True)
class KnownBag:
    """A bag of the work: what is known of it, who holds it, what of it is home, whether a later bag superseded it."""

    row: BagRow
    seen_on: datetime
    updated_on: datetime
    retry_on: datetime | None
    holder: Holder | None
    copies: tuple[ArchivedCopy, ...]
    superseded: bool = False

    @property
    def stage(self) -> str:
        """As `status` names it."""
        return stage_of(self.row, held=self.holder is not None, superseded=self.superseded)


@dataclass(frozen=True)
class WorkStory:
    """A work.

    Attributes:
        now: the database's time.
        dates: when each stage was last done, by BDRC's table; None where it was not.
        bags: newest first.
        events: what happened to it and to its bags, oldest first.
    """

    work_rid: str
    now: datetime
    dates: dict[str, datetime | None]
    bags: tuple[KnownBag, ...]
    events: tuple[dict[str, Any], ...]


def story(engine: Engine, work_rid: str, *, limit: int = 5000) -> WorkStory | None:
    """All that is known of a work, with its latest `limit` events; None when it is not known at all."""
    with reading(engine) as connection:
        now = connection.execute(select(utc_in().label("now"))).scalar_one()
        known = _bags(connection, work_rid)
        dates = stages.dates(connection, work_rid)
        told = _events(connection, work_rid, known, limit)
        wanted = connection.scalar(select(wants.c.id).where(wants.c.work_rid == work_rid).limit(1))
    if not (known or told or any(dates.values()) or wanted):
        return None
    return WorkStory(work_rid, aware(now), dates, tuple(known), tuple(told))


def asked_story(engine: Engine, work_rid: str) -> WorkStory:
    """All that is known of a work that an operator names.

    Raises:
        UsageError: it is no RID, or nothing is known of it.
        DatabaseUnavailable: the database is out of reach.
    """
    found = story(engine, asked_rid(work_rid))
    if found is None:
        raise not_known(engine, work_rid)
    return found


def _bags(connection: Connection, work_rid: str) -> list[KnownBag]:
    inside = [
        *connection.scalars(select(syncs.c.bag_id).where(syncs.c.work_rid == work_rid)),
        *_unpacked_from(connection, work_rid),
    ]
    rows = connection.execute(
        select(bags, lane_died().label("lane_died"))
        .where(or_(bags.c.work_rid == work_rid, bags.c.bag_id.in_(inside)))
        .order_by(bags.c.seen_on.desc(), bags.c.bag_id)
    ).all()
    held = {
        row.bag_id: Holder(row.owner, row.step, row.done_bytes, row.total_bytes, aware(row.taken_on), aware(row.until))
        for row in connection.execute(
            select(leases).where(leases.c.bag_id.in_([row.bag_id for row in rows]), leases.c.until > utc_in())
        )
    }
    over = superseded_in(connection)
    return [
        KnownBag(
            row=bag_row(row),
            seen_on=aware(row.seen_on),
            updated_on=aware(row.updated_on),
            retry_on=None if row.lane_died else aware(row.retry_on),
            holder=held.get(row.bag_id),
            copies=_copies(connection, row.bag_id),
            superseded=row.bag_id in over,
        )
        for row in rows
    ]


def _unpacked_from(connection: Connection, work_rid: str) -> list[str]:
    """Bags that turned out to hold the work besides others, and that are not all home yet."""
    on_the_way = [state for state in BagState if state is not BagState.DONE]
    query = select(bags.c.bag_id, bags.c.works).where(bags.c.state.in_(on_the_way), bags.c.works.is_not(None))
    return [row.bag_id for row in connection.execute(query) if work_rid in row.works]


def _copies(connection: Connection, bag_id: str) -> tuple[ArchivedCopy, ...]:
    rows = connection.execute(select(syncs).where(syncs.c.bag_id == bag_id).order_by(syncs.c.work_rid))
    return tuple(
        ArchivedCopy(row.work_rid, row.archive_path, row.files, row.bytes, aware(row.synced_on), dict(row.facts))
        for row in rows
    )


def _events(connection: Connection, work_rid: str, known: list[KnownBag], limit: int) -> list[dict[str, Any]]:
    """Those of the work, and those of its bags: what befell a zip of several works stands under the zip's own RID."""
    own = events.c.work_rid == work_rid
    elsewhere = [one.row.bag for one in known if one.row.bag.work_rid != work_rid]
    if elsewhere:
        names, ids = {bag.work_rid for bag in elsewhere}, {bag.bag_id for bag in elsewhere}
        own = or_(own, events.c.work_rid.in_(names) & events.c.bag_id.in_(ids))
    query = select(*(events.c[name] for name in _OF_AN_EVENT)).where(own).order_by(events.c.id.desc()).limit(limit)
    rows = connection.execute(query).mappings().all()
    return [{**row, "at": aware(row["at"])} for row in reversed(rows)]
