"""Promise 4 for dropped zips: killed right before or after anything that is visible, durable or gone: same result."""

import time
from pathlib import Path

import pytest

from tests.line.test_killed import IN_ONE_PROCESS, acts_of_lane
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.folders import add_folder, drop, lying_in
from tests.world.stack import SHORT_LEASE, Site, lines

FOLDER_POINTS = ("zip claimed", "zip identified", "zip set aside", "refusal reported")
BAD_IMAGE = "images/I1/I10001.jpg"

# The acts of one dropped zip's homecoming, and of one's refusal: see the first test.
MOVED = {"commit": 12, "rename": 6, "delete": 1}
DELETED = {"commit": 12, "rename": 5, "delete": 2}
REFUSED = {"commit": 9, "rename": 6, "delete": 1}
# Of these, what taking and settling a zip adds; the steps in between are those of messages: see test_killed.py.
MOVING = ["before commit 2", "before rename 5", "before rename 6", "after rename 6"]
MOVING += ["before commit 11", "before commit 12", *(point for point in FOLDER_POINTS if point.startswith("zip"))]
REFUSING = [f"before rename {number}" for number in range(3, 7)] + ["after rename 6", *FOLDER_POINTS[2:]]
REFUSING += ["before commit 7", "before commit 8", "before commit 9"]
DELETING = ["zip set aside", "before delete 2", "after delete 2"]


@pytest.mark.parametrize(
    ("done", "corrupt", "acts"), [("move", "", MOVED), ("delete", "", DELETED), ("move", BAD_IMAGE, REFUSED)]
)
def test_the_instants_tried_below_are_all_there_are(
    site: Site, tmp_path: Path, done: str, corrupt: str, acts: dict[str, int]
) -> None:
    inbox = add_folder(site, done=done)
    drop(make_bag_zip(tmp_path, "W1", corrupt=corrupt), inbox)

    site.call(*IN_ONE_PROCESS, PIPELINE_TEST_LOG_ACTS=str(tmp_path / "acts"))

    assert acts_of_lane(tmp_path / "acts") == acts


@pytest.mark.parametrize("instant", MOVING)
def test_killed_at_any_instant_and_run_again_the_work_is_home_once_and_its_zip_among_the_done_ones(
    site: Site, tmp_path: Path, instant: str
) -> None:
    inbox = add_folder(site)
    bag_zip = make_bag_zip(tmp_path, "W1")
    drop(bag_zip, inbox)

    killed = site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE)
    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    assert [path.read_bytes() for path in inbox.rglob("*.zip")] == [bag_zip.read_bytes()]  # never gone, never twice
    run_until_empty(site, inbox)

    assert lying_in(inbox) == ["done/W1.bag.zip"]
    assert (inbox / "done" / "W1.bag.zip").read_bytes() == bag_zip.read_bytes()
    assert_home_once(site)


@pytest.mark.parametrize("instant", DELETING)
def test_killed_while_deleting_and_run_again_the_zip_is_gone_and_the_work_home_once(
    site: Site, tmp_path: Path, instant: str
) -> None:
    inbox = add_folder(site, done="delete")
    drop(make_bag_zip(tmp_path, "W1"), inbox)

    killed = site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE)
    run_until_empty(site, inbox)

    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    assert lying_in(inbox) == []
    assert_home_once(site)


@pytest.mark.parametrize("instant", REFUSING)
def test_killed_while_refusing_and_run_again_the_zip_is_kept_once_with_its_report(
    site: Site, tmp_path: Path, instant: str
) -> None:
    inbox = add_folder(site)
    bag_zip = make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE)
    drop(bag_zip, inbox)

    killed = site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE)
    run_until_empty(site, inbox)

    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    (kept,) = (inbox / "refused").glob("*/*.zip")
    assert lying_in(inbox) == [str(kept.relative_to(inbox))]
    assert kept.read_bytes() == bag_zip.read_bytes()
    assert BAD_IMAGE in (kept.parent / "report.txt").read_text(encoding="utf-8")
    assert site.works()["W2"].stage == "refused"
    assert site.staged() == []


def assert_home_once(site: Site) -> None:
    assert site.archived("W1") == SMALL_WORK
    assert [row["work_rid"] for row in site.rows("syncs")] == ["W1"]
    assert site.works()["W1"].stage == "done"
    assert site.staged() == []


def run_until_empty(site: Site, inbox: Path) -> None:
    """Run as cron does, until the lease of the killed lane is over.

    Raises:
        AssertionError: it never settles.
    """
    over = time.monotonic() + 90
    while time.monotonic() < over:
        site.call(*IN_ONE_PROCESS)
        settled = all(work.stage in {"done", "refused"} for work in site.works().values())
        waiting = [*inbox.glob("*.zip"), *inbox.glob(".settling/*")]
        if settled and site.works() and not waiting and not site.staged():
            return
        site.wait_for_leases()
    raise AssertionError(f"not settled: {site.works()}, {lying_in(inbox)}")
