"""What containers need of the lanes: logs on stderr alone, and a file that tells that all of them run."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.bags import SMALL_WORK, make_bag_zip
from tests.stack import ROOT, Site, lines, wait_until

HEALTHY = ROOT / "docker" / "healthy"


def healthy(file: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "PIPELINE_PIPELINE_ALIVE_FILE": str(file)}
    return subprocess.run([HEALTHY], env=environment, capture_output=True, text=True, check=False)


def test_without_log_files_the_lanes_log_to_stderr_alone_and_tell_who_speaks(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    run = site.call("run", PIPELINE_PIPELINE_LOG_FILES="false")

    assert run.returncode == 0, run.stderr
    assert site.archived("W1") == SMALL_WORK
    assert lines(run.stderr, "lane-", "W1: debagged")
    assert list((site.home / "logs").glob("*.log*")) == []


def test_a_worker_is_healthy_while_its_lanes_run_and_not_before_or_after(site: Site, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    assert healthy(alive).returncode == 1
    worker = site.start("run", "--watch", PIPELINE_PIPELINE_ALIVE_FILE=str(alive))
    try:
        wait_until(alive.exists)
        assert healthy(alive).returncode == 0
        first = alive.stat().st_mtime_ns
        wait_until(lambda: alive.stat().st_mtime_ns > first)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert worker.returncode == 0

    os.utime(alive, (time.time() - 60, time.time() - 60))
    told = healthy(alive)
    assert told.returncode == 1
    assert "not all lanes have run" in told.stdout
