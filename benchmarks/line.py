"""What the whole line costs, on the embedded stack: `python -m benchmarks.line [--quick]`.

Wall time of a small work, CPU of many, bytes moved by a large one, memory of lanes that wait; medians of several runs.
Everything lies under one temporary folder and goes when the run ends, however it ends.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from benchmarks import contest, inputs, measure, seaweed, site, tree

RESULTS = Path(__file__).resolve().parent / "results" / "line.json"
_QUIET_SECONDS = 5
_MB = 1_000_000
_NOTE = (
    "The Airflow stack's figures were given by the project that this one replaces: measured elsewhere, on such a\n"
    "machine, not here and not side by side. Ratios to them are ratios to constants."
)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        single_works: brought home one at a time by each pair of waiting lanes, besides the two that warm them.
        queued: how many small works wait when a run is started.
        lanes: of these runs.
        rounds: how often all of this is done.
    """

    single_works: int
    queued: tuple[int, ...]
    lanes: tuple[int, ...]
    rounds: int
    large: inputs.Input
    large_runs: int


FULL = Plan(5, (10, 50), (1, 2, 4), 3, inputs.Input("500 files of 2 MB", 500, 2_000_000), 7)
QUICK = Plan(2, (10,), (2,), 1, inputs.Input("50 files of 2 MB", 50, 2_000_000), 1)


@dataclass
class Figure:
    """One figure: its runs, and what they are to be compared with.

    Attributes:
        target: to stay below; 0: none is set.
        airflow: what the Airflow stack needs, lowest and highest; measured elsewhere.
    """

    unit: str
    runs: list[float] = field(default_factory=list)
    target: float = 0
    airflow: tuple[float, ...] = ()
    busy_before: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.runs)


Figures = dict[str, Figure]


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed then too
    plan = QUICK if options.quick else FULL
    load = os.getloadavg()
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="line-bench-", dir=options.folder, ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        bags = _small_bags(folder)
        if "single" in options.only:
            figures |= single_works(folder, bags, plan)
        if "queued" in options.only:
            with site.site(folder / "queued") as here:
                figures |= queued_works(here, bags, plan)
        if "large" in options.only:
            figures |= large_works(folder, plan)
    machine = _machine() | {"load_before": load[0], "load_after": os.getloadavg()[0]}
    print(table(figures))
    print(f"\n{_NOTE}\n{', '.join(f'{name}: {value}' for name, value in machine.items())}")
    if options.save:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        told = {name: {"median": figure.median, **asdict(figure)} for name, figure in figures.items()}
        report = {"machine": machine, "airflow": _NOTE.replace("\n", " "), "figures": told}
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["single", "queued", "large"]
    parser.add_argument("--quick", action="store_true", help="fewer runs, a tenth of the large work; nothing saved")
    parser.add_argument("--only", nargs="+", default=parts, choices=parts)
    parser.add_argument("--folder", type=Path, help="where to work: on the disk that shall be measured")
    parser.add_argument("--save", action=argparse.BooleanOptionalAction, help="write benchmarks/results/line.json")
    options = parser.parse_args()
    options.save = not options.quick and options.only == parts if options.save is None else options.save
    return options


def _small_bags(folder: Path) -> Iterator[Path]:
    """Small works without end, each under an RID of its own."""
    (folder / "bags").mkdir()
    for number in count(1):
        bag_zip = site.small_bag(folder / "bags", number)
        yield bag_zip
        bag_zip.unlink()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def single_works(folder: Path, bags: Iterator[Path], plan: Plan) -> Figures:
    """One work at a time to lanes that wait in watch mode; and what they and the scheduler hold while they wait."""
    wall, first = Figure("s", target=1.0, airflow=(4.25,)), Figure("s")
    fresh, worked, resident = Figure("MB", target=150, airflow=(682,)), Figure("MB", target=150), Figure("MB")
    for number in range(plan.rounds):
        # On a site of its own: a poll that watching lanes left behind in moto takes the next message for itself.
        with site.site(folder / f"single-{number}") as here, _watching(here) as held:
            fresh.runs.append(held().pss / _MB)
            for work in range(plan.single_works + 2):
                # The first works of a lane pay for connections and imports that all others find made.
                figure = first if work < 2 else wall
                message = here.put(next(bags))
                held()
                figure.busy_before.append(measure.wait_for_quiet(_QUIET_SECONDS))
                figure.runs.append(_until_row(here, message))
                _say(f"one small work: {figure.runs[-1]:.3f} s")
            after = held()
            worked.runs.append(after.pss / _MB)
            resident.runs.append(after.rss / _MB)
    return {
        "one small work, message sent to row committed, lanes waiting": wall,
        "… the first two works after the lanes were started": first,
        "idle memory: luigid, parent, 2 lanes, never worked (PSS)": fresh,
        f"… after {plan.single_works + 2} works (PSS)": worked,
        "… after these works (RSS, shared pages counted in each process)": resident,
    }


@contextlib.contextmanager
def _watching(here: site.Site) -> Iterator[Callable[[], tree.Memory]]:
    """Two lanes that wait for messages; yields what tells the memory of all once they have nothing to do."""
    command = here.command("run", "--watch", "--lanes", "2")
    with tree.running(command, environment=here.environment, log=here.home / "watch.log") as process:

        def held() -> tree.Memory:
            tree.settle(process.pid, at_least=2)
            return tree.memory([here.scheduler(), *tree.members(process.pid)])

        yield held


def _until_row(here: site.Site, message: str) -> float:
    """Send a message; the seconds until its row is committed."""
    wanted, started = here.rows() + 1, time.monotonic()
    here.send([message])
    here.wait_for_rows(wanted)
    return time.monotonic() - started


def queued_works(here: site.Site, bags: Iterator[Path], plan: Plan) -> Figures:
    """Many works that wait when `run` is started; start-up and the last look for more are paid for by them."""
    kinds = [(works, lanes) for works in plan.queued for lanes in plan.lanes]
    wall = {kind: Figure("s") for kind in kinds}
    cpu = {kind: Figure("CPU-s", target=0.5, airflow=(2.0, 2.9)) for kind in kinds}
    scheduler = {kind: Figure("CPU-s") for kind in kinds}
    wall[10, 2].target, wall[10, 2].airflow = 5.0, (25,)
    for _ in range(plan.rounds):
        for works, lanes in kinds:
            here.send([here.put(next(bags)) for _ in range(works)])
            busy = measure.wait_for_quiet(_QUIET_SECONDS)
            rows, luigid = here.rows(), tree.cpu_seconds([here.scheduler()])
            run = measure.run(
                here.command("run", "--lanes", str(lanes)), environment=here.environment, log=here.home / "run.log"
            )
            if run.status or here.rows() != rows + works:
                raise tree.CommandFailed(f"exit status {run.status}, {here.rows() - rows} of {works}: {run.error}")
            here.forget()
            wall[works, lanes].runs.append(run.wall_seconds)
            cpu[works, lanes].runs.append(run.cpu_seconds / works)
            scheduler[works, lanes].runs.append((tree.cpu_seconds([here.scheduler()]) - luigid) / works)
            wall[works, lanes].busy_before.append(busy)
            _say(f"{works} works, {lanes} lanes: {run.wall_seconds:.2f} s, {run.cpu_seconds / works:.3f} CPU-s each")
    figures: Figures = {}
    for works, lanes in kinds:
        name = f"{works} small works, {lanes} {'lane' if lanes == 1 else 'lanes'}"
        figures[f"{name}: start to end of `run`"] = wall[works, lanes]
        figures[f"{name}: CPU each, start-up included"] = cpu[works, lanes]
        figures[f"{name}: luigid's CPU each, besides"] = scheduler[works, lanes]
    return figures


def large_works(folder: Path, plan: Plan) -> Figures:
    """One large work by `run --lanes 1`, by each copier in turn, on a site of its own each time.

    S3 is SeaweedFS, SQS moto.
    """
    figures = {"": _large_figures(plan), ", built-in copier": _large_figures(plan)}
    for number in range(plan.large_runs):
        for named, copier in zip(figures, ("script", "builtin"), strict=True):
            _add_large(figures[named], *_one_large(folder / f"large-{number}-{copier}", plan.large, copier), plan)
    return {
        f"one work of {plan.large.title}{named}: {name}": figure
        for named, found in figures.items()
        for name, figure in found.items()
    }


def _large_figures(plan: Plan) -> Figures:
    size = plan.large.bytes
    theirs = (7.3,) if size == 1_000_000_000 else ()  # theirs was measured with 1 GB only
    return {
        "start of `run` to sync row": Figure("s", airflow=theirs),
        "start to end of `run`, 1 s of looking for more included": Figure("s"),
        "CPU": Figure("CPU-s", airflow=theirs),
        "read (rchar: files and pipes, not the network)": Figure("x the work", airflow=(3,)),
        "written (wchar: files and pipes)": Figure("x the work", airflow=(3,)),
        "fetched from the disk (read_bytes)": Figure("x the work"),
        "sent to the disk (write_bytes)": Figure("x the work"),
        "most disk under the home, archive included": Figure("x the work"),
        "peak memory: parent, lane, script (PSS, sampled)": Figure("MB"),
    }


def _add_large(figures: Figures, run: tree.Run, to_row: float, busy: float, plan: Plan) -> None:
    moved, size = run.moved, plan.large.bytes
    shares = [moved.rchar, moved.wchar, moved.read_bytes, moved.write_bytes, run.peak_disk_bytes]
    values = [to_row, run.wall_seconds, run.cpu_seconds, *(part / size for part in shares), run.peak_pss_bytes / _MB]
    for figure, value in zip(figures.values(), values, strict=True):
        figure.runs.append(value)
        figure.busy_before.append(busy)
    _say(f"{plan.large.title}: {to_row:.2f} s, {run.cpu_seconds:.2f} CPU-s")


def _one_large(folder: Path, wanted: inputs.Input, copier: str) -> tuple[tree.Run, float, float]:
    """One run by a copier, the seconds to the row, and how busy others were."""
    folder.mkdir()
    bag_zip = inputs.make(wanted, folder / "W1.bag.zip")
    with (
        seaweed.server(folder / "s3") as s3,
        site.site(folder / "home", s3_url=s3.meta.endpoint_url) as here,
    ):
        here.send([site.place(s3, bag_zip)])
        os.sync()  # what was just made is not this work's burden
        busy = measure.wait_for_quiet(_QUIET_SECONDS)
        measure.touch_memory(here.home)
        command, started = here.command("run", "--lanes", "1"), time.time()
        environment = {**here.environment, "PIPELINE_SYNC_COPIER": copier}
        run = tree.run(command, environment=environment, log=here.home / "run.log", home=here.home)
        if here.rows() != 1:
            raise tree.CommandFailed((here.home / "run.log").read_text()[-2000:])
        to_row = here.last_row() - started
    contest.give_back(folder)
    return run, to_row, busy


def table(figures: Figures) -> str:
    """The figures as Markdown."""
    lines = [
        "| | median | lowest to highest | target | Airflow stack | times less |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, figure in figures.items():
        spread = f"{min(figure.runs):.2f} to {max(figure.runs):.2f}, {len(figure.runs)} runs"
        target = f"< {figure.target:g}, {'met' if figure.median < figure.target else 'MISSED'}" if figure.target else ""
        airflow = " to ".join(f"{value:g}" for value in figure.airflow)
        ratio = " to ".join(f"{value / figure.median:.1f}" for value in figure.airflow)
        lines.append(f"| {name} | {figure.median:.2f} {figure.unit} | {spread} | {target} | {airflow} | {ratio} |")
    return "\n".join(lines)


def _machine() -> dict[str, str | int | float]:
    models: Sequence[str] = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "cpus": os.cpu_count() or 0,
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "the sync script copies with": "rsync" if shutil.which("rsync") else "cp",
    }


if __name__ == "__main__":
    sys.exit(main())
