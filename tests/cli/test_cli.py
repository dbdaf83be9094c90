"""The command line: a contract that scripts rely on."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines, tree

BAD_IMAGE = "images/I1/I10001.jpg"


def test_work_takes_an_s3_address(site: Site, tmp_path: Path) -> None:
    site.put(make_bag_zip(tmp_path, "W1"), key="odd/place/W1.bag.zip")

    ended = site.call("work", f"s3://{site.bucket}/odd/place/W1.bag.zip")

    assert ended.returncode == 0, ended.stderr
    assert site.archived("W1") == SMALL_WORK


def test_work_takes_a_rid_that_lies_where_a_work_of_that_name_would(site: Site, tmp_path: Path) -> None:
    site.put(make_bag_zip(tmp_path, "W1FPL2251"))

    assert site.call("work", "W1FPL2251").returncode == 0
    assert site.archived("W1FPL2251") == SMALL_WORK


def test_work_takes_a_local_zip_and_leaves_it_where_it_is(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    before = bag_zip.read_bytes()

    ended = site.call("work", str(bag_zip), "--local-scheduler")

    assert ended.returncode == 0, ended.stderr
    assert site.archived("W1") == SMALL_WORK
    assert bag_zip.read_bytes() == before
    assert site.staged() == []


def test_work_does_not_do_again_what_is_done_unless_from_says_so(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    site.call("work", str(bag_zip))

    idle = site.call("work", str(bag_zip))
    busy = site.call("work", str(bag_zip), "--from", "debag")

    assert lines(idle.stderr, "W1: home already, nothing to do")
    assert not lines(idle.stderr, "debagging")
    assert lines(busy.stderr, "W1: debagged")
    assert busy.returncode == 0, busy.stderr


def test_a_refused_bag_is_tried_again_by_hand_without_paying_for_it_twice(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE))
    site.call("run", "--lanes", "1")

    again = site.call("work", "W2")

    assert again.returncode == 1
    assert not lines(again.stderr, "downloading")
    assert lines(again.stderr, "W2: the bag is refused", BAD_IMAGE)
    assert len(list((site.home / "quarantine").glob("W2-*/W2.bag.zip"))) == 1


@pytest.mark.parametrize("target", ["../etc", "W 1 ", "s3://bucket", "-W1.zip/x", "a/b"])
def test_a_target_that_is_none_is_wrong_usage(site: Site, target: str) -> None:
    ended = site.call("work", "--", target)

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_a_rid_that_nobody_knows_says_where_it_was_looked_for(site: Site) -> None:
    ended = site.call("work", "W4711")

    assert ended.returncode == 2
    assert lines(ended.stderr, "W4711", "Archive0/11/W4711/W4711.bag.zip", site.bucket)


def test_all_wrong_settings_are_told_at_once_by_name(site: Site) -> None:
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write("[source broken]\nregion = us-east-1\n[debag]\nmax_ration = 3\n")

    ended = site.call("run", PIPELINE_PIPELINE_LANES="0", PIPELINE_ENV="production")

    assert ended.returncode == 2
    for name in (
        "[source broken] bucket",
        "[source broken] queue",
        "[pipeline] lanes",
        "PIPELINE_ENV",
        "'max_ration'",
    ):
        assert lines(ended.stderr, name), f"{name} is not told: {ended.stderr}"


def test_values_that_cannot_be_read_are_told_each_by_its_name(site: Site) -> None:
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write("[sync]\ncopier = rsync\n[debag]\nthreads = many\nthread = 4\n")

    ended = site.call("check", PIPELINE_QUEUE_LEASE_SECONDS="soon")

    assert ended.returncode == 2
    for name in ("[sync] copier", "[debag] threads", "[queue] lease_seconds", "[debag] has no setting 'thread'"):
        assert len(lines(ended.stdout, name)) == 1, f"{name} is not told once: {ended.stdout}"


def test_a_setting_that_is_no_number_is_told_without_a_traceback(site: Site) -> None:
    ended = site.call("run", PIPELINE_QUEUE_LEASE_SECONDS="soon")

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "soon" in ended.stderr


def test_without_any_source_run_says_what_is_missing(site: Site) -> None:
    config = site.home / "luigi.cfg"
    config.write_text("[pipeline]\n", encoding="utf-8")

    ended = site.call("run", PIPELINE_DATABASE_URL=f"sqlite:///{site.home}/x.db")

    assert ended.returncode == 2
    assert lines(ended.stderr, "[source NAME]")


def test_a_queue_that_does_not_answer_ends_the_run_with_3(site: Site) -> None:
    ended = site.call("run", "--lanes", "1", PIPELINE_SOURCE_TEST_QUEUE="nowhere")

    assert ended.returncode == 3
    assert lines(ended.stderr, "nowhere")


def test_status_tells_works_queues_and_reasons(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.announce(make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE))
    site.send("nonsense")
    site.call("run")

    plain, document = site.call("status"), json.loads(site.call("status", "--json").stdout)

    assert plain.returncode == 0
    assert lines(plain.stdout, "W1", "done", "Archive0")
    assert lines(plain.stdout, "W2", "refused", BAD_IMAGE)
    assert lines(plain.stdout, site.queue, "0 waiting", "2 dead letters")
    assert lines(plain.stdout, "not understood")
    assert {work["work_rid"]: work["stage"] for work in document["works"]} == {"W1": "done", "W2": "refused"}
    assert document["bags"] == {"done": 1, "refused": 1}


def test_status_of_a_work_tells_its_whole_story(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run")

    story = json.loads(site.call("status", "W1", "--json").stdout)["history"]

    assert [(event["step"], event["outcome"]) for event in story] == [
        ("intake", "seen"),
        ("download", "done"),
        ("debag", "done"),
        ("sync", "done"),
    ]
    assert (story[1]["detail"]["verified"], story[2]["detail"]["download"]) == ("size", "manifest")


def test_check_gives_each_thing_its_verdict(site: Site) -> None:
    well = site.call("check")
    ill = json.loads(site.call("check", "--json", PIPELINE_SCHEDULER_URL="http://127.0.0.1:9").stdout)

    assert well.returncode == 0, well.stdout
    for name in ("settings", "database", "scheduler", site.queue, site.bucket, "staging", "archive", "sync script"):
        assert lines(well.stdout, name, " ok ")
    assert [row["what"] for row in ill["checks"] if row["verdict"] == "wrong"] == ["scheduler"]


def test_check_names_what_does_not_answer_and_ends_with_3(site: Site) -> None:
    (site.home / "archive").rmdir()

    ended = site.call(
        "check",
        PIPELINE_SOURCE_TEST_BUCKET="nowhere",
        PIPELINE_SYNC_SCRIPT="/nowhere.sh",
        PIPELINE_SCHEDULER_URL="http://127.0.0.1:9",
    )

    assert ended.returncode == 3
    for name in ("archive", "bucket nowhere", "sync script", "scheduler"):
        assert lines(ended.stdout, name, "wrong")


def test_a_password_in_the_database_s_url_is_never_shown(site: Site) -> None:
    url = "postgresql://reader:hunter2@127.0.0.1:9/works"

    for verb in ("check", "status", "run"):
        ended = site.call(verb, PIPELINE_DATABASE_URL=url)
        assert ended.returncode in {2, 3}
        assert "hunter2" not in ended.stdout + ended.stderr


def test_debag_needs_no_settings_and_tells_works_as_json(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path / "in", "W1")

    ended = site.call("debag", str(bag_zip), "--into", str(tmp_path / "out"), "--json", LUIGI_CONFIG_PATH="/nowhere")

    document = json.loads(ended.stdout)
    assert ended.returncode == 0, ended.stderr
    assert document["works"] == [
        {
            "rid": "W1",
            "path": str(tmp_path / "out" / "W1"),
            "files": len(SMALL_WORK),
            "bytes": sum(map(len, SMALL_WORK.values())),
        }
    ]
    assert document["faults"] == []
    unpacked = tree(tmp_path / "out" / "W1")
    assert {name: unpacked[name] for name in SMALL_WORK} == SMALL_WORK


def test_debag_tells_every_fault_and_ends_with_1(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path / "in", "W1", corrupt=BAD_IMAGE)

    ended = site.call("debag", str(bag_zip), "--into", str(tmp_path / "out"), "--json")

    (fault,) = json.loads(ended.stdout)["faults"]
    assert ended.returncode == 1
    assert (fault["bag"], fault["path"]) == ("W1.bag", f"data/{BAD_IMAGE}")
    assert set(fault) == {"kind", "bag", "path", "detail"}
    assert not (tmp_path / "out" / "W1").exists()


def test_bag_makes_what_debag_takes_apart(site: Site, tmp_path: Path) -> None:
    for name, content in SMALL_WORK.items():
        path = tmp_path / "W1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    made = site.call("bag", str(tmp_path / "W1"), "--into", str(tmp_path / "bags"))
    taken = site.call("debag", str(tmp_path / "bags" / "W1.bag.zip"), "--into", str(tmp_path / "out"))

    assert (made.returncode, taken.returncode) == (0, 0), made.stderr + taken.stderr
    unpacked = tree(tmp_path / "out" / "W1")
    assert {name: unpacked[name] for name in SMALL_WORK} == SMALL_WORK


def test_wrong_usage_is_2_and_help_is_0(site: Site) -> None:
    assert site.call("nonsense").returncode == 2
    assert site.call("debag").returncode == 2
    assert site.call("--help").returncode == 0
    assert lines(site.call("work", "--help").stdout, "--from")


def test_db_tells_and_makes_the_tables(site: Site) -> None:
    (site.home / "pipeline.db").unlink()
    before = site.call("db", "status")
    made = site.call("db", "upgrade")

    assert (before.returncode, made.returncode) == (1, 0), made.stderr
    connection = sqlite3.connect(site.home / "pipeline.db")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert {"glacier_sync_progress", "bags", "syncs", "events", "leases"} <= tables
