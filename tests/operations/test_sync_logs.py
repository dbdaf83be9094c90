"""One place to find what a work's syncs and audits printed."""

import json
import shutil
from pathlib import Path

from tests.world.bags import bag_members, make_bag_zip, write_zip
from tests.world.stack import Site, lines

FAILS = "echo the disk is full of '\033[31m' ; exit 7\n"
AUDITS = 'mkdir -p "$auditToolLogDateTimeDir"; echo all well > "$auditToolLogDateTimeDir/W1-audit.csv"\n'


def sync_logs(site: Site, rid: str) -> list[dict[str, object]]:
    ended = site.call("explain", rid, "--json")
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, object]] = json.loads(ended.stdout)["sync_logs"]
    return found


def script(tmp_path: Path, content: str) -> dict[str, str]:
    file = tmp_path / "sync.sh"
    file.write_text(content)
    return {"PIPELINE_SYNC_SCRIPT": str(file)}


def test_the_log_of_the_last_sync_is_shown_and_with_all_those_before_it(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1", **script(tmp_path, FAILS))
    failed = site.call("log", "W1")
    site.call("work", "W1")

    last, every = site.call("log", "W1"), site.call("log", "W1", "--all")

    assert failed.returncode == last.returncode == every.returncode == 0
    assert lines(failed.stdout, "the disk is full of")
    assert "\033" not in failed.stdout
    assert lines(failed.stdout, "exit status 7")
    assert lines(last.stdout, "files added to")
    assert not lines(last.stdout, "the disk is full of")
    assert [line.split(",")[0] for line in lines(every.stdout, "== W1")] == ["== W1: sync failed", "== W1: sync done"]


def test_path_names_the_sync_log_and_what_the_audit_tool_left(site: Site, tmp_path: Path) -> None:
    bundled = Path(__file__).parents[2] / "bin" / "syncOneWork.sh"
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1", **script(tmp_path, f'{AUDITS}exec bash {bundled} "$@"\n'))

    named = [Path(line) for line in site.call("log", "W1", "--path").stdout.splitlines()]

    assert [(file.suffix, file.is_file()) for file in named] == [(".log", True), (".csv", True)]
    assert "files added to" in named[0].read_text()
    assert named[1].read_text() == "all well\n"
    explained, status = site.call("explain", "W1").stdout, site.call("status", "W1").stdout
    assert lines(explained, "sync log", str(named[0]), str(named[1].parent))
    assert lines(status, "sync log", str(named[0]))
    assert json.loads(site.call("status", "W1", "--json").stdout)["sync_logs"] == sync_logs(site, "W1")


def test_a_copy_that_came_back_wrong_leads_to_the_log_of_its_script_too(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1", **script(tmp_path, "echo I copied nothing\n"))

    (one,) = sync_logs(site, "W1")

    assert one["outcome"] == "failed"
    assert "I copied nothing" in Path(str(one["log"])).read_text()


def test_a_sync_that_was_killed_and_recorded_nothing_still_has_its_log(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    killing = script(tmp_path, "echo half way; sleep 1; kill -KILL $PPID\n")
    site.call("run", "--lanes", "1", "--local-scheduler", **killing)

    (one,) = sync_logs(site, "W1")

    assert (one["outcome"], one["there"]) == ("not recorded", True)
    assert lines(site.call("log", "W1").stdout, "half way")


def test_what_another_host_wrote_is_named_with_that_host(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1", PIPELINE_PIPELINE_HOST="far")
    shutil.rmtree(site.home / "logs")

    ended = site.call("log", "W1", PIPELINE_PIPELINE_HOST="near")
    gone = site.call("log", "W1", PIPELINE_PIPELINE_HOST="far")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert lines(ended.stderr, "W1", "is on host far")
    assert lines(gone.stderr, "W1", "is not there any more")


def test_a_work_from_a_zip_of_several_has_its_own_log(site: Site, tmp_path: Path) -> None:
    site.settings["PIPELINE_SOURCE_TEST_SEVERAL_WORKS"] = "true"
    site.announce(write_zip(tmp_path / "W5.bag.zip", bag_members("W5") | bag_members("W6")))
    site.call("run", "--lanes", "1")

    assert lines(site.call("log", "W6").stdout, "W6: ", "files added to")
    assert not lines(site.call("log", "W6").stdout, "W5: ")


def test_a_work_without_a_log_and_one_that_nobody_knows(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")

    refused, unknown = site.call("log", "W2"), site.call("log", "W4711")

    assert (refused.returncode, refused.stdout) == (0, "")
    assert lines(refused.stderr, "no sync of it has left a log", "run_pipeline.py explain W2")
    assert unknown.returncode == 2
    assert site.call("log", "../etc").returncode == 2
