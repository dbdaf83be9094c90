"""The tables: made, brought up and back, by many at once, half-way, and around a table that BDRC made and filled."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.work import Bag
from pipeline.record import CHECK, Leases, Phase, Record, stories, tables, views
from tests.world.servers import forking
from tests.world.stack import Site, history, lines

BAG = Bag("W1KEPT", "bucket", "a/W1KEPT.bag.zip", etag="e1", size_bytes=7, event_time=datetime(2026, 4, 6, tzinfo=UTC))
OURS = {"bags", "syncs", "events", "leases", "notices", "lanes", "names", "wants", "replicas", "outbox", "checks"}

# As their stack has it: whole seconds in the server's zone, names of any case alike, dates set by the server itself.
BDRC_MYSQL = """
CREATE TABLE glacier_sync_progress (
    id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
    object_name varchar(255) NOT NULL{unique},
    restore_requested_on timestamp NULL DEFAULT NULL,
    restore_complete_on timestamp NULL DEFAULT NULL,
    download_complete_on timestamp NULL DEFAULT NULL,
    debag_complete_on timestamp NULL DEFAULT NULL,
    sync_complete_on timestamp NULL DEFAULT NULL,
    user_data json DEFAULT NULL,
    create_time timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    update_time timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
) DEFAULT CHARSET={charset}
"""
BDRC_ELSEWHERE = """
CREATE TABLE glacier_sync_progress (
    id {serial} PRIMARY KEY,
    object_name varchar(255) NOT NULL{unique},
    restore_requested_on timestamp, restore_complete_on timestamp, download_complete_on timestamp,
    debag_complete_on timestamp, sync_complete_on timestamp, user_data json,
    create_time timestamp DEFAULT CURRENT_TIMESTAMP NOT NULL, update_time timestamp DEFAULT CURRENT_TIMESTAMP NOT NULL
)
"""
ROWS = [
    ("W1KEPT", "2024-01-02 03:04:05", '[{"time_stamp": "2024-01-02T03:04:05+00:00", "user_data": {"by": "them"}}]'),
    ("W2ODD", "2024-01-02 03:04:05", '{"not": "a list"}'),
    ("W3BARE", None, None),
]


@pytest.fixture
def engine(any_database: str) -> Iterator[Engine]:
    engine = record.connect(any_database)
    yield engine
    engine.dispose()


def make_theirs(engine: Engine, *, unique: bool = False, charset: str = "utf8mb4") -> None:
    """Their table, with data in it."""
    words = {"unique": " UNIQUE" if unique else "", "charset": charset}
    statement = BDRC_ELSEWHERE.format(serial="SERIAL", **words)
    if engine.dialect.name == "sqlite":
        statement = BDRC_ELSEWHERE.format(serial="integer", **words)
    elif engine.dialect.name != "postgresql":
        statement = BDRC_MYSQL.format(**words)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
        for name, date, user_data in ROWS:
            connection.execute(
                sqlalchemy.text(
                    "INSERT INTO glacier_sync_progress (object_name, restore_requested_on, sync_complete_on, user_data)"
                    " VALUES (:name, :date, :date, :user_data)"
                ),
                {"name": name, "date": date, "user_data": user_data},
            )


def theirs(engine: Engine) -> dict[str, dict[str, Any]]:
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.select(tables.progress).order_by(tables.progress.c.id)).mappings()
        return {row["object_name"]: dict(row) for row in rows}


def names(engine: Engine) -> set[str]:
    return set(sqlalchemy.inspect(engine).get_table_names())


def bring_home(engine: Engine, bag: Bag) -> None:
    book, lane = Record(engine, agent="host/1/1", host="host"), Leases(engine, owner="me", seconds=60)
    book.see(bag)
    lane.take(bag.work_rid, bag.bag_id)
    book.finished(Phase.DOWNLOAD, bag, {"bytes": 7})
    book.finished(Phase.DEBAG, bag, {"files": 3}, works=(bag.work_rid,))
    book.commit_sync(bag, bag.work_rid, archive_path="/a", files=3, size_bytes=9, facts={}, leases=lane)
    book.done(bag)


@pytest.mark.parametrize("unique", [False, True])
def test_bdrc_s_table_keeps_its_rows_up_and_down_and_is_written_on_as_they_write_it(
    engine: Engine,
    unique: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    make_theirs(engine, unique=unique)
    before, columns = theirs(engine), sqlalchemy.inspect(engine).get_columns("glacier_sync_progress")

    record.upgrade(engine)
    assert theirs(engine) == before
    for rid in before:
        bring_home(engine, Bag(rid, "bucket", rid, etag=rid, event_time=BAG.event_time))
    story = stories.story(engine, "W1KEPT")
    after = theirs(engine)
    record.downgrade(engine, "base")

    assert names(engine) & OURS == set()
    assert theirs(engine) == after
    assert str(sqlalchemy.inspect(engine).get_columns("glacier_sync_progress")) == str(columns)
    kept = after["W1KEPT"]
    assert (kept["id"], kept["restore_requested_on"]) == (
        before["W1KEPT"]["id"],
        before["W1KEPT"]["restore_requested_on"],
    )
    assert kept["sync_complete_on"] > before["W1KEPT"]["sync_complete_on"]
    assert kept["user_data"][0] == before["W1KEPT"]["user_data"][0]
    assert [entry["user_data"].get("stage") for entry in kept["user_data"]][1:] == [phase.column for phase in Phase]
    assert after["W2ODD"]["user_data"][0] == {"not": "a list"}
    assert len(after["W3BARE"]["user_data"]) == len(Phase)
    assert story is not None
    assert story.dates["restore_requested_on"] == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert story.dates["restore_complete_on"] == BAG.event_time
    record.upgrade(engine)
    assert theirs(engine) == after


def test_their_times_are_utc_whatever_zone_the_server_is_in(any_database: str) -> None:
    if not any_database.startswith("mariadb"):
        pytest.skip("only MySQL has columns whose values go by the session's zone")
    plain = sqlalchemy.create_engine(any_database)
    with plain.begin() as connection:
        connection.exec_driver_sql("SET GLOBAL time_zone = '-05:00'")
    try:
        engine = record.connect(any_database)
        make_theirs(engine)
        record.upgrade(engine)
        bring_home(engine, BAG)
        with plain.connect() as connection:
            seconds = "SELECT UNIX_TIMESTAMP(restore_complete_on), UNIX_TIMESTAMP() - UNIX_TIMESTAMP(sync_complete_on)"
            restored, age = connection.exec_driver_sql(
                f"{seconds} FROM glacier_sync_progress WHERE object_name = 'W1KEPT'"
            ).one()
        engine.dispose()
    finally:
        with plain.begin() as connection:
            connection.exec_driver_sql("SET GLOBAL time_zone = DEFAULT")
        plain.dispose()

    assert float(restored) == datetime(2026, 4, 6, tzinfo=UTC).timestamp()
    assert -2 <= age < 60


@pytest.mark.parametrize("unique", [False, True])
def test_a_table_that_takes_names_of_other_case_for_the_same_neither_mixes_up_works_nor_stops_one(
    engine: Engine,
    unique: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    make_theirs(engine, unique=unique)
    record.upgrade(engine)
    upper, lower = BAG, Bag("w1kept", "bucket", "w1kept", etag="e2")

    bring_home(engine, upper)
    bring_home(engine, lower)

    assert {work.work_rid: work.stage for work in views.works(engine)} == {"W1KEPT": "done", "w1kept": "done"}
    rows = theirs(engine)
    shared = unique and engine.dialect.name not in {"sqlite", "postgresql"}
    assert ("w1kept" in rows) is not shared
    if shared:  # their table has room for one of them only; it says which one it was
        assert [entry["user_data"].get("work") for entry in rows["W1KEPT"]["user_data"]][-4:] == ["w1kept"] * 4


def test_a_table_that_cannot_hold_a_name_does_not_stop_its_work(engine: Engine) -> None:
    make_theirs(engine, charset="latin1")
    record.upgrade(engine)
    bag = Bag("བོད1", "bucket", "k", etag="e")

    bring_home(engine, bag)

    (work,) = views.works(engine)
    assert (work.work_rid, work.stage) == ("བོད1", "done")
    assert stories.story(engine, "བོད1") is not None


def test_each_revision_goes_up_and_down_and_what_both_hold_stays(engine: Engine) -> None:
    record.upgrade(engine)
    bring_home(engine, BAG)
    newest, wanted = record.revisions(engine)
    assert newest == wanted

    for revision in record.earlier(engine):
        record.downgrade(engine, revision)
        assert record.revisions(engine)[0] == revision
        with pytest.raises(record.SchemaOutdated):
            record.prepare(engine)
    record.upgrade(engine)

    assert record.revisions(engine)[0] == newest
    assert views.works(engine)[0].stage == "done"
    assert len(history(engine, "W1KEPT")) == 4
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


@pytest.mark.parametrize("dropped", [["leases"], ["leases", "events", "syncs"], ["leases", "events", "syncs", "bags"]])
def test_an_upgrade_that_was_killed_half_way_goes_on(engine: Engine, dropped: list[str]) -> None:
    record.upgrade(engine)
    with engine.begin() as connection:  # as MySQL leaves it, which commits after each statement
        for table in ["lanes", "notices", *dropped]:
            connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("DELETE FROM alembic_version")
        if "bags" not in dropped:
            where = "" if engine.dialect.name in {"sqlite", "postgresql"} else " ON bags"
            connection.exec_driver_sql(f"DROP INDEX ix_bags_state_updated_on{where}")

    record.upgrade(engine)

    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    bring_home(engine, BAG)


def test_an_upgrade_that_was_killed_between_its_changes_goes_on(engine: Engine) -> None:
    record.upgrade(engine)
    with engine.begin() as connection:
        where = "" if engine.dialect.name in {"sqlite", "postgresql"} else " ON events"
        connection.exec_driver_sql(f"DROP INDEX ix_events_step_outcome_at_seconds_bytes{where}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")

    record.upgrade(engine)

    assert record.revisions(engine) == ("0010", "0010")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_checks_of_before_there_was_a_schedule_count_in_it(engine: Engine) -> None:
    record.upgrade(engine)
    bring_home(engine, BAG)
    book = Record(engine, agent="host/1/1", host="host")
    for outcome in ("passed", "failed", "forgotten"):
        book.note(CHECK, outcome, {}, work_rid=BAG.work_rid)
    with engine.connect() as connection:
        failed = connection.scalar(sqlalchemy.select(tables.events.c.at).where(tables.events.c.outcome == "failed"))

    record.downgrade(engine, "0008")
    record.upgrade(engine)

    told = record.archived(engine)[BAG.work_rid].checked_on
    assert told
    assert told.replace(tzinfo=None) == failed


def _prepare(url: str, barrier: Any) -> None:
    engine = record.connect(url)
    barrier.wait()
    record.prepare(engine)
    engine.dispose()


def test_hosts_that_find_an_empty_database_at_the_same_moment_all_find_its_tables(any_database: str) -> None:
    context = forking()
    barrier = context.Barrier(4)
    processes = [context.Process(target=_prepare, args=(any_database, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * 4
    engine = record.connect(any_database)
    bring_home(engine, BAG)
    engine.dispose()


def test_several_that_open_a_new_sqlite_file_at_once_wait_for_one_another(tmp_path: Path) -> None:
    def opens(path: Path, barrier: threading.Barrier) -> str:
        engine = record.connect(f"sqlite:///{path}")
        barrier.wait()
        try:
            with engine.connect() as connection:
                return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())
        finally:
            engine.dispose()

    for number in range(30):
        barrier = threading.Barrier(6)
        with ThreadPoolExecutor(6) as pool:
            opened = [pool.submit(opens, tmp_path / f"{number}.db", barrier) for _ in range(6)]

        assert [one.result() for one in opened] == ["wal"] * 6


def test_an_operator_goes_back_a_release_and_forward_again(site: Site) -> None:
    wrong = site.call("db", "downgrade", "0999", "--yes")
    unasked = site.call("db", "downgrade", "0001")
    back = site.call("db", "downgrade", "0001", "--yes")
    told = site.call("db", "status")
    refused = site.call("status")
    forward = site.call("db", "upgrade")

    assert (wrong.returncode, unasked.returncode) == (2, 2)
    assert lines(wrong.stderr, "can go back to ", "0001")
    assert lines(unasked.stderr, "--yes")
    assert (back.returncode, told.returncode, forward.returncode) == (0, 1, 0), back.stderr
    assert lines(back.stdout, "revision 0001")
    assert lines(refused.stderr, "run_pipeline.py db upgrade")
    assert site.call("db", "upgrade", "0001").returncode == 2
