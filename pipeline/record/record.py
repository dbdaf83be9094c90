"""What happened to which work: the record of the whole line, in the progress database."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from pipeline.foundation.errors import InvalidBag, NotRestored, PermanentError, PipelineError
from pipeline.foundation.work import Bag
from pipeline.record import history, outbox, rebuilt, stages
from pipeline.record.engine import read, reading, tried_again, writing
from pipeline.record.leases import Leases
from pipeline.record.outbox import CallbackEvent
from pipeline.record.states import (
    BagRow,
    BagState,
    Phase,
    Step,
    bag_columns,
    bag_row,
    bounded,
    failure_facts,
    naive,
    storable,
)
from pipeline.record.tables import bags, events, syncs, utc_in

_NO_FAILURE = {"failures": 0, "error_kind": None, "error": None, "retry_on": None}


class Record:
    """The record, as one agent (host, process, lane) writes it.

    Every method raises `DatabaseUnavailable` when the database is out of reach or stays locked.

    Args:
        engine: the progress database.
        agent: who writes.
        host: on which machine.
        leases: of the agent. What becomes of a bag is written only while its work's lease is among them, seen and
            locked in the same transaction; otherwise it raises `LeaseLost`, and nothing is written. None: whoever
            writes is alone.
    """

    def __init__(self, engine: Engine, *, agent: str, host: str, leases: Leases | None = None) -> None:
        self._engine = engine
        self._agent = agent
        self._host = host
        self._leases = leases

    @tried_again
    def see(self, bag: Bag) -> BagRow:
        """Make a bag known, or learn what is known of it; a restore that the event tells is dated with its time.

        A bag that was waiting for its restore is to be worked on again.
        """
        try:
            return self._seen(bag)
        except IntegrityError:
            return self._seen(bag)  # another lane saw it first, at the same moment: its row serves as well

    def _seen(self, bag: Bag) -> BagRow:
        with writing(self._engine) as connection:
            known = self._row(connection, bag.bag_id)
            if known is None:
                self._first_seen(connection, bag)
            else:
                self._seen_again(connection, bag, known)
            row = self._row(connection, bag.bag_id)
        assert row is not None
        return bag_row(row)

    def _seen_again(self, connection: Connection, bag: Bag, known: Row[Any]) -> None:
        if _tells_a_restore(bag, known):
            stages.date(connection, bag.work_rid, Phase.RESTORE, _origin(bag), at=naive(bag.event_time))
        if known.state == BagState.NOT_RESTORED:
            connection.execute(
                update(bags)
                .where(bags.c.bag_id == bag.bag_id, bags.c.state == BagState.NOT_RESTORED)
                .values(state=BagState.UNFINISHED, updated_on=utc_in())
            )
        # The same content was handed in again: it is another file, and by its stamp it will be known again; or it
        # was put to S3 again, and the version of before may be gone. So what the newest event tells counts: queues
        # deliver in any order, and a dead letter is sent back much later.
        newest = bags.c.bag_id == bag.bag_id
        told: dict[str, Any] = {"version_id": bag.version_id} if bag.version_id else {}
        if bag.restore_expires_on is not None:
            told["restore_expires_on"] = naive(bag.restore_expires_on)
        if bag.event_time is not None:
            moment = naive(bag.event_time)
            newest &= or_(bags.c.event_time.is_(None), bags.c.event_time <= moment)
            told["event_time"] = moment
        if told:
            connection.execute(update(bags).where(newest).values(told))

    def bag(self, bag_id: str) -> BagRow | None:
        """What is known of a bag."""
        with reading(self._engine) as connection:
            row = self._row(connection, bag_id)
        return None if row is None else bag_row(row)

    def bags_of(self, work_rid: str) -> list[BagRow]:
        """The bags of a work, or those whose zip turned out to hold it, newest first."""
        inside = select(syncs.c.bag_id).where(syncs.c.work_rid == work_rid)
        query = select(bags).where((bags.c.work_rid == work_rid) | bags.c.bag_id.in_(inside))
        rows = read(self._engine, query.order_by(bags.c.seen_on.desc(), bags.c.bag_id))
        return [bag_row(row) for row in rows]

    @tried_again
    def finished(
        self,
        phase: Phase,
        bag: Bag,
        facts: Mapping[str, Any],
        *,
        works: tuple[str, ...] = (),
        known: tuple[str, ...] = (),
    ) -> None:
        """A step is done: the event, the dates of its works, and after debag what the zip turned out to hold (`works`).

        What it was known to hold when the step began (`known`) is dated until then.
        """
        with self._held(bag.work_rid) as connection:
            held_now = {"works": list(works)} if works else {}
            _change(connection, bag, phase=phase, host=self._host, **held_now)
            self._event(connection, bag, phase, "done", facts)
            held = works or known
            if held and bag.work_rid not in held:
                stages.hand_over(connection, bag.work_rid, bag.bag_id, held)
            for work_rid in held or (bag.work_rid,):
                if phase is Phase.DOWNLOAD and not bag.is_local:
                    stages.date_if_none(connection, work_rid, Phase.RESTORE, _origin(bag))
                stages.date(connection, work_rid, phase, facts)

    @tried_again
    def commit_sync(
        self,
        bag: Bag,
        work_rid: str,
        *,
        archive_path: str,
        files: int,
        size_bytes: int,
        facts: Mapping[str, Any],
        leases: Leases,
    ) -> None:
        """The work is home: its sync row, its date and the event, in one transaction, if bag and work are still ours.

        Raises:
            LeaseLost: they are not; nothing was written.
        """
        with writing(self._engine) as connection:
            leases.see_held(connection, bag.work_rid, work_rid)
            ids = (bag.bag_id, rebuilt.stand_in(work_rid).bag_id)
            query = select(syncs.c.bag_id).where(syncs.c.bag_id.in_(ids), syncs.c.work_rid == work_rid)
            known = set(connection.scalars(query))
            if ids[1] in known:
                rebuilt.give_way(connection, work_rid)
            if bag.bag_id not in known:
                connection.execute(
                    insert(syncs).values(
                        bag_id=bag.bag_id,
                        work_rid=work_rid,
                        archive_path=archive_path,
                        files=files,
                        bytes=size_bytes,
                        facts=dict(facts),
                        synced_on=utc_in(),
                    )
                )
                told = outbox.of_homecoming(facts, archive_path=archive_path, files=files, size_bytes=size_bytes)
                outbox.announce(connection, CallbackEvent.HOME, told, work_rid=work_rid, bag_id=bag.bag_id)
            history.add(connection, Phase.SYNC, "done", facts, agent=self._agent, work_rid=work_rid, bag_id=bag.bag_id)
            stages.date(connection, work_rid, Phase.SYNC, facts)

    def synced(self, bag_id: str) -> frozenset[str]:
        """The works of a bag whose sync row stands."""
        with reading(self._engine) as connection:
            return frozenset(connection.scalars(select(syncs.c.work_rid).where(syncs.c.bag_id == bag_id)))

    def all_synced(self, bag_id: str) -> bool:
        """Whether every work that the zip holds is home; False while what it holds is not known."""
        query = select(bags.c.works, syncs.c.work_rid).outerjoin(syncs, syncs.c.bag_id == bags.c.bag_id)
        rows = read(self._engine, query.where(bags.c.bag_id == bag_id))
        return bool(rows and rows[0].works) and {row.work_rid for row in rows}.issuperset(rows[0].works)

    @tried_again
    def done(self, bag: Bag) -> None:
        """Everything that the bag holds is home."""
        with self._held(bag.work_rid) as connection:
            _change(connection, bag, state=BagState.DONE, phase=Phase.SYNC, **_NO_FAILURE)

    @tried_again
    def failed(self, bag: Bag, step: Step, error: PipelineError, *, retry_seconds: int = 0) -> None:
        """A step failed: the event with the reason, and what is to become of the bag."""
        state = BagState.FAILED
        if isinstance(error, PermanentError):
            state = BagState.REFUSED
        elif isinstance(error, NotRestored):
            state = BagState.NOT_RESTORED
        facts = bounded(failure_facts(error))  # many faults take seconds, and a server ends a transaction that idles
        with self._held(bag.work_rid) as connection:
            if isinstance(error, InvalidBag) and len(error.works) > 1 and bag.work_rid not in error.works:
                stages.hand_over(connection, bag.work_rid, bag.bag_id, error.works)
            _change(
                connection,
                bag,
                state=state,
                failures=bags.c.failures + 1,
                error_kind=error.kind,
                error=storable(str(error)),
                retry_on=utc_in(retry_seconds),
                host=self._host,
            )
            self._event(connection, bag, step, "failed", facts)
            named = error.work_rid or bag.work_rid  # of several works in a zip the one that failed
            told = outbox.of_failure(error, step)
            outbox.announce(connection, CallbackEvent.FAILED, told, work_rid=named, bag_id=bag.bag_id)

    @tried_again
    def reopen(self, bag: Bag, *, reason: str, undo_syncs: bool = False) -> None:
        """An operator asks for a bag again: whatever it was, it is unfinished now."""
        with self._held(bag.work_rid) as connection:
            _change(connection, bag, state=BagState.UNFINISHED, **_NO_FAILURE)
            if undo_syncs:
                connection.execute(syncs.delete().where(syncs.c.bag_id == bag.bag_id))
            self._event(connection, bag, "work", "asked", {"reason": reason})

    @tried_again
    def skip(self, bag: Bag, *, reason: str, by: str) -> None:
        """An operator does not want a bag: it stays as it is, and is not taken up until she asks for it again."""
        with self._held(bag.work_rid) as connection:
            _change(
                connection,
                bag,
                state=BagState.SKIPPED,
                error_kind=BagState.SKIPPED,
                error=storable(f"skipped by {by}: {reason}"),
                retry_on=None,
            )
            self._event(connection, bag, "work", BagState.SKIPPED, {"reason": reason, "by": by})

    @tried_again
    def note(
        self,
        step: Step,
        outcome: str,
        detail: Mapping[str, Any],
        *,
        work_rid: str = "",
        bag_id: str = "",
        held: bool = False,
    ) -> None:
        """An event that changes nothing else: a message with nothing to process, one not understood, a warning.

        One that is `held` tells of what a lane does with a work it has leased, and not of a message or a file.
        """
        with self._held(work_rid) if held else writing(self._engine) as connection:
            history.add(connection, step, outcome, detail, agent=self._agent, work_rid=work_rid, bag_id=bag_id)

    def is_dead_lettered(self, work_rid: str, **known: str) -> bool:
        """Whether the work has a dead letter of which this is recorded: of that message, or with that seal."""
        query = (
            select(events.c.detail)
            .where(events.c.work_rid == work_rid, events.c.outcome == "dead-lettered")
            .order_by(events.c.id.desc())
            .limit(1000)
        )
        with reading(self._engine) as connection:
            return any(detail.items() >= known.items() for detail in connection.scalars(query))

    @contextmanager
    def _held(self, work_rid: str) -> Iterator[Connection]:
        """A transaction in which the work is ours, if there are leases."""
        with writing(self._engine) as connection:
            if self._leases is not None:
                self._leases.see_held(connection, work_rid)
            yield connection

    def _row(self, connection: Connection, bag_id: str) -> Row[Any] | None:
        return connection.execute(select(bags).where(bags.c.bag_id == bag_id)).first()

    def _first_seen(self, connection: Connection, bag: Bag) -> None:
        connection.execute(
            insert(bags).values(
                **bag_columns(bag),
                state=BagState.UNFINISHED,
                phase="",
                host="",
                failures=0,
                seen_on=utc_in(),
                updated_on=utc_in(),
            )
        )
        self._event(connection, bag, "intake", "seen", _origin(bag))
        if bag.event_time is not None and not bag.only_created:
            stages.date(connection, bag.work_rid, Phase.RESTORE, _origin(bag), at=naive(bag.event_time))

    def _event(self, connection: Connection, bag: Bag, step: Step, outcome: str, detail: Mapping[str, Any]) -> None:
        history.add(connection, step, outcome, detail, agent=self._agent, work_rid=bag.work_rid, bag_id=bag.bag_id)


def _change(connection: Connection, bag: Bag, **values: Any) -> None:
    connection.execute(update(bags).where(bags.c.bag_id == bag.bag_id).values(**values, updated_on=utc_in()))


def _origin(bag: Bag) -> dict[str, object]:
    return {"from": bag.address} | ({"bytes": bag.size_bytes} if bag.size_bytes else {})


def _tells_a_restore(bag: Bag, known: Row[Any] | None) -> bool:
    """Whether an event is of a restore that is newer than all that was heard of a bag which is not home."""
    if bag.event_time is None or bag.only_created or known is None or known.state == BagState.DONE:
        return False
    return known.event_time is None or bool(known.event_time < naive(bag.event_time))
