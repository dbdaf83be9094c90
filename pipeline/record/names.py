"""Names that look the same: the first work that comes home under one has it, and another is refused.

A name is looked at before anything is fetched, and taken when a verified work is about to be archived: so nobody takes
one by a message alone.
"""

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import IntegrityError

from pipeline.foundation.errors import LookAlike
from pipeline.foundation.work import skeleton
from pipeline.record.engine import reading, writing
from pipeline.record.tables import names, syncs


def check_name(engine: Engine, work_rid: str) -> None:
    """Whether the work may be called so.

    Raises:
        LookAlike: another work has a name that looks the same.
        DatabaseUnavailable: the database is out of reach.
    """
    with reading(engine) as connection:
        _refuse(connection, work_rid)


def take_name(engine: Engine, work_rid: str) -> None:
    """The work is called so from now on, if it may be.

    Raises:
        LookAlike: another work has a name that looks the same.
        DatabaseUnavailable: the database is out of reach.
    """
    with reading(engine) as connection:
        if _refuse(connection, work_rid):
            return
    try:
        with writing(engine) as connection:
            connection.execute(insert(names).values(skeleton=skeleton(work_rid), work_rid=work_rid))
    except IntegrityError:  # somebody took it between our look and our insert
        check_name(engine, work_rid)


def _refuse(connection: Connection, work_rid: str) -> bool:
    """Raise if the name is another work's; whether it is taken at all."""
    owner = connection.scalar(select(names.c.work_rid).where(names.c.skeleton == skeleton(work_rid)))
    if owner in {None, work_rid}:
        return owner is not None
    # Two such works that were both home before names were compared stay as they are.
    if connection.scalar(select(syncs.c.id).where(syncs.c.work_rid == work_rid).limit(1)) is None:
        raise LookAlike(
            f"its name looks like that of the work {owner}, which is another by its characters",
            work_rid=work_rid,
            kept="nothing was archived",
            go_on=("skip", work_rid, "--reason", f"looks like {owner}"),
            by_hand="give its zip the right name, or leave it out",
            facts={"looks_like": owner},
        )
    return True
