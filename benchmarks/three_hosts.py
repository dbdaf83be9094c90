"""Three hosts bring works home: `unshare --net python -m benchmarks.three_hosts N luigid|local`.

Each is a network namespace with a line of its own to the servers that all share, and folders of its own but for the
archive. Each work has to come home once: also without luigid, where nothing but the leases in the record keeps hosts
apart; so each is announced twice there.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks import site, slow_network, tree
from benchmarks.hub import Hub, hub

HOSTS, LANES, RATE_MBIT = 3, 3, 1
_LONGEST_SECONDS = 900
_ONCE = """SELECT count(*) FROM (SELECT work_rid FROM events WHERE step = 'sync' AND outcome = 'done'
 GROUP BY work_rid HAVING count(*) = 1) AS once"""
# From when as many works were home as there are lanes: from then on all of them are at work.
_MILLISECONDS = f"""SELECT extract(epoch FROM max(synced_on) - min(synced_on)) * 1000 FROM
 (SELECT synced_on FROM syncs ORDER BY synced_on OFFSET {HOSTS * LANES - 1}) AS later"""


def main(works: int, kind: str) -> dict[str, float]:
    """What was seen: works a second, CPU-s and MB of each."""
    with (
        slow_network.client_hosts(HOSTS, rate=f"{RATE_MBIT}mbit", burst="32kb") as hosts,
        tempfile.TemporaryDirectory(prefix="three-hosts-") as folder,
    ):
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own
        with hub(Path(folder) / "hub", address=slow_network.SERVER) as here:
            run = ["run", "--lanes", str(LANES), *([] if kind == "luigid" else ["--local-scheduler"])]
            idle = _together(here, hosts, run)
            for number in range(1, works + 1):
                here.announce(site.small_bag(Path(folder), number), times=1 if kind == "luigid" else 2)
            before, sent = here.cpu_seconds(), _sent()
            lanes_cpu = _together(here, hosts, run) - idle
            rows, once = here.count("SELECT count(*) FROM syncs"), here.count(_ONCE)
            if (rows, once) != (works, works):
                raise tree.CommandFailed(f"{rows} rows and {once} works that were synced once, not {works}")
            return {
                "works_a_second": (works - HOSTS * LANES) / (here.count(_MILLISECONDS) / 1000),
                "lane_cpu": lanes_cpu / works,
                "database_cpu": (here.cpu_seconds()["database"] - before["database"]) / works,
                "mb_on_the_line": (_sent() - sent) / works / 1e6,
            }


def _together(here: Hub, hosts: Sequence[list[str]], arguments: list[str]) -> float:
    """Run lanes on each host until there is nothing left; returns CPU-s of all."""
    before = _reaped()
    running = [_started(here, number, there, arguments) for number, there in enumerate(hosts)]
    try:
        for number, process in enumerate(running):
            if process.wait(_LONGEST_SECONDS):
                raise tree.CommandFailed((here.home / f"host-{number}.log").read_text()[-2000:])
    finally:
        for process in running:
            process.kill()
            process.wait()
    return _reaped() - before


def _started(here: Hub, number: int, there: list[str], arguments: list[str]) -> "subprocess.Popen[bytes]":
    with (here.home / f"host-{number}.log").open("wb") as sink:
        return subprocess.Popen(
            [*there, *here.command(*arguments)],
            env=here.environment(f"host-{number}"),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )


def _reaped() -> float:
    """CPU-s of all children that were waited for."""
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def _sent() -> int:
    """Bytes that went to the hosts so far."""
    told = subprocess.run(["ip", "-s", "-j", "link", "show", "type", "veth"], check=True, capture_output=True)
    return sum(int(link["stats64"]["tx"]["bytes"]) for link in json.loads(told.stdout))


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2])))
