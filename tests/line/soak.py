"""Soak: thousands of works through the same lanes; memory, descriptors, staging and logs must not grow with them.

    python -m tests.line.soak --works 2000

Prints a line of figures at every tenth of the way, and fails when the second half of the way took more than the first.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.embedded import embedded
from tests.world.bags import make_bag_zip
from tests.world.stack import RUN_PIPELINE, Site

_PAYLOAD = {f"images/I1/{number}.jpg": bytes([number]) * 2_000 for number in range(5)}
_MAY_GROW_BYTES = 8 << 20  # what allocators do by themselves
_LOG_LIMIT_BYTES = 6 * (10 << 20)


@dataclass(frozen=True)
class Sample:
    """What the lanes and the scheduler occupy after so many works."""

    works: int
    seconds: float
    lane_bytes: int
    lane_files: int
    scheduler_bytes: int
    staged: int
    log_bytes: int

    def __str__(self) -> str:
        """For a person."""
        return (
            f"{self.works:6} works in {self.seconds:6.0f} s: lanes {self.lane_bytes / 2**20:6.1f} MiB of their own, "
            f"{self.lane_files} descriptors; luigid {self.scheduler_bytes / 2**20:6.1f} MiB; "
            f"{self.staged} folders staged; logs {self.log_bytes / 2**20:.1f} MiB"
        )


def soak(home: Path, moto_url: str, *, works: int, steps: int = 10) -> list[Sample]:
    """Bring so many works home with two lanes that are never restarted.

    Raises:
        AssertionError: something did not come home, or a lane was restarted.
    """
    scheduler = embedded.start_luigid(state=home / "luigid.pickle", log=home / "luigid.log")
    site = Site.make(home / "site", moto_url, scheduler.url)
    site.call("db", "upgrade")
    log = home / "run.log"
    with log.open("wb") as sink:  # a pipe that nobody reads fills up, and would hold up the lanes
        run = subprocess.Popen(
            [sys.executable, str(RUN_PIPELINE), "run", "--watch", "--lanes", "2"],
            env={**site.environment, "PIPELINE_QUEUE_WAIT_SECONDS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    samples: list[Sample] = []
    try:
        started = time.monotonic()
        for step in range(1, steps + 1):
            for number in range(works * (step - 1) // steps, works * step // steps):
                bag_zip = make_bag_zip(home / "bags", f"W{number}", files=_PAYLOAD)
                site.announce(bag_zip)
                bag_zip.unlink()
            _wait(site, works * step // steps)
            lanes = psutil.Process(run.pid).children()
            samples.append(_sample(site, lanes, psutil.Process(scheduler.process.pid), time.monotonic() - started))
            sys.stdout.write(f"{samples[-1]}\n")
            sys.stdout.flush()
        assert len({process.pid for process in lanes}) == 2
    finally:
        run.terminate()
        run.wait(60)
        scheduler.end()
    told = log.read_text(encoding="utf-8")
    assert "died" not in told
    assert "another lane works on it" not in told  # no lane takes up what another has just received
    return samples


def _wait(site: Site, works: int) -> None:
    over = time.monotonic() + 60 + works
    while site.depth() or len(site.rows("syncs")) < works:
        assert time.monotonic() < over, "works did not come home in time"
        time.sleep(0.2)


def _sample(site: Site, lanes: list[psutil.Process], scheduler: psutil.Process, seconds: float) -> Sample:
    return Sample(
        works=len(site.rows("syncs")),
        seconds=seconds,
        lane_bytes=sum(lane.memory_full_info().uss for lane in lanes),
        lane_files=sum(lane.num_fds() for lane in lanes),
        scheduler_bytes=scheduler.memory_info().rss,
        staged=len(site.staged()),
        log_bytes=sum(path.stat().st_size for path in (site.home / "logs").glob("*.log*")),
    )


def judge(samples: list[Sample]) -> None:
    """Whether it grows: after the first half has filled every cache, the second may add next to nothing.

    Raises:
        AssertionError: it grows.
    """
    half, last = samples[len(samples) // 2 - 1], samples[-1]
    assert last.lane_bytes <= half.lane_bytes + _MAY_GROW_BYTES, "the lanes' memory grows"
    assert last.lane_files <= half.lane_files + 4, "the lanes leak descriptors"
    assert last.staged <= 2, "staging is not cleared"
    assert last.log_bytes <= 2 * _LOG_LIMIT_BYTES, "logs are not rotated"


def main() -> int:
    """By hand, or `make soak`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", type=int, default=2000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, and what was made goes
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        url = stack.enter_context(embedded.moto(log=home / "moto.log"))
        judge(soak(home, url, works=options.works))
    return 0


if __name__ == "__main__":
    sys.exit(main())
