"""The built-in copier side by side with rsync and cp, in one run on the same works, on a disk and in memory.

`python -m benchmarks.sync [--quick] [--only TABLE…]`. Every contender runs in a fresh process, all by turns, staging in
the page cache; medians. In memory (tmpfs) there is no disk: what is left is what each of them does. On the disk, ours
flushes and reads back from it; the peers do so only where their name has `sync` in it. Tables not measured again
keep their figures. What is made lies under temporary folders, and goes when the run ends, however it ends.
"""

import argparse
import hashlib
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

from benchmarks import measure, peers, sync_peers
from benchmarks.measure import machine
from pipeline import fixity
from pipeline.fixity import FileFixity, Fixity

RESULTS = peers.ROOT / "benchmarks" / "results" / "sync.json"
PICTURE = peers.ROOT / "docs" / "pictures" / "sync.svg"
MEMORY = Path("/dev/shm")
OURS = "ours"
_FOLDER_FILES = 500

Figures = dict[str, float | int | str]


@dataclass(frozen=True)
class Table:
    """A work to bring home, and where to.

    Attributes:
        title: for people.
        files: how many.
        size_bytes: of each.
        in_memory: on tmpfs, staging and archive; else both on the disk of `--folder`.
    """

    title: str
    files: int
    size_bytes: int
    in_memory: bool = False


FULL = {
    "images": Table("2,000 files of 1.5 MB, on a disk", 2_000, 1_500_000),
    "small": Table("20,000 files of 20 KB, on a disk", 20_000, 20_000),
    "images-memory": Table("2,000 files of 1.5 MB, in memory", 2_000, 1_500_000, in_memory=True),
    "small-memory": Table("20,000 files of 20 KB, in memory", 20_000, 20_000, in_memory=True),
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed then too
    tables = {}
    for name in options.only:
        table = FULL[name]
        wanted = replace(table, files=table.files // 10) if options.quick else table
        folder = Path(tempfile.mkdtemp(prefix="sync-bench-", dir=MEMORY if wanted.in_memory else options.folder))
        try:
            tables[name] = _measured(wanted, folder, options)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"\n{wanted.title}\n{table_text(tables[name])}")
        if options.save:  # at once: whoever is interrupted keeps what was measured
            _save(tables, options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the files, 3 runs, nothing saved")
    parser.add_argument("--runs", type=int, default=0, help="runs of each contender; default 5")
    parser.add_argument(
        "--patience", type=float, default=5, help="seconds to wait, before each run, for others to rest"
    )
    parser.add_argument("--only", nargs="+", default=list(FULL), choices=list(FULL))
    parser.add_argument("--contenders", nargs="+", choices=list(sync_peers.CONTENDERS), help="default: all")
    parser.add_argument("--folder", type=Path, help="where to work: on the disk that shall be measured")
    parser.add_argument("--draw-python", default=sys.executable, help="an interpreter with matplotlib")
    parser.add_argument("--save", action=argparse.BooleanOptionalAction, help="write results and picture")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 5)
    options.save = not options.quick if options.save is None else options.save
    return options


def _measured(wanted: Table, folder: Path, options: argparse.Namespace) -> dict[str, Figures]:
    """All contenders on one work, by turns."""
    work = _staged(wanted, folder / "staging")
    names = list(sync_peers.IN_MEMORY if wanted.in_memory else sync_peers.CONTENDERS)
    names = [name for name in names if name in (options.contenders or names)]
    runs: dict[str, list[measure.Run]] = {name: [] for name in names}
    verdicts: dict[str, str] = {}
    for turn in range(options.runs):
        first = turn * 3 % len(names)  # nobody always runs behind the same other one
        for name in names[first:] + names[:first]:
            if name in verdicts:
                continue
            one, verdict = _one(name, wanted, work, folder / f"{turn}-{names.index(name)}", options)
            runs[name].append(one)
            verdicts |= {name: verdict} if verdict else {}
            told = verdict or f"{one.wall_seconds:.2f} s"
            print(f"{wanted.title}: {turn + 1}/{options.runs} {name}: {told}", file=sys.stderr)
    return {name: _figures(wanted, runs[name], verdicts.get(name, "")) for name in runs}


def _staged(wanted: Table, folder: Path) -> Path:
    """A debagged work, its digests and its manifest beside it."""
    work = folder / "W1"
    files = {}
    for number in range(wanted.files):
        path = work / "images" / f"{number // _FOLDER_FILES}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = os.urandom(wanted.size_bytes)
        path.write_bytes(content)
        digest = hashlib.sha512(content).hexdigest()
        files[str(path.relative_to(work))] = FileFixity(len(content), {"sha512": digest})
    fixity.save(Fixity("W1", "manifest", files), folder)
    lines = [f"{file.digests['sha512']}  {name}\n" for name, file in files.items()]
    (folder / "manifest-sha512.txt").write_text("".join(lines))
    return work


def _one(name: str, wanted: Table, work: Path, into: Path, options: argparse.Namespace) -> tuple[measure.Run, str]:
    """One run, and what spoils it: nothing, `missing`, or what went wrong."""
    into.mkdir()
    _warm(work)
    peers.sync_file_system(into)  # what others left to be written is not this one's burden
    busy = measure.wait_for_quiet(options.patience)
    run = measure.run(
        [sys.executable, str(Path(sync_peers.__file__)), name, str(work), str(into)],
        environment={**os.environ},
        log=into.with_name(f"{into.name}.log"),
    )
    run = replace(run, busy_before=busy)
    if run.status == sync_peers.MISSING:
        return run, f"missing: {run.error or 'not installed'}"
    if run.status:
        return run, f"failed: {run.error}"
    if not name.startswith("limit") and sum(1 for _ in into.rglob("*.jpg")) != wanted.files:
        return run, "wrong: the copy is not all there"
    if wanted.in_memory:
        shutil.rmtree(into)
    else:  # give the disk back, but keep the files: ext4 makes new ones more slowly after many were removed
        for path in into.rglob("*.jpg"):
            os.truncate(path, 0)
    return run, ""


def _warm(work: Path) -> None:
    for path in work.rglob("*.jpg"):
        path.read_bytes()


def _figures(wanted: Table, runs: Sequence[measure.Run], verdict: str) -> Figures:
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
        "bytes_per_second": int(wanted.files * wanted.size_bytes / wall),
    }


def table_text(figures: Mapping[str, Figures]) -> str:
    """The figures of one work as Markdown, and how ours compares with the faster of the two pairs."""
    lines = ["| | wall s | best | worst | ours / it | CPU s | MB/s |", "|---|--:|--:|--:|--:|--:|--:|"]
    base = figures[OURS].get("wall_seconds")
    for name, of in figures.items():
        if of["verdict"] != "ok":
            lines.append(f"| {name} | {of['verdict']} | | | | | |")
            continue
        ratio = f"{float(base) / float(of['wall_seconds']):.2f}" if base else "-"
        span = f"{of['wall_seconds_best']:.2f} | {of['wall_seconds_worst']:.2f}"
        rate = f"{float(of['bytes_per_second']) / 1e6:.0f}"
        lines.append(f"| {name} | {of['wall_seconds']:.2f} | {span} | {ratio} | {of['cpu_seconds']:.2f} | {rate} |")
    return "\n".join(lines)


def _save(tables: Mapping[str, dict[str, Figures]], options: argparse.Namespace) -> None:
    before = json.loads(RESULTS.read_text())["inputs"] if RESULTS.exists() else {}
    merged = {name: {**before, **tables}[name] for name in FULL if name in before or name in tables}
    titles = {name: FULL[name].title for name in merged}
    report = {"machine": machine(), "runs": options.runs, "titles": titles, "inputs": merged}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    command = [options.draw_python, "-m", "benchmarks.picture", str(RESULTS), str(PICTURE)]
    if subprocess.run(command, cwd=peers.ROOT, check=False).returncode:
        print("no picture: matplotlib (benchmarks/requirements-debag.txt) is missing", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
