"""Notifications: a real mail server, a real webhook, and one message where a hundred would do."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import record
from pipeline.foundation.arguments import command
from pipeline.foundation.errors import ArchiveConflict, InvalidBag, StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.operations.channels import inert
from pipeline.record import Phase, Record, notices
from tests.world import servers
from tests.world.bags import make_bag_zip
from tests.world.receivers import Mailbox
from tests.world.stack import Site

SETTLED = 2.5


def fail(site: Site, count: int, *, times: int = 1, words: str = "the bag is refused") -> None:
    """So many works fail, long enough ago that nobody doubts the order of their events."""
    engine = record.connect(site.database_url)
    book = Record(engine, agent="here/1/1", host="here")
    for number in range(count):
        bag = Bag(f"W{number}", "bucket", f"W{number}.bag.zip", etag=f"{number}")
        book.see(bag)
        for _ in range(times):
            error = InvalidBag(words, work_rid=bag.work_rid, faults=())
            error.go_on, error.by_hand = command("work", bag.work_rid), "mend the bag"
            book.failed(bag, Phase.DEBAG, error)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET at = '2026-01-01 00:00:00.000000'")
    engine.dispose()


def test_a_work_that_failed_in_two_ways_is_one_work(site: Site, webhook: list[dict[str, Any]]) -> None:
    site.call("notify")  # from here on
    fail(site, 1)
    engine = record.connect(site.database_url)
    bag = Bag("W0", "bucket", "W0.bag.zip", etag="0")
    Record(engine, agent="here/1/1", host="here").failed(bag, Phase.SYNC, ArchiveConflict("it has other content"))
    engine.dispose()
    threading.Event().wait(SETTLED)

    site.call("notify", PIPELINE_NOTIFY_INTERVAL_SECONDS="1", PIPELINE_NOTIFY_WEBHOOK_FORMAT="json")

    assert webhook[0]["subject"].endswith(": 1 work failed")
    assert [(one["work"], one["kind"]) for one in webhook[0]["failed"]] == [("W0", "archive-conflict")]


def test_a_sample_goes_through_each_channel(site: Site, mailbox: Mailbox, webhook: list[dict[str, Any]]) -> None:
    ended = site.call("notify", "--test")

    assert ended.returncode == 0, ended.stderr
    (letter,) = mailbox.letters
    assert "To: archivist@example.org, it@example.org" in letter
    assert "W0SAMPLE" in letter
    assert "Test:" in letter
    assert "W0SAMPLE" in webhook[0]["text"]


def test_a_channel_that_is_down_is_told_without_its_secret_and_the_other_one_still_works(
    site: Site, webhook: list[dict[str, Any]]
) -> None:
    site.settings |= {
        "PIPELINE_NOTIFY_SMTP_HOST": "127.0.0.1",
        "PIPELINE_NOTIFY_SMTP_PORT": str(servers.free_port()),
        "PIPELINE_NOTIFY_MAIL_FROM": "a@example.org",
        "PIPELINE_NOTIFY_MAIL_TO": "b@example.org",
    }

    ended = site.call("notify", "--test")

    assert ended.returncode == 3
    assert "no mail through 127.0.0.1" in ended.stderr
    assert len(webhook) == 1
    Path(site.settings["PIPELINE_NOTIFY_WEBHOOK_URL_FILE"]).write_text("http://127.0.0.1:9/hush-hush", encoding="utf-8")
    ended = site.call("notify", "--test")
    assert "hush-hush" not in ended.stderr + ended.stdout


def test_a_hundred_failures_make_one_mail_and_none_is_told_twice(site: Site, mailbox: Mailbox) -> None:
    site.call("notify")  # from here on
    fail(site, 100)

    for _ in range(3):
        assert site.call("notify", PIPELINE_NOTIFY_INTERVAL_SECONDS="1").returncode == 0

    (letter,) = mailbox.letters
    assert "100 works failed" in letter
    assert (
        "W0 (invalid-bag): W0: the bag is refused; to do: mend the bag; go on with: run_pipeline.py work W0" in letter
    )
    assert "and 50 more" in letter


def test_what_failed_before_the_channel_was_set_up_is_not_told(site: Site, mailbox: Mailbox) -> None:
    fail(site, 3)

    site.call("notify")

    assert mailbox.letters == []


def test_a_second_message_waits_for_the_interval(site: Site, mailbox: Mailbox) -> None:
    site.call("notify")
    fail(site, 1)
    site.call("notify")
    fail(site, 2)

    site.call("notify")

    assert len(mailbox.letters) == 1
    assert site.rows("notices")[0]["event_id"] < max(row["id"] for row in site.rows("events"))


def test_a_mail_that_was_not_taken_is_sent_the_next_time(site: Site, mailbox: Mailbox) -> None:
    site.call("notify")
    fail(site, 1)

    away = site.call("notify", PIPELINE_NOTIFY_SMTP_PORT=str(servers.free_port()))
    assert away.returncode == 3
    assert mailbox.letters == []
    engine = record.connect(site.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE notices SET tried_on = '2026-01-01 00:00:00.000000'")
    engine.dispose()
    assert site.call("notify").returncode == 0

    assert len(mailbox.letters) == 1


def test_words_of_a_bag_give_no_orders_to_a_chat(site: Site, webhook: list[dict[str, Any]]) -> None:
    site.call("notify")
    fail(site, 1, words="<!channel> & \x1b[2J")

    site.call("notify")

    assert "&lt;!channel&gt; &amp; \N{REPLACEMENT CHARACTER}[2J" in webhook[0]["text"]


LINK = re.compile(r"(?<!s3)://|[\w-]+[.\u3002\uff0e\uff61][^\W\d_]|(^|\W)@\w|\w@\w|\]\(|<http", re.MULTILINE)
"""What any mail reader or chat might make a link of, or take for a call."""


def test_names_make_no_links_in_mails_and_chats(site: Site, mailbox: Mailbox, webhook: list[dict[str, Any]]) -> None:
    site.call("notify")
    words = "http://a.example/x W1.bag.zip www.b\u3002org <ftp://x.example|y> [z](//x.example) @channel a@b.example"
    fail(site, 1, words=f"{words}; its zip is s3://bucket/W 1/x")

    site.call("notify", PIPELINE_NOTIFY_WEBHOOK_FORMAT="json")

    (letter,) = mailbox.letters
    told = [letter.partition("\n\n")[2] or letter, webhook[0]["text"], webhook[0]["failed"][0]["error"]]
    for text in told:
        body = text[text.index("W0") :].replace("run_pipeline.py", "")
        assert LINK.search(words)
        assert LINK.search(body) is None, body
        assert "s3://bucket/W 1/x" in body
        assert "W1[.]bag[.]zip" in body
    assert "as it is written: run_pipeline.py explain W0" in letter


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("http://a.example/x", "http[:][/]/a[.]example/x"),
        ("https:/evil", "https[:]/evil"),
        ("https:evil", "https[:]evil"),
        ("//evil/x", "[/]/evil/x"),
        ("tel:+4912345", "tel[:]+4912345"),
        ("tel:112", "tel[:]112"),
        ("file:\\\\host\\x", "file[:][\\][\\]host[\\]x"),
        ("\\\\host\\share", "[\\][\\]host[\\]share"),
        ("203.0.113.9", "203[.]0[.]113.9"),
        ("203\u30020\uff0e113\uff619:80", "203[\u3002]0[\uff0e]113\uff619:80"),
        ("[2001:db8::1]", "[2001[:]db8[:][:]1]"),
        ("localhost:8080", "localhost[:]8080"),
        ("\U0001f4a9.example", "\U0001f4a9[.]example"),
        ("a@b", "a[@]b"),
        ("[z](x)", "[z] (x)"),
        (":smile:", "[:]smile:"),
        ("15.8 GiB at 12:30:01: s3://bucket/W1; run_pipeline.py explain W1.", None),
    ],
)
def test_what_a_name_is_made_of_leads_nowhere_and_what_we_tell_stays_as_it_is(name: str, told: str | None) -> None:
    assert inert(name) == (told or name)


def test_a_restore_that_expires_soon_is_told_once(site: Site, mailbox: Mailbox) -> None:
    engine = record.connect(site.database_url)
    soon = datetime.now(UTC) + timedelta(hours=5, minutes=1)
    Record(engine, agent="here/1/1", host="here").see(Bag("W7", "b", "k", etag="7", restore_expires_on=soon))
    engine.dispose()

    for _ in range(2):
        site.call("notify", PIPELINE_NOTIFY_INTERVAL_SECONDS="1")

    (letter,) = mailbox.letters
    assert "W7: in 5 h" in letter
    assert "1 restore expires soon" in letter


def test_the_daily_digest_comes_once_a_day_also_when_all_is_well(site: Site, mailbox: Mailbox, tmp_path: Path) -> None:
    site.sqs.send_message(QueueUrl=site.dead_url, MessageBody="moved by SQS itself, after too many deliveries")
    site.call("notify")
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1")
    engine = record.connect(site.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE notices SET digest_on = '2026-01-01'")
    Record(engine, agent="here/1/1", host="here").see(Bag(work_rid="W8", bucket="b", key="W8", etag="e"))
    engine.dispose()

    for _ in range(2):
        site.call("notify", PIPELINE_NOTIFY_DIGEST_HOUR="0", PIPELINE_NOTIFY_INTERVAL_SECONDS="1")

    (letter,) = mailbox.letters
    assert "daily digest" in letter
    assert "1 work came home" in letter
    assert "the oldest that is to come home is known for" in letter
    assert f"queue {site.queue}: 1 dead letter;" in letter


def test_of_many_hosts_one_may_send(any_tables: str) -> None:
    engine = record.connect(any_tables)
    book = Record(engine, agent="here/1/1", host="here")
    known = notices.told(engine, "mail", today="2026-11-22")
    bag = Bag("W1", "b", "k", etag="1", restore_expires_on=datetime.now(UTC) + timedelta(hours=5))
    book.see(bag)
    book.failed(bag, Phase.DOWNLOAD, StorageUnreachable("S3 is away"))

    with ThreadPoolExecutor(4) as hosts:
        sent = list(hosts.map(lambda _: notices.claim(engine, "mail", known, interval_seconds=60), range(8)))
    threading.Event().wait(SETTLED)
    (trouble,) = notices.troubles(engine, after=known.event_id)
    notices.sent(engine, "mail", notices.Told(trouble.event_id, "2026-11-22", ("x",)))

    assert sent.count(True) == 1
    assert (trouble.kind, trouble.state, trouble.failures) == ("storage-unreachable", "failed", 1)
    assert notices.told(engine, "mail", today="").warned == ("x",)
    engine.dispose()


def test_wrong_settings_are_told_by_name(site: Site) -> None:
    ended = site.call("notify", PIPELINE_NOTIFY_SMTP_HOST="mail.example.org", PIPELINE_NOTIFY_DIGEST_HOUR="24")

    assert ended.returncode == 2
    assert "[notify] mail_from and mail_to" in ended.stderr
    assert "[notify] digest_hour" in ended.stderr
    assert site.call("notify").returncode == 2


def test_an_archived_work_that_failed_its_fixity_check_is_told_unless_it_was_forgotten(
    site: Site, mailbox: Mailbox, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2"))
    site.call("run", "--lanes", "1")
    site.call("notify")  # from here on
    for rid in ("W1", "W2"):
        (site.home / f"archive/Archive0/00/{rid}/images/I1/I10001.jpg").unlink()
    site.call("verify", "W1", "W2")
    site.call("verify", "--forget", "W2", "--reason", "it is known")
    threading.Event().wait(SETTLED)

    site.call("notify", PIPELINE_NOTIFY_INTERVAL_SECONDS="1")

    (letter,) = mailbox.letters
    assert "1 work failed" in letter
    assert "W1 (fixity-failed): W1: the archive copy failed its check, 1 wrong in" in letter
    assert "run_pipeline.py explain W1" in letter
