"""What is new, what was begun and what failed take turns: what fails keeps nothing waiting, and ends."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from pipeline import intake, record
from pipeline.foundation.errors import NotRestored, StorageUnreachable
from pipeline.foundation.work import Bag, staging_key
from pipeline.lanes import lane as lane_module
from pipeline.lanes.bring_home import verdict_of
from pipeline.lanes.queue_source import MessageParcel
from pipeline.record import Record, tables, turns
from pipeline.settings import Source
from pipeline.tasks.context import Site as OpenSite
from tests.lanes.test_settling import script
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines, wait_until

BAG = Bag("W1", "bucket", "a/W1.བ +.bag.zip", etag="e1", version_id="v1", event_time=datetime(2026, 4, 6, tzinfo=UTC))
AT_ONCE = {"PIPELINE_QUEUE_BACKOFF_SECONDS": "0", "PIPELINE_QUEUE_BACKOFF_LIMIT_SECONDS": "0"}


def announce_missing(site: Site, count: int) -> None:
    """One message of many bags that S3 has, and that no script brings home."""
    records = [site.event(staging_key(f"W{number:04}"), f"{number:032x}", 7) for number in range(count)]
    site.send({"Records": records})


def test_thousands_of_bags_of_one_message_do_not_keep_the_next_one_waiting(site: Site, tmp_path: Path) -> None:
    announce_missing(site, 400)
    waiting = make_bag_zip(tmp_path, "W9999")
    site.announce(waiting)

    lane = site.start("run", "--lanes", "1", **AT_ONCE)
    try:
        over = time.monotonic() + 120
        while not site.archived("W9999") and time.monotonic() < over:
            time.sleep(0.2)
        tried = sum(1 for row in site.rows("bags") if row["state"] == "refused")
    finally:
        lane.kill()
        lane.communicate()

    assert site.archived("W9999") == SMALL_WORK
    assert tried < 100
    assert len(site.rows("bags")) == 401  # they are known all the same, and have their turns


def test_four_thousand_bags_that_fail_for_passing_reasons_keep_nothing_new_waiting(site: Site, tmp_path: Path) -> None:
    site.works()  # makes the tables
    engine = record.connect(site.database_url)
    book = Record(engine, agent="host/1/1", host="")
    first = Bag("W1", "", f"{tmp_path}/W1.zip", version_id="0", size_bytes=1 << 50)  # there is no room for it
    book.see(first)
    book.failed(first, "download", StorageUnreachable("reset"), retry_seconds=0)
    with engine.begin() as connection:
        columns = [column.name for column in tables.bags.columns]
        changed = {"bag_id": "printf('%012x', n)", "work_rid": "'W' || n", "version_id": "n"}
        chosen = ", ".join(changed.get(name, name) for name in columns)
        connection.exec_driver_sql(
            f"WITH RECURSIVE many(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM many WHERE n < 4000) "
            f"INSERT INTO bags ({', '.join(columns)}) SELECT {chosen} FROM bags, many"
        )
    engine.dispose()
    site.announce(make_bag_zip(tmp_path, "W9999"))

    lane = site.start("run", "--lanes", "1", **AT_ONCE)
    try:
        wait_until(lambda: site.archived("W9999") == SMALL_WORK, seconds=120)
    finally:
        lane.kill()
        lane.communicate()

    assert len([row for row in site.rows("bags") if row["state"] == "failed"]) == 4000
    assert len(failures(site)) < 20


def test_what_fails_again_and_again_leaves_every_third_turn_to_what_is_new(site: Site, tmp_path: Path) -> None:
    site.announce(*(make_bag_zip(tmp_path, f"W{number}") for number in range(5)))
    fussy = script(tmp_path, f'case "$*" in *W9*) exec bash {Path.cwd()}/bin/syncOneWork.sh "$@";; esac\nexit 12\n')
    lane = site.start("run", "--watch", "--lanes", "1", PIPELINE_SYNC_SCRIPT=fussy, **AT_ONCE)
    try:
        over = time.monotonic() + 120
        while len(failures(site)) < 8 and time.monotonic() < over:
            time.sleep(0.2)
        before = len(failures(site))
        site.announce(make_bag_zip(tmp_path, "W9"))
        while not site.archived("W9") and time.monotonic() < over:
            time.sleep(0.2)
        after = len(failures(site))
    finally:
        lane.kill()
        lane.communicate()

    assert site.archived("W9") == SMALL_WORK
    assert before >= 8
    assert after - before < 30


def test_a_run_tries_what_failed_once_more_and_ends_also_without_a_delay(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2"))
    fails = script(tmp_path, "exit 12\n")
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=fails, **AT_ONCE)
    site.sqs.purge_queue(QueueUrl=site.queue_url)
    before = len(failures(site))

    again = site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=fails, **AT_ONCE)

    assert again.returncode == 1
    assert sorted(row["work_rid"] for row in failures(site)[before:]) == ["W1", "W2"]


def failures(site: Site) -> list[Any]:
    return [row for row in site.rows("events") if row["outcome"] == "failed"]


def test_tries_in_vain_are_followed_by_pauses_that_grow_and_end_with_the_first_that_is_not() -> None:
    look, pauses = lane_module._Look(), []
    for in_vain in (True, True, True, True, True, True, False, True):
        look.next(in_vain=in_vain)
        pauses.append(look.pause)

    assert pauses == [1, 2, 4, 8, 10, 10, 0, 1]


def test_what_failed_and_what_was_begun_are_asked_for_apart(engine: Engine, book: Record) -> None:
    begun = replace(BAG, work_rid="W2", etag="e2")
    book.see(BAG)
    book.failed(BAG, "download", StorageUnreachable("reset"))
    book.see(begun)

    def found(*, failed: bool | None) -> set[str]:
        return set(turns.unfinished(engine, host="host", failed=failed))

    assert (found(failed=True), found(failed=False)) == ({BAG.bag_id}, {begun.bag_id})
    assert found(failed=None) == {BAG.bag_id, begun.bag_id}


def test_how_long_a_bag_has_failed_counts_from_its_first_failure_since_a_person_asked(
    engine: Engine, book: Record
) -> None:
    def aged(days: int) -> float:
        with engine.begin() as connection:
            for row in connection.exec_driver_sql("SELECT id, at FROM events ORDER BY id").all():
                moment = datetime.fromisoformat(str(row.at))
                moment = moment.replace(day=1, month=1, year=moment.year - 1) if days else moment
                connection.exec_driver_sql(f"UPDATE events SET at = '{moment:%F %T}' WHERE id = {row.id}")
        return turns.failing_seconds(engine, BAG)

    book.see(BAG)
    seen = aged(1)
    book.failed(BAG, "download", StorageUnreachable("reset"))
    first = aged(0)
    long = aged(1)
    book.failed(BAG, "download", StorageUnreachable("reset"))
    still = aged(0)
    book.failed(BAG, "download", NotRestored("frozen"))
    book.failed(BAG, "download", StorageUnreachable("reset"))
    thawed = aged(0)
    aged(1)
    book.reopen(BAG, reason="asked")
    book.failed(BAG, "download", StorageUnreachable("reset"))

    assert seen == 0.0
    assert first < 3600
    assert min(long, still) > 24 * 3600
    assert thawed < 3600
    assert aged(0) < 3600


def test_what_failed_for_too_long_is_given_up_by_name_with_a_dead_letter_until_a_person_asks(
    site: Site, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    impatient = {**AT_ONCE, "PIPELINE_QUEUE_RETRY_DAYS": "0.00001"}
    site.call(
        "run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=script(tmp_path, "exit 12\n"), PIPELINE_QUEUE_BACKOFF_SECONDS="1"
    )
    site.sqs.purge_queue(QueueUrl=site.queue_url)  # the record alone brings it up
    time.sleep(2)

    given_up = site.call("run", "--lanes", "1", **impatient)
    again = site.call("run", "--lanes", "1", **impatient)
    (dead,) = site.dead_letters()
    told = site.works()["W1"]
    resent = site.call("dead-letters", "resend", "W1")
    home = site.call("run", "--lanes", "1")

    assert given_up.returncode == 1
    assert lines(given_up.stderr, "W1: it has failed for", "tried no more", "run_pipeline.py retry W1")
    assert again.returncode == 0
    assert (told.stage, told.error_kind) == ("refused", "tried-too-long")
    assert dead["MessageAttributes"]["ErrorKind"]["StringValue"] == "tried-too-long"
    assert (resent.returncode, home.returncode) == (0, 0), home.stderr
    assert site.archived("W1") == SMALL_WORK
    assert (site.depth(), site.depth(site.dead_url)) == (0, 0)


@pytest.mark.parametrize(("days", "dead"), [(9, 0), (11, 1)])
def test_a_message_of_which_no_bag_can_be_known_is_a_dead_letter_in_the_end(
    site: Site, here: OpenSite, days: int, dead: int
) -> None:
    """It tells no ETag, and S3, which would know it, is away: the record has no bag that could be given up."""
    source = Source("test", region="us-east-1", bucket=site.bucket, queue=site.queue, endpoint_url=site.moto_url)
    here._sqs = {("us-east-1", "", site.moto_url, False): site.sqs}
    queue = intake.find_queue(site.sqs, source="test", queue=site.queue)
    site.send({"Records": [site.event(staging_key("W1"), "", 7)]})
    message = intake.receive(site.sqs, queue, wait_seconds=1, visibility_seconds=30)
    assert message is not None
    aged = replace(message, sent_at=message.sent_at - days * 86_400)

    away = StorageUnreachable("S3 is away", work_rid="W1")
    MessageParcel(here, source, aged).settle([verdict_of(here, away)])

    assert (site.depth(), site.depth(site.dead_url)) == (1 - dead, dead)
    assert [one["MessageAttributes"]["ErrorKind"]["StringValue"] for one in site.dead_letters()] == [
        "tried-too-long"
    ] * dead


@pytest.mark.parametrize(("receives", "first"), [(1, "W00"), (2, "W10"), (3, "W20"), (4, "W05")])
def test_at_each_delivery_other_bags_of_a_message_come_first(here: OpenSite, receives: int, first: str) -> None:
    """Of those that tell no ETag the record does not know which had their turn."""
    keys = [{"bucket": {"name": "b"}, "object": {"key": f"W{number:02}.bag.zip"}} for number in range(25)]
    body = json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": key} for key in keys]})
    message = intake.Message(intake.Queue("test", "url", "", 5), "m", "r", body, receives, 0.0)
    here._sqs = {("", "", "", False): cast("Any", None)}

    bags = MessageParcel(here, Source("test"), message).open()

    assert bags[0].work_rid == first
    assert len(bags) == 25


def test_a_bag_is_announced_again_as_it_was() -> None:
    (bag,) = intake.parse(intake.body_of(BAG), bucket="bucket").bags

    assert replace(bag, only_created=False) == BAG
    assert json.loads(intake.body_of(BAG))["Records"][0]["eventSource"] == "bag-pipeline"


@pytest.mark.parametrize("days", ["0", "-1", "inf", "nan"])
def test_days_that_are_none_are_a_wrong_setting(site: Site, days: str) -> None:
    ended = site.call("run", PIPELINE_QUEUE_RETRY_DAYS=days)

    assert ended.returncode == 2
    assert lines(ended.stderr, "[queue] retry_days")


def test_works_whose_copy_ends_soon_come_first_also_those_whose_message_waits_behind_others(
    site: Site, tmp_path: Path
) -> None:
    soon, sooner = datetime.now(UTC) + timedelta(hours=30), datetime.now(UTC) + timedelta(hours=5)
    for rid in ("W1", "W2", "W3", "W4"):
        site.announce(make_bag_zip(tmp_path, rid))
    engine = record.connect(site.database_url)
    for rid, ends_on in (("W3", soon), ("W4", sooner)):  # as whoever asked for them has found them restored
        key = staging_key(rid)
        etag = site.s3.head_object(Bucket=site.bucket, Key=key)["ETag"].strip('"')
        bag = Bag(rid, site.bucket, key, etag=etag, source="test", restore_expires_on=ends_on)
        Record(engine, agent="host/1/1", host="").see(bag)
    engine.dispose()

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 0, ended.stderr
    assert [row["work_rid"] for row in site.rows("syncs")][:2] == ["W4", "W3"]
    assert site.depth() == 0
