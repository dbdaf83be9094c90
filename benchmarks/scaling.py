"""How far it goes: what a work costs, how luigid grows, what that says of a load, and if three hosts bear it out.

`python -m benchmarks.scaling [--quick]` measures and prints; `--save` writes benchmarks/results/scaling.json and the
tables of docs/scaling.md. The hosts are network namespaces on this machine, each with a line of its own to S3, SQS,
luigid and PostgreSQL; they need root, unshare, nsenter, ip and tc. A busy machine spoils seconds, and CPU little.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    inputs,
    line,
    measure,
    scaling_model,
    scaling_page,
    scheduler_cost,
    site,
    slow_network,
    three_hosts,
    tree,
)
from benchmarks.hub import Hub, hub
from benchmarks.scaling_model import Cost, Figures

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = _ROOT / "docs" / "scaling.md"
_SMALL_GB = site.FILES * site.FILE_BYTES / 1e9


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    small: int
    large: inputs.Input
    remembered: tuple[int, ...]
    works: int


FULL = Extent(40, inputs.Input("500 files of 2 MB", 500, 2_000_000), (100, 1_000, 10_000, 50_000), 45)
QUICK = Extent(10, inputs.Input("100 files of 2 MB", 100, 2_000_000), (100, 1_000, 10_000), 27)


@dataclass
class Used:
    """What a run of lanes took, or what one work of it did."""

    wall: float
    cpu: dict[str, float]
    calls: dict[str, Counter[str]] = field(default_factory=dict)
    read: float = 0
    written: float = 0

    def less(self, idle: "Used", works: int) -> "Used":
        """Of each of these works, with what a run without any takes taken away."""
        return Used(
            (self.wall - idle.wall) / works,
            {name: (spent - idle.cpu[name]) / works for name, spent in self.cpu.items()},
            self.calls,
            (self.read - idle.read) / works,
            (self.written - idle.written) / works,
        )


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed then too
    extent = QUICK if options.quick else FULL
    found = _measured(extent, options)
    print(_told(found))
    if options.save:
        scaling_page.RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        _PAGE.write_text(scaling_page.renewed(_PAGE.read_text(), found))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some minutes; nothing saved")
    parser.add_argument("--folder", type=Path, help="where to work: on the disk that shall be measured")
    parser.add_argument(
        "--given-lane", action="store_true", help="a lane's CPU and seconds as line.json has them: here it is busy"
    )
    parser.add_argument("--save", action="store_true", help="write the results and the tables of docs/scaling.md")
    return parser.parse_args()


def _measured(extent: Extent, options: argparse.Namespace) -> dict[str, Any]:
    load = os.getloadavg()[0]
    asked = scheduler_cost.growth(extent.remembered)
    with _temporary(options.folder) as folder, hub(folder / "hub") as here:
        idle, idle_calls = _run(here, 0), _run(here, 0, counting=True)
        small = _works(here, folder, extent.small).less(idle, extent.small)
        calls = _per_work(_works(here, folder, 5, counting=True).calls, idle_calls.calls, 5)
        large = _large(here, folder, extent.large).less(idle, 1)
    measured = _figures(small, large, extent.large.bytes / 1e9, asked)
    checks = {kind: _checked(kind, extent.works, measured, small) for kind in ("luigid", "local")}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": measure.machine() | {"load_before": load, "load_after": os.getloadavg()[0]},
        "lane": "benchmarks/results/line.json" if options.given_lane else "here",
        "figures": asdict(_with_lane_of_line(measured) if options.given_lane else measured),
        "works": {
            f"{site.FILES} files of 20 KB": _plain(small),
            extent.large.title: _plain(large),
            "no work: a run's start and end": _plain(idle),
        },
        "calls_a_work": calls,
        "luigid": [asdict(one) for one in asked],
        "three_hosts": checks,
    }


@contextmanager
def _temporary(parent: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=parent, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own
        yield Path(folder)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _run(here: Hub, works: int, *, counting: bool = False) -> Used:
    """One run of one lane until the queue is empty."""
    here.counting(on=counting)
    environment, rows = here.environment("host-0"), here.count("SELECT count(*) FROM syncs")
    cpu, calls = here.cpu_seconds(), here.calls()
    run = tree.run(
        here.command("run", "--lanes", "1"),
        environment=environment,
        log=here.home / "run.log",
        home=here.home / "host-0",
    )
    if here.count("SELECT count(*) FROM syncs") != rows + works:
        raise tree.CommandFailed((here.home / "run.log").read_text()[-2000:])
    spent = {name: now - cpu[name] for name, now in here.cpu_seconds().items()}
    asked = {name: now - calls[name] for name, now in here.calls().items()}
    _say(f"{works} works: {run.cpu_seconds:.2f} CPU-s, besides {', '.join(f'{n} {s:.2f}' for n, s in spent.items())}")
    return Used(run.wall_seconds, {"lane": run.cpu_seconds, **spent}, asked, run.moved.rchar, run.moved.wchar)


def _works(here: Hub, folder: Path, works: int, *, counting: bool = False) -> Used:
    first = here.count("SELECT count(*) FROM syncs")
    for number in range(first + 1, first + works + 1):
        here.announce(site.small_bag(folder, number))
    return _run(here, works, counting=counting)


def _large(here: Hub, folder: Path, wanted: inputs.Input) -> Used:
    here.announce(inputs.make(wanted, folder / "W1.bag.zip"))
    return _run(here, 1)


def _per_work(calls: dict[str, Counter[str]], idle: dict[str, Counter[str]], works: int) -> dict[str, dict[str, float]]:
    return {
        name: {call: (number - idle[name][call]) / works for call, number in sorted(counter.items())}
        for name, counter in calls.items()
    }


def _figures(small: Used, large: Used, large_gb: float, asked: list[scheduler_cost.Asked]) -> Figures:
    def cost(little: float, much: float) -> Cost:
        gb = (much - little) / (large_gb - _SMALL_GB)
        return Cost(little - gb * _SMALL_GB, gb)

    most, least = asked[-1], min(asked, key=lambda one: one.get_work)
    return Figures(
        lane_cpu=cost(small.cpu["lane"], large.cpu["lane"]),
        lane_seconds=cost(small.wall, large.wall),
        luigid_cpu=small.cpu["luigid"],
        luigid_task_cpu=(most.get_work - least.get_work) / most.remembered,
        database_cpu=small.cpu["database"],
        get_works=most.get_works,
    )


def _with_lane_of_line(measured: Figures) -> Figures:
    """With what a lane took on a quiet machine, in the runs of `python -m benchmarks.line`."""
    known = json.loads(line.RESULTS.read_text())["figures"]
    gb = f"one work of {FULL.large.title}:"
    started = known["50 small works, 1 lane: CPU each, start-up included"]["median"]
    single = known["one small work, message sent to row committed, lanes waiting"]["median"]
    large = {name: known[f"{gb} {name}"]["median"] for name in ("CPU", "start of `run` to sync row")}
    return replace(
        measured,
        lane_cpu=Cost(started, large["CPU"] - started),
        lane_seconds=Cost(single, large["start of `run` to sync row"] - single),
    )


def _plain(used: Used) -> dict[str, Any]:
    return {"seconds": used.wall, "cpu": used.cpu, "read_bytes": used.read, "written_bytes": used.written}


def _checked(kind: str, works: int, figures: Figures, small: Used) -> dict[str, Any]:
    """Three hosts at work, and what the model says of them; or why there were none."""
    if not slow_network.possible():
        return {"left_out": "it needs root, unshare, nsenter, ip and tc"}
    command = ["unshare", "--net", sys.executable, "-m", "benchmarks.three_hosts", str(works), kind]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return {"left_out": f"three hosts could not be made, or failed: exit status {done.returncode}"}
    seen: dict[str, Any] = json.loads(done.stdout)
    rate = scaling_model.works_a_second(
        figures,
        hosts=three_hosts.HOSTS,
        lanes=three_hosts.LANES,
        host_mb=three_hosts.RATE_MBIT / 8,
        zip_gb=seen["mb_on_the_line"] / 1_000,
        cores=os.cpu_count() or 1,
        others=small.cpu["sqs"] + small.cpu["s3"],
    )
    told = {"works_a_second": rate, "lane_cpu": small.cpu["lane"], "database_cpu": small.cpu["database"]}
    return {"seen": seen, "predicted": told, "seen_to_predicted": {name: seen[name] / told[name] for name in told}}


def _told(found: dict[str, Any]) -> str:
    rest = {name: found[name] for name in ("works", "calls_a_work", "machine")}
    return f"{scaling_page.made_of(found)}\n\n{json.dumps(rest, indent=1)}"


if __name__ == "__main__":
    sys.exit(main())
