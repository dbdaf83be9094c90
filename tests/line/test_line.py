"""A message in, the work in the archive, the row written, the queue empty: over real HTTP, real luigid, real bash."""

from pathlib import Path

from pipeline.foundation.work import staging_key
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines, tree

BAD_IMAGE = "images/I1/I10001.jpg"


def test_a_message_in_the_work_in_the_archive_the_row_written_the_queue_empty(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1FPL2251"))

    ended = site.call("run", "--lanes", "2")

    assert ended.returncode == 0, ended.stderr
    assert site.archived("W1FPL2251") == SMALL_WORK
    assert site.works()["W1FPL2251"].stage == "done"
    assert [row["work_rid"] for row in site.rows("syncs")] == ["W1FPL2251"]
    assert site.depth() == 0
    assert site.staged() == []
    (progress,) = site.rows("glacier_sync_progress")
    assert progress["object_name"] == "W1FPL2251"
    assert progress["restore_complete_on"].startswith("2026-04-06 00:11:23")
    assert progress["download_complete_on"] <= progress["debag_complete_on"] <= progress["sync_complete_on"]


def test_a_rerun_does_nothing(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run")
    before, events = tree(site.home / "archive"), len(site.rows("events"))

    again = site.call("run")

    assert again.returncode == 0, again.stderr
    assert tree(site.home / "archive") == before
    assert len(site.rows("events")) == events


def test_a_duplicate_message_does_nothing_and_is_acknowledged(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    site.announce(bag_zip)
    site.call("run")
    before = {path: path.stat().st_mtime_ns for path in (site.home / "archive").rglob("*")}

    site.announce(bag_zip)
    again = site.call("run")

    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in (site.home / "archive").rglob("*")} == before
    assert len(site.rows("syncs")) == 1
    assert site.depth() == 0
    assert not lines(again.stderr, "downloading")


def test_a_corrupt_bag_is_refused_kept_explained_and_dead_lettered(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE)
    site.announce(bag_zip)

    ended = site.call("run")

    assert ended.returncode == 1
    assert not (site.home / "archive" / "Archive0").exists()
    (kept,) = (site.home / "quarantine").iterdir()
    assert (kept / "W2.bag.zip").read_bytes() == bag_zip.read_bytes()
    report = (kept / "report.txt").read_text(encoding="utf-8")
    assert BAD_IMAGE in report
    assert f"The zip is kept at {kept / 'W2.bag.zip'}" in report  # a path is told as it is, not in lower case
    assert site.depth() == 0
    (dead,) = site.dead_letters()
    assert dead["MessageAttributes"]["ErrorKind"]["StringValue"] == "invalid-bag"
    assert BAD_IMAGE in dead["MessageAttributes"]["Reason"]["StringValue"]
    assert staging_key("W2") in dead["Body"]
    work = site.works()["W2"]
    assert (work.stage, work.error_kind) == ("refused", "invalid-bag")
    assert BAD_IMAGE in work.error
    assert site.staged() == []


def test_a_message_of_two_bags_waits_for_both_and_one_refused_bag_does_not_hold_up_the_other(
    site: Site, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE))

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    assert site.archived("W1") == SMALL_WORK
    assert {rid: work.stage for rid, work in site.works().items()} == {"W1": "done", "W2": "refused"}
    assert len(site.dead_letters()) == 1


def test_a_bag_that_is_still_frozen_is_recorded_as_waiting_and_comes_home_with_the_next_event(
    site: Site, tmp_path: Path
) -> None:
    bag_zip = make_bag_zip(tmp_path, "W3")
    with bag_zip.open("rb") as body:
        etag = site.s3.put_object(Bucket=site.bucket, Key=staging_key("W3"), Body=body, StorageClass="DEEP_ARCHIVE")[
            "ETag"
        ].strip('"')
    size = bag_zip.stat().st_size
    site.send({"Records": [site.event(staging_key("W3"), etag, size, name="ObjectCreated:Put")]})

    first = site.call("run", "--lanes", "1")
    waiting = site.works()["W3"].stage
    site.announce(bag_zip)  # put again, thawed, the same bytes: as after a restore
    second = site.call("run", "--lanes", "1")

    assert (first.returncode, waiting, second.returncode) == (0, "not-restored", 0), first.stderr + second.stderr
    assert site.archived("W3") == SMALL_WORK
    assert site.depth() == 0


def test_without_luigid_the_run_says_so_ends_with_3_and_loses_nothing(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    ended = site.call("run", PIPELINE_SCHEDULER_URL="http://127.0.0.1:9")

    assert ended.returncode == 3
    assert lines(ended.stderr, "luigid at http://127.0.0.1:9 does not answer", "--local-scheduler")
    assert site.depth() == 1
    assert site.hidden() == 0


def test_with_the_local_scheduler_and_one_lane_everything_happens_in_one_process(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    ended = site.call("run", "--lanes", "1", "--local-scheduler", PIPELINE_SCHEDULER_URL="http://127.0.0.1:9")

    assert ended.returncode == 0, ended.stderr
    assert site.archived("W1") == SMALL_WORK
    assert len({row["agent"].split("/")[1] for row in site.rows("events")}) == 1
