"""What came home goes to a second bucket, is proved there, and can come home again."""

import csv
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import record
from pipeline.foundation.work import staging_key
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines, tree, wait_until
from tests.world.works import AWKWARD_WORK

SECOND = "PIPELINE_REPLICA_DEEP"


@pytest.fixture
def bucket(site: Site) -> Iterator[str]:
    """A replica `deep` of the site."""
    name = f"{site.bucket}-second"
    site.s3.create_bucket(Bucket=name)
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as file:
        file.write(f"[replica deep]\nregion = us-east-1\nbucket = {name}\nendpoint_url = {site.moto_url}\n")
    yield name
    for upload in site.s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
        site.s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])


def thawed(site: Site, bucket: str, rid: str, folder: Path) -> Path:
    """The copy as a restore from the deep archive brings it."""
    key, path = staging_key(rid), folder / f"{rid}.bag.zip"
    site.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 1})
    site.s3.head_object(Bucket=bucket, Key=key)
    path.write_bytes(site.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return path


def test_a_work_that_came_home_has_a_second_copy_and_its_message_is_gone(
    site: Site, bucket: str, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    ended = site.call("run")

    assert ended.returncode == 0, ended.stderr
    assert (site.archived("W1"), site.depth(), site.staged()) == (SMALL_WORK, 0, [])
    head = site.s3.head_object(Bucket=bucket, Key=staging_key("W1"), ChecksumMode="ENABLED")
    (row,) = site.rows("replicas")
    assert (row["work_rid"], row["replica"], row["upload_id"]) == ("W1", "deep", "")
    assert row["checksum"].startswith(head["ChecksumSHA256"])
    assert (row["bytes"], head["StorageClass"]) == (head["ContentLength"], "DEEP_ARCHIVE")
    assert [work["state"] for work in site.rows("bags")] == ["done"]
    (told,) = csv.DictReader(io.StringIO(site.call("report", "--csv", "-").stdout))
    assert (told["second_copies"], told["second_copies_seen_on"][:2]) == ("deep", "20")
    assert f"in deep, {staging_key('W1')}, " in site.call("explain", "W1").stdout
    assert json.loads(site.call("status", "--json").stdout)["replicas"] == {
        "deep": {"works": 1, "failed": 0, "behind": 0}
    }
    checked = json.loads(site.call("check", "--json").stdout)["checks"]
    assert [row["detail"] for row in checked if row["what"] == "replica deep"] == [
        "takes DEEP_ARCHIVE, keeps no versions"
    ]
    assert "Uploads" not in site.s3.list_multipart_uploads(Bucket=bucket)


def test_a_copy_comes_home_again_by_this_very_line_with_every_file(site: Site, bucket: str, tmp_path: Path) -> None:
    names = ("བོད་ཡིག.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg", "n" * 255, "empty", ".hidden", " blanks around ")
    files = {f"images/{name}": AWKWARD_WORK[name] for name in names}
    site.announce(make_bag_zip(tmp_path, "W1", files=files))
    assert site.call("run").returncode == 0
    before = tree(site.home / "archive" / "Archive0" / "00" / "W1")
    (site.home / "archive").rename(site.home / "lost")
    (site.home / "archive").mkdir()

    site.announce(thawed(site, bucket, "W1", tmp_path))
    ended = site.call("run")

    assert ended.returncode == 0, ended.stderr
    after = tree(site.home / "archive" / "Archive0" / "00" / "W1")
    assert after == before  # tag files, manifests and kept digests too
    assert (
        len({row["checksum"].partition("-")[0] for row in site.rows("replicas")}) == 1
    )  # the same content is not sent again


def test_a_bucket_that_cannot_be_reached_holds_up_no_work(site: Site, bucket: str, tmp_path: Path) -> None:
    site.s3.delete_bucket(Bucket=bucket)
    site.announce(make_bag_zip(tmp_path, "W1"))

    assert site.call("run").returncode == 1
    assert (site.archived("W1"), site.staged(), len(site.rows("syncs"))) == (SMALL_WORK, [], 1)
    assert (site.depth(), site.rows("replicas")) == (1, [])
    (need,) = json.loads(site.call("status", "--json").stdout)["needs_you"]
    assert (need["what"], need["go_on"]) == ("1 bag failed, tried again by itself", "run_pipeline.py explain W1")

    site.s3.create_bucket(Bucket=bucket)
    assert site.call("retry", "W1").returncode == 0
    ended = site.call("run")

    assert ended.returncode == 0, ended.stderr
    assert [row["replica"] for row in site.rows("replicas")] == ["deep"]
    assert len([row for row in site.rows("events") if (row["step"], row["outcome"]) == ("download", "done")]) == 1


def test_a_file_that_rotted_stops_the_copy_and_nothing_is_sent(site: Site, bucket: str, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", PIPELINE_REPLICA_DEEP_SOURCES="test", PIPELINE_REPLICA_DEEP_BUCKET="none-such")
    image = site.home / "archive" / "Archive0" / "00" / "W1" / next(iter(SMALL_WORK))
    image.write_bytes(bytes(len(image.read_bytes())))

    ended = site.call("replicate", "W1", "--json")

    assert ended.returncode == 1
    (failed,) = json.loads(ended.stdout)["failed"]
    assert str(image) in failed["error"]
    assert "run_pipeline.py verify W1" in failed["error"]
    assert "Contents" not in site.s3.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in site.s3.list_multipart_uploads(Bucket=bucket)


def test_works_that_came_home_before_get_their_copies_by_a_verb_and_are_looked_at(
    site: Site, bucket: str, tmp_path: Path
) -> None:
    (site.home / "luigi.cfg").write_text((site.home / "luigi.cfg").read_text().partition("[replica")[0])
    site.announce(make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2"))
    assert site.call("run").returncode == 0
    told = {"PIPELINE_REPLICA_DEEP_REGION": "us-east-1"}
    assert site.call("replicate", "--owed", "--yes", **told).returncode == 2  # a variable alone makes no replica
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as file:
        file.write(f"[replica deep]\nregion = us-east-1\nbucket = {bucket}\nendpoint_url = {site.moto_url}\n")

    asked = site.call("replicate", "--owed")
    assert asked.returncode == 2
    assert lines(asked.stderr, "2 second copies", "6 requests", "[prices us-east-1] second_copy is not set")
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as file:
        file.write("[prices us-east-1]\nsecond_copy = 50, 0\n")
    assert lines(site.call("replicate", "--owed").stderr, "0.30 USD to send, 0.00 USD a month to keep")

    made = site.call("replicate", "--owed", "--yes", "--json")
    assert json.loads(made.stdout) == {"asked": 2, "failed": []}, made.stderr
    assert json.loads(site.call("replicate", "--owed", "--yes", "--json").stdout)["asked"] == 0
    assert json.loads(site.call("verify", "--replica", "--all", "--json").stdout)["verdicts"] == {"passed": 2}

    site.s3.delete_object(Bucket=bucket, Key=staging_key("W2"))
    looked = site.call("verify", "--replica", "--all")
    assert looked.returncode == 1
    assert "W2: failed: its copy in deep is gone" in looked.stdout
    needed = json.loads(site.call("status", "--json").stdout)["needs_you"]
    assert ("1 second copy failed the last look", "run_pipeline.py verify --replica --all") in [
        (one["what"], one["go_on"]) for one in needed
    ]


def test_a_work_that_another_host_has_in_hand_is_left_to_it(site: Site, bucket: str, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", PIPELINE_REPLICA_DEEP_BUCKET="none-such")
    engine = record.connect(site.database_url)
    record.Leases(engine, owner="other/1/1/x", seconds=300).take("W1", "")
    engine.dispose()

    ended = site.call("replicate", "W1")

    assert ended.returncode == 1
    assert "W1: a lane works on it; its second copy was not made" in ended.stdout
    assert "Contents" not in site.s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("instant", ["part 1 sent", "upload finished, not recorded"])
def test_a_killed_upload_goes_on_with_what_s3_has(site: Site, bucket: str, tmp_path: Path, instant: str) -> None:
    files = {f"images/{number}.bin": os.urandom(9 << 20) for number in range(4)}
    site.announce(make_bag_zip(tmp_path, "W1", files=files))
    lease = {"PIPELINE_QUEUE_LEASE_SECONDS": "4", "PIPELINE_QUEUE_HEARTBEAT_SECONDS": "1"}

    killed = site.call_anew("run", "--lanes", "1", PIPELINE_TEST_KILL_AT=instant, **lease)
    assert killed.returncode != 0
    wait_until(lambda: site.rows("leases")[0]["until"] < f"{datetime.now(UTC):%F %T}")
    ended = site.call("run")

    assert ended.returncode == 0, ended.stderr
    (row,) = site.rows("replicas")
    assert row["sent_on"] is not None
    assert "Uploads" not in site.s3.list_multipart_uploads(Bucket=bucket)
    sent = [json.loads(one["detail"]) for one in site.rows("events") if one["step"] == "replicate"]
    assert sent[-1]["parts_sent"] < sent[-1]["parts"]
