"""Nothing is lost: what becomes of a message, for every outcome and under the faults of an operator's world."""

import sqlite3
import time
from pathlib import Path

import pytest

from pipeline.embedded import embedded
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import EVENTS, SHORT_LEASE, Site, lines, wait_until

BAD_IMAGE = "images/I1/I10001.jpg"
QUICK = {"PIPELINE_QUEUE_BACKOFF_SECONDS": "1", "PIPELINE_QUEUE_BACKOFF_LIMIT_SECONDS": "2"}
SHORT = QUICK | SHORT_LEASE  # for what has to come free, and not for whoever is to bring it home


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "site.sh"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_transient_failure_comes_back_after_a_delay_and_then_succeeds(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    failed = site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=script(tmp_path, "exit 12\n"))
    hidden, work = site.hidden(), site.works()["W1"]
    at_once = site.call("run", "--lanes", "1")
    site.call("work", "W1")

    assert (failed.returncode, hidden) == (1, 1)
    assert (work.stage, work.error_kind, work.failures) == ("failed", "sync-failed", 1)
    assert lines(failed.stderr, "W1", "12", "run_pipeline.py work W1")
    assert at_once.returncode == 0
    assert not lines(at_once.stderr, "W1")  # its time has not come
    assert site.archived("W1") == SMALL_WORK
    assert site.dead_letters() == []


def test_a_work_survives_a_purged_queue(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=script(tmp_path, "exit 12\n"), **QUICK)
    site.sqs.purge_queue(QueueUrl=site.queue_url)
    time.sleep(1.1)

    later = site.call("run", "--lanes", "1", **QUICK)

    assert later.returncode == 0, later.stderr
    assert lines(later.stderr, "W1: taking up what was left unfinished")
    assert not lines(later.stderr, "downloading")
    assert site.archived("W1") == SMALL_WORK


def test_of_a_message_of_two_bags_only_the_failed_one_is_done_again(site: Site, tmp_path: Path) -> None:
    fussy = script(tmp_path, f'case "$*" in *W2*) exit 12;; esac\nexec bash {Path.cwd()}/bin/syncOneWork.sh "$@"\n')
    site.announce(make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2"))

    first = site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=fussy, **QUICK)
    depth, home = site.depth(), site.archived("W1")
    time.sleep(1.1)
    second = site.call("run", "--lanes", "1", **QUICK)
    time.sleep(1.1)
    third = site.call("run", "--lanes", "1", **QUICK)

    assert (first.returncode, depth, home) == (1, 1, SMALL_WORK), first.stderr
    assert site.archived("W2") == SMALL_WORK
    assert not lines(second.stderr + third.stderr, "W1: syncing")
    assert site.depth() == 0
    assert len(site.rows("syncs")) == 2


def test_a_second_delivery_of_a_refused_bag_is_dead_lettered_without_being_paid_for_again(
    site: Site, tmp_path: Path
) -> None:
    bag_zip = make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE)
    site.announce(bag_zip)
    site.call("run", "--lanes", "1")

    site.announce(bag_zip)
    again = site.call("run", "--lanes", "1")

    assert again.returncode == 1
    assert not lines(again.stderr, "downloading")
    assert len(site.dead_letters()) == 2


def test_a_dead_letter_sent_back_after_repair_is_tried_again(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W2", algorithms=("md5",)))
    refused = site.call("run", "--lanes", "1", PIPELINE_DEBAG_ALLOW_WEAK_DIGESTS="false")
    (dead,) = site.dead_letters()

    site.sqs.send_message(
        QueueUrl=site.queue_url, MessageBody=dead["Body"], MessageAttributes=dead["MessageAttributes"]
    )
    redriven = site.call("run", "--lanes", "1")

    assert (refused.returncode, redriven.returncode) == (1, 0), redriven.stderr
    assert not lines(redriven.stderr, "downloading")
    assert site.archived("W2") == SMALL_WORK
    assert not list((site.home / "quarantine").glob("*/*.zip"))


def test_a_busy_work_s_duplicate_never_ends_in_the_dead_letter_queue(site: Site, tmp_path: Path) -> None:
    """With as few deliveries allowed as SQS redrives can be set to while another lane holds on to the work."""
    bag_zip = make_bag_zip(tmp_path, "W1")
    arn = site.sqs.get_queue_attributes(QueueUrl=site.dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    site.sqs.set_queue_attributes(
        QueueUrl=site.queue_url,
        Attributes={"RedrivePolicy": f'{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"2"}}'},
    )
    site.announce(bag_zip)
    slow = script(tmp_path, f'touch {tmp_path}/begun\nsleep 9\nexec bash {Path.cwd()}/bin/syncOneWork.sh "$@"\n')
    holder = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=slow, **SHORT)
    try:
        wait_until((tmp_path / "begun").exists)
        site.announce(bag_zip)
        for _ in range(4):
            assert site.call("run", "--lanes", "1", **SHORT).returncode == 0
        _, err = holder.communicate(timeout=60)
    finally:
        holder.kill()

    assert holder.returncode == 0, err
    assert site.archived("W1") == SMALL_WORK
    assert site.dead_letters() == []


def test_a_lane_that_lost_its_lease_stops_and_commits_nothing(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    slow = script(tmp_path, f"touch {tmp_path}/begun\nsleep 60\n")
    lane = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=slow, **SHORT)
    try:
        wait_until((tmp_path / "begun").exists)
        with sqlite3.connect(site.home / "pipeline.db", timeout=30) as connection:
            connection.execute("UPDATE leases SET owner = 'somebody/else', until = '2999-01-01 00:00:00.000000'")
        connection.close()
        _, err = lane.communicate(timeout=30)
    finally:
        lane.kill()

    assert lines(err, "W1", "lease")
    assert site.rows("syncs") == []
    assert [row["owner"] for row in site.rows("leases")] == ["somebody/else"]
    assert (site.works()["W1"].stage, site.works()["W1"].failures) == ("sync", 0)
    assert site.hidden() == 1


def test_a_locked_database_ends_the_run_with_3_and_nothing_is_lost(site: Site, tmp_path: Path) -> None:
    site.call("db", "upgrade")
    site.announce(make_bag_zip(tmp_path, "W1"))
    impatient = f"sqlite:///{site.home}/pipeline.db?timeout=1"
    lock = sqlite3.connect(site.home / "pipeline.db", isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        ended = site.call("run", "--lanes", "1", PIPELINE_DATABASE_URL=impatient, **SHORT)
    finally:
        lock.close()

    assert ended.returncode == 3
    assert lines(ended.stderr, "database", "locked")
    assert site.depth() == 1
    time.sleep(1.1)
    assert site.call("run", "--lanes", "1", **QUICK).returncode == 0
    assert site.archived("W1") == SMALL_WORK


def test_the_pause_button_of_the_scheduler_s_page_stops_the_intake(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    press(site, "pause")
    try:
        paused = site.call("run", "--lanes", "1")
        hidden = site.hidden()
    finally:
        press(site, "unpause")
    resumed = site.call("run", "--lanes", "1")

    assert lines(paused.stderr, "paused")
    assert hidden == 0
    assert resumed.returncode == 0
    assert site.archived("W1") == SMALL_WORK


def press(site: Site, button: str) -> None:
    assert site.ask_luigid(button) is None


def test_a_scheduler_that_restarts_in_the_middle_of_a_step_is_waited_for(site: Site, tmp_path: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "luigid.log"
    first = embedded.start_luigid(state=state, log=log)
    port = int(first.url.rsplit(":", 1)[1])
    site.announce(make_bag_zip(tmp_path, "W1"))
    slow = script(tmp_path, f'touch {tmp_path}/begun\nsleep 3\nexec bash {Path.cwd()}/bin/syncOneWork.sh "$@"\n')
    lane = site.start("run", "--lanes", "1", PIPELINE_SCHEDULER_URL=first.url, PIPELINE_SYNC_SCRIPT=slow)
    wait_until((tmp_path / "begun").exists)
    first.process.kill()
    first.end()
    second = embedded.start_luigid(state=state, log=log, port=port)
    try:
        _, err = lane.communicate(timeout=60)
    finally:
        lane.kill()
        second.end()

    assert lane.returncode == 0, err
    assert site.archived("W1") == SMALL_WORK
    assert site.depth() == 0


def test_a_scheduler_that_is_gone_for_good_costs_nothing_that_was_done(site: Site, tmp_path: Path) -> None:
    scheduler = embedded.start_luigid(state=tmp_path / "state", log=tmp_path / "luigid.log")
    site.announce(make_bag_zip(tmp_path, "W1"))
    slow = script(tmp_path, f'touch {tmp_path}/begun\nsleep 2\nexec bash {Path.cwd()}/bin/syncOneWork.sh "$@"\n')
    lane = site.start("run", "--lanes", "1", PIPELINE_SCHEDULER_URL=scheduler.url, PIPELINE_SYNC_SCRIPT=slow, **QUICK)
    wait_until((tmp_path / "begun").exists)
    scheduler.process.kill()
    scheduler.end()
    _, err = lane.communicate(timeout=60)

    assert lane.returncode == 3, err
    assert lines(err, "luigid", "does not answer") or lines(err, "luigid", "stopped answering")
    time.sleep(1.1)
    later = site.call("run", "--lanes", "1", **QUICK)
    assert later.returncode == 0, later.stderr
    assert not lines(later.stderr, "downloading")
    assert site.archived("W1") == SMALL_WORK
    assert site.depth() == 0


def test_without_room_nothing_is_downloaded_and_the_reason_is_visible(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    full = site.call("run", "--lanes", "1", PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 60), **QUICK)

    assert full.returncode == 1
    assert site.works()["W1"].error_kind == "no-room"
    assert lines(site.call("status").stdout, "W1", "needed (zip, payload and margin)")
    assert not list((site.home / "staging").rglob("*.zip"))
    time.sleep(1.1)
    assert site.call("run", "--lanes", "1", **QUICK).returncode == 0


def test_a_host_that_is_gone_for_good_has_its_works_brought_home_by_another(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    first = {"PIPELINE_PIPELINE_HOST": "first", "PIPELINE_PIPELINE_STAGING": str(tmp_path / "first disk"), **SHORT}
    second = {"PIPELINE_PIPELINE_HOST": "second", "PIPELINE_PIPELINE_STAGING": str(tmp_path / "second disk"), **SHORT}

    site.call("run", "--lanes", "1", PIPELINE_TEST_KILL_AT="debag published, not recorded", **first)
    site.sqs.purge_queue(QueueUrl=site.queue_url)  # not even its message is left
    (tmp_path / "first disk").rename(tmp_path / "scrapped")
    wait_until(lambda: site.call("run", "--lanes", "1", **second) and site.works()["W1"].stage == "done", every=1)

    assert site.archived("W1") == SMALL_WORK
    assert len(site.rows("syncs")) == 1
    assert list((tmp_path / "second disk").iterdir()) == []


@pytest.mark.parametrize("body", ["malformed.txt", "missing-fields.json"])
def test_what_is_not_understood_is_shown_and_kept_in_the_dead_letter_queue(site: Site, body: str) -> None:
    text = (EVENTS / body).read_text(encoding="utf-8")
    site.send(text)

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    (dead,) = site.dead_letters()
    assert dead["Body"] == text
    assert dead["MessageAttributes"]["ErrorKind"]["StringValue"] == "not-understood"
    assert lines(site.call("status").stdout, "not understood")


@pytest.mark.parametrize(
    "body", ["restore-initiated.json", "restore-expired.json", "test-event.json", "not-a-bag.json"]
)
def test_what_asks_for_nothing_is_recorded_and_acknowledged(site: Site, body: str) -> None:
    site.send((EVENTS / body).read_text(encoding="utf-8"))

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 0, ended.stderr
    assert site.depth() == 0
    assert site.dead_letters() == []
    assert [row["outcome"] for row in site.rows("events")] == ["ignored"]
