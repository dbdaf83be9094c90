"""Dead letters that SQS moves by itself: told when they become more, once, and not again by what lanes moved."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.errors import StorageUnreachable
from pipeline.foundation.work import staging_key
from pipeline.operations import notify as notices_told
from pipeline.operations.status import Depths, Standing
from pipeline.record import Record, notices
from pipeline.record.notices import Told
from pipeline.tasks.context import Site as OpenSite
from tests.world import servers
from tests.world.bags import make_bag_zip
from tests.world.receivers import Mailbox
from tests.world.stack import Site, lines


def poison(site: Site, count: int = 1) -> None:
    """What SQS moves there looks like this: a message of which the record knows nothing."""
    for number in range(count):
        site.sqs.send_message(QueueUrl=site.dead_url, MessageBody=f"delivered too often {number}")


def let_time_pass(site: Site) -> None:
    """All that happened is long ago."""
    engine = record.connect(site.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET at = '2026-01-01 00:00:00.000000'")
        connection.exec_driver_sql("UPDATE notices SET tried_on = '2026-01-01 00:00:00.000000'")
    engine.dispose()


def notify(site: Site) -> str:
    ended = site.call("notify")
    assert ended.returncode == 0, ended.stderr
    let_time_pass(site)
    return ended.stderr


def test_dead_letters_that_become_more_are_told_once_also_after_a_restart(site: Site, mailbox: Mailbox) -> None:
    poison(site)
    notify(site)  # the channel begins here
    poison(site, 2)

    for _ in range(3):
        notify(site)

    (letter,) = mailbox.letters
    assert "Subject: Bag pipeline (dev): 2 dead letters" in letter
    assert lines(letter, f"queue {site.queue}: 2 more, 3 in all; run_pipeline.py dead-letters list")


def test_dead_letters_that_were_cleared_away_and_come_again_are_told_again(site: Site, mailbox: Mailbox) -> None:
    notify(site)
    poison(site, 2)
    notify(site)
    site.call("dead-letters", "drop", "--all", "--yes")
    notify(site)
    poison(site)
    notify(site)

    assert len(mailbox.letters) == 2
    assert lines(mailbox.letters[1], f"queue {site.queue}: 1 more, 1 in all")


def test_what_a_lane_moved_is_told_by_its_reason_and_not_once_more_by_number(
    site: Site, mailbox: Mailbox, tmp_path: Path
) -> None:
    notify(site)
    site.announce(make_bag_zip(tmp_path, "W1", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")
    let_time_pass(site)
    notify(site)
    poison(site)
    for _ in range(2):
        notify(site)

    by_lane, by_sqs = mailbox.letters
    assert lines(by_lane, "W1: W1: the bag is refused")
    assert "1 dead letter\n" in by_lane.replace("1 work failed, ", "")
    assert "no lane moved" not in by_lane
    assert lines(by_sqs, f"queue {site.queue}: 1 more, 2 in all")
    assert "W1" not in by_sqs


def test_a_queue_that_is_away_is_named_and_holds_up_nothing_else(site: Site, mailbox: Mailbox) -> None:
    notify(site)
    poison(site)
    away = {"PIPELINE_SOURCE_TEST_ENDPOINT_URL": f"http://127.0.0.1:{servers.free_port()}"}
    engine = record.connect(site.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE notices SET digest_on = '2026-01-01'")
    engine.dispose()

    ended = site.call("notify", **away, PIPELINE_NOTIFY_DIGEST_HOUR="0")
    let_time_pass(site)
    notify(site)

    assert ended.returncode == 0, ended.stderr
    assert lines(ended.stderr, "run_pipeline.py: queue", site.queue)
    digest, late = mailbox.letters
    assert lines(digest, f"queue {site.queue}", "source test")
    assert lines(late, f"queue {site.queue}: 1 more, 1 in all")


def test_the_webhook_has_the_queues_as_data(site: Site, webhook: list[dict[str, Any]]) -> None:
    site.settings["PIPELINE_NOTIFY_WEBHOOK_FORMAT"] = "json"
    notify(site)
    poison(site, 3)
    notify(site)

    assert webhook[0]["dead_letter_queues"] == [{"queue": site.queue, "new": 3, "dead_letters": 3}]


def test_a_message_that_was_not_understood_is_shown_until_somebody_has_dealt_with_its_dead_letter(site: Site) -> None:
    for body in ("reindex", "reindex", "upgrade"):
        site.send(body)
    site.call("run", "--lanes", "1")

    def shown() -> list[str]:
        told = json.loads(site.call("status", "--json").stdout)
        return sorted(one["body"] for one in told["messages_not_understood"])

    before = shown()
    listed = json.loads(site.call("dead-letters", "list", "--json").stdout)["dead_letters"]
    first, second, third = sorted(listed, key=lambda one: str(one["body"]))
    site.call("dead-letters", "drop", second["message_id"], "--yes")
    dropped = shown()
    site.call("dead-letters", "resend", third["message_id"])
    resent = shown()
    site.call("run", "--lanes", "1")

    assert before == ["reindex", "reindex", "upgrade"]
    assert dropped == ["reindex", "upgrade"]
    assert resent == ["reindex"]
    assert shown() == ["reindex", "upgrade"]
    assert first["body"] == "reindex"


def test_a_message_that_was_understood_is_not_shown_as_one_that_was_not_when_its_zip_is_not_there(site: Site) -> None:
    event = site.event(staging_key("W1"), "", 7)  # S3 has to be asked which zip that is
    site.send({"Records": [event]})
    run = site.call("run", "--lanes", "1")

    told = json.loads(site.call("status", "--json").stdout)

    assert lines(run.stderr, "W1", "not in the bucket")
    assert told["messages_not_understood"] == []


@pytest.fixture
def beside(here: OpenSite, engine: Engine) -> OpenSite:
    """A site of this process whose record is on each of the databases."""
    here.engine.dispose()
    here.__dict__["engine"] = engine
    return here


def stands(beside: OpenSite, *queues: Depths) -> Standing:
    found = Standing(beside)
    found.queues = list(queues)
    return found


def dead(queue: str, url: str, count: int) -> Depths:
    return Depths("", queue, {"waiting": 0}, url, {"waiting": count - 1, "in_flight": 1})


def moved(book: Record, *, url: str = "dead") -> None:
    book.note("intake", "dead-lettered", {"queue": url}, work_rid="W1")


def long_ago(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET at = '2026-01-01 00:00:00.000000'")


def test_while_sqs_may_count_what_was_before_a_lane_s_move_nothing_is_said(beside: OpenSite, book: Record) -> None:
    known = Told(0, "", (), {"dead": 5, "other": 1})
    moved(book)

    early = notices_told.compare(stands(beside, dead("q", "dead", 8), dead("p", "other", 3)), known)
    long_ago(beside.engine)
    late = notices_told.compare(stands(beside, dead("q", "dead", 8), dead("p", "other", 3)), known)

    assert [(one.queue, one.new) for one in early.grown] == [("p", 2)]
    assert early.untold(0) == {"dead": 5, "other": 1}
    assert [(one.queue, one.new) for one in late.grown] == [("q", 2), ("p", 2)]
    assert late.untold(0) == {"dead": 5, "other": 1}
    assert late.once_told(0) == {"dead": 7, "other": 3}  # the event itself is still to be told
    assert late.once_told(late.moved[-1].event_id) == {"dead": 8, "other": 3}


def test_what_was_taken_out_is_expected_no_more_and_what_is_unknown_stays(beside: OpenSite, book: Record) -> None:
    known = Told(0, "", (), {"dead": 5, "away": 2})
    moved(book)
    long_ago(beside.engine)

    away = Depths("", "a", error=StorageUnreachable("it is away"))

    found = notices_told.compare(stands(beside, dead("q", "dead", 1), away, dead("n", "new", 9)), known)

    assert found.grown == []
    assert found.untold(0) == {"dead": 0, "away": 2, "new": 9}


def test_a_channel_s_count_is_changed_only_by_who_knows_what_it_was_told_last(engine: Engine) -> None:
    known = notices.told(engine, "mail", today="2026-11-22")
    assert known.dead_letters == {}
    notices.expect(engine, "mail", known, {"dead": 5})
    assert notices.told(engine, "mail", today="").dead_letters == {"dead": 5}

    assert notices.claim(engine, "mail", known, interval_seconds=0)
    notices.expect(engine, "mail", known, {"dead": 1})  # somebody set out to send meanwhile
    assert notices.told(engine, "mail", today="").dead_letters == {"dead": 5}
    assert not notices.claim(engine, "mail", known, interval_seconds=0)

    notices.sent(engine, "mail", Told(7, "2026-11-22", (), {"dead": 6}))
    assert notices.told(engine, "mail", today="") == Told(7, "2026-11-22", (), {"dead": 6})
