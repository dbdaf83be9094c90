"""Lanes as processes, and the signals that end them."""

import os
import signal
import stat
import time
from pathlib import Path

import psutil
import pytest

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import SHORT_LEASE, Site, lines, wait_until


def slow_script(tmp_path: Path, seconds: int = 60) -> Path:
    """A site's script that says that it is there, and dawdles with a child of its own."""
    script = tmp_path / "slow.sh"
    script.write_text(
        f"touch {tmp_path}/begun\nsleep {seconds} &\necho $! > {tmp_path}/child\nwait\n", encoding="utf-8"
    )
    return script


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be buried by an init that takes its time."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_several_lanes_bring_several_works_home_each_once(site: Site, tmp_path: Path) -> None:
    for number in range(8):
        site.announce(make_bag_zip(tmp_path, f"W{number}"))

    ended = site.call("run", "--lanes", "3")

    assert ended.returncode == 0, ended.stderr
    assert {rid: site.archived(rid) for rid in site.works()} == {f"W{number}": SMALL_WORK for number in range(8)}
    assert len({row["agent"] for row in site.rows("events") if row["outcome"] == "done"}) > 1
    assert lines(ended.stderr, "ended: 8 done, 0 failed")


def test_a_bag_is_counted_once_however_often_it_comes(site: Site, tmp_path: Path) -> None:
    good, bad = make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg")
    for _ in range(2):
        site.announce(good, bad)

    ended = site.call("run", "--lanes", "1")

    assert lines(ended.stderr, "ended: 1 done, 1 failed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_within_seconds_in_the_middle_of_a_step_and_gives_everything_back(
    site: Site, tmp_path: Path, number: signal.Signals
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    run = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(slow_script(tmp_path)))
    wait_until((tmp_path / "child").exists)

    asked = time.monotonic()
    run.send_signal(number)
    _, err = run.communicate(timeout=60)

    assert time.monotonic() - asked < 30  # its script would take 60 s
    assert run.returncode == 0, err
    assert site.hidden() == 0
    assert site.depth() == 1
    assert site.rows("leases") == []
    wait_until(lambda: ended(int((tmp_path / "child").read_text(encoding="utf-8"))))
    assert site.call("run", "--lanes", "1").returncode == 0
    assert site.archived("W1") == SMALL_WORK


def test_a_signal_ends_all_lanes_in_the_middle_of_their_steps(site: Site, tmp_path: Path) -> None:
    works = [f"W{number}" for number in range(3)]
    script = tmp_path / "slow.sh"
    script.write_text(f'sleep 60 &\necho $! > {tmp_path}/child-$(basename "${{!#}}")\nwait\n', encoding="utf-8")
    children = [tmp_path / f"child-{rid}" for rid in works]
    for rid in works:
        site.announce(make_bag_zip(tmp_path, rid))
    run = site.start("run", "--watch", "--lanes", "3", PIPELINE_SYNC_SCRIPT=str(script))
    wait_until(lambda: all(child.exists() and child.stat().st_size for child in children))
    lanes = [lane.pid for lane in psutil.Process(run.pid).children()]

    asked = time.monotonic()
    run.terminate()
    _, err = run.communicate(timeout=60)

    assert time.monotonic() - asked < 30  # its script would take 60 s
    assert run.returncode == 0, err
    assert (site.hidden(), site.depth(), site.rows("leases")) == (0, 3, [])
    pids = [*lanes, *(int(child.read_text(encoding="utf-8")) for child in children)]
    wait_until(lambda: all(map(ended, pids)))
    assert site.call("run", "--lanes", "3").returncode == 0
    assert {rid: site.archived(rid) for rid in works} == dict.fromkeys(works, SMALL_WORK)


def test_a_signal_ends_a_waiting_watch_at_once(site: Site) -> None:
    run = site.start("run", "--watch", "--lanes", "2")
    wait_until(lambda: len(psutil.Process(run.pid).children()) == 2)
    time.sleep(1)

    asked = time.monotonic()
    run.terminate()
    _, err = run.communicate(timeout=60)

    assert time.monotonic() - asked < 19  # a long poll takes 20 s
    assert run.returncode == 0, err


def test_watch_goes_on_after_the_queue_was_empty_and_starts_a_lane_again_that_died(site: Site, tmp_path: Path) -> None:
    run = site.start("run", "--watch", "--lanes", "1", **SHORT_LEASE)
    try:
        parent = psutil.Process(run.pid)
        wait_until(lambda: any(child.name() for child in parent.children()))
        time.sleep(1)
        site.announce(make_bag_zip(tmp_path, "W1"))
        wait_until(lambda: site.works().get("W1") is not None and site.works()["W1"].stage == "done")
        # It counts a work after it has recorded it, and before it looks into the next message, which announces nothing.
        site.send({"Event": "s3:TestEvent"})
        wait_until(lambda: site.depth() == 0)
        (lane,) = parent.children()
        lane.kill()
        site.announce(make_bag_zip(tmp_path, "W2"))
        wait_until(lambda: site.works().get("W2") is not None and site.works()["W2"].stage == "done")
    finally:
        run.terminate()
        _, err = run.communicate(timeout=30)

    assert lines(err, "lane 1 died", "it is started again in 5 s")
    assert site.archived("W2") == SMALL_WORK
    assert lines(err, "ended: 2 done, 0 failed")  # the dead lane's work counts


def test_the_lanes_end_when_their_parent_is_killed(site: Site) -> None:
    run = site.start("run", "--watch", "--lanes", "2")
    wait_until(lambda: len(psutil.Process(run.pid).children()) == 2)
    time.sleep(1)
    lanes = psutil.Process(run.pid).children(recursive=True)

    run.kill()
    run.communicate(timeout=30)

    _, alive = psutil.wait_procs(lanes, timeout=30)
    assert alive == []


def test_a_second_signal_forces(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "stubborn.sh"
    script.write_text(f"trap '' TERM\ntouch {tmp_path}/begun\nwhile :; do sleep 0.2; done\n", encoding="utf-8")
    site.announce(make_bag_zip(tmp_path, "W1"))
    run = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))
    wait_until((tmp_path / "begun").exists)
    family = psutil.Process(run.pid).children(recursive=True)

    run.terminate()
    time.sleep(0.5)
    run.terminate()
    run.communicate(timeout=30)

    assert run.returncode == 130
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_a_busy_work_s_duplicate_is_hidden_not_dead_lettered(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    site.announce(bag_zip)
    first = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(slow_script(tmp_path)))
    try:
        wait_until((tmp_path / "begun").exists)
        site.announce(bag_zip)
        second = site.call("run", "--lanes", "1")
    finally:
        first.terminate()
        first.communicate(timeout=30)

    assert second.returncode == 0, second.stderr
    assert lines(second.stderr, "W1: another lane works on it")
    assert site.dead_letters() == []
    assert site.depth() == 2


def test_nothing_is_readable_by_others_that_holds_settings(site: Site) -> None:
    site.call("run", "--lanes", "1")

    assert not stat.S_IMODE(os.stat(site.home / "pipeline.db").st_mode) & stat.S_IWOTH
