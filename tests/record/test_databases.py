"""Every query of the record, on each of the databases; and what is odd about each of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.errors import ArchiveConflict, Fault, InvalidBag, StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.record import BagState, Leases, Phase, Record, notices, overview, rebuilt, stories, views
from pipeline.record import history as chronicle
from tests.world.stack import history

BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=7)
ODD_TEXTS = {"nul": "a \x00 b", "half a character": "a \udcff b", "four bytes": "a \U00020000 b", "Tibetan": "བོད་ཡིག"}
# Of names, as a database without regard to case, marks or width would have it, all the same.
ALIKE = ("W1a", "W1A", "W1á", "W1a\u0301", "\uff371a")


def held(engine: Engine, work_rid: str, *, owner: str = "host/1/1/x", seconds: int = 60) -> Leases:
    lane = Leases(engine, owner=owner, seconds=seconds)
    assert lane.take(work_rid, replace(BAG, work_rid=work_rid).bag_id)
    return lane


def near(moment: datetime | None) -> bool:
    return moment is not None and abs((datetime.now(UTC) - moment).total_seconds()) < 60


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_whatever_messages_and_bags_say_can_be_recorded_and_read(engine: Engine, book: Record, text: str) -> None:
    book.see(BAG)
    book.failed(BAG, "debag", InvalidBag(text, faults=[Fault("digest-differs", text, text, text)]))
    book.finished(Phase.DEBAG, BAG, {"warnings": [text], text: text}, works=("W1",))
    book.note("intake", "failed", {"message_id": "m1", "kind": "not-understood", "error": text, "body": text})
    record.set_pause(engine, paused=True, agent="a", by="b", reason=text)
    row = book.bag(BAG.bag_id)
    told = stories.story(engine, "W1")
    book.skip(BAG, reason=text, by="b")

    printable = text.replace("\x00", "\\x00").replace("\udcff", "\\udcff")
    kept = text.replace("\udcff", "\\udcff")
    assert row is not None
    assert row.error == printable
    assert told is not None
    assert [event["detail"].get("error") for event in told.events] == [None, kept, None]
    assert told.events[1]["detail"]["faults"][0]["path"] == kept
    assert overview.unreadable_messages(engine)[0]["body"] == kept
    failures = chronicle.failures(engine, since=datetime.now(UTC) - timedelta(hours=1))
    assert {one.kind: one.latest for one in failures} == {"invalid-bag": kept, "not-understood": kept}
    pause = record.pause_of(engine)
    assert pause is not None
    assert (pause.reason, near(pause.since)) == (kept, True)
    skipped = book.bag(BAG.bag_id)
    assert skipped is not None
    assert skipped.error == f"skipped by b: {printable}"


def test_a_bag_with_more_faults_than_a_server_takes_at_once_is_refused_all_the_same(
    engine: Engine, book: Record
) -> None:
    faults = [Fault("digest-differs", "W1.bag", f"data/images/{number:0200}.tif") for number in range(100_000)]
    book.see(BAG)

    book.failed(BAG, "debag", InvalidBag("all is wrong", faults=faults))

    last = history(engine, "W1")[-1]["detail"]
    assert len(last["faults"]) > 1_000
    assert len(last["faults"]) + last["faults_left_out"] == len(faults)


def test_names_that_differ_only_in_case_marks_or_width_are_different_works(engine: Engine, book: Record) -> None:
    for number, rid in enumerate(ALIKE):
        bag = Bag(rid, "bucket", f"{number}.bag.zip", etag=str(number))
        book.see(bag)
        lane = held(engine, rid, owner=f"host/1/1/{number}")
        book.finished(Phase.DEBAG, bag, {}, works=(rid,))
        book.commit_sync(bag, rid, archive_path="/a", files=1, size_bytes=number, facts={}, leases=lane)

    assert len(overview.holders(engine)) == len(ALIKE)
    assert {rid: one.bytes for rid, one in record.archived(engine).items()} == {rid: n for n, rid in enumerate(ALIKE)}
    for rid in ALIKE:
        assert [event["step"] for event in history(engine, rid)] == ["intake", "debag", "sync"]
        story = stories.story(engine, rid)
        assert story is not None
        ids = [one.row.bag.bag_id for one in story.bags]
        assert [work.work_rid for work in views.works(engine, bag_ids=ids)] == [rid]
        assert near(story.dates["sync_complete_on"])


def test_a_work_s_story_is_complete_and_its_times_are_utc(engine: Engine, book: Record) -> None:
    event_time = datetime(2026, 3, 8, 2, 30, 1, 5, tzinfo=UTC)  # an hour that New York does not have
    bag = replace(BAG, event_time=event_time)
    book.see(bag)
    held(engine, "W1").renew("W1", step="debag", done_bytes=3, total_bytes=7)
    book.finished(Phase.DEBAG, bag, {}, works=("W1", "W2"))
    book.failed(bag, "sync", StorageUnreachable("reset"), retry_seconds=600)

    told, other = stories.story(engine, "W1"), stories.story(engine, "W2")

    assert told is not None
    assert near(told.now)
    assert told.dates["restore_complete_on"] == event_time
    assert near(told.dates["debag_complete_on"])
    assert told.dates["sync_complete_on"] is None
    (known,) = told.bags
    assert (known.row.works, known.row.failures, known.copies) == (("W1", "W2"), 1, ())
    assert known.retry_on is not None
    assert 540 < (known.retry_on - told.now).total_seconds() <= 600
    assert known.holder is not None
    assert (known.holder.step, known.holder.done_bytes) == ("debag", 3)
    assert 50 < (known.holder.until - told.now).total_seconds() <= 60
    assert other is not None
    assert [one.row.bag.bag_id for one in other.bags] == [bag.bag_id]
    assert [event["outcome"] for event in other.events] == ["seen", "done", "failed"]
    assert stories.story(engine, "W3") is None


def test_the_overview_knows_who_works_what_is_at_risk_and_what_waits_longest(engine: Engine, book: Record) -> None:
    soon = datetime.now(UTC) + timedelta(hours=5)
    late, later = (replace(BAG, etag=str(h), restore_expires_on=soon + timedelta(hours=h)) for h in (0, 100))
    for bag in (later, late):
        book.see(bag)
    book.failed(later, "download", StorageUnreachable("reset"))
    lane = held(engine, "W1")
    held(engine, "W9", owner="gone/1/1/x", seconds=-1)

    (risk,) = overview.at_risk(engine, within_hours=48)
    (worker,) = overview.holders(engine)

    assert (risk.bag_id, risk.expires_on) == (late.bag_id, soon)
    assert 4.9 < risk.hours_left <= 5
    assert (worker.owner, worker.work_rid) == ("host/1/1", "W1")
    assert 0 <= worker.step_seconds < 60
    assert near(overview.bags_now(engine).oldest_unfinished)
    assert overview.failed_with(engine, "storage-unreachable") == [later.bag_id]
    assert overview.held(engine) == (1, 1)
    assert overview.bags_now(engine).counts == {"unfinished": 1, "failed": 1}
    assert lane.before_mine("W1", host="host") == []
    lane.release("W1")
    assert overview.holders(engine) == []
    assert lane.clear_expired() == 1


def test_lanes_of_a_host_are_told_who_reserved_disk_before_them(engine: Engine, book: Record) -> None:
    first, second = BAG, replace(BAG, work_rid="W2", key="a/W2.bag.zip")
    for number, bag in enumerate((first, second)):
        book.see(bag)
        assert Leases(engine, owner=f"ho_t/1/{number}/x", seconds=60).take(bag.work_rid, bag.bag_id)

    later = Leases(engine, owner="ho_t/1/1/x", seconds=60)

    assert later.before_mine("W2", host="ho_t") == [("W1", first.bag_id, 7)]
    assert later.before_mine("W2", host="host") == []  # in LIKE, _ would be any letter


def test_events_are_counted_once_each_and_the_report_has_the_same(engine: Engine, book: Record) -> None:
    book.see(BAG)
    book.finished(Phase.DOWNLOAD, BAG, {"bytes": 1 << 40, "seconds": 2.5})
    book.finished(Phase.DOWNLOAD, BAG, {"bytes": 1, "seconds": 5})
    book.commit_sync(BAG, "W1", archive_path="/a", files=1, size_bytes=1, facts={"bytes": 9}, leases=held(engine, "W1"))
    book.failed(BAG, "sync", ArchiveConflict("other content"))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET at = '2026-01-02 03:04:05.678'")
    then, later = (datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC) for second in (5, 6))
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

    told = [(one.step, one.outcome, one.kind, one.count, one.bytes) for one in chronicle.endings(engine)]

    assert sorted(told) == [
        ("download", "done", "", 2, (1 << 40) + 1),
        ("intake", "seen", "", 1, 0),
        ("sync", "done", "", 1, 9),
        ("sync", "failed", "archive-conflict", 1, 0),
    ]
    assert chronicle.taking(engine, "download", [1, 2.5, 5, 9]) == [0, 1, 1, 0]
    assert chronicle.quantiles(engine, "download", [0, 0.5, 1], since=then) == (
        chronicle.Ending("download", "done", "", 2, (1 << 40) + 1, 7.5),
        [2.5, 5, 5],
    )
    assert chronicle.home(engine, since=then) == (1, 9)
    assert chronicle.home_over_time(engine, [then, moment, later]) == [(9, 1), (0, 0)]
    assert [(one.kind, one.count, one.works) for one in chronicle.failures(engine, since=then)] == [
        ("archive-conflict", 1, 1)
    ]
    assert chronicle.first(engine, since=then) == moment
    story = chronicle.happenings(engine, {"W1"}, since=then)
    assert [(one.step, one.outcome, one.at) for one in story][::4] == [
        ("intake", "seen", moment),
        ("sync", "failed", moment),
    ]
    assert chronicle.first(engine, since=later) is None
    assert chronicle.happenings(engine, {"W1"}, since=later) == []
    assert chronicle.failures(engine, since=later) == []
    assert chronicle.home(engine, since=later) == (0, 0)
    assert chronicle.quantiles(engine, "download", [0.5], since=later)[1] == []


def test_a_channel_is_told_of_troubles_once_they_are_settled(engine: Engine, book: Record) -> None:
    known = notices.told(engine, "mail", today="2026-01-01")
    book.see(BAG)
    book.failed(BAG, "sync", ArchiveConflict("other content"))
    assert notices.troubles(engine, after=known.event_id) == []  # younger ones may still come before it
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET at = '2026-01-02 03:04:05'")

    (trouble,) = notices.troubles(engine, after=known.event_id)
    assert (trouble.work_rid, trouble.kind, trouble.state) == ("W1", "archive-conflict", BagState.REFUSED)
    assert notices.claim(engine, "mail", known, interval_seconds=900)
    assert not notices.claim(engine, "mail", known, interval_seconds=900)
    notices.sent(engine, "mail", notices.Told(trouble.event_id, "2026-01-02", ("b1", "b2")))

    now = notices.told(engine, "mail", today="2026-01-03")
    assert now == notices.Told(trouble.event_id, "2026-01-02", ("b1", "b2"))
    assert notices.troubles(engine, after=now.event_id) == []


def test_a_dropped_zip_is_found_by_its_path_to_the_letter(engine: Engine, book: Record) -> None:
    dropped = Bag("W1", "", "/in/W1 བོད \U00020000.zip", etag="e", version_id="stamp", size_bytes=1)
    book.see(dropped)

    found = views.local_zips(engine, ["W1", "W2"])

    assert list(found) == [(dropped.key, "stamp")]
    assert views.local_zips(engine, ["w1"]) == {}


def test_a_row_made_of_the_archive_gives_way_to_the_bag_in_which_the_work_comes_home(
    engine: Engine, book: Record
) -> None:
    lane, at = held(engine, "W1"), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    row = {"archive_path": "/a", "files": 1, "bytes": 2, "facts": {"proof": {"name": "n", "sha512": "s"}}}

    written = [rebuilt.put(engine, lane, "W1", row, at=at) for _ in range(2)]
    made = record.archived(engine)["W1"]
    known = book.bags_of("W1")
    book.see(BAG)
    book.commit_sync(BAG, "W1", archive_path="/a", files=1, size_bytes=2, facts={}, leases=lane)

    assert written == [True, False]
    assert (made.synced_on, made.proof, made.is_home) == (at, ("n", "s"), True)
    assert [(one.bag.bag_id, one.state) for one in known] == [(made.bag_id, BagState.DONE)]
    assert record.archived(engine)["W1"].bag_id == BAG.bag_id
    assert [one.bag.bag_id for one in book.bags_of("W1")] == [BAG.bag_id]
    assert [event["outcome"] for event in history(engine, "W1")] == ["rebuilt", "seen", "done"]


def test_pausing_and_going_on_is_the_last_word_of_whoever_said_it(engine: Engine) -> None:
    assert record.pause_of(engine) is None
    for paused in (True, False, True):
        record.set_pause(engine, paused=paused, agent="host/1/pause", by="ann", reason="archive moves")
        assert (record.pause_of(engine) is not None) is paused


def test_servers_of_another_time_zone_and_of_lax_settings_are_told_ours(any_database: str) -> None:
    if any_database.startswith("sqlite"):
        pytest.skip("SQLite has no settings of its own")
    there = sqlalchemy.create_engine(any_database)
    zone, back = {
        "postgresql": ("ALTER ROLE tests SET timezone = 'America/New_York'", "ALTER ROLE tests RESET timezone"),
        "mariadb": (
            "SET GLOBAL time_zone = '-05:00', sql_mode = ''",
            "SET GLOBAL time_zone = DEFAULT, sql_mode = DEFAULT",
        ),
    }[there.dialect.name]
    with there.begin() as connection:
        connection.exec_driver_sql(zone)
    try:
        engine = record.connect(any_database)
        record.prepare(engine)
        book = Record(engine, agent="host/1/1", host="host")
        book.see(replace(BAG, event_time=datetime(2026, 3, 8, 2, 30, tzinfo=UTC)))
        lane = held(engine, "W1")
        told = stories.story(engine, "W1")

        assert told is not None
        assert near(told.now)
        assert told.dates["restore_complete_on"] == datetime(2026, 3, 8, 2, 30, tzinfo=UTC)
        assert near(told.bags[0].seen_on)
        assert 0 < lane.remaining_seconds("W1") <= 61
        # What is too long is refused, never cut off.
        with pytest.raises(sqlalchemy.exc.DataError):
            book.see(replace(BAG, etag="e" * 300))
        engine.dispose()
    finally:
        with there.begin() as connection:
            connection.exec_driver_sql(back)
        there.dispose()
