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
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import contest, fetchers, peers, seaweed, slow_network
from benchmarks.contest import Figures
from pipeline.embedded import embedded

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MB = 1_000_000


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


_OURS = ("ours, by default", "ours, unverified", "ours, verified", "ours, verified, durable")
_ALONE = (*_OURS, "boto3 download_file", "s5cmd")
_MANY = (*_ALONE[:5], "ours, verified, 8 at once", "boto3 TransferManager", "s5cmd")
FULL = {
    "large": Wanted("1 GiB", 1, 1 << 30, _ALONE),
    "small": Wanted("200 objects of 1.5 MiB", 200, 3 << 19, _MANY),
    "line": Wanted("1 GiB over a line of 250 MB/s", 1, 1 << 30, _ALONE),
}
QUICK = {
    name: replace(wanted, objects=min(20, wanted.objects), size_bytes=min(1 << 27, wanted.size_bytes))
    for name, wanted in FULL.items()
}


COMPARED = contest.Comparison("download", list(FULL), artist="benchmarks.download_picture")


def main() -> int:
    options = _options()
    wanted = QUICK if options.quick else FULL
    for name in options.only:
        if name == "line" and not options.in_namespace:
            _over_a_line(options)
            continue
        with contextlib.ExitStack() as tidy:
            folder = tidy.enter_context(tempfile.TemporaryDirectory(prefix="download-bench-", dir=options.folder))
            options.there = tidy.enter_context(slow_network.client_host()) if options.in_namespace else []
            found = _measured(name, wanted[name], Path(folder), options)
        print(f"\n{wanted[name].title}\n{table(wanted[name], found)}", flush=True)
        if options.save:
            contest.save(COMPARED, {name: found}, options)
    return 0


def _options() -> argparse.Namespace:
    parser = contest.parser(COMPARED, about=__doc__)
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    return contest.options(parser)


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
    address = slow_network.SERVER if options.there else "127.0.0.1"
    held = contest.Contest(wanted.title)
    with seaweed.server(folder / "server", address=address) as s3:
        originals = _put(s3, what, wanted, folder / "originals")

        def one(name: str, _turn: int) -> contest.Run:
            return _one(name, what, s3.meta.endpoint_url, originals=originals, options=options)

        held.hold(wanted.contenders, one, turns=options.runs)
    return held.figures(wanted.bytes)


def _put(s3: "S3Client", what: str, wanted: Wanted, folder: Path) -> Path:
    """Make the objects and upload them in parts, as BDRC's are; returns the folder that has the same files."""
    folder.mkdir()
    s3.create_bucket(Bucket=fetchers.BUCKET)
    for number in range(wanted.objects):
        file = folder / f"{number:03}.bag.zip"
        with file.open("wb") as made:
            for at in range(0, wanted.size_bytes, _MB):
                made.write(os.urandom(min(_MB, wanted.size_bytes - at)))
        seaweed.put(s3, file, bucket=fetchers.BUCKET, key=f"{what}/{file.name}")
    return folder


def _one(name: str, what: str, url: str, *, originals: Path, options: argparse.Namespace) -> contest.Run:
    into = Path(tempfile.mkdtemp(prefix="into-", dir=originals.parent))
    peers.sync_file_system(into)  # what others left to be written is not this one's burden
    command = [*options.there, sys.executable, str(Path(fetchers.__file__)), name, what, url, str(into)]
    try:
        run = contest.measured(
            command, patience=options.patience, log=into.with_name("run.log"), environment=embedded.CREDENTIALS
        )
        verdict = contest.spoilt(run, missing=fetchers.MISSING)
        if verdict or not _same(originals, into):
            return run, verdict or "wrong: what came is not what was there"
    finally:
        contest.give_back(into)
    inner = json.loads(run.error)  # without the start of Python and the making of a client
    seconds, cpu_seconds, peak = (inner[key] for key in ("seconds", "cpu_seconds", "peak_bytes"))
    return replace(run, wall_seconds=seconds, cpu_seconds=cpu_seconds, peak_bytes=peak), ""


def _same(originals: Path, into: Path) -> bool:
    names = sorted(path.name for path in originals.iterdir())
    came = sorted(path.name for path in into.iterdir() if path.suffix != ".journal")
    return came == names and not any(filecmp.cmpfiles(originals, into, names, shallow=False)[1:])


def table(wanted: Wanted, figures: Mapping[str, Figures]) -> str:
    """The figures as Markdown; ratios are to boto3's `download_file`."""
    lines = ["| | MB/s | x boto3 | CPU-s per GB | x boto3 | peak MB |", "|---|--:|--:|--:|--:|--:|"]
    base = figures["boto3 download_file"]
    for name in wanted.contenders:
        of = figures[name]
        if of["verdict"] != "ok" or base["verdict"] != "ok":
            lines.append(f"| {name} | {of['verdict']} | | | | |")
            continue
        speed, cpu = (float(of[key]) / float(base[key]) for key in ("bytes_per_second", "cpu_seconds_per_gb"))
        rate, peak = (float(of[key]) / _MB for key in ("bytes_per_second", "peak_bytes"))
        lines.append(f"| {name} | {rate:.0f} | {speed:.2f} | {of['cpu_seconds_per_gb']:.2f} | {cpu:.2f} | {peak:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
