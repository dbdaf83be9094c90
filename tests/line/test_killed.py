"""Promise 4: killed right before or after anything that becomes visible, durable or gone, run again: same result."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.foundation.work import archive_dir
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import SHORT_LEASE, Site, lines

# The named points of a message's homecoming; those of a dropped zip are in test_folder_killed.py.
POINTS = (
    "message received",
    "leases taken",
    "download half-way",
    "downloaded, not vouched for",
    "debag published, not recorded",
    "sync copied, not committed",
    "half cleared",
)
BAD_IMAGE = "images/I1/I10001.jpg"

# The acts of one work's homecoming, and of one bag's refusal, in the lane that does them: see the first test.
HOMECOMING = {"commit": 9, "rename": 5, "delete": 1, "acknowledge": 1}
# With the built-in copier, where the archive has some of the work, so that its files get their names one by one.
# Up to the sync's first act, the third rename, the copier has no part in it.
COPIED = {"commit": 9, "rename": 7, "delete": 1, "acknowledge": 1}
BUILTIN = {"PIPELINE_SYNC_COPIER": "builtin"}
LOCAL = BUILTIN | {"PIPELINE_SYNC_STAGING": "local"}
THERE_BEFORE = "images/I1/I10001.jpg"
REFUSAL = {"commit": 8, "rename": 8, "delete": 1, "send": 1, "acknowledge": 1}
IN_ONE_PROCESS = ("run", "--lanes", "1")


def instants(acts: dict[str, int]) -> list[str]:
    """Right before each act, and right after the last of each kind: after one act is before the next."""
    found = [f"before {kind} {number}" for kind, count in acts.items() for number in range(1, count + 1)]
    return [*found, *(f"after {kind} {count}" for kind, count in acts.items())]


def acts_of_lane(log: Path) -> dict[str, int]:
    """How often the busiest process did what."""
    acts: dict[str, dict[str, int]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        pid, when, kind, number = line.split()
        if when == "after":
            acts.setdefault(pid, {})[kind] = int(number)
    return max(acts.values(), key=lambda counts: sum(counts.values()))


@pytest.mark.parametrize(("corrupt", "acts"), [("", HOMECOMING), (BAD_IMAGE, REFUSAL)])
def test_the_instants_tried_below_are_all_there_are(
    site: Site, tmp_path: Path, corrupt: str, acts: dict[str, int]
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1", corrupt=corrupt))

    site.call(*IN_ONE_PROCESS, PIPELINE_TEST_LOG_ACTS=str(tmp_path / "acts"))

    assert acts_of_lane(tmp_path / "acts") == acts


@pytest.mark.parametrize("instant", [*POINTS, *instants(HOMECOMING)])
def test_killed_at_any_instant_and_run_again_the_work_is_home_once(site: Site, tmp_path: Path, instant: str) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    killed = site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE)
    run_until_empty(site)

    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    assert site.archived("W1") == SMALL_WORK
    assert not list((site.home / "archive").rglob(".*"))
    assert [row["work_rid"] for row in site.rows("syncs")] == ["W1"]
    assert site.works()["W1"].stage == "done"
    assert site.staged() == []
    assert site.dead_letters() == []


@pytest.mark.parametrize(
    ("settings", "some_there", "acts"), [(BUILTIN, True, COPIED), (BUILTIN, False, HOMECOMING), (LOCAL, True, COPIED)]
)
def test_the_instants_of_the_built_in_copier_are_all_there_are(
    site: Site, tmp_path: Path, settings: dict[str, str], acts: dict[str, int], *, some_there: bool
) -> None:
    if some_there:
        begin_in_the_archive(site)
    site.announce(make_bag_zip(tmp_path, "W1"))

    site.call(*IN_ONE_PROCESS, PIPELINE_TEST_LOG_ACTS=str(tmp_path / "acts"), **settings)

    assert acts_of_lane(tmp_path / "acts") == acts


@pytest.mark.parametrize(
    ("instant", "some_there", "settings"),
    [
        ("before rename 3", True, BUILTIN),  # copied and proved, not noted
        ("before rename 5", True, BUILTIN),  # some files have their names
        ("before rename 5", True, LOCAL),
        (f"before rename {COPIED['rename']}", True, LOCAL),  # all have; the proof is not written
        (f"after rename {COPIED['rename']}", True, BUILTIN),
        ("after rename 4", False, LOCAL),  # the whole work, in one rename
        ("debag published, not recorded", False, BUILTIN),
        ("before rename 4", False, BUILTIN),  # unpacked in the archive and proved there: it has no name yet
        ("after rename 4", False, BUILTIN),
        ("sync copied, not committed", False, BUILTIN),
        ("half cleared", False, BUILTIN),
    ],
)
def test_killed_in_the_built_in_copier_and_run_again_the_work_is_home_once(
    site: Site, tmp_path: Path, instant: str, settings: dict[str, str], *, some_there: bool
) -> None:
    if some_there:
        begin_in_the_archive(site)
    site.announce(make_bag_zip(tmp_path, "W1"))

    killed = site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE, **settings)
    run_until_empty(site, settings=settings)

    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    assert site.archived("W1") == SMALL_WORK
    assert not list((site.home / "archive").rglob(".*"))
    assert [row["work_rid"] for row in site.rows("syncs")] == ["W1"]
    assert site.works()["W1"].stage == "done"
    assert (site.staged(), site.dead_letters()) == ([], [])
    assert [(event["step"], event["outcome"]) for event in site.rows("events")].count(("debag", "done")) == 1


def begin_in_the_archive(site: Site, rid: str = "W1") -> None:
    """One file of a work is in the archive already."""
    target = archive_dir(site.home / "archive", rid) / THERE_BEFORE
    target.parent.mkdir(parents=True)
    target.write_bytes(SMALL_WORK[THERE_BEFORE])


@pytest.mark.parametrize("instant", instants(REFUSAL))
def test_killed_while_refusing_a_bag_and_run_again_it_is_kept_once_with_its_report(
    site: Site, tmp_path: Path, instant: str
) -> None:
    bag_zip = make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE)
    site.announce(bag_zip)

    killed = site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE)
    run_until_empty(site)

    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    (kept,) = (site.home / "quarantine").iterdir()
    assert (kept / "W2.bag.zip").read_bytes() == bag_zip.read_bytes()
    assert BAD_IMAGE in (kept / "report.txt").read_text(encoding="utf-8")
    assert site.works()["W2"].stage == "refused"
    assert site.staged() == []
    # Sent, then recorded: killed in between, SQS has it twice; never not at all.
    between = {"after send 1", f"before commit {REFUSAL['commit'] - 1}"}  # the last commit gives the lease back
    assert len(site.dead_letters()) == (2 if instant in between else 1)
    assert not (site.home / "archive" / "Archive0").exists()


def run_until_empty(site: Site, *, also: tuple[str, ...] = (), settings: Mapping[str, str] | None = None) -> None:
    """Run as cron does, until the lease of the killed lane and the invisibility of its message are over.

    Raises:
        AssertionError: it never settles.
    """
    over, lease = time.monotonic() + 90, SHORT_LEASE
    while time.monotonic() < over:
        site.call(*IN_ONE_PROCESS, **lease, **(settings or {}))  # the first one, while another's lease goes on
        settled = all(work.stage in {"done", "refused", *also} for work in site.works().values())
        if site.depth() == 0 and settled and not site.staged():
            return
        site.wait_for_leases()
        lease = {}
    raise AssertionError(f"not settled: {site.works()}, {site.depth()} messages")


def test_a_bag_is_leased_before_anybody_can_find_it_unfinished(site: Site, tmp_path: Path) -> None:
    seen = []
    for number in range(1, 5):
        site.announce(make_bag_zip(tmp_path, f"W{number}"))
        site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT=f"after commit {number}")
        leased = {row["bag_id"] for row in site.rows("leases")}
        unleased = [row["work_rid"] for row in site.rows("bags") if row["bag_id"] not in leased]
        assert unleased == []
        seen.append(len(site.rows("bags")))
    assert max(seen) > 0
