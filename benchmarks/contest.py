"""What every comparison shares: contenders by turns, what their runs come to, and what is kept and drawn of it."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import measure

_ROOT = Path(__file__).resolve().parent.parent
_RUNS, _QUICK_RUNS = 7, 3
_SPREAD = 0.15  # of the median: what differs by more is told as a range

Figures = dict[str, float | int | str]
Run = tuple[measure.Run, str]
"""One run, and what spoils it: nothing, `missing`, or what went wrong."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison is of, and where its figures go.

    Attributes:
        name: of its results and its picture.
        inputs: what can be measured, by the name for `--only`.
        artist: the module that draws it; empty: nothing is drawn.
    """

    name: str
    inputs: Sequence[str]
    artist: str = "benchmarks.picture"

    @property
    def results(self) -> Path:
        """The file of all figures."""
        return _ROOT / "benchmarks" / "results" / f"{self.name}.json"

    @property
    def picture(self) -> Path:
        """The picture for docs/benchmarks.md."""
        return _ROOT / "docs" / "pictures" / f"{self.name}.svg"


def parser(compared: Comparison, *, about: str | None) -> argparse.ArgumentParser:
    """The options that all comparisons have."""
    found = argparse.ArgumentParser(description=about)
    found.add_argument("--quick", action="store_true", help="a tenth of the size, 3 runs, nothing saved")
    found.add_argument("--runs", type=int, default=0, help=f"runs of each contender; default {_RUNS}")
    found.add_argument("--patience", type=float, default=5, help="seconds to wait, before a run, for others to rest")
    found.add_argument("--only", nargs="+", default=list(compared.inputs), choices=list(compared.inputs))
    found.add_argument("--folder", type=Path, help="where to work: on the disk that shall be measured")
    found.add_argument("--draw-python", default=sys.executable, help="an interpreter with matplotlib")
    found.add_argument("--save", action=argparse.BooleanOptionalAction, help="write results and picture")
    return found


def options(found: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for; and SIGTERM ends the comparison as Ctrl-C does, so that what was made is removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = found.parse_args()
    chosen.runs = chosen.runs or (_QUICK_RUNS if chosen.quick else _RUNS)
    chosen.save = not chosen.quick if chosen.save is None else chosen.save
    return chosen


@dataclass
class Contest:
    """Contenders that do the same, each in a fresh process, by turns.

    Attributes:
        title: of what they do, for people.
        runs: so far, by contender.
        verdicts: of those that failed or are missing, and do not run again.
    """

    title: str
    runs: dict[str, list[measure.Run]] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)

    def hold(self, names: Sequence[str], one: Callable[[str, int], Run], *, turns: int) -> None:
        """Let each contender run so many times.

        Args:
            names: the contenders.
            one: runs one of them; told its name, and which turn it is.
            turns: how many.
        """
        self.runs = {name: [] for name in names}
        for turn in range(turns):
            first = turn * 3 % len(names)  # nobody always runs behind the same other one
            for name in [*names[first:], *names[:first]]:
                if name in self.verdicts:
                    continue
                run, verdict = one(name, turn)
                self.runs[name].append(run)
                self.verdicts |= {name: verdict} if verdict else {}
                told = verdict or f"{run.wall_seconds:.2f} s, {run.cpu_seconds:.2f} CPU-s"
                print(f"{self.title}: {turn + 1}/{turns} {name}: {told}", file=sys.stderr)

    def figures(self, size_bytes: int) -> dict[str, Figures]:
        """What the runs of each contender come to; `size_bytes` is what each had to do."""
        return {name: self._figures(name, size_bytes) for name in self.runs}

    def _figures(self, name: str, size_bytes: int) -> Figures:
        if name in self.verdicts:
            return {"verdict": self.verdicts[name]}
        runs = self.runs[name]
        wall, cpu = measure.median(runs, "wall_seconds"), measure.median(runs, "cpu_seconds")
        return {
            "verdict": "ok",
            "runs": len(runs),
            "wall_seconds": round(wall, 3),
            "wall_seconds_best": round(min(one.wall_seconds for one in runs), 3),
            "wall_seconds_worst": round(max(one.wall_seconds for one in runs), 3),
            "busy_before": round(measure.median(runs, "busy_before"), 2),
            "cpu_seconds": round(cpu, 3),
            "cpu_seconds_per_gb": round(cpu / size_bytes * 1e9, 3),
            "peak_bytes": int(measure.median(runs, "peak_bytes")),
            "peak_sum_bytes": int(measure.median(runs, "peak_sum_bytes")),
            "bytes_per_second": int(size_bytes / wall),
        }


def measured(command: Sequence[str], *, patience: float, log: Path, environment: Mapping[str, str]) -> measure.Run:
    """One run of a command, once others let the machine be, or do not for too long."""
    busy = measure.wait_for_quiet(patience)
    measure.touch_memory(log.parent)
    run = measure.run(command, environment={**os.environ, **environment}, log=log)
    return replace(run, busy_before=busy)


def spoilt(run: measure.Run, *, missing: int) -> str:
    """What its exit status says against a run; `missing` is that of a contender that is not installed."""
    if run.status == missing:
        return f"missing: {run.error or 'not installed'}"
    return f"failed: {run.error}" if run.status else ""


def save(compared: Comparison, tables: Mapping[str, Mapping[str, Figures]], chosen: argparse.Namespace) -> None:
    """Write figures and picture; inputs that were left out keep those of an earlier run on the same machine."""
    report: dict[str, Any] = {"machine": measure.machine(), "runs": chosen.runs}
    earlier: dict[str, Any] = json.loads(compared.results.read_text()) if compared.results.exists() else {}
    alike = all(earlier.get(key) == report[key] for key in report)
    known = {**(earlier["inputs"] if alike else {}), **tables}
    report["inputs"] = {name: known[name] for name in compared.inputs if name in known}
    compared.results.parent.mkdir(parents=True, exist_ok=True)
    compared.results.write_text(json.dumps(report, indent=1) + "\n")
    if not compared.artist:
        return
    command = [chosen.draw_python, "-m", compared.artist, str(compared.results), str(compared.picture)]
    if subprocess.run(command, cwd=_ROOT, check=False).returncode:
        print("no picture: matplotlib (benchmarks/requirements-debag.txt) is missing", file=sys.stderr)


def seconds(of: Figures) -> str:
    """The median of the wall times, and from best to worst where they spread."""
    wall, best, worst = (float(of[key]) for key in ("wall_seconds", "wall_seconds_best", "wall_seconds_worst"))
    return f"{wall:.2f}" + (f" ({best:.2f} to {worst:.2f})" if worst - best > _SPREAD * wall else "")


def give_back(folder: Path) -> None:
    """Give the disk back, but keep the files: after many removals ext4 makes new ones up to 3 times slower."""
    for below, _, names in os.walk(folder):  # rglob would hold a million names
        for path in (os.path.join(below, name) for name in names):
            if os.path.isfile(path):
                os.truncate(path, 0)


def warm(*paths: Path) -> None:
    """Bring files into the page cache."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


@contextlib.contextmanager
def folder(prefix: str, *, at: Path | None) -> Iterator[Path]:
    """A temporary folder for all that is measured, which goes in the end, however that comes: see `give_back`."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=at))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
