"""Which events no work's story lacks, on each kind of database, and what their going must not change."""

from datetime import UTC, datetime

from sqlalchemy import Engine, update

from pipeline import record
from pipeline.foundation.work import Bag
from pipeline.record import Record, outdated
from pipeline.record.tables import events

LONG_AGO, SINCE = datetime(2001, 1, 1), datetime(2010, 1, 1, tzinfo=UTC)  # noqa: DTZ001  # as the tables hold it
TOLD = (  # step, outcome, work, whether it may go
    ("intake", "ignored", "", True),
    ("intake", "failed", "", False),  # a message that was not understood
    ("intake", "seen", "W1", False),
    ("sync", "done", "W1", False),
    ("verify", "passed", "W1", True),
    ("verify", "failed", "W1", False),
    ("verify", "passed", "W1", True),
    ("verify", "passed", "W1", False),  # the last one: it ends the alarm
    ("verify", "passed", "W2", False),
    ("verify", "no-proof", "W3", True),
    ("verify", "no-proof", "W3", False),
    ("verify-replica", "passed", "W1", True),
    ("verify-replica", "passed", "W1", False),
    ("intake", "ignored", "", False),  # the newest of all: its number must not be given again
)


def test_what_is_said_again_later_and_what_is_of_no_work_may_go_and_every_alarm_is_as_it_was(
    engine: Engine, book: Record
) -> None:
    for step, outcome, rid, _ in TOLD:
        book.note(step, outcome, {}, work_rid=rid)  # type: ignore[arg-type]  # a step by its word
    with engine.begin() as connection:
        connection.execute(update(events).values(at=LONG_AGO))
    before = (record.broken(engine), record.archived(engine))

    found = outdated.routine_events(engine, SINCE, limit=100)
    count = outdated.routine_count(engine, SINCE)
    outdated.forget_events(engine, [row["id"] for row in found])

    assert sorted(row["id"] for row in found) == [number for number, told in enumerate(TOLD, 1) if told[3]]
    assert count == len(found)
    assert outdated.routine_events(engine, SINCE, limit=100) == []
    assert (record.broken(engine), record.archived(engine)) == before
    assert len(outdated.routine_events(engine, datetime(1990, 1, 1, tzinfo=UTC), limit=100)) == 0


def test_an_operators_word_for_another_bag_makes_an_earlier_one_the_only_copy(engine: Engine, book: Record) -> None:
    first, second = (Bag("W1", "bucket", "W1.bag.zip", etag=etag).bag_id for etag in ("1", "2"))

    def came(bag_id: str, *replaced: str) -> list[bool]:
        book.note("sync", "done", {"replaced": list(replaced)}, work_rid="W1", bag_id=bag_id)
        return [outdated.replaced_since(engine, one, ["W1"]) for one in (first, second)]

    assert came(first) == [False, False]
    assert came(second) == [False, False]  # it added files
    assert came(second, "a.jpg") == [True, False]
    assert came(first, "a.jpg") == [False, True]


def test_the_database_tells_the_time(engine: Engine) -> None:
    assert abs(outdated.now(engine) - datetime.now(UTC)).total_seconds() < 60
