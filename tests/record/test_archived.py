"""What the record tells a fixity check, on each of the databases."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, update

from pipeline import record
from pipeline.foundation.work import Bag
from pipeline.record import CHECK, Leases, Record, schedule, tables

BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=7)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


def synced(engine: Engine, bag: Bag, *, proof: dict[str, str] | None = None) -> None:
    book, owner = Record(engine, agent="host/1/1", host="host"), Leases(engine, owner="me", seconds=60)
    book.see(bag)
    owner.take(bag.work_rid, bag.bag_id)
    facts = {"proof": proof} if proof else {}
    book.commit_sync(bag, bag.work_rid, archive_path="/a", files=3, size_bytes=9, facts=facts, leases=owner)


def check(engine: Engine, work: record.Archived, outcome: str, **facts: float) -> None:
    schedule.claim(engine, work, seconds=60)
    schedule.ended(engine, work, outcome, {"bytes": 0, "seconds": 0, **facts}, agent="host/1/1")


def test_each_work_is_told_by_its_latest_sync_and_its_latest_check(engine: Engine) -> None:
    synced(engine, BAG)
    synced(engine, replace(BAG, etag="e2"), proof={"name": "W1.bag/W1.digests.json", "sha512": "ab"})
    synced(engine, replace(BAG, work_rid="W2"))
    for rid, outcome in (("W1", "failed"), ("W1", "passed"), ("W3", "no-proof")):
        check(engine, record.Archived(rid), outcome)
    found = record.archived(engine)
    assert set(found) == {"W1", "W2", "W3"}
    one, two, three = found["W1"], found["W2"], found["W3"]
    assert (one.proof, one.bag_id) == (("W1.bag/W1.digests.json", "ab"), replace(BAG, etag="e2").bag_id)
    assert (two.proof, two.bytes, two.checked_on) == (None, 9, None)
    assert (three.sync_id, three.bag_id, three.synced_on) == (0, "", None)
    assert one.checked_on
    assert one.synced_on
    assert one.seen_on == one.checked_on >= one.synced_on
    assert two.seen_on == two.synced_on
    assert abs((datetime.now(UTC) - one.seen_on).total_seconds()) < 60
    assert record.archived(engine, work_rid="W1") == {"W1": one}
    assert record.archived(engine, work_rid="W4") == {}
    assert record.Archived("W4").seen_on == LONG_AGO


def checked(book: Record, rid: str, outcome: str, **facts: object) -> None:
    book.note(CHECK, outcome, facts, work_rid=rid, bag_id="b")


def test_of_two_that_saw_a_work_due_one_checks_it_and_what_is_given_up_is_another_s_later(engine: Engine) -> None:
    synced(engine, BAG)
    due = record.archived(engine)["W1"]
    first = [schedule.claim(engine, due, seconds=0), schedule.claim(engine, due, seconds=60)]  # the one has died
    second = schedule.claim(engine, record.archived(engine)["W1"], seconds=60)
    schedule.go_on(engine, "W1", seconds=60)
    schedule.ended(engine, due, "passed", {"bytes": 9, "seconds": 0.5}, agent="host/1/1")
    late = schedule.claim(engine, due, seconds=60)
    half = record.archived(engine)["W1"]
    again = schedule.claim(engine, half, seconds=60)

    assert (first, second, late, again) == ([True, True], False, False, True)
    assert half.turn == half.seen_on
    assert record.archived(engine)["W1"].turn > half.turn


def test_the_schedule_counts_what_was_not_looked_at_in_time(engine: Engine) -> None:
    for rid in ("W1", "W2", "W3"):
        synced(engine, replace(BAG, work_rid=rid))
    check(engine, record.Archived("W2"), "passed", bytes=18, seconds=2)
    schedule.enrol(engine, {"W4", "W5"}, set())
    schedule.enrol(engine, {"W4"}, {"W5", "W1"})  # another host saw it, too; and what came home is on it anyway
    long_ago = datetime.now(UTC).replace(tzinfo=None, microsecond=5) - timedelta(days=40)
    with engine.begin() as connection:
        connection.execute(update(tables.syncs).where(tables.syncs.c.work_rid != "W1").values(synced_on=long_ago))

    stands = schedule.standing(engine, days=30)

    assert (stands.works, stands.behind, stands.never) == (4, 2, 1)  # W2 was checked since; W4 never was
    assert stands.oldest == long_ago.replace(tzinfo=UTC)
    assert stands.bytes_per_second == 9
    assert schedule.listed(engine) == {"W4"}
    assert schedule.standing(engine, days=50).behind == 1


def test_a_work_is_broken_from_a_failed_check_until_one_is_passed_or_forgotten_or_it_is_synced_again(
    engine: Engine,
) -> None:
    book = Record(engine, agent="host/1/1", host="host")
    for rid in ("W1", "W2", "W3", "W4", "W5"):
        synced(engine, replace(BAG, work_rid=rid))
        checked(book, rid, "failed", error=f"{rid}: 2 wrong", wrong_files=2)
    checked(book, "W2", "passed")
    synced(engine, replace(BAG, work_rid="W3", etag="e2"))
    checked(book, "W4", "no-proof")  # which says nothing of the copy
    checked(book, "W5", "failed", error="W5: 1 wrong", wrong_files=1)

    found = record.broken(engine)

    assert [(one.work_rid, one.error, one.wrong_files) for one in found] == [
        ("W1", "W1: 2 wrong", 2),
        ("W4", "W4: 2 wrong", 2),
        ("W5", "W5: 1 wrong", 1),
    ]
    assert abs((datetime.now(UTC) - found[0].failed_on).total_seconds()) < 60
    checked(book, "W1", "passed")
    checked(book, "W4", "forgotten")
    assert [one.work_rid for one in record.broken(engine)] == ["W5"]


def test_few_broken_works_are_found_by_an_index_however_much_happened(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT * FROM events WHERE step = 'verify' AND outcome = 'failed'"
        (plan,) = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert "(step=? AND outcome=?" in str(plan)
