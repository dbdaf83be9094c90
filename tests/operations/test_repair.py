"""Repairing by hand: retry, skip, quarantine, dead letters, pause; judged by what is in the world afterwards."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import record
from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip
from tests.world.folders import add_folder, drop, lying_in
from tests.world.stack import SHORT_LEASE, Site, lines, wait_until

BAD_IMAGE = "images/I1/I10001.jpg"
RUN = ("run", "--lanes", "1")
WEAK = {"PIPELINE_DEBAG_ALLOW_WEAK_DIGESTS": "false"}


def refused(site: Site, folder: Path, rid: str = "W1") -> Path:
    """A bag that this site's rules refuse, and other rules would not; its message is a dead letter."""
    bag_zip = make_bag_zip(folder, rid, algorithms=("md5",))
    site.announce(bag_zip)
    site.call(*RUN, **WEAK)
    assert site.works()[rid].stage == "refused"
    return bag_zip


def answer(site: Site, *words: str) -> dict[str, Any]:
    ended = site.call(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_a_failed_work_that_is_retried_does_not_wait_for_its_time(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "sync.sh"
    script.write_text("exit 7\n")
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call(*RUN, PIPELINE_SYNC_SCRIPT=str(script))
    site.call(*RUN)
    assert site.works()["W1"].stage == "failed"

    retried = site.call("retry", "W1")
    ran = site.call(*RUN)

    assert retried.returncode == 0, retried.stderr
    assert lines(retried.stdout, "W1: was failed", "next free lane")
    assert site.archived("W1") == SMALL_WORK
    assert not lines(ran.stderr, "downloading")


def test_retry_takes_all_of_a_kind_and_leaves_what_is_home_alone(site: Site, tmp_path: Path) -> None:
    for rid in ("W1", "W2"):
        refused(site, tmp_path, rid)
    site.announce(make_bag_zip(tmp_path, "W3"))
    site.call(*RUN)

    retried = site.call("retry", "--kind", "invalid-bag")
    home = site.call("retry", "W3")
    site.call(*RUN)

    assert len(lines(retried.stdout, "was refused")) == 2
    assert lines(home.stdout, "W3: home already", "--from")
    assert {rid: work.stage for rid, work in site.works().items()} == dict.fromkeys(("W1", "W2", "W3"), "done")


def test_retry_of_a_work_that_nobody_knows_changes_nothing(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)

    ended = site.call("retry", "W1", "W4711")

    assert ended.returncode == 2
    assert lines(ended.stderr, "W4711", "run_pipeline.py work W4711")
    assert site.works()["W1"].stage == "refused"


def test_a_work_that_a_lane_has_is_not_touched(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)
    bag_id = site.works()["W1"].bag_id
    engine = record.connect(site.database_url)
    record.Leases(engine, owner="host/1/1/x", seconds=60).take("W1", bag_id)
    engine.dispose()

    for words in (("retry", "W1"), ("quarantine", "release", "W1"), ("quarantine", "drop", "W1", "--yes")):
        ended = site.call(*words)
        assert ended.returncode == 1, words
        assert lines(ended.stdout + ended.stderr, "a lane works on it", "nothing was changed")
    assert site.call("skip", "W1", "--reason", "x", "--yes").returncode == 1
    assert [row["state"] for row in site.rows("bags")] == ["refused"]
    assert list((site.home / "quarantine").glob("W1-*/W1.bag.zip"))


def test_a_skipped_work_is_left_out_and_its_message_goes_until_it_is_retried(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    script = tmp_path / "sync.sh"
    script.write_text("exit 7\n")
    site.announce(bag_zip)
    site.call(*RUN, PIPELINE_SYNC_SCRIPT=str(script))

    skipped = site.call("skip", "W1", "--reason", "withdrawn by its owner", "--yes")
    site.announce(bag_zip)
    site.call(*RUN)
    left_out = site.works()["W1"]
    waiting = site.depth()
    site.call("retry", "W1")
    site.call(*RUN)

    assert lines(skipped.stdout, "W1: was failed, is skipped now", "run_pipeline.py retry W1")
    assert (left_out.stage, left_out.error[-23:]) == ("skipped", ": withdrawn by its owner"[1:])
    assert waiting == 1  # the second message is gone; the first one, hidden since the failure, has yet to come back
    assert site.archived("W1") == SMALL_WORK


def test_what_is_destructive_is_not_done_without_a_word(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)

    skipped = site.call("skip", "W1", "--reason", "x")
    dropped = site.call("quarantine", "drop", "W1")

    for ended in (skipped, dropped):
        assert ended.returncode == 2
        assert lines(ended.stderr, "nothing was done", "--yes")
    assert site.works()["W1"].stage == "refused"
    assert list((site.home / "quarantine").glob("W1-*/W1.bag.zip"))


def test_quarantine_lists_and_shows_every_fault_and_whether_it_is_the_only_copy(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE))
    site.call(*RUN)

    listed, plain = answer(site, "quarantine", "list"), site.call("quarantine", "list").stdout
    shown = site.call("quarantine", "show", "W2").stdout
    site.s3.delete_object(Bucket=site.bucket, Key="Archive0/00/W2/W2.bag.zip")
    alone = site.call("quarantine", "show", "W2").stdout

    (kept,) = listed["kept"]
    assert (kept["work_rid"], kept["state"], kept["report"]["counts"]) == ("W2", "refused", {"digest-differs": 1})
    assert lines(plain, "W2", "refused", "1 digest-differs")
    assert lines(shown, BAD_IMAGE)
    assert lines(shown, "other copy: s3://", "is still what it was")
    assert lines(alone, "other copy: none that could be seen")


def test_the_report_names_every_fault_and_a_terminal_is_not_flooded_with_them(site: Site, tmp_path: Path) -> None:
    names = [f"images/{number:04}.jpg" for number in range(150)]
    good = bag_members("W2", files={name: name.encode() for name in names})
    bad = {name: content[::-1] if "/data/" in name else content for name, content in good.items()}
    site.announce(write_zip(tmp_path / "W2.bag.zip", bad))
    site.call(*RUN)

    shown = site.call("quarantine", "show", "W2").stdout
    (report,) = (site.home / "quarantine").glob("*/report.txt")
    text = report.read_text(encoding="utf-8")

    assert [name for name in names if name not in text] == []
    assert len(shown.splitlines()) < 120
    assert lines(shown, "more lines in", str(report))


def test_a_released_bag_is_debagged_again_from_the_zip_that_was_kept(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)

    released = site.call("quarantine", "release", "W1")
    ran = site.call(*RUN)

    assert released.returncode == 0, released.stderr
    assert site.archived("W1") == SMALL_WORK
    assert not lines(ran.stderr, "downloading")
    assert not list((site.home / "quarantine").glob("*/*.zip"))


@pytest.mark.parametrize("instant", ["after commit 1", "before commit 2", "after commit 2"])
def test_killed_while_releasing_a_bag_it_is_refused_or_released_and_its_zip_is_kept(
    site: Site, tmp_path: Path, instant: str
) -> None:
    bag_zip = refused(site, tmp_path)

    killed = site.call("quarantine", "release", "W1", PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE)
    (kept,) = (site.home / "quarantine").glob("W1-*/W1.bag.zip")
    whole = kept.read_bytes() == bag_zip.read_bytes()
    wait_until(lambda: not site.held())
    again = site.call("quarantine", "release", "W1", **SHORT_LEASE)
    site.call(*RUN)

    assert (killed.returncode, again.returncode) == (-9, 0), again.stderr
    assert whole
    assert site.archived("W1") == SMALL_WORK


def test_a_dropped_bag_is_gone_and_why_it_was_refused_is_still_known(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE))
    site.call(*RUN)

    dropped = site.call("quarantine", "drop", "W2", "--yes")

    assert dropped.returncode == 0, dropped.stderr
    assert list((site.home / "quarantine").iterdir()) == []
    assert lines(site.call("explain", "W2").stdout, BAD_IMAGE)
    assert [row["outcome"] for row in site.rows("events")][-2:] == ["dropping", "dropped"]


def test_the_only_copy_is_dropped_on_an_operator_s_explicit_word_alone(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)
    site.s3.delete_object(Bucket=site.bucket, Key="Archive0/00/W1/W1.bag.zip")

    held = site.call("quarantine", "drop", "W1", "--yes")
    still_there = list((site.home / "quarantine").glob("W1-*/W1.bag.zip"))
    gone = site.call("quarantine", "drop", "W1", "--yes", "--only-copy")

    assert held.returncode == 2
    assert lines(held.stderr, "no other copy", "W1", "nothing was deleted", "--only-copy")
    assert still_there
    assert gone.returncode == 0
    assert list((site.home / "quarantine").iterdir()) == []


def test_killed_while_dropping_a_bag_the_next_look_finishes_it(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)

    killed = site.call("quarantine", "drop", "W1", "--yes", PIPELINE_TEST_KILL_AT="half dropped")
    listed = answer(site, "quarantine", "list")

    assert killed.returncode == -9
    assert listed["kept"] == []
    assert list((site.home / "quarantine").iterdir()) == []


def test_dead_letters_say_why_they_are_and_looking_leaves_them_there(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)
    site.send("nonsense")
    site.call(*RUN)

    listed, again = answer(site, "dead-letters", "list"), answer(site, "dead-letters", "list")
    shown = site.call("dead-letters", "show", "W1").stdout

    assert listed["dead_letters"][0]["bags"][0] | {"from": ""} == {"work_rid": "W1", "from": "", "state": "refused"}
    assert listed["dead_letters"][0]["attributes"]["ErrorKind"] == "invalid-bag"
    assert listed["dead_letters"][1]["body"] == "nonsense"
    assert [one["message_id"] for one in again["dead_letters"]] == [one["message_id"] for one in listed["dead_letters"]]
    assert lines(shown, "ErrorKind", "invalid-bag")
    assert lines(site.call("dead-letters", "list").stdout, "not understood")
    assert len(site.dead_letters()) == 2


def test_a_dead_letter_is_found_by_the_identity_that_the_log_names(site: Site) -> None:
    site.send("nonsense")
    logged = lines(site.call(*RUN).stderr, "moved to the dead-letter queue")[0].split("message ")[1].split()[0]
    (dead,) = answer(site, "dead-letters", "list")["dead_letters"]

    shown = site.call("dead-letters", "show", logged)
    nameless = site.call("dead-letters", "drop", "", "--yes")
    dropped = site.call("dead-letters", "drop", logged[:9], "--yes")

    assert logged == dead["was_message_id"] != dead["message_id"]
    assert lines(shown.stdout, f"message {dead['message_id']}")
    assert nameless.returncode == 2
    assert dropped.returncode == 0, dropped.stderr
    assert site.dead_letters() == []


def test_a_dead_letter_that_is_sent_back_brings_its_work_home_under_new_rules(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)

    sent = site.call("dead-letters", "resend", "W1")
    site.call(*RUN)

    assert sent.returncode == 0, sent.stderr
    assert site.archived("W1") == SMALL_WORK
    assert (site.depth(), site.depth(site.dead_url)) == (0, 0)


@pytest.mark.parametrize("instant", ["before send 1", "after send 1", "before commit 1", "before acknowledge 1"])
def test_killed_while_sending_a_dead_letter_back_it_is_in_one_queue_at_least(
    site: Site, tmp_path: Path, instant: str
) -> None:
    refused(site, tmp_path)

    killed = site.call("dead-letters", "resend", "--all", PIPELINE_TEST_KILL_AT=instant)
    found = site.depth() + site.depth(site.dead_url)
    site.call("retry", "W1")
    site.call(*RUN)

    assert killed.returncode == -9
    assert found == (1 if instant == "before send 1" else 2)
    assert site.archived("W1") == SMALL_WORK
    assert site.depth() == 0


def test_a_dead_letter_whose_work_came_home_otherwise_is_cleared_by_sending_it_back(site: Site, tmp_path: Path) -> None:
    refused(site, tmp_path)
    site.call("retry", "W1")
    site.call(*RUN)

    listed = site.call("dead-letters", "list").stdout
    site.call("dead-letters", "resend", "--all")
    ran = site.call(*RUN)

    assert lines(listed, "W1", "home: resend clears it")
    assert lines(ran.stderr, "W1: home already")
    assert (site.depth(), site.depth(site.dead_url)) == (0, 0)


def move_as_sqs_does(site: Site, bag_zip: Path) -> None:
    """A dead letter that no lane has sealed, instead of all that there are."""
    site.sqs.purge_queue(QueueUrl=site.dead_url)
    body = {"Records": [site.event("Archive0/00/W1/W1.bag.zip", site.put(bag_zip), bag_zip.stat().st_size)]}
    site.sqs.send_message(QueueUrl=site.dead_url, MessageBody=json.dumps(body))


def test_a_message_that_sqs_itself_moved_is_tried_again_when_it_is_sent_back(site: Site, tmp_path: Path) -> None:
    move_as_sqs_does(site, refused(site, tmp_path))

    assert lines(site.call("dead-letters", "list").stdout, "too many deliveries")
    resent = site.call("dead-letters", "resend", "--all")
    site.call(*RUN)

    assert resent.returncode == 0, resent.stderr
    assert site.archived("W1") == SMALL_WORK
    assert (site.depth(), site.depth(site.dead_url)) == (0, 0)
    assert site.rows("leases") == []


def test_a_message_that_sqs_moved_stays_while_a_lane_has_its_work_and_the_others_are_sent_back(
    site: Site, tmp_path: Path
) -> None:
    move_as_sqs_does(site, refused(site, tmp_path))
    site.sqs.send_message(QueueUrl=site.dead_url, MessageBody="nonsense")
    engine = record.connect(site.database_url)
    record.Leases(engine, owner="host/1/1/x", seconds=60).take("W1", site.works()["W1"].bag_id)
    engine.dispose()

    resent = site.call("dead-letters", "resend", "--all")

    assert resent.returncode == 1
    assert lines(resent.stdout, "not sent back", "W1: a lane works on it", "nothing was changed")
    assert lines(resent.stdout, "1 sent back")
    assert "Traceback" not in resent.stderr
    assert [row["state"] for row in site.rows("bags")] == ["refused"]
    assert [json.loads(one["Body"])["Records"][0]["s3"]["object"]["key"] for one in site.dead_letters()] == [
        "Archive0/00/W1/W1.bag.zip"
    ]
    assert site.depth() == 1


def test_while_intake_is_paused_no_lane_takes_anything_in(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    paused = site.call("pause", "--reason", "the archive moves")
    again = site.call("pause")
    ran = site.call("run", "--local-scheduler")
    untouched = (site.works(), site.depth())
    resumed = site.call("resume")
    site.call(*RUN)

    assert lines(paused.stdout, "intake is paused", "run_pipeline.py resume")
    assert lines(again.stdout, "paused already", "the archive moves")
    assert ran.returncode == 0
    assert lines(ran.stderr, "the archive moves", "run_pipeline.py resume")
    assert untouched == ({}, 1)
    assert lines(resumed.stdout, "intake goes on", "the archive moves")
    assert site.archived("W1") == SMALL_WORK
    assert lines(site.call("resume").stdout, "intake is not paused")


def test_a_lane_that_watches_obeys_a_pause_and_goes_on_by_itself(site: Site, tmp_path: Path) -> None:
    site.call("pause")
    watch = site.start("run", "--watch", "--lanes", "1")
    try:
        site.announce(make_bag_zip(tmp_path, "W1"))
        time.sleep(2)
        before = site.depth()
        site.call("resume")
        wait_until(lambda: "W1" in site.works() and site.works()["W1"].stage == "done", seconds=40)
    finally:
        watch.terminate()
        watch.communicate(timeout=30)

    assert before == 1


@pytest.mark.parametrize("words", [("retry", "W1"), ("quarantine", "release", "W1")])
def test_a_dropped_zip_that_was_refused_is_put_back_into_its_folder_and_tried_again(
    site: Site, tmp_path: Path, words: tuple[str, ...]
) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1", algorithms=("md5",)), inbox)
    site.call(*RUN, **WEAK)
    refused_ones = lying_in(inbox / "refused")
    listed = site.call("quarantine", "list").stdout

    given_back = site.call(*words)
    back = lying_in(inbox)
    site.call(*RUN)

    assert len(refused_ones) == 1
    assert lines(listed, "W1", f"report; the zip is {inbox}/refused/")
    assert given_back.returncode == 0, given_back.stderr
    assert lines(given_back.stdout, "W1: was refused", str(inbox))
    assert back == ["W1.bag.zip"]
    assert site.archived("W1") == SMALL_WORK
