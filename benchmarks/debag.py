"""Debag side by side with its peers, in one run on the same inputs, against the limits of this very machine.

`python -m benchmarks.debag [--quick] [--peers-python PATH]`. Every contender runs in a fresh process, all by turns, the
zip in the page cache; medians. What is made lies under one temporary folder, and goes when the run
ends, however it ends.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import inputs, measure, peers

RESULTS = peers.ROOT / "benchmarks" / "results" / "debag.json"
PICTURE = peers.ROOT / "docs" / "pictures" / "debag.svg"
OURS, OURS_DURABLE = "ours, no sync", "ours, durable"
_OURS_HERE = (OURS, OURS_DURABLE)
_MEGABYTE = 1_000_000

Figures = dict[str, float | int | str]


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed then too
    folder = Path(tempfile.mkdtemp(prefix="debag-bench-", dir=options.folder))
    try:
        wanted = inputs.QUICK if options.quick else inputs.FULL
        tables = {name: _measured(wanted[name], folder / name, options) for name in wanted if name in options.only}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report = {"machine": measure.machine(), "runs": options.runs, "quick": options.quick, "inputs": tables}
    for name, figures in tables.items():
        print(f"\n{wanted[name].title}\n{table(figures)}")
    if options.save:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(_with_earlier(report), indent=1) + "\n")
        _draw(options.peers_python)
    return 0


def _with_earlier(report: dict[str, Any]) -> dict[str, Any]:
    """Inputs that were left out this time keep the figures of an earlier run on the same machine with as many runs."""
    try:
        earlier = json.loads(RESULTS.read_text())
    except FileNotFoundError:
        return report
    if any(earlier[key] != report[key] for key in ("machine", "runs", "quick")):
        return report
    found = {**earlier["inputs"], **report["inputs"]}
    return {**report, "inputs": {name: found[name] for name in inputs.FULL if name in found}}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, 3 runs, nothing saved")
    parser.add_argument("--runs", type=int, default=0, help="runs of each contender; default 5")
    parser.add_argument(
        "--patience", type=float, default=5, help="seconds to wait, before each run, for others to rest"
    )
    parser.add_argument("--only", nargs="+", default=list(inputs.FULL), choices=list(inputs.FULL))
    parser.add_argument("--folder", type=Path, help="where to work: on the disk that shall be measured")
    parser.add_argument(
        "--peers-python", default=sys.executable, help="an interpreter with benchmarks/requirements-debag.txt"
    )
    parser.add_argument("--save", action=argparse.BooleanOptionalAction, help="write results and picture")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 5)
    options.save = not options.quick if options.save is None else options.save
    return options


def _measured(wanted: inputs.Input, folder: Path, options: argparse.Namespace) -> dict[str, Figures]:
    """All contenders on one input, by turns."""
    folder.mkdir()
    bag_zip = inputs.make(wanted, folder / "W1.bag.zip")
    runs: dict[str, list[measure.Run]] = {name: [] for name in peers.CONTENDERS}
    verdicts: dict[str, str] = {}
    names = list(peers.CONTENDERS)
    for turn in range(options.runs):
        first = turn * 3 % len(names)  # nobody always runs behind the same other one
        for name in names[first:] + names[:first]:
            if name in verdicts:
                continue
            one, verdict = _one(name, wanted, bag_zip, folder / f"{turn}-{names.index(name)}", options)
            runs[name].append(one)
            verdicts |= {name: verdict} if verdict else {}
            told = verdict or f"{one.wall_seconds:.2f} s"
            print(f"{wanted.title}: {turn + 1}/{options.runs} {name}: {told}", file=sys.stderr)
    shutil.rmtree(folder)
    return {name: _figures(wanted, runs[name], verdicts.get(name, "")) for name in runs}


def _one(
    name: str, wanted: inputs.Input, bag_zip: Path, into: Path, options: argparse.Namespace
) -> tuple[measure.Run, str]:
    """One run, and what spoils it: nothing, `missing`, or what went wrong."""
    into.mkdir()
    _warm(bag_zip)
    peers.sync_file_system(into)  # what others left to be written is not this one's burden
    busy = measure.wait_for_quiet(options.patience)
    python = sys.executable if name in _OURS_HERE or name.startswith("limit") else options.peers_python
    environment = {**os.environ, "HOME": str(into.parent), "PYTHONDONTWRITEBYTECODE": ""}
    run = measure.run(
        [python, str(Path(peers.__file__)), name, str(bag_zip), str(into)],
        environment=environment,
        log=into.with_name(f"{into.name}.log"),
    )
    run = replace(run, busy_before=busy)
    if run.status == peers.MISSING:
        return run, f"missing: {run.error or 'not installed'}"
    if run.status:
        return run, f"failed: {run.error}"
    if not name.startswith("limit") and _payload(into) != (wanted.files, wanted.bytes):
        return run, "wrong: the payload is not all there"
    _emptied(into)
    return run, ""


def _warm(bag_zip: Path) -> None:
    with bag_zip.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _payload(into: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in into.rglob("*.jpg")]
    return len(sizes), sum(sizes)


def _emptied(into: Path) -> None:
    """Give the disk back, but keep the files: ext4 makes new ones up to 3 times slower after many were removed."""
    for path in into.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def _figures(wanted: inputs.Input, runs: Sequence[measure.Run], verdict: str) -> Figures:
    if verdict:
        return {"verdict": verdict}
    wall = measure.median(runs, "wall_seconds")
    return {
        "verdict": "ok",
        "runs": len(runs),
        "wall_seconds": round(wall, 3),
        "wall_seconds_best": round(min(one.wall_seconds for one in runs), 3),
        "wall_seconds_worst": round(max(one.wall_seconds for one in runs), 3),
        "busy_before": round(measure.median(runs, "busy_before"), 2),
        "cpu_seconds": round(measure.median(runs, "cpu_seconds"), 3),
        "peak_bytes": int(measure.median(runs, "peak_bytes")),
        "peak_sum_bytes": int(measure.median(runs, "peak_sum_bytes")),
        "bytes_per_second": int(wanted.bytes / wall),
    }


def table(figures: Mapping[str, Figures]) -> str:
    """The figures of one input as Markdown; ratios are to ours without sync, as the peers run."""
    lines = [
        "| | wall s | x ours | CPU s | peak MB | sum MB | MB/s |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    base = figures[OURS].get("wall_seconds")
    for name, of in figures.items():
        if of["verdict"] != "ok":
            lines.append(f"| {name} | {of['verdict']} | | | | | |")
            continue
        ratio = f"{float(of['wall_seconds']) / float(base):.2f}" if base else "-"
        memory = " | ".join(f"{float(of[key]) / _MEGABYTE:.0f}" for key in ("peak_bytes", "peak_sum_bytes"))
        rate = f"{float(of['bytes_per_second']) / _MEGABYTE:.0f}"
        lines.append(f"| {name} | {of['wall_seconds']:.2f} | {ratio} | {of['cpu_seconds']:.2f} | {memory} | {rate} |")
    return "\n".join(lines)


def _draw(python: str) -> None:
    done = subprocess.run([python, "-m", "benchmarks.picture", str(RESULTS), str(PICTURE)], cwd=peers.ROOT, check=False)
    if done.returncode:
        print("no picture: matplotlib (benchmarks/requirements-debag.txt) is missing", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
