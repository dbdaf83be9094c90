"""Promise 5 for lanes that are frozen for longer than their lease: awake again, they spoil nothing that others did."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.foundation.errors import LeaseLost
from tests.lanes.test_folder_killed import FOLDER_POINTS, MOVING, REFUSING
from tests.line.test_killed import (
    BAD_IMAGE,
    BUILTIN,
    COPIED,
    HOMECOMING,
    POINTS,
    REFUSAL,
    begin_in_the_archive,
    instants,
)
from tests.line.test_on_servers import served
from tests.sync.test_running import HANGS, alive, eventually, home, pids
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.folders import add_folder, drop, lying_in
from tests.world.stack import ROOT, Site, lines, wait_until
from tests.world.works import BUNDLED_SCRIPT, Home

__all__ = ["home", "served"]  # fixtures
LEASE_SECONDS = 10
LEASE = {"PIPELINE_QUEUE_LEASE_SECONDS": str(LEASE_SECONDS), "PIPELINE_QUEUE_HEARTBEAT_SECONDS": "2"}
ON_DISK = {"rename", "delete", "send", "acknowledge"}
# The lane has half a download locked: no other lane of this host can bring that work home before it is awake, or gone.
LOCKED = ("download half-way", "before rename 1")
# The same while the zip of a bad bag is compared with what S3 said of it.
DOUBTED = ("before rename 3", "before rename 4", "before rename 5")
NOTHING_THERE = {"PIPELINE_SYNC_STAGING": "archive"}  # and nothing of the works is in the archive
# What is on disks and queues is the same on each server; inside transactions see also test_frozen_transactions.py.
ON_POSTGRESQL = pytest.mark.parametrize("tables_on_server", ["postgresql"], indirect=True)


@contextmanager
def frozen(site: Site, at: Sequence[str], folder: Path, **settings: str) -> Iterator[None]:
    """A run with a lane frozen at each of these instants, for longer than its lease; awake and over at the end."""
    run = site.start(
        *("run", "--lanes", str(len(at))),
        PIPELINE_TEST_FREEZE_AT="|".join(at),
        PIPELINE_TEST_LOG_ACTS=str(folder / "acts"),
        **LEASE,
        **settings,
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(run.communicate()[1]))
    reader.start()
    lanes: list[psutil.Process] = []
    try:
        files = {instant: folder / f"acts.{instant}" for instant in at}
        wait_until(lambda: run.poll() is not None or all(map(Path.exists, files.values())), seconds=120)
        assert [instant for instant, file in files.items() if not file.exists()] == []
        lanes = [psutil.Process(int(file.read_text())) for file in files.values()]
        wait_until(lambda: all(lane.status() == psutil.STATUS_STOPPED for lane in lanes))
        time.sleep(LEASE_SECONDS)
        yield
    finally:
        for lane in psutil.Process(run.pid).children() if run.poll() is None else ():
            lane.send_signal(signal.SIGCONT)
        if not lanes:
            run.terminate()
        reader.join(120)
    assert not lines(said[0], "Traceback"), said[0]
    assert not lines(said[0], "died"), said[0]


def settle(site: Site, rids: Sequence[str], stage: str, **settings: str) -> None:
    """Other lanes work until all is home, or refused, and no message is left.

    Raises:
        AssertionError: it never is.
    """
    over = time.monotonic() + 180
    while (
        not (settled := {rid: work.stage for rid, work in site.works().items()} == dict.fromkeys(rids, stage))
        or site.depth()
    ):
        assert time.monotonic() < over, (site.works(), site.depth())
        if settled and site.depth() == site.hidden():
            time.sleep(0.2)  # what is left is hidden for some seconds more by a lane that is frozen
        else:
            site.call("run", "--lanes", "2", **LEASE, **settings)


def spoilable(site: Site, *told: str) -> tuple[Any, ...]:
    """All that a lane could spoil, without events of these outcomes: they tell what it did before it was frozen."""
    files = [path for name in ("archive", "quarantine") for path in (site.home / name).rglob("*") if path.is_file()]
    events = [(event["work_rid"], event["outcome"]) for event in site.rows("events") if event["outcome"] not in told]
    # By content: PostgreSQL tells a row that was written again, with what it had, after the others.
    rows = [sorted(site.rows(table), key=repr) for table in ("bags", "syncs", "glacier_sync_progress")]
    return *rows, events, {path: path.read_bytes() for path in files}, site.depth(site.dead_url)


def all_of(acts: Mapping[str, int], *kinds: str) -> list[str]:
    chosen = instants({kind: count for kind, count in acts.items() if kind in kinds})
    return [instant for instant in chosen if instant not in LOCKED]


@ON_POSTGRESQL
@pytest.mark.parametrize(
    ("at", "settings"),
    [
        (sorted({*POINTS} - {*LOCKED}), {}),
        (all_of(HOMECOMING, "commit"), {}),
        (all_of(HOMECOMING, *ON_DISK), {}),
        (all_of(COPIED, *ON_DISK), BUILTIN),
        (all_of(HOMECOMING, *ON_DISK), BUILTIN | NOTHING_THERE),
    ],
    ids=["points", "commits", "disk and queue", "built-in copier", "one copy less"],
)
def test_lanes_frozen_at_any_instant_spoil_nothing_that_others_brought_home(
    served: Site, tmp_path: Path, at: Sequence[str], settings: dict[str, str]
) -> None:
    rids = [f"W{number}" for number in range(1, len(at) + 1)]
    for rid in rids:
        if settings == BUILTIN:
            begin_in_the_archive(served, rid)
        served.announce(make_bag_zip(tmp_path, rid))

    with frozen(served, at, tmp_path, **settings):
        settle(served, rids, "done", **settings)
        before = spoilable(served)

    assert spoilable(served) == before
    assert {rid: served.archived(rid) for rid in rids} == dict.fromkeys(rids, SMALL_WORK)
    assert sorted(row["work_rid"] for row in served.rows("syncs")) == sorted(rids)
    assert not [event for event in served.rows("events") if event["outcome"] == "failed"]
    assert not list((served.home / "archive").rglob(".*"))
    assert (served.depth(), served.dead_letters(), served.rows("leases")) == (0, [], [])


@ON_POSTGRESQL
def test_lanes_frozen_with_half_a_download_locked_keep_others_away_until_awake(served: Site, tmp_path: Path) -> None:
    rids = [f"W{number}" for number in range(1, len(LOCKED) + 1)]
    for rid in rids:
        served.announce(make_bag_zip(tmp_path, rid))

    with frozen(served, LOCKED, tmp_path):
        others = served.call("run", "--lanes", "1", **LEASE)
        assert not [path for path in (served.home / "archive").rglob("*") if path.is_file()]
    served.call("run", "--lanes", "1", **LEASE)

    assert all(lines(others.stderr, f"{rid}: another process on this host still writes") for rid in rids), others.stderr
    assert {rid: served.archived(rid) for rid in rids} == dict.fromkeys(rids, SMALL_WORK)
    assert sorted(row["work_rid"] for row in served.rows("syncs")) == rids
    assert not [event for event in served.rows("events") if event["outcome"] == "failed"]
    assert (served.dead_letters(), served.rows("leases")) == ([], [])


@ON_POSTGRESQL
def test_lanes_frozen_while_they_doubt_a_zip_keep_others_away_until_awake(served: Site, tmp_path: Path) -> None:
    zips = {f"W{number}": make_bag_zip(tmp_path, f"W{number}", corrupt=BAD_IMAGE) for number in (1, 2, 3)}
    for path in zips.values():
        served.announce(path)

    with frozen(served, DOUBTED, tmp_path):
        served.call("run", "--lanes", "1", **LEASE)
        assert not [path for path in (served.home / "quarantine").rglob("*") if path.is_file()]
    settle(served, list(zips), "refused")

    kept = {path.name.partition(".")[0]: path for path in (served.home / "quarantine").rglob("*.bag.zip")}
    assert {rid: path.read_bytes() for rid, path in kept.items()} == {
        rid: path.read_bytes() for rid, path in zips.items()
    }


@ON_POSTGRESQL
def test_lanes_frozen_while_they_refuse_a_bag_spoil_nothing_of_its_refusal(served: Site, tmp_path: Path) -> None:
    at = [instant for instant in all_of(REFUSAL, *ON_DISK) if instant not in DOUBTED]
    rids = [f"W{number}" for number in range(1, len(at) + 1)]
    zips = {rid: make_bag_zip(tmp_path, rid, corrupt=BAD_IMAGE) for rid in rids}
    for path in zips.values():
        served.announce(path)

    with frozen(served, at, tmp_path):
        settle(served, rids, "refused")
        before = spoilable(served, "dead-lettered")

    # A lane that had sent a letter has yet to record its seal: only by that is the letter known when it is sent back.
    assert spoilable(served, "dead-lettered") == before
    kept = {folder.name.partition("-")[0]: folder for folder in (served.home / "quarantine").iterdir()}
    assert {rid: (folder / f"{rid}.bag.zip").read_bytes() for rid, folder in kept.items()} == {
        rid: path.read_bytes() for rid, path in zips.items()
    }
    assert served.depth() == 0


@ON_POSTGRESQL
@pytest.mark.parametrize(
    ("at", "corrupt", "ends"),
    [(MOVING, "", "done"), ([*FOLDER_POINTS[:2], *REFUSING], BAD_IMAGE, "refused")],
    ids=["done", "refused"],
)
def test_lanes_frozen_while_they_take_or_settle_a_dropped_zip_spoil_nothing_of_it(
    served: Site, tmp_path: Path, at: Sequence[str], corrupt: str, ends: str
) -> None:
    inbox = add_folder(served)
    zips = {f"W{number}": make_bag_zip(tmp_path, f"W{number}", corrupt=corrupt) for number in range(1, len(at) + 1)}
    for path in zips.values():
        drop(path, inbox)

    with frozen(served, at, tmp_path):
        settle(served, list(zips), ends)
        before = (spoilable(served, "moved", "refused"), lying_in(inbox))

    # A lane that had moved a zip before it was frozen says so: that is so.
    assert (spoilable(served, "moved", "refused"), lying_in(inbox)) == before
    kept = {path.name.partition(".")[0]: path.read_bytes() for path in (inbox / ends).rglob("*.zip")}
    assert kept == {rid: path.read_bytes() for rid, path in zips.items()}
    assert served.rows("leases") == []


def test_a_script_that_is_frozen_for_longer_than_the_lease_goes_on_and_its_work_comes_home_once(
    site: Site, tmp_path: Path
) -> None:
    """Its lane is awake and renews: nobody takes the work over."""
    script = tmp_path / "slow.sh"
    script.write_text(f'echo $$ > {tmp_path}/pid; sleep 0.5; exec bash {BUNDLED_SCRIPT} "$@"\n')
    site.announce(make_bag_zip(tmp_path, "W1"))
    run = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script), **LEASE)
    try:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
        stopped = psutil.Process(int((tmp_path / "pid").read_text()))
        stopped.suspend()
        time.sleep(LEASE_SECONDS + 2)
        others = site.call("run", "--lanes", "1", **LEASE)
        (lease,) = site.rows("leases")
    finally:
        with suppress(psutil.NoSuchProcess):
            stopped.resume()
        _, said = run.communicate(timeout=60)

    assert others.returncode == 0, others.stderr
    assert lease["work_rid"] == "W1"
    assert run.returncode == 0, said
    assert (site.archived("W1"), len(site.rows("syncs")), site.depth()) == (SMALL_WORK, 1, 0)


def test_a_script_whose_time_is_not_prolonged_is_ended_with_its_children_by_the_guard(home: Home) -> None:
    home.stage()
    file = home.folder / "pids"
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 6
    with pytest.raises(LeaseLost, match="ended with its children"):
        home.archive(site=home.site(script=HANGS.format(pids=file)), until=lambda: until)
    assert len(pids(file)) == 3
    assert time.clock_gettime(time.CLOCK_BOOTTIME) >= until
    assert eventually(lambda: not any(map(alive, pids(file))))


def test_a_script_killed_after_its_time_lost_its_lease_though_the_guard_has_not_ended_yet(home: Home) -> None:
    home.stage()
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 1
    with pytest.raises(LeaseLost, match="ended with its children"):
        home.archive(
            site=home.site(script="kill -STOP $(ps -o pgid= $$); sleep 1.2; kill -KILL $$"), until=lambda: until
        )


def test_a_script_whose_time_is_prolonged_runs_to_its_end(home: Home) -> None:
    home.stage()
    script = f'sleep 7; bash {BUNDLED_SCRIPT} "$@"'
    assert home.archive(
        site=home.site(script=script), until=lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + 6
    ).written


FROZEN = """
import os, signal, sys, time
from pathlib import Path
from tests.world.works import Home
home = Home(Path(sys.argv[1]))
home.stage()
until = time.clock_gettime(time.CLOCK_BOOTTIME) + 8
def pulse(done, total):
    if Path(sys.argv[2]).exists() and len(Path(sys.argv[2]).read_text().split()) == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
home.archive(site=home.site(script=sys.argv[3]), pulse=pulse, until=lambda: until)
"""


def test_a_script_ends_with_its_children_when_its_time_is_over_though_who_started_it_is_frozen(tmp_path: Path) -> None:
    file, home = tmp_path / "pids", tmp_path / "home"
    home.mkdir()
    frozen = subprocess.Popen(
        [sys.executable, "-c", FROZEN, str(home), str(file), HANGS.format(pids=file)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: psutil.Process(frozen.pid).status() == psutil.STATUS_STOPPED)
        ended = eventually(lambda: not any(map(alive, pids(file))))
        still_frozen = psutil.Process(frozen.pid).status() == psutil.STATUS_STOPPED
    finally:
        frozen.send_signal(signal.SIGCONT)
        _, said = frozen.communicate(timeout=30)

    assert (len(pids(file)), ended, still_frozen) == (3, True, True)
    assert "LeaseLost" in said


@pytest.mark.parametrize("also_the_script", [False, True])
def test_a_lane_frozen_while_its_script_runs_says_nothing_of_the_work_that_came_home_without_it(
    site: Site, tmp_path: Path, *, also_the_script: bool
) -> None:
    """Its script wrote on for as long as the lease was the lane's, and not a moment longer."""
    script = tmp_path / "slow.sh"
    script.write_text(f"echo $$ > {tmp_path}/pid; while :; do date +%s.%N >> {tmp_path}/wrote; sleep 0.1; done\n")
    site.announce(make_bag_zip(tmp_path, "W1"))
    run = site.start(
        "run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script), **{**LEASE, "PIPELINE_QUEUE_LEASE_SECONDS": "4"}
    )
    try:
        wait_until((tmp_path / "wrote").exists)
        stopped = [psutil.Process(run.pid).children()[0]]
        if also_the_script:
            stopped.append(psutil.Process(int((tmp_path / "pid").read_text())))
        for process in stopped:
            process.suspend()
        (lease,) = site.rows("leases")
        settle(site, ["W1"], "done")
        before = spoilable(site)
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):  # also a script that is stopped is ended by its guard
                process.resume()
        _, said = run.communicate(timeout=60)

    assert spoilable(site) == before
    assert site.archived("W1") == SMALL_WORK
    assert lines(said, "W1: the lease is gone"), said
    assert not alive(int((tmp_path / "pid").read_text()))
    last = float((tmp_path / "wrote").read_text().split()[-1])
    assert last < datetime.fromisoformat(lease["until"]).replace(tzinfo=UTC).timestamp()
