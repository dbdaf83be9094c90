"""A collection comes home by three hosts that are killed, with lost events and copies that end too early."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.foundation.work import staging_key
from pipeline.record import campaign, turns
from pipeline.record.wants import IN_FLIGHT
from pipeline.tasks.context import Site
from tests.world.cold_line import announced, counted, fill, pass_time, states, want
from tests.world.cold_s3 import Cold, ColdS3
from tests.world.stack import ROOT

WORKS, AT_MOST = 300, 20
SHORT_LEASE = {"PIPELINE_QUEUE_LEASE_SECONDS": "6", "PIPELINE_QUEUE_HEARTBEAT_SECONDS": "2"}
CHOSEN = {"at_most_works": AT_MOST, "most_attempts": 3}


def start(cold: ColdS3, name: str, **variables: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.restore.host", cold.url, json.dumps(CHOSEN)],
        cwd=ROOT,
        env={**os.environ, **SHORT_LEASE, "PIPELINE_PIPELINE_HOST": name, **variables},
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def hosts(cold: ColdS3) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Three hosts; those that a test kills are replaced by it."""
    running = [start(cold, f"h{number}") for number in range(3)]
    try:
        yield running
    finally:
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                one.send_signal(signal.SIGKILL)
            one.wait(30)


class Watch(threading.Thread):
    """Samples how much is under way."""

    def __init__(self, line: Site) -> None:
        super().__init__()
        self.line, self.over = line, threading.Event()
        self.samples: list[int] = []

    def run(self) -> None:
        while not self.over.wait(0.25):
            counts = campaign.totals(self.line.engine, within_hours=0).counts
            self.samples.append(sum(counts.get(state, 0) for state in IN_FLIGHT))


def is_quiet(line: Site) -> bool:
    """Whether there is nothing to do until time passes."""
    counts = campaign.totals(line.engine, within_hours=0).counts
    full = sum(counts.get(state, 0) for state in IN_FLIGHT) == AT_MOST or not counts.get("wanted")
    return (
        full
        and not counts.get("ready")
        and not campaign.due(line.engine, limit=1)
        and not turns.unfinished(line.engine, host="h0", limit=1)
    )


@pytest.mark.timeout(900)  # a minute, and some on a machine that is busy
def test_a_collection_comes_home_each_work_asked_for_as_often_as_it_had_to_be(line: Site, cold: ColdS3) -> None:
    rids = fill(cold, WORKS, size=20)
    lost, early = set(rids[::10]), set(rids[::20])
    for rid in early:
        cold.objects[staging_key(rid)].ends_early = 0.01
    told: list[tuple[str, Cold]] = []
    cold.announce = lambda key, one: None if key.split("/")[2] in lost else told.append((key, one))
    want(line, rids)
    watch = Watch(line)
    watch.start()

    with hosts(cold) as running:
        for step in range(200):
            over = time.monotonic() + 120
            while not is_quiet(line) and time.monotonic() < over:
                time.sleep(0.25)
            if set(states(line).values()) == {"home"}:
                break
            if step % 2 and step < 12:  # a host is lost at whatever it does, and another takes its place
                lost_host = step // 2 % 3
                running[lost_host].kill()
                running[lost_host].wait(30)
                point = {"PIPELINE_TEST_KILL_AT": "restore asked"} if step % 4 == 1 else {}
                running[lost_host] = start(cold, f"h{lost_host}", **point)
            pass_time(line, cold, hours=25)
            while told:
                line.record.see(announced(*told.pop()))
    watch.over.set()
    watch.join()

    found = campaign.wanted(line.engine)
    times = Counter(one.key.split("/")[2] for one in cold.asked)
    assert {one.state for one in found} == {"home"}
    assert len(watch.samples) > 10
    assert max(watch.samples) <= AT_MOST
    assert {rid: times[rid] for rid in rids if rid not in early} == {rid: 1 for rid in rids if rid not in early}
    assert max(times[rid] for rid in early) <= 2
    assert {one.bag.work_rid: one.attempts for one in found} == times
    size = sum(len(one.content) for one in cold.objects.values()) / 2**30
    assert sum(one.cost or 0 for one in found) == pytest.approx(counted(cold.asked) + size * 90_000)
