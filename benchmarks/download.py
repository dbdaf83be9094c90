"""Download side by side with its peers, in one run against one S3 server on this machine.

`python -m benchmarks.download [--quick] [--only large small line]`. Every contender runs in a fresh process, all by
turns; medians. `large` and `small` go over loopback as fast as it goes; `line` over a network of 250 MB/s, which needs
root. What is made lies under one temporary folder, and goes when the run ends, however it ends.
"""

import argparse
import contextlib
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig

from benchmarks import fetchers, measure, peers, seaweed, slow_network
from pipeline import embedded

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RESULTS = peers.ROOT / "benchmarks" / "results" / "download.json"
PICTURE = peers.ROOT / "docs" / "pictures" / "download.svg"
_MB = 1_000_000
_PART_BYTES = 8 << 20  # of BDRC's objects

Figures = dict[str, float | int | str]


@dataclass(frozen=True)
class Wanted:
    """What is downloaded, and by whom."""

    title: str
    objects: int
    size_bytes: int
    contenders: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all objects."""
        return self.objects * self.size_bytes


_ALONE = ("ours, verified", "ours, unverified", "ours, verified, durable", "boto3 download_file", "s5cmd")
_MANY = (*_ALONE[:4], "ours, verified, 8 at once", "boto3 TransferManager", "s5cmd")
FULL = {
    "large": Wanted("1 GiB", 1, 1 << 30, _ALONE),
    "small": Wanted("200 objects of 1.5 MiB", 200, 3 << 19, _MANY),
    "line": Wanted("1 GiB over a line of 250 MB/s", 1, 1 << 30, _ALONE),
}
QUICK = {
    name: replace(wanted, objects=min(20, wanted.objects), size_bytes=min(1 << 27, wanted.size_bytes))
    for name, wanted in FULL.items()
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed then too
    wanted = QUICK if options.quick else FULL
    tables: dict[str, dict[str, Figures]] = {}
    for name in options.only:
        if name == "line" and not options.in_namespace:
            _over_a_line(options)
            continue
        with contextlib.ExitStack() as tidy:
            folder = tidy.enter_context(tempfile.TemporaryDirectory(prefix="download-bench-", dir=options.folder))
            options.there = tidy.enter_context(slow_network.client_host()) if options.in_namespace else []
            tables[name] = _measured(name, wanted[name], Path(folder), options)
        print(f"\n{wanted[name].title}\n{table(wanted[name], tables[name])}")
    if options.save and tables:
        _save(tables, options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an eighth of the size, 3 runs, nothing saved")
    parser.add_argument("--runs", type=int, default=0, help="runs of each contender; default 5")
    parser.add_argument("--patience", type=float, default=5, help="seconds to wait, before a run, for others to rest")
    parser.add_argument("--only", nargs="+", default=list(FULL), choices=list(FULL))
    parser.add_argument("--folder", type=Path, help="where to work: on the disk that shall be measured")
    parser.add_argument("--save", action=argparse.BooleanOptionalAction, help="write results and picture")
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 5)
    options.save = not options.quick if options.save is None else options.save
    return options


def _over_a_line(options: argparse.Namespace) -> None:
    """The same again in a network namespace of its own, where the contenders are on another host."""
    if not slow_network.possible():
        print("line: left out: it needs root, unshare, nsenter, ip and tc", file=sys.stderr)
        return
    others = [f"--runs={options.runs}", f"--patience={options.patience}", "--save" if options.save else "--no-save"]
    others += ["--quick"] * options.quick + [f"--folder={options.folder}"] * bool(options.folder)
    command = [sys.executable, "-m", "benchmarks.download", "--in-namespace", "--only", "line", *others]
    process = subprocess.Popen(["unshare", "--net", *command], cwd=peers.ROOT)
    try:
        process.wait()
    except BaseException:
        process.terminate()  # not killed: it has a server to end
        process.wait()
        raise


def _measured(what: str, wanted: Wanted, folder: Path, options: argparse.Namespace) -> dict[str, Figures]:
    """All contenders by turns."""
    runs: dict[str, list[measure.Run]] = {name: [] for name in wanted.contenders}
    verdicts: dict[str, str] = {}
    address = slow_network.SERVER if options.there else "127.0.0.1"
    with seaweed.server(folder / "server", address=address) as s3:
        originals = _put(s3, what, wanted, folder / "originals")
        for turn in range(options.runs):
            first = turn * 2 % len(runs)  # nobody always runs behind the same other one
            names = list(runs)
            for name in [*names[first:], *names[:first]]:
                if name in verdicts:
                    continue
                one, verdict = _one(name, what, s3.meta.endpoint_url, originals=originals, options=options)
                runs[name].append(one)
                verdicts |= {name: verdict} if verdict else {}
                told = verdict or f"{one.wall_seconds:.2f} s, {one.cpu_seconds:.2f} CPU-s"
                print(f"{wanted.title}: {turn + 1}/{options.runs} {name}: {told}", file=sys.stderr)
    return {name: _figures(wanted, runs[name], verdicts.get(name, "")) for name in runs}


def _put(s3: "S3Client", what: str, wanted: Wanted, folder: Path) -> Path:
    """Make the objects and upload them in parts, as BDRC's are; returns the folder that has the same files."""
    folder.mkdir()
    s3.create_bucket(Bucket=fetchers.BUCKET)
    config = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES)
    for number in range(wanted.objects):
        file = folder / f"{number:03}.bag.zip"
        with file.open("wb") as made:
            for at in range(0, wanted.size_bytes, _MB):
                made.write(os.urandom(min(_MB, wanted.size_bytes - at)))
        s3.upload_file(str(file), fetchers.BUCKET, f"{what}/{file.name}", Config=config)
    return folder


def _one(name: str, what: str, url: str, *, originals: Path, options: argparse.Namespace) -> tuple[measure.Run, str]:
    """One run, and what spoils it: nothing, `missing`, or what went wrong."""
    into = originals.with_name("into")
    into.mkdir()
    peers.sync_file_system(into)  # what others left to be written is not this one's burden
    busy = measure.wait_for_quiet(options.patience)
    command = [*options.there, sys.executable, str(Path(fetchers.__file__)), name, what, url, str(into)]
    log = into.with_name("run.log")
    try:
        run = measure.run(command, environment={**os.environ, **embedded.CREDENTIALS}, log=log)
        run = replace(run, busy_before=busy)
        if run.status == fetchers.MISSING:
            return run, f"missing: {run.error or 'not installed'}"
        if run.status:
            return run, f"failed: {run.error}"
        if not _same(originals, into):
            return run, "wrong: what came is not what was there"
    finally:
        shutil.rmtree(into)
    inner = json.loads(run.error)
    seconds, cpu_seconds, peak = (inner[key] for key in ("seconds", "cpu_seconds", "peak_bytes"))
    return replace(run, wall_seconds=seconds, cpu_seconds=cpu_seconds, peak_bytes=peak), ""


def _same(originals: Path, into: Path) -> bool:
    names = sorted(path.name for path in originals.iterdir())
    came = sorted(path.name for path in into.iterdir() if path.suffix != ".journal")
    return came == names and not any(filecmp.cmpfiles(originals, into, names, shallow=False)[1:])


def _figures(wanted: Wanted, runs: Sequence[measure.Run], verdict: str) -> Figures:
    if verdict:
        return {"verdict": verdict}
    wall, cpu = measure.median(runs, "wall_seconds"), measure.median(runs, "cpu_seconds")
    return {
        "verdict": "ok",
        "runs": len(runs),
        "seconds": round(wall, 3),
        "seconds_best": round(min(one.wall_seconds for one in runs), 3),
        "seconds_worst": round(max(one.wall_seconds for one in runs), 3),
        "busy_before": round(measure.median(runs, "busy_before"), 2),
        "mb_per_second": round(wanted.bytes / wall / _MB, 1),
        "cpu_seconds_per_gb": round(cpu / wanted.bytes * 1000 * _MB, 3),
        "peak_mb": round(measure.median(runs, "peak_bytes") / _MB, 1),
    }


def table(wanted: Wanted, figures: Mapping[str, Figures]) -> str:
    """The figures as Markdown; ratios are to boto3's `download_file`."""
    lines = ["| | MB/s | x boto3 | CPU-s per GB | x boto3 | peak MB |", "|---|--:|--:|--:|--:|--:|"]
    base = figures["boto3 download_file"]
    for name in wanted.contenders:
        of = figures[name]
        if of["verdict"] != "ok" or base["verdict"] != "ok":
            lines.append(f"| {name} | {of['verdict']} | | | | |")
            continue
        speed, cpu = (float(of[key]) / float(base[key]) for key in ("mb_per_second", "cpu_seconds_per_gb"))
        cells = f"{of['mb_per_second']:.0f} | {speed:.2f} | {of['cpu_seconds_per_gb']:.2f} | {cpu:.2f}"
        lines.append(f"| {name} | {cells} | {of['peak_mb']:.0f} |")
    return "\n".join(lines)


def _save(tables: Mapping[str, dict[str, Figures]], options: argparse.Namespace) -> None:
    """Write what was measured beside what was measured before, of other objects."""
    report: dict[str, Any] = {"inputs": {}}
    with contextlib.suppress(OSError, ValueError):
        report = json.loads(RESULTS.read_text())
    known = {**report["inputs"], **tables}
    inputs = {name: known[name] for name in FULL if name in known}
    report = {"machine": measure.machine(), "runs": options.runs, "inputs": inputs}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    command = [sys.executable, "-m", "benchmarks.download_picture", str(RESULTS), str(PICTURE)]
    if subprocess.run(command, cwd=peers.ROOT, check=False).returncode:
        print("no picture: matplotlib (benchmarks/requirements-download.txt) is missing", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
