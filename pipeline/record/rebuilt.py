"""Works that are in the archive, and of which the record is lost: rows made anew from the proof that lies with them.

A sync row belongs to a bag. Which bag that was, nothing in the archive tells: another stands for it, until a bag of the
work comes home again and takes its place.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select

from pipeline.foundation.work import Bag, skeleton
from pipeline.record import history, stages
from pipeline.record.engine import tried_again, writing
from pipeline.record.leases import Leases
from pipeline.record.states import BagState, Phase, bag_columns, naive
from pipeline.record.tables import bags, names, syncs


def stand_in(work_rid: str) -> Bag:
    """The bag that stands for those in which a work came; no zip is called so."""
    return Bag(work_rid, "", f"rebuilt from the archive: {work_rid}", etag="rebuilt")


@tried_again
def put(engine: Engine, leases: Leases, work_rid: str, row: Mapping[str, Any], *, at: datetime) -> bool:
    """Write the rows of a work that lies in the archive, if it has no sync row and is ours; whether it was so.

    Args:
        engine: the record.
        leases: ours.
        work_rid: the work.
        row: of `syncs`: `archive_path`, `files`, `bytes`, `facts`.
        at: when its proof was written, as far as its file tells.

    Raises:
        LeaseLost: the work is not ours; nothing was written.
    """
    bag, looks = stand_in(work_rid), skeleton(work_rid)
    with writing(engine) as connection:
        leases.see_held(connection, work_rid)
        if connection.execute(select(syncs.c.id).where(syncs.c.work_rid == work_rid).limit(1)).first():
            return False
        known = {"state": BagState.DONE, "phase": Phase.SYNC, "works": [work_rid], "host": "", "failures": 0}
        connection.execute(insert(bags).values(**bag_columns(bag), **known, seen_on=naive(at), updated_on=naive(at)))
        connection.execute(insert(syncs).values(bag_id=bag.bag_id, work_rid=work_rid, synced_on=naive(at), **row))
        if connection.execute(select(names.c.work_rid).where(names.c.skeleton == looks)).first() is None:
            connection.execute(insert(names).values(skeleton=looks, work_rid=work_rid))
        if stages.dates(connection, work_rid)[Phase.SYNC.column] is None:
            stages.date(connection, work_rid, Phase.SYNC, row["facts"], at=naive(at))
        agent = leases.owner.rpartition("/")[0]
        history.add(connection, "work", "rebuilt", row["facts"], agent=agent, work_rid=work_rid, bag_id=bag.bag_id)
    return True


def give_way(connection: Connection, work_rid: str) -> None:
    """The work came home in a bag that is known: that one has its row from now on."""
    bag_id = stand_in(work_rid).bag_id
    connection.execute(delete(syncs).where(syncs.c.bag_id == bag_id))
    connection.execute(delete(bags).where(bags.c.bag_id == bag_id))
