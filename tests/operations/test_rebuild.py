"""A record that is lost is made anew from the archive: rows as they were, once each, and none without proof."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from pipeline import record
from pipeline.cli import main
from pipeline.record import Leases, rebuilt
from pipeline.record.tables import events, names, progress, syncs
from tests.world import warm
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines, tree
from tests.world.works import Home

REBUILD = ("db", "rebuild", "--from-archive", "--yes")
IMAGE = "images/I1/I10001.jpg"


def known(row: dict[str, Any]) -> tuple[Any, ...]:
    """What the archive can tell of a sync row."""
    facts = json.loads(row["facts"])
    return row["work_rid"], row["archive_path"], row["files"], row["bytes"], facts["proof"], facts["algorithms"]


def test_a_lost_record_is_rebuilt_and_a_message_finds_its_work_home_in_one_row(site: Site, tmp_path: Path) -> None:
    first, second = make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2")
    site.announce(first, second)
    site.call("run", "--lanes", "1")
    before, taken = site.rows("syncs"), site.rows("names")
    for file in site.home.glob("pipeline.db*"):
        file.unlink()

    unasked = site.call(*REBUILD[:-1])
    ended = site.call(*REBUILD)
    again = site.call(*REBUILD)
    after, home = site.rows("syncs"), site.call("work", "W2")
    checked = site.call("verify", "--all")
    archive = {path: path.stat().st_mtime_ns for path in (site.home / "archive").rglob("*")}
    site.announce(first)
    came = site.call("run", "--lanes", "1")
    once_more = site.call("work", "W2", "--from", "download")

    assert unasked.returncode == 2
    assert lines(unasked.stderr, "2 works in the archive have no sync row", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert lines(ended.stdout, "2 works without a row: 2 rebuilt")
    assert lines(again.stdout, "0 works without a row: nothing to do")
    assert sorted(map(known, after)) == sorted(map(known, before))
    assert sorted(row["skeleton"] for row in site.rows("names")) == sorted(row["skeleton"] for row in taken)
    assert all(row["sync_complete_on"] for row in site.rows("glacier_sync_progress"))
    assert lines(checked.stdout, "2 works: 2 passed")
    assert lines(home.stderr, "W2", "home already, nothing to do")
    assert came.returncode == 0, came.stderr
    assert {path: path.stat().st_mtime_ns for path in (site.home / "archive").rglob("*")} == archive
    assert once_more.returncode == 0, once_more.stderr
    assert sorted(row["bag_id"] for row in site.rows("syncs")) == sorted(row["bag_id"] for row in before)
    assert {rid: work.stage for rid, work in site.works().items()} == {"W1": "done", "W2": "done"}
    assert len(site.works()) == len(site.rows("bags")) == 2
    assert site.depth() == 0


class Archive:
    """An archive of works that came home, and a database in which nothing is."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.home = Home(folder)
        self.engine = record.connect(f"sqlite:///{folder}/pipeline.db")
        (folder / "pipeline.db").write_bytes(database.read_bytes())
        self.environment = {
            "PIPELINE_PIPELINE_STAGING": str(folder / "staging"),
            "PIPELINE_PIPELINE_LOGS": str(folder / "logs"),
            "PIPELINE_PIPELINE_ARCHIVE_ROOT": str(self.home.root),
            "PIPELINE_DATABASE_URL": f"sqlite:///{folder}/pipeline.db",
        }

    def bring(self, rid: str) -> Path:
        self.home.stage(rid, files=SMALL_WORK)
        return self.home.archive(rid).path

    def rows(self, table: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(table)).all())


@pytest.fixture
def archive(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    made = Archive(tmp_path, database)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def rebuild(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, tuple[str, str]]:
    """The ending of each work, and why."""
    assert main.main([*REBUILD, "--json", *words]) == status
    return {one["work_rid"]: (one["ending"], one["why"]) for one in json.loads(capsys.readouterr().out)["works"]}


def _put_back_a_link(work: Path) -> None:
    (work / IMAGE).unlink()
    (work / IMAGE).symlink_to("/etc/hostname")


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a file is missing": (lambda work: (work / IMAGE).unlink(), "wrong", f"{IMAGE} (is missing)"),
    "a file is longer": (lambda work: (work / IMAGE).write_bytes(b"x"), "wrong", "1 bytes instead of"),
    "a file is a link": (_put_back_a_link, "wrong", "is a link"),
    "the proof is another's": (
        lambda work: (work / "W1.bag/W1.digests.json").write_bytes(b'{"work_rid": "W2", "verified": "x", "files": {}}'),
        "wrong",
        "not this work's",
    ),
    "there is no proof": (lambda work: (work / "W1.bag/W1.digests.json").unlink(), "no-proof", "no proof"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_work_that_is_not_as_its_proof_says_gets_no_row_and_holds_up_no_other(
    archive: Archive, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    spoil, ending, why = WRONG[how]
    spoil(archive.bring("W1"))
    archive.bring("W2")

    found = rebuild(capsys, status=1 if ending == "wrong" else 0)

    assert found["W1"][0] == ending
    assert why in found["W1"][1]
    assert found["W2"] == ("rebuilt", "")
    assert [row.work_rid for row in archive.rows(syncs)] == ["W2"]


def test_bytes_are_read_where_that_is_asked_for_and_what_is_wrong_is_an_alarm(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    flipped = archive.bring("W1") / IMAGE
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"!")
    archive.bring("W2")

    found = rebuild(capsys, "--verify", status=1)

    assert (found["W1"][0], found["W2"]) == ("wrong", ("rebuilt", ""))
    assert IMAGE in found["W1"][1]
    assert [one.work_rid for one in record.broken(archive.engine)] == ["W1"]
    assert {(row.work_rid, row.outcome) for row in archive.rows(events) if row.step == "verify"} == {
        ("W1", "failed"),
        ("W2", "passed"),
    }
    assert rebuild(capsys)["W1"] == ("rebuilt", "")  # its sizes are right: no byte is read without --verify


def test_a_work_that_a_lane_has_is_left_to_it(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.bring("W1")
    assert Leases(archive.engine, owner="host/1/1/x", seconds=60).take("W1", "b")

    assert rebuild(capsys, status=1) == {"W1": ("busy", "a lane works on it")}
    assert archive.rows(syncs) == []


@pytest.mark.parametrize("instant", ["before commit 2", "after commit 2"])
def test_killed_and_run_again_each_work_has_its_rows_once(
    archive: Archive, capsys: pytest.CaptureFixture[str], instant: str
) -> None:
    archive.bring("W1")
    others = {name: text for name, text in os.environ.items() if not name.startswith("PIPELINE_")}
    environment = {**others, **archive.environment, "PIPELINE_TEST_KILL_AT": instant}

    killed = warm.ended(warm.start(REBUILD, environment=environment))
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM leases")  # as when it has ended
    rebuild(capsys)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row.bag_id for row in archive.rows(syncs)] == [rebuilt.stand_in("W1").bag_id]
    assert [len(archive.rows(table)) for table in (names, progress)] == [1, 1]
    assert [row.outcome for row in archive.rows(events)] == ["rebuilt"]


def test_an_archive_that_is_away_is_not_taken_for_an_empty_one(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.home.root.rmdir()

    assert main.main([*REBUILD]) == 3
    assert "may be unmounted" in capsys.readouterr().err
    assert tree(archive.home.folder).keys() >= {"pipeline.db"}
