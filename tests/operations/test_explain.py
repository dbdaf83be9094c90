"""`explain RID`: the whole story of a work, and the command that goes on."""

import json
from pathlib import Path
from typing import Any

from tests.world.bags import bag_members, make_bag_zip, write_zip
from tests.world.stack import Site, lines

BAD_IMAGE = "images/I1/I10001.jpg"


def explained(site: Site, rid: str, **settings: str) -> dict[str, Any]:
    ended = site.call("explain", rid, "--json", **settings)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_a_work_that_is_home_is_told_from_restore_to_proof(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1")

    told, plain = explained(site, "W1"), site.call("explain", "W1").stdout

    (bag,) = told["bags"]
    assert (bag["stage"], bag["attempts"]) == (
        "done",
        {"download": {"done": 1}, "debag": {"done": 1}, "sync": {"done": 1}},
    )
    assert bag["verification"]["download"]["verified"] == "size"
    assert bag["verification"]["debag"]["download"] == "manifest"
    assert bag["verification"]["debag"]["verified"] == ["manifest"]
    assert bag["verification"]["sync"]["proof"]["sha512"]
    assert bag["archived"][0]["archive_path"] == told["archive_path"] == str(site.home / "archive/Archive0/00/W1")
    assert bag["on_disk"] == []
    assert told["dates"]["restore_complete_on"] == "2026-04-06T00:11:23.730000Z"
    assert [event["step"] for event in told["history"]] == ["intake", "download", "debag", "sync"]
    assert told["next"]["command"] == "run_pipeline.py verify W1"
    assert lines(plain, "next", "it is home")
    assert lines(plain, "debag", "verified by manifest", "the download proved by manifest")


def test_a_refused_bag_says_why_where_it_is_kept_and_what_to_look_at(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE))
    site.call("run", "--lanes", "1")

    told, plain = explained(site, "W2"), site.call("explain", "W2").stdout

    (bag,) = told["bags"]
    assert (bag["stage"], bag["error"]["kind"]) == ("refused", "invalid-bag")
    assert [Path(one["path"]).name for one in bag["on_disk"]] == ["W2.bag.zip", "report.txt"]
    assert all(Path(one["path"]).stat().st_size == one["bytes"] for one in bag["on_disk"])
    assert told["next"]["command"] == "run_pipeline.py quarantine show W2"
    assert lines(plain, "why", BAD_IMAGE)
    assert lines(plain, "debag", "failed", BAD_IMAGE)
    assert lines(plain, "dead-lettered")


def test_a_frozen_work_comes_with_the_command_that_asks_for_its_restore(site: Site) -> None:
    key = "odd place/W3.bag.zip"
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"zip", StorageClass="DEEP_ARCHIVE")
    etag = site.s3.head_object(Bucket=site.bucket, Key=key)["ETag"].strip('"')
    site.send({"Records": [site.event("odd+place/W3.bag.zip", etag, 3, name="ObjectCreated:Put")]})
    site.call("run", "--lanes", "1")

    told = explained(site, "W3")

    assert told["bags"][0]["stage"] == "not-restored"
    assert told["next"]["command"] == "run_pipeline.py restore W3"
    asked = site.call("restore", "W3", "--yes")
    assert lines(asked.stdout, "1 work in the line"), asked.stderr
    assert [row["object_key"] for row in site.rows("wants")] == [key]
    then = explained(site, "W3")
    assert then["next"]["command"] == "run_pipeline.py restore list W3"
    assert [one["state"] for one in then["wanted"]] == ["wanted"]


def test_a_failed_work_says_when_it_is_tried_again_and_what_lies_in_staging(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "sync.sh"
    script.write_text("exit 7\n")
    site.announce(make_bag_zip(tmp_path, "W4"))
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))

    told = explained(site, "W4")

    (bag,) = told["bags"]
    assert (bag["stage"], bag["error"]["kind"], bag["failures"]) == ("failed", "sync-failed", 1)
    assert bag["attempts"]["sync"] == {"failed": 1}
    assert [one["what"] for one in bag["on_disk"]] == [
        "the zip, downloaded and vouched for",
        "the work, verified and unpacked",
    ]
    assert bag["retry_on"] > told["at"]
    assert bag["retry_on"][:10] in told["next"]["what"]
    assert told["next"]["command"] == "run_pipeline.py retry W4"


def test_a_work_in_a_zip_of_several_finds_the_story_of_the_zip_also_before_it_is_home(
    site: Site, tmp_path: Path
) -> None:
    site.settings["PIPELINE_SOURCE_TEST_SEVERAL_WORKS"] = "true"
    script = tmp_path / "sync.sh"
    script.write_text("exit 7\n")
    site.announce(write_zip(tmp_path / "W5.bag.zip", bag_members("W5") | bag_members("W6")))
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))
    before = explained(site, "W6")
    site.call("work", "W5")
    after = explained(site, "W6")

    assert (before["bags"][0]["stage"], before["bags"][0]["works"]) == ("failed", ["W5", "W6"])
    assert after["bags"][0]["stage"] == "done"
    assert "download" in [event["step"] for event in after["history"]]
    assert ("sync", "W6") in [(event["step"], event["work_rid"]) for event in after["history"]]


def test_a_work_that_nobody_knows_is_wrong_usage_with_a_way_on(site: Site) -> None:
    ended = site.call("explain", "W4711")

    assert ended.returncode == 2
    assert lines(ended.stderr, "W4711", "run_pipeline.py work W4711")
    assert site.call("explain", "../etc").returncode == 2
