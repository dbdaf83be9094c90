"""`status` says first what needs a person, and stays small when a library is large."""

import json
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, insert, select

from pipeline import record
from pipeline.foundation.errors import InvalidBag, NotRestored, ObjectGone, StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.record import Leases, Phase, Record, history, overview, tables, views
from tests.world.bags import bag_members, make_bag_zip, write_zip
from tests.world.stack import Site


def bag(rid: str, **more: Any) -> Bag:
    return Bag(work_rid=rid, bucket="bucket", key=f"{rid}.bag.zip", etag="e", size_bytes=7, **more)


def bring_home(engine: Engine, one: Bag) -> None:
    book, lane = Record(engine, agent="host/1/1", host="host"), Leases(engine, owner="me", seconds=60)
    book.see(one)
    lane.take(one.work_rid, one.bag_id)
    book.finished(Phase.DEBAG, one, {}, works=(one.work_rid,))
    book.commit_sync(one, one.work_rid, archive_path="/a", files=1, size_bytes=1, facts={}, leases=lane)
    book.done(one)
    lane.release(one.work_rid)


def multiply(engine: Engine, works: int) -> None:
    """The work W0 becomes so many, each with what happened to it."""
    with engine.begin() as connection:
        for table in (tables.bags, tables.syncs, tables.events):
            columns = [column for column in table.c if column.name != "id"]
            rows = connection.execute(select(*columns)).mappings().all()
            more = [{**row, "work_rid": f"W{n}", "bag_id": f"b{n}"} for n in range(1, works) for row in rows]
            connection.execute(insert(table), more)


def seen(site: Site) -> Record:
    return Record(record.connect(site.database_url), agent="host/1/1", host="host")


def needed(site: Site, *words: str) -> dict[str, str]:
    document = json.loads(site.call("status", "--json", *words).stdout)
    return {one["what"]: one["go_on"] for one in document["needs_you"]}


def test_of_works_that_are_home_only_the_latest_are_listed_and_the_rest_counted(engine: Engine, book: Record) -> None:
    book.see(bag("W0"))
    for number in range(1, 5):
        bring_home(engine, bag(f"W{number}"))
    book.see(bag("W5"))
    book.skip(bag("W5"), reason="twice", by="me")
    with engine.begin() as connection:
        for day in range(6):
            moment = f"2026-01-{day + 1:02} 00:00:00.000000"
            connection.exec_driver_sql(f"UPDATE bags SET updated_on = '{moment}' WHERE work_rid = 'W{day}'")

    works, left_out = views.latest_works(engine, most_ended=2)
    every, none_left_out = views.latest_works(engine, most_ended=100)

    assert [(one.work_rid, one.stage) for one in works] == [("W5", "skipped"), ("W4", "done"), ("W0", "waiting")]
    assert left_out == 3
    assert every == views.works(engine)
    assert none_left_out == 0


def test_what_is_counted_reads_no_more_rows_and_asks_no_more_questions_of_many_works_than_of_few(
    database: Path, tmp_path: Path
) -> None:
    def read(works: int) -> tuple[int, int]:
        file = shutil.copy(database, tmp_path / f"{works}.db")
        engine, read = record.connect(f"sqlite:///{file}"), Counter[str]()

        def count(connection: Any, _record: Any) -> None:
            connection.row_factory = lambda _cursor, row: read.update(rows=1) or row

        bring_home(engine, bag("W0"))
        multiply(engine, works)
        engine.dispose()
        sqlalchemy.event.listen(engine, "connect", count)
        sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *_: read.update(statements=1))
        since = datetime.now(UTC) - timedelta(days=1)
        history.endings(engine)
        for step in history.STEPS:
            history.taking(engine, step, [1, 60])
            history.quantiles(engine, step, [0.5, 1], since=since)
        assert history.home(engine, since=since)[0] == works
        history.home_over_time(engine, [since, datetime.now(UTC)])
        history.failures(engine, since=since)
        history.first(engine, since=since)
        latest, _ = views.latest_works(engine, most_ended=5)
        history.happenings(engine, [work.work_rid for work in latest], since=since)
        assert overview.bags_now(engine).counts == {"done": works}
        engine.dispose()
        return read["statements"], read["rows"]

    few = read(100)
    assert min(few) > 20
    assert read(1000) == few


def test_a_site_that_needs_nobody_says_so_and_nothing_else_first(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1")

    assert site.call("status").stdout.splitlines()[0] == "all is well"
    assert needed(site) == {}


def test_what_needs_a_person_comes_first_each_with_the_command_to_go_on(site: Site, tmp_path: Path) -> None:
    members = bag_members("W1")
    image = next(name for name in members if "/data/" in name)
    site.announce(write_zip(tmp_path / "W1.bag.zip", {**members, image: b"!"}))
    site.call("run", "--lanes", "1")
    book = seen(site)
    ends = datetime.now(UTC) + timedelta(hours=2)
    for rid in ("W2", "W3"):
        book.see(bag(rid, restore_expires_on=ends))
        book.failed(bag(rid), Phase.DOWNLOAD, StorageUnreachable("reset"), retry_seconds=600)
    book.see(bag("W4"))
    book.failed(bag("W4"), Phase.DOWNLOAD, NotRestored("it is frozen"))
    site.call("pause", "--reason", "a new disk")

    found = needed(site)
    plain = site.call("status").stdout.splitlines()

    assert list(found.values()) == [
        "run_pipeline.py run",
        "run_pipeline.py resume",
        "run_pipeline.py explain W1",
        "run_pipeline.py explain W4",
        "run_pipeline.py explain W3",
        "run_pipeline.py dead-letters list",
    ]
    pause, *others = [what for what in found if "PAUSED" in what] + [what for what in found if "PAUSED" not in what]
    assert pause.endswith(": a new disk")
    assert others == [
        "2 restored copies about to end before the download",
        "1 bag refused",
        "1 bag not-restored",
        "2 bags failed, tried again by themselves",
        "1 dead letter",
    ]
    assert plain[: len(found)] == [f"needs you: {what}; go on with: {go_on}" for what, go_on in found.items()]


def test_refused_bags_whose_zips_were_deleted_still_have_a_way_on(site: Site, tmp_path: Path) -> None:
    for rid in ("W1", "W2"):
        members = bag_members(rid)
        image = next(name for name in members if "/data/" in name)
        site.announce(write_zip(tmp_path / f"{rid}.bag.zip", {**members, image: b"!"}))
    site.call("run", "--lanes", "1")
    site.call("quarantine", "drop", "W1", "W2", "--yes")

    assert needed(site)["2 bags refused"] == "run_pipeline.py quarantine list"
    assert "2 refused bags; put mended ones to S3" in site.call("quarantine", "list").stdout
    for rid in ("W1", "W2"):
        site.call("skip", rid, "--reason", "its master is lost", "--yes")
    assert "2 bags refused" not in needed(site)
    assert "refused bag" not in site.call("quarantine", "list").stdout


def test_all_bags_that_are_counted_as_refused_are_listed_wherever_they_are_kept(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")
    elsewhere = Record(record.connect(site.database_url), agent="line2/1/1", host="line2")
    for rid in ("W2", "W3"):
        elsewhere.see(bag(rid))
        elsewhere.failed(bag(rid), Phase.DOWNLOAD, ObjectGone("it is not there"))

    listed = site.call("quarantine", "list").stdout

    assert needed(site)["3 bags refused"] == "run_pipeline.py quarantine list"
    assert [line.split()[0] for line in listed.splitlines() if " refused " in line and line.startswith("W")] == [
        "W1",
        "W2",
        "W3",
    ]
    assert "on line2" in listed
    assert "object-gone" in listed


def test_who_needs_a_person_stands_above_what_came_home_later(site: Site, tmp_path: Path) -> None:
    book = seen(site)
    book.see(bag("W1"))
    book.failed(bag("W1"), Phase.DEBAG, InvalidBag("it is damaged", faults=()))
    site.announce(make_bag_zip(tmp_path, "W2"))
    site.call("run", "--lanes", "1")

    rows = [line for line in site.call("status").stdout.splitlines() if line.startswith(("W1 ", "W2 "))]

    assert [row.split()[:2] for row in rows] == [["W1", "refused"], ["W2", "done"]]


def test_works_that_are_left_out_are_told_of_with_the_command_that_shows_all(site: Site) -> None:
    engine = record.connect(site.database_url)
    for number in range(203):
        bring_home(engine, bag(f"W{number}"))
    engine.dispose()

    plain = site.call("status").stdout
    some, all_of_them = (json.loads(site.call("status", "--json", *words).stdout) for words in ((), ("--all",)))

    assert "and 3 more; all of them: run_pipeline.py status --json --all" in plain.splitlines()
    assert (len(some["works"]), some["works_left_out"]) == (200, 3)
    assert (len(all_of_them["works"]), all_of_them["works_left_out"]) == (203, 0)
