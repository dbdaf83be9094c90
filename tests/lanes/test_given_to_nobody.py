"""What luigid gives to nobody: asked for again where a killed worker still stands as busy, and told where it lasts."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from luigi.rpc import RemoteScheduler

from pipeline.foundation.work import without_user
from pipeline.tasks import graph
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, SHORT_LEASE, Site, lines, wait_until

LEASE_ENDS = 2  # as the lease is set, that of a killed lane
LUIGID_MISSES_A_WORKER = 3  # as the embedded luigid is set
KILLED_IN_A_STEP = {"PIPELINE_TEST_KILL_AT": "downloaded, not vouched for"}


@contextmanager
def another_worker_that_never_ends(luigid_url: str, task: graph.Download) -> Iterator[None]:
    """A task stands as running by a worker that luigid hears of all the time."""
    scheduler, over = RemoteScheduler(luigid_url), threading.Event()
    scheduler.add_task(worker="ghost", task_id=task.task_id, family=task.task_family, params=task.to_str_params())
    assert scheduler.get_work(worker="ghost", host="elsewhere")["task_id"] == task.task_id

    def live() -> None:
        while not over.wait(0.5):
            scheduler.ping(worker="ghost")

    alive = threading.Thread(target=live)
    alive.start()
    try:
        yield
    finally:
        over.set()
        alive.join()


@pytest.mark.parametrize("seconds_later", [LEASE_ENDS, LUIGID_MISSES_A_WORKER + 1])
def test_the_work_of_a_killed_lane_is_no_failure_of_the_run_that_brings_it_home(
    site: Site, tmp_path: Path, seconds_later: int
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    killed = site.call("run", "--lanes", "1", **SHORT_LEASE, **KILLED_IN_A_STEP)
    time.sleep(seconds_later)

    run = site.call("run", "--lanes", "1")  # with a lease that a slow machine cannot lose

    assert lines(killed.stderr, "lane 1 died", "-9")
    assert run.returncode == 0, run.stderr
    assert lines(run.stderr, "ended:", " 0 failed")
    assert site.archived("W1") == SMALL_WORK
    assert not [event for event in site.rows("events") if event["outcome"] == "failed"]


def test_a_work_that_is_given_to_nobody_is_told_after_a_while_and_tried_again_later(
    site: Site, luigid_url: str, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1", PIPELINE_TEST_KILL_AT="leases taken", **SHORT_LEASE)
    site.sqs.purge_queue(QueueUrl=site.queue_url)  # the record alone brings it up again, once
    (bag,) = site.rows("bags")
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as settings:
        settings.write("[scheduler]\nworker_disconnect_delay = 1\n")
    time.sleep(LEASE_ENDS)

    with another_worker_that_never_ends(luigid_url, graph.Download("W1", bag["bag_id"])):
        begun = time.monotonic()
        run = site.call("run", "--lanes", "1")
        seconds = time.monotonic() - begun
        by_hand = site.call("work", "W1", "--local-scheduler")

    assert run.returncode == 1, run.stderr
    assert seconds < 45  # as set; luigid's usual patience, and ours for it, would be 65 s
    assert len(lines(run.stderr, "W1: the scheduler gave this work to nobody", without_user(luigid_url))) == 1
    assert lines(run.stderr, "ended: 0 done, 1 failed")
    failed = [row for row in site.rows("events") if row["outcome"] == "failed"]
    assert [row["step"] for row in failed] == ["intake"]
    assert "not-processed" in str(failed[0]["detail"])
    assert by_hand.returncode == 0, by_hand.stderr
    assert site.archived("W1") == SMALL_WORK


def test_what_a_pressed_pause_button_holds_back_is_neither_failed_nor_hidden(
    site: Site, luigid_url: str, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2"))
    script = tmp_path / "slow.sh"
    script.write_text(
        f"touch {tmp_path}/begun\nuntil [ -e {tmp_path}/go ]; do sleep 0.1; done\n"
        f'exec bash {ROOT}/bin/syncOneWork.sh "$@"\n',
        encoding="utf-8",
    )
    scheduler = RemoteScheduler(luigid_url)
    run = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))
    try:
        wait_until((tmp_path / "begun").exists)
        scheduler.pause()
        (tmp_path / "go").touch()
        _, err = run.communicate(timeout=60)
    finally:
        scheduler.unpause()
    hidden, home = site.hidden(), len(site.rows("syncs"))
    later = site.call("run", "--lanes", "1")

    assert run.returncode == 0, err
    assert (hidden, home) == (0, 1)
    assert lines(err, "the scheduler was paused; it goes on when")
    assert lines(err, "ended: 1 done, 0 failed")
    assert later.returncode == 0, later.stderr
    assert (site.archived("W1"), site.archived("W2"), site.depth()) == (SMALL_WORK, SMALL_WORK, 0)
