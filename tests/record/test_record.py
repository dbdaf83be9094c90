"""The record: what is known of a bag, what happened to a work, and who works on it."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.errors import Fault, InvalidBag, LeaseLost, NotRestored, SettingsError, StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.operations import show
from pipeline.record import BagState, Leases, Phase, Record, tables, turns, views
from pipeline.record.engine import writing
from tests.world.servers import forking
from tests.world.stack import history

BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=7, event_time=datetime(2026, 4, 6, 1, 2, 3, tzinfo=UTC))


def leases(engine: Engine, owner: str = "me", seconds: int = 60) -> Leases:
    return Leases(engine, owner=owner, seconds=seconds)


def synced(book: Record, owner: Leases, work_rid: str = "W1") -> None:
    book.commit_sync(BAG, work_rid, archive_path="/a", files=3, size_bytes=9, facts={"x": 1}, leases=owner)


def progress(engine: Engine, work_rid: str = "W1") -> sqlalchemy.Row[tuple[object, ...]]:
    with engine.connect() as connection:
        return connection.execute(
            sqlalchemy.select(tables.progress).where(tables.progress.c.object_name == work_rid)
        ).one()


def test_a_restore_is_dated_when_s3_tells_of_it_and_not_when_the_frozen_object_was_made(
    engine: Engine, book: Record
) -> None:
    created = replace(BAG, only_created=True)
    book.see(created)
    book.failed(created, "download", NotRestored("still frozen"))
    frozen = stages_of(engine)
    restored = replace(BAG, event_time=datetime(2026, 5, 1, tzinfo=UTC), restore_expires_on=None)
    for _ in range(2):  # S3 delivers at least once
        book.see(restored)
    book.finished(Phase.DOWNLOAD, BAG, {"bytes": 7})

    assert frozen == []
    assert stages_of(engine) == ["restore_complete_on", "download_complete_on"]
    assert progress(engine).restore_complete_on == datetime(2026, 5, 1)  # noqa: DTZ001  # as above


@pytest.mark.parametrize("bag", [replace(BAG, only_created=True), replace(BAG, event_time=None)])
def test_what_never_was_frozen_is_dated_as_restored_when_it_is_here(engine: Engine, book: Record, bag: Bag) -> None:
    book.see(bag)
    before = stages_of(engine)
    book.finished(Phase.DOWNLOAD, bag, {"bytes": 7})

    assert before == []
    assert stages_of(engine) == ["restore_complete_on", "download_complete_on"]


def stages_of(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        told = connection.scalars(sqlalchemy.select(tables.progress.c.user_data)).all()
    return [entry["user_data"]["stage"] for entries in told for entry in entries]


def test_the_migrations_make_exactly_the_tables_that_the_program_reads(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_the_table_of_bdrc_keeps_its_name_and_columns(engine: Engine) -> None:
    columns = [column["name"] for column in sqlalchemy.inspect(engine).get_columns("glacier_sync_progress")]

    assert columns == [
        "id",
        "object_name",
        "restore_requested_on",
        "restore_complete_on",
        "download_complete_on",
        "debag_complete_on",
        "sync_complete_on",
        "user_data",
        "create_time",
        "update_time",
    ]


def test_every_stage_is_dated_and_appended_to_user_data(engine: Engine, book: Record) -> None:
    owner = leases(engine)
    owner.take("W1", BAG.bag_id)
    book.see(BAG)
    book.finished(Phase.DOWNLOAD, BAG, {"bytes": 7})
    book.finished(Phase.DEBAG, BAG, {"files": 3}, works=("W1",))
    synced(book, owner)

    row = progress(engine)

    assert row.restore_complete_on == datetime(2026, 4, 6, 1, 2, 3)  # noqa: DTZ001  # the table holds UTC without a zone
    assert row.download_complete_on <= row.debag_complete_on <= row.sync_complete_on
    assert [entry["user_data"]["stage"] for entry in row.user_data] == [
        "restore_complete_on",
        "download_complete_on",
        "debag_complete_on",
        "sync_complete_on",
    ]
    for entry in row.user_data:
        assert datetime.fromisoformat(entry["time_stamp"]).tzinfo is not None


def test_a_bag_is_seen_once_however_often_it_is_delivered(engine: Engine, book: Record) -> None:
    book.see(BAG)
    book.see(BAG)

    assert [event["outcome"] for event in history(engine, "W1")] == ["seen"]
    assert len(book.bags_of("W1")) == 1


def test_a_bag_that_was_put_again_with_the_same_bytes_is_known_by_its_new_version(book: Record) -> None:
    book.see(Bag("W1", "bucket", "key", etag="e", version_id="first"))
    book.see(Bag("W1", "bucket", "key", etag="e"))
    again = book.see(Bag("W1", "bucket", "key", etag="e", version_id="second"))

    assert again.bag.version_id == "second"


def test_an_older_event_that_comes_late_takes_back_neither_the_version_nor_the_restore(book: Record) -> None:
    first = replace(BAG, version_id="first", restore_expires_on=datetime(2026, 4, 12, tzinfo=UTC))
    second = replace(
        BAG,
        version_id="second",
        event_time=datetime(2026, 5, 1, tzinfo=UTC),
        restore_expires_on=datetime(2026, 5, 7, tzinfo=UTC),
    )
    for event in (first, second, first):
        known = book.see(event)

    assert (known.bag.version_id, known.bag.restore_expires_on) == ("second", second.restore_expires_on)


def test_a_zip_of_two_works_is_home_only_when_both_are(engine: Engine, book: Record) -> None:
    owner = leases(engine)
    owner.take("W1", BAG.bag_id)
    owner.take("W2", BAG.bag_id)
    book.see(BAG)
    assert not book.all_synced(BAG.bag_id)
    book.finished(Phase.DEBAG, BAG, {}, works=("W1", "W2"))

    synced(book, owner, "W1")
    assert not book.all_synced(BAG.bag_id)
    told = [(work.work_rid, work.stage, work.archive_path) for work in views.works(engine)]
    assert told == [("W1", "done", "/a"), ("W2", "sync", "")]
    synced(book, owner, "W2")

    assert book.all_synced(BAG.bag_id)
    assert progress(engine, "W2").sync_complete_on is not None


def test_a_sync_row_is_written_once_even_when_committed_twice(engine: Engine, book: Record) -> None:
    owner = leases(engine)
    owner.take("W1", BAG.bag_id)
    book.see(BAG)

    synced(book, owner)
    synced(book, owner)

    assert len(views.works(engine)) == 1


WRITTEN: dict[str, Callable[[Record, Leases], None]] = {
    "a step that is done": lambda book, _: book.finished(Phase.DEBAG, BAG, {"files": 3}, works=("W1",)),
    "a work that is home": synced,
    "a work of another name in the zip": lambda book, mine: synced(book, mine, "W2"),
    "a bag that is done": lambda book, _: book.done(BAG),
    "a failure": lambda book, _: book.failed(BAG, "sync", StorageUnreachable("reset")),
    "a refusal": lambda book, _: book.failed(BAG, "debag", InvalidBag("bad", faults=[])),
    "a wait for a restore": lambda book, _: book.failed(BAG, "download", NotRestored("frozen")),
    "a note": lambda book, _: book.note("sync", "stopping", {}, work_rid="W1", bag_id=BAG.bag_id, held=True),
    "a bag that is asked for again": lambda book, _: book.reopen(BAG, reason="sent again", undo_syncs=True),
    "a bag that is left out": lambda book, _: book.skip(BAG, reason="no", by="me"),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_a_lane_that_lost_its_lease_writes_nothing_about_the_work(engine: Engine, what: str) -> None:
    mine, theirs = leases(engine, "me", seconds=0), leases(engine, "they")
    book = Record(engine, agent="host/1/1", host="host", leases=mine)
    mine.take("W1", BAG.bag_id)
    mine.take("W2", BAG.bag_id)
    book.see(BAG)
    assert theirs.take("W1", BAG.bag_id)
    before = everything(engine)

    with pytest.raises(LeaseLost):
        WRITTEN[what](book, mine)

    assert everything(engine) == before


def test_a_work_in_a_zip_is_home_only_by_the_hand_of_who_holds_that_work_too(engine: Engine, book: Record) -> None:
    mine = leases(engine, "me")
    mine.take("W1", BAG.bag_id)
    book.see(BAG)
    leases(engine, "they").take("W2", "another bag")

    with pytest.raises(LeaseLost):
        synced(book, mine, "W2")

    assert book.synced(BAG.bag_id) == frozenset()


def everything(engine: Engine) -> list[object]:
    """All that stands in the tables that tell of works."""
    with engine.connect() as connection:
        return [
            connection.execute(table.select()).all()
            for table in (tables.bags, tables.syncs, tables.events, tables.progress)
        ]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (InvalidBag("bad", faults=[Fault("digest-differs", "W1.bag", "data/1")]), BagState.REFUSED),
        (StorageUnreachable("reset"), BagState.FAILED),
        (NotRestored("frozen"), BagState.NOT_RESTORED),
    ],
)
def test_a_failure_has_its_state_its_reason_and_its_event(
    engine: Engine, book: Record, error: InvalidBag, state: BagState
) -> None:
    book.see(BAG)
    book.failed(BAG, "debag", error)

    row = book.bag(BAG.bag_id)
    assert row is not None
    assert (row.state, row.error_kind, row.failures) == (state, error.kind, 1)
    last = history(engine, "W1")[-1]
    assert (last["outcome"], last["detail"]["error"]) == ("failed", str(error))
    if state is BagState.REFUSED:
        assert last["detail"]["faults"] == [{"kind": "digest-differs", "bag": "W1.bag", "path": "data/1", "detail": ""}]


def test_a_bag_that_waited_for_its_restore_is_unfinished_again_when_the_next_event_comes(book: Record) -> None:
    book.see(BAG)
    book.failed(BAG, "download", NotRestored("frozen"))

    assert book.see(BAG).state is BagState.UNFINISHED


def test_unfinished_bags_are_taken_up_when_nobody_holds_them_and_their_time_has_come(
    engine: Engine, book: Record
) -> None:
    book.see(BAG)
    assert turns.unfinished(engine, host="host") == [BAG.bag_id]

    owner = leases(engine)
    owner.take("W1", BAG.bag_id)
    assert turns.unfinished(engine, host="host") == []
    owner.release("W1")
    book.failed(BAG, "download", StorageUnreachable("reset"), retry_seconds=60)
    assert turns.unfinished(engine, host="host") == []
    book.failed(BAG, "download", StorageUnreachable("reset"), retry_seconds=-1)
    assert turns.unfinished(engine, host="host") == [BAG.bag_id]
    book.done(BAG)
    assert turns.unfinished(engine, host="host") == []


def test_a_lease_is_held_by_one_and_taken_over_only_when_it_has_expired(engine: Engine) -> None:
    mine, theirs = leases(engine, "me"), leases(engine, "they")

    assert mine.take("W1", "b")
    assert mine.take("W1", "b")
    assert not theirs.take("W1", "b")
    assert not theirs.renew("W1")
    assert 0 < mine.remaining_seconds("W1") <= 61
    mine.release("W1")
    assert theirs.take("W1", "b")
    assert not mine.renew("W1")
    mine.release("W1")  # not ours any more: no harm
    assert theirs.renew("W1", step="debag", done_bytes=1, total_bytes=2)


def test_an_expired_lease_is_taken_over(engine: Engine) -> None:
    mine, theirs = leases(engine, "me", seconds=-1), leases(engine, "they")
    mine.take("W1", "b")

    assert mine.remaining_seconds("W1") == 0
    assert theirs.take("W1", "b")


def _take(url: str, owner: str, barrier: object, won: object) -> None:
    engine = record.connect(url)
    barrier.wait()  # type: ignore[attr-defined]  # multiprocessing's proxies have no public types
    if Leases(engine, owner=owner, seconds=60).take("W1", "b"):
        won.put(owner)  # type: ignore[attr-defined]  # as above
    engine.dispose()


def test_of_many_processes_exactly_one_takes_the_lease(any_tables: str) -> None:
    context = forking()
    barrier, won = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_take, args=(any_tables, f"lane-{n}", barrier, won)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    winner = won.get(timeout=30)
    assert winner.startswith("lane-")
    assert won.empty()
    won.close()
    won.join_thread()


@pytest.mark.parametrize("url", ["nonsense", "oracle://x", "postgresql+nothing://x/y"])
def test_a_wrong_url_is_a_named_setting(url: str) -> None:
    with pytest.raises(SettingsError, match=r"\[database\] url"):
        record.connect(url)


def test_tables_of_another_release_are_named_with_the_command_to_upgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")

    with pytest.raises(record.SchemaOutdated, match=r"run_pipeline\.py db upgrade"):
        record.prepare(engine)


def test_the_table_of_bdrc_is_taken_over_with_its_rows(any_database: str) -> None:
    engine = record.connect(any_database)
    with engine.begin() as connection:
        tables.progress.create(connection)
        connection.exec_driver_sql(
            "INSERT INTO glacier_sync_progress (object_name, create_time, update_time)"
            " VALUES ('W1', '2020-01-01', '2020-01-01')"
        )

    record.prepare(engine)
    Record(engine, agent="a", host="h").see(BAG)

    row = progress(engine)
    assert row.id == 1
    assert row.restore_complete_on is not None
    engine.dispose()


def _lease_in_another_time(url: str, hours: int, won: object) -> None:
    engine = record.connect(url)
    theirs = Leases(engine, owner="they", seconds=60)
    won.put((hours, theirs.take("W1", "b"), theirs.remaining_seconds("W1")))  # type: ignore[attr-defined]  # as above
    engine.dispose()


@pytest.mark.parametrize("hours", [-48, 48])
def test_hosts_whose_clocks_differ_by_days_agree_on_a_lease(
    any_tables: str, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any_tables.startswith("sqlite"):
        pytest.skip("SQLite is on one host, whose clock is everybody's")
    faketime = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not faketime:
        pytest.skip("libfaketime is not installed; .ci/run installs it")
    engine = record.connect(any_tables)
    assert leases(engine).take("W1", "b")
    engine.dispose()
    context = multiprocessing.get_context("spawn")
    won = context.Queue()
    monkeypatch.setenv("LD_PRELOAD", str(faketime[0]))
    monkeypatch.setenv("FAKETIME", f"{hours:+d}h")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    process = context.Process(target=_lease_in_another_time, args=(any_tables, hours, won))
    process.start()
    told, taken, remaining = won.get(timeout=60)
    process.join(60)
    won.close()
    won.join_thread()

    assert (told, taken) == (hours, False)
    assert 0 < remaining <= 61


def test_what_a_bag_says_is_recorded_however_much_it_is(engine: Engine, book: Record) -> None:
    """A database takes no statement of any size (MariaDB: 16 MiB), and would then count as out of reach, for ever."""
    book.see(BAG)
    faults = [
        Fault("file-unlisted", "W1.bag", f"data/{number:06}{'ཀ' * 80}", "in no manifest") for number in range(32_000)
    ]
    book.failed(BAG, "debag", InvalidBag("no", faults=faults))
    warnings = [fault.as_dict() for fault in faults]
    book.finished(Phase.DEBAG, BAG, {"files": 3, "warnings": warnings}, works=("W1",))

    failure = next(event for event in history(engine, "W1") if event["outcome"] == "failed")["detail"]
    assert failure["faults"][0] == faults[0].as_dict()
    assert len(failure["faults"]) + failure["faults_left_out"] == len(faults)
    assert f"and {len(faults) - 20:,} more faults" in show.event_line({**history(engine, "W1")[1], "at": ""})
    told = progress(engine).user_data
    assert (len(told), told[-1]["user_data"]["files"]) == (2, 3)
    assert len(json.dumps(told)) < 64 << 10


def test_who_reads_does_not_wait_for_who_writes(engine: Engine, book: Record) -> None:
    book.see(BAG)
    with writing(engine) as connection:
        connection.execute(tables.bags.update().values(failures=5))
        row = book.bag(BAG.bag_id)  # on SQLite this process would wait for itself, and give up

    assert row is not None
    assert row.failures == 0
