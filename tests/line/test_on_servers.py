"""The whole line and every verb on PostgreSQL and MariaDB: what other tests try on SQLite alone."""

import json
from pathlib import Path

import pytest

from tests.line.test_killed import BAD_IMAGE, HOMECOMING, IN_ONE_PROCESS, instants, run_until_empty
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import SHORT_LEASE, Site, lines

SERVERS = ["postgresql", "mariadb"]
COMMITS = [instant for instant in instants(HOMECOMING) if "commit" in instant]


@pytest.fixture
def served(tables_on_server: str, tmp_path: Path, moto_url: str, luigid_url: str) -> Site:
    """A site whose database is on a server, and has its tables, so that the lane's own commits are counted."""
    return Site.make(tmp_path / "site", moto_url, luigid_url, database_url=tables_on_server)


@pytest.mark.parametrize("instant", COMMITS)
def test_killed_around_any_commit_and_run_again_the_work_is_home_once(
    served: Site, tmp_path: Path, instant: str
) -> None:
    served.announce(make_bag_zip(tmp_path, "W1"))

    killed = served.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE)
    run_until_empty(served)

    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    assert served.archived("W1") == SMALL_WORK
    assert [row["work_rid"] for row in served.rows("syncs")] == ["W1"]
    assert served.works()["W1"].stage == "done"
    assert served.staged() == []
    assert served.dead_letters() == []


def test_every_verb_that_asks_or_repairs_does_so_on_every_server(served: Site, tmp_path: Path) -> None:
    script = tmp_path / "sync.sh"
    script.write_text("exit 7\n")
    served.announce(make_bag_zip(tmp_path, "W1"))
    served.announce(make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE))
    served.call("run", "--lanes", "2")
    served.announce(make_bag_zip(tmp_path, "W3"))
    served.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))

    def told(*words: str) -> str:
        ended = served.call(*words)
        assert ended.returncode == 0, (words, ended.stderr)
        return ended.stdout

    assert {one["work_rid"]: one["stage"] for one in json.loads(told("status", "--json"))["works"]} == {
        "W1": "done",
        "W2": "refused",
        "W3": "failed",
    }
    assert lines(told("status", "W2"), "debag", "failed")
    story = json.loads(told("explain", "W1", "--json"))
    assert story["bags"][0]["stage"] == "done"
    assert story["dates"]["restore_complete_on"] == "2026-04-06T00:11:23.730000Z"
    assert lines(told("verify", "--oldest", "1"), "1 work: 1 passed")
    assert lines(told("quarantine", "list"), "W2")
    assert lines(told("dead-letters", "list"), "W2")
    assert "W1" in told("report", "--csv")
    told("metrics", "--textfile", str(tmp_path / "pipeline.prom"))
    assert 'pipeline_bags{state="refused"} 1.0' in (tmp_path / "pipeline.prom").read_text()
    told("pause", "--reason", "the archive moves")
    paused = served.call("run", "--lanes", "1")
    assert lines(paused.stderr, "the archive moves")
    told("resume")
    told("skip", "W2", "--reason", "withdrawn", "--yes")
    told("retry", "--kind", "sync-failed")
    run_until_empty(served, also=("skipped",))

    assert served.archived("W3") == SMALL_WORK
    assert {rid: work.stage for rid, work in served.works().items()} == {"W1": "done", "W2": "skipped", "W3": "done"}
