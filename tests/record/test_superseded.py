"""A refused bag is over once a later bag brought its works home: on each database, and as every verb tells it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.errors import ArchiveConflict, InvalidBag, NotRestored, PipelineError
from pipeline.foundation.work import Bag
from pipeline.record import Leases, Phase, Record, overview, stories, views
from tests.world.bags import make_bag_zip
from tests.world.stack import Site, lines

BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=7)
MENDED = replace(BAG, etag="e2")


def refuse(book: Record, bag: Bag, error: PipelineError | None = None) -> None:
    book.see(bag)
    book.failed(bag, Phase.DEBAG, error or InvalidBag("it is damaged", faults=()))


def bring_home(engine: Engine, bag: Bag, *works: str, held: tuple[str, ...] = ()) -> None:
    """These works of a bag are home; when they are all that it holds, it is done."""
    book, lane = Record(engine, agent="host/1/1", host="host"), Leases(engine, owner="me", seconds=60)
    works = works or (bag.work_rid,)
    book.see(bag)
    for work in {bag.work_rid, *works}:
        lane.take(work, bag.bag_id)
    book.finished(Phase.DEBAG, bag, {}, works=held or works)
    for work in works:
        book.commit_sync(bag, work, archive_path="/a", files=1, size_bytes=1, facts={}, leases=lane)
    if works == (held or works):
        book.done(bag)
    for work in {bag.work_rid, *works}:
        lane.release(work)


def seen(engine: Engine, *bags: Bag) -> None:
    """They were first seen in this order, a day apart."""
    with engine.begin() as connection:
        for day, bag in enumerate(bags, start=1):
            moment = f"2026-01-{day:02} 00:00:00"
            connection.exec_driver_sql(f"UPDATE bags SET seen_on = '{moment}.000000' WHERE bag_id = '{bag.bag_id}'")


def test_a_refused_bag_whose_mended_one_came_home_is_over_for_every_question(engine: Engine, book: Record) -> None:
    refuse(book, BAG)
    assert record.superseded(engine) == {}
    bring_home(engine, MENDED)
    seen(engine, BAG, MENDED)

    assert record.superseded(engine) == {BAG.bag_id: "refused"}
    assert overview.bags_now(engine).counts == {"done": 1, "superseded": 1}
    assert {work.bag_id: work.stage for work in views.works(engine)} == {
        BAG.bag_id: "superseded",
        MENDED.bag_id: "done",
    }
    assert overview.bags_now(engine).oldest_refused is None
    assert overview.failed_with(engine, "invalid-bag") == []
    story = stories.story(engine, "W1")
    assert story is not None
    assert [one.superseded for one in story.bags] == [False, True]
    row = book.bag(BAG.bag_id)
    assert row is not None
    assert row.state == "refused"  # what becomes of it if it is delivered again does not change


@pytest.mark.parametrize("error", [NotRestored("still frozen"), ArchiveConflict("other content")])
def test_whatever_a_bag_waits_for_a_later_one_answers(engine: Engine, book: Record, error: PipelineError) -> None:
    refuse(book, BAG, error)
    bring_home(engine, MENDED)
    seen(engine, BAG, MENDED)

    assert set(record.superseded(engine)) == {BAG.bag_id}


def test_a_bag_that_is_refused_after_its_work_came_home_stays_for_a_person(engine: Engine, book: Record) -> None:
    bring_home(engine, MENDED)
    refuse(book, BAG, ArchiveConflict("other content"))
    seen(engine, MENDED, BAG)

    assert record.superseded(engine) == {}
    assert overview.bags_now(engine).counts == {"done": 1, "refused": 1}
    assert overview.bags_now(engine).oldest_refused is not None
    assert overview.failed_with(engine, "archive-conflict") == [BAG.bag_id]


def test_a_work_that_came_home_in_a_zip_of_another_name_counts(engine: Engine, book: Record) -> None:
    batch = Bag("batch", "bucket", "batch.zip", etag="b")
    refuse(book, BAG)
    bring_home(engine, batch, "W1", "W2")
    seen(engine, BAG, batch)

    assert set(record.superseded(engine)) == {BAG.bag_id}


def test_a_zip_of_several_works_is_over_when_the_last_of_them_is_home(engine: Engine, book: Record) -> None:
    batch, second, third = (Bag(rid, "bucket", rid, etag="b") for rid in ("batch", "W2", "W3"))
    bring_home(engine, batch, "W1", held=("W1", "W2", "W3"))
    refuse(book, batch, ArchiveConflict("other content of W2"))
    bring_home(engine, second)
    seen(engine, batch, second)
    assert record.superseded(engine) == {}

    bring_home(engine, third)
    seen(engine, batch, second, third)

    assert set(record.superseded(engine)) == {batch.bag_id}


def test_a_zip_that_could_not_be_opened_is_over_when_one_of_its_name_is_home_with_all_it_held(
    engine: Engine, book: Record
) -> None:
    damaged, mended = (Bag("batch", "bucket", "batch.zip", etag=etag) for etag in ("b1", "b2"))
    refuse(book, damaged)
    bring_home(engine, mended, "W1", held=("W1", "W2"))
    seen(engine, damaged, mended)
    assert record.superseded(engine) == {}

    bring_home(engine, mended, "W1", "W2")

    assert set(record.superseded(engine)) == {damaged.bag_id}


def test_thousands_of_refused_bags_are_looked_up_in_statements_that_every_database_takes(
    engine: Engine, book: Record
) -> None:
    for number in range(3):
        refuse(book, replace(BAG, etag=f"{number}"))
    with engine.begin() as connection:
        works = json.dumps([f"W{number}" for number in range(40_000)])
        connection.exec_driver_sql(f"UPDATE bags SET works = '{works}'")

    assert record.superseded(engine) == {}


def test_once_the_mended_bag_is_home_all_is_well_again_and_what_is_kept_can_be_cleared(
    site: Site, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")
    before = site.call("status").stdout
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1")

    after, told = site.call("status").stdout, json.loads(site.call("status", "--json").stdout)
    letters = site.call("dead-letters", "list").stdout
    kept = site.call("quarantine", "list").stdout
    explained = json.loads(site.call("explain", "W1", "--json").stdout)
    retried = site.call("retry", "--kind", "invalid-bag").stdout
    site.call("dead-letters", "drop", "W1", "--yes")
    dropped = site.call("quarantine", "drop", "W1", "--yes", "--only-copy")

    assert lines(before, "W1", "refused", "digest-differs")
    assert not lines(after, "digest-differs")
    assert not lines(after, "W1 ", "refused")
    assert lines(after, "bags: 1 done, 1 superseded")
    assert lines(after, "superseded by a later bag that came home: 1 bag", "quarantine list")
    assert told["bags"] == {"done": 1, "superseded": 1}
    assert told["oldest_refused"] is None
    assert sorted(work["stage"] for work in told["works"]) == ["done", "superseded"]
    assert lines(letters, "W1", "superseded: drop clears it")
    assert lines(kept, "W1", "superseded", "1 digest-differs")
    assert [bag["stage"] for bag in explained["bags"]] == ["done", "superseded"]
    assert explained["bags"][1]["next"]["command"] == "run_pipeline.py quarantine drop W1"
    assert "no work failed with invalid-bag" in retried
    assert dropped.returncode == 0, dropped.stderr
    assert lines(site.call("status").stdout, site.queue, "0 dead letters")
