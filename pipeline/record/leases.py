"""Leases: one work, one worker.

A lease is a row that says who works on a work and until when, by the database's clock. It is taken, renewed and given
back by conditional updates alone, so it holds between processes and hosts on every database.
"""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from pipeline.foundation.errors import DatabaseUnavailable, LeaseLost
from pipeline.foundation.work import Bag
from pipeline.record import history
from pipeline.record.engine import reading, tried_again, writing
from pipeline.record.tables import bags, leases, utc_in
from pipeline.record.turns import TO_COME


class Leases:
    """The leases that one owner takes and holds.

    Args:
        engine: the progress database.
        owner: who takes them: host, process, lane, and something that no other process ever had.
        seconds: how long a lease lasts without renewal.
    """

    def __init__(self, engine: Engine, *, owner: str, seconds: int) -> None:
        self._engine = engine
        self.owner = owner
        self.seconds = seconds

    @tried_again
    def take(self, work_rid: str, bag_id: str) -> bool:
        """Take the work's lease if it is free, expired, or ours already; nobody waits for who is just taking it."""
        values = {
            "bag_id": bag_id,
            "owner": self.owner,
            "taken_on": utc_in(),
            "until": utc_in(self.seconds),
            "step": "",
            "done_bytes": 0,
            "total_bytes": 0,
        }
        over = leases.c.until < utc_in()
        known = select(leases.c.owner, over.label("over")).where(leases.c.work_rid == work_rid)
        free = update(leases).where(leases.c.work_rid == work_rid, or_(leases.c.owner == self.owner, over))
        try:
            with writing(self._engine) as connection:
                if (before := connection.execute(known).first()) is not None:
                    if not connection.execute(free.values(values)).rowcount:
                        return False
                    if before.over and before.owner != self.owner:
                        agent, detail = self.owner.rpartition("/")[0], {"from": before.owner}
                        history.add(
                            connection, "lease", "taken-over", detail, agent=agent, work_rid=work_rid, bag_id=bag_id
                        )
                    return True
                connection.execute(insert(leases).values(work_rid=work_rid, **values))
        except IntegrityError:
            return False  # another took it between our look and our insert
        except DatabaseUnavailable as error:
            if not error.locked:
                raise
            return False  # another has the row in hand, and may be frozen with it
        return True

    @tried_again
    def renew(self, work_rid: str, *, step: str = "", done_bytes: int = 0, total_bytes: int = 0) -> bool:
        """Hold on to a lease, and tell how far the work is; False: it is no longer ours.

        Raises:
            DatabaseUnavailable: the database is out of reach; the lease may still be ours.
        """
        with writing(self._engine) as connection:
            renewed = connection.execute(
                update(leases)
                .where(leases.c.work_rid == work_rid, leases.c.owner == self.owner)
                .values(until=utc_in(self.seconds), step=step, done_bytes=done_bytes, total_bytes=total_bytes)
            )
            return renewed.rowcount > 0

    def are_mine(self, work_rids: Collection[str]) -> bool:
        """Whether these works' leases are ours; not whether they have ended, as long as nobody has taken them over."""
        query = select(func.count()).where(leases.c.work_rid.in_(work_rids), leases.c.owner == self.owner)
        with reading(self._engine) as connection:
            return connection.scalar(query) == len(set(work_rids))

    @tried_again
    def release(self, work_rid: str) -> None:
        """Give a lease back; harmless when it is not ours (any more).

        Raises:
            DatabaseUnavailable: the database is out of reach; the lease then ends by itself.
        """
        with writing(self._engine) as connection:
            connection.execute(delete(leases).where(leases.c.work_rid == work_rid, leases.c.owner == self.owner))

    def clear_expired(self) -> int:
        """Remove leases that ended without being given back; returns how many. Their owners were killed.

        That of a bag which is still to come home stays until it is taken over: it tells that a lane died of it.
        """
        to_come = select(bags.c.bag_id).where(bags.c.bag_id == leases.c.bag_id, bags.c.state.in_(TO_COME)).exists()
        over = and_(leases.c.until < utc_in(), ~to_come)
        with reading(self._engine) as connection:
            ended = connection.scalars(select(leases.c.work_rid).where(over)).all()
        return sum(self._clear(work_rid, over) for work_rid in ended)

    def _clear(self, work_rid: str, over: ColumnElement[bool]) -> int:
        """Each for itself: a row that somebody has in hand must not keep the others."""
        try:
            with writing(self._engine) as connection:
                return int(connection.execute(delete(leases).where(leases.c.work_rid == work_rid, over)).rowcount)
        except DatabaseUnavailable as error:
            if not error.rolled_back:
                raise
            return 0

    def remaining_seconds(self, work_rid: str) -> int:
        """For how long somebody still holds the work's lease; 0 when nobody does."""
        with reading(self._engine) as connection:
            row = connection.execute(
                select(leases.c.until, utc_in().label("now")).where(leases.c.work_rid == work_rid)
            ).first()
        if row is None:
            return 0
        return max(0, int((row.until - row.now).total_seconds() + 1))

    def queue_for_room(self, bag: Bag) -> None:
        """Line up behind all who have a lease now: from here on what this bag needs is known, and counts for others.

        Args:
            bag: with the size that S3 tells.
        """
        mine = and_(leases.c.work_rid == bag.work_rid, leases.c.owner == self.owner)
        with writing(self._engine) as connection:
            connection.execute(update(bags).where(bags.c.bag_id == bag.bag_id).values(size_bytes=bag.size_bytes))
            connection.execute(update(leases).where(mine).values(taken_on=utc_in()))

    def before_mine(self, work_rid: str, *, host: str) -> list[tuple[str, str, int]]:
        """Bags (RID, identity, zip bytes) that lanes of this host lease, and took before our lease of `work_rid`."""
        mine = select(leases.c.taken_on).where(leases.c.work_rid == work_rid).scalar_subquery()
        query = (
            select(bags.c.work_rid, bags.c.bag_id, bags.c.size_bytes)
            .join(leases, and_(leases.c.bag_id == bags.c.bag_id, leases.c.work_rid == bags.c.work_rid))
            .where(
                leases.c.owner.startswith(f"{host}/", autoescape=True),
                leases.c.work_rid != work_rid,
                leases.c.until > utc_in(),
                or_(leases.c.taken_on < mine, and_(leases.c.taken_on == mine, leases.c.work_rid < work_rid)),
            )
        )
        with reading(self._engine) as connection:
            return [(row.work_rid, row.bag_id, row.size_bytes) for row in connection.execute(query)]

    def see_held(self, connection: Connection, *work_rids: str) -> None:
        """These leases are ours and not expired, seen and locked inside the caller's transaction.

        Raises:
            LeaseLost: one is not.
        """
        for work_rid in sorted(set(work_rids)):
            if not self._holds(connection, work_rid):
                what = "another lane has taken this work over, or may; nothing was recorded"
                raise LeaseLost(what, work_rid=work_rid)

    def _holds(self, connection: Connection, work_rid: str) -> bool:
        # The update locks the row (a SELECT would not): nobody can take the lease over before the caller commits.
        locked = connection.execute(
            update(leases)
            .where(leases.c.work_rid == work_rid, leases.c.owner == self.owner, leases.c.until > utc_in())
            .values(step=func.coalesce(leases.c.step, ""))
        )
        return locked.rowcount > 0
