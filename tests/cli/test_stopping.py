"""A stop at any instant: while Python imports, while lanes are started, while they die again and again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, Site, lines, wait_until

TRIES = 12
START_SECONDS = 1.5
IMPORTS = 350  # of the modules that `status` imports, so many at least come after that

# Signals come while a flag is waited for, as often as not in the instant in which a wait begins or ends.
SIGNALS_IN_WAITS = """
import random, signal
from pipeline.foundation.signals import StopFlag
for _ in range(3_000):  # with a threading.Event some hundred are enough to hang
    flag = StopFlag()
    signal.signal(signal.SIGALRM, lambda *_: flag.set())
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.0003))
    while not flag.wait(0.00005):
        pass
"""


def listens(process: "subprocess.Popen[str]", number: signal.Signals) -> bool:
    """Whether a process has a handler of its own: before that, Python itself dies of a signal."""
    try:
        told = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return True
    caught = next((line for line in told.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1) or process.poll() is not None


def ends(process: "subprocess.Popen[str]", *, seconds: float) -> str:
    """What it says in the end; it is killed when it does not end."""
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watch_that_is_stopped_at_any_instant_of_its_start_ends_in_order(site: Site, number: signal.Signals) -> None:
    told = []
    for attempt in range(TRIES):
        run = site.start_anew("run", "--watch", "--lanes", "3")
        wait_until(lambda run=run: listens(run, signal.SIGTERM), every=0.002)
        time.sleep(attempt / TRIES * START_SECONDS)
        family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        err = ends(run, seconds=60)
        told.append((run.returncode, "Traceback" in err))
        assert psutil.wait_procs(family, timeout=30)[1] == []

    assert set(told) == {(0, False)}
    assert site.rows("leases") == []


def test_a_watch_that_is_stopped_before_it_has_its_settings_has_begun_nothing(site: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.cfg")  # however slow the machine is: it waits here for its settings
    run = site.start_anew("run", "--watch", "--lanes", "1", PIPELINE_BASE_CONFIG=str(tmp_path / "never.cfg"))
    wait_until(lambda: listens(run, signal.SIGTERM), every=0.002)
    run.terminate()

    assert (ends(run, seconds=60), run.returncode) == ("stopped\n", 0)
    assert not (site.home / "logs").exists()


def test_ctrl_c_at_any_instant_of_the_imports_says_so_in_one_line(site: Site) -> None:
    told = []
    for attempt in range(TRIES):
        status = site.start_anew("status", "--json", PYTHONPROFILEIMPORTTIME="1")  # each import is told on stderr
        assert status.stderr is not None
        assert any("pipeline.cli" in line for line in status.stderr)  # then Python, and our handlers, have started
        # By what was imported, not by the clock: a machine may be faster or slower, and a program that is at its very
        # end dies of SIGINT as Python has it.
        for _ in range(attempt * IMPORTS // TRIES):
            status.stderr.readline()
        status.send_signal(signal.SIGINT)
        err = [line.strip() for line in status.stderr if not line.startswith("import time:")]
        status.communicate(timeout=60)
        told.append((status.returncode, *err))

    ended_before = {(0,), (-signal.SIGINT,)}
    assert set(told) <= {(130, "interrupted")} | ended_before
    assert (130, "interrupted") in told


def test_a_run_that_ends_by_itself_dies_of_an_early_sigterm_as_any_program_does(site: Site) -> None:
    run = site.start_anew("run", "--lanes", "1")
    wait_until(lambda: listens(run, signal.SIGINT), every=0.002)
    run.terminate()
    ends(run, seconds=60)

    assert run.returncode == -signal.SIGTERM


def test_a_lane_that_dies_again_and_again_holds_up_neither_the_others_nor_a_stop(site: Site, tmp_path: Path) -> None:
    (site.home / "logs" / "lane-1.log").mkdir(parents=True)  # a folder where its log should be
    alive = tmp_path / "alive"
    run = site.start("run", "--watch", "--lanes", "2", PIPELINE_PIPELINE_ALIVE_FILE=str(alive))
    try:
        site.announce(make_bag_zip(tmp_path, "W1"))
        wait_until(lambda: site.works().get("W1") is not None and site.works()["W1"].stage == "done")
        log = site.home / "logs" / "run.log"
        wait_until(lambda: len(lines(log.read_text(encoding="utf-8"), "lane 1 ended", "again in")) >= 2)
        alive.unlink(missing_ok=True)
        time.sleep(2)
    finally:
        asked = time.monotonic()
        run.terminate()
        err = ends(run, seconds=60)
        seconds = time.monotonic() - asked

    assert (run.returncode, seconds < 7) == (0, True), err  # the lane is to be started again in 8 s
    assert site.archived("W1") == SMALL_WORK
    waits = [line.partition("again in ")[2] for line in lines(err, "lane 1 ended (exit status 3)")]
    assert waits[:2] == ["5 s", "10 s"]
    assert lines(err, "[pipeline] logs", "Is a directory", "lane-1.log")
    assert not alive.exists()  # a health check is not told that all is well whenever the lane begins again


def test_a_stop_of_the_whole_process_group_lets_the_lanes_end_in_order(site: Site) -> None:
    """As `kill %1` of a shell and `timeout` do it: each lane hears of it from them, and once more from its parent."""
    run = subprocess.Popen(
        site.command("run", "--watch", "--lanes", "2"),
        env=site.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        wait_until(lambda: len(site.rows("lanes")) == 2)
    finally:
        os.killpg(run.pid, signal.SIGTERM)
        err = ends(run, seconds=60)

    assert run.returncode == 0, err
    assert not lines(err, "died")
    assert site.rows("lanes") == []  # both have told the record that they end


def test_a_flag_is_set_by_a_handler_at_any_instant_of_a_wait() -> None:
    subprocess.run([sys.executable, "-c", SIGNALS_IN_WAITS], cwd=ROOT, timeout=60, check=True)


def test_a_stop_while_the_lanes_are_being_started_reaches_every_one(site: Site) -> None:
    run = site.start("run", "--watch", "--lanes", "8")
    born = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    seen: set[str] = set()

    def a_lane_is_born() -> bool:
        seen.update(born.read_text(encoding="ascii").split())
        return len(seen) > 1  # the first one prepares

    wait_until(a_lane_is_born, every=0.0005)
    run.terminate()
    family = psutil.Process(run.pid).children(recursive=True)

    assert (ends(run, seconds=60), run.returncode)[1] == 0
    assert psutil.wait_procs(family, timeout=30)[1] == []
