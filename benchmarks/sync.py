"""The built-in copier side by side with rsync and cp, in one run on the same works, on a disk and in memory.

`python -m benchmarks.sync [--quick] [--only TABLE…]`. Every contender runs in a fresh process, all by turns, staging in
the page cache; medians. In memory (tmpfs) there is no disk: what is left is what each of them does. On the disk, all
flush and read back from it. Tables not measured again keep their figures. What is made lies under temporary folders,
and goes when the run ends, however it ends.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import contest, peers, sync_peers
from benchmarks.contest import Figures
from pipeline.foundation import fixity
from pipeline.foundation.fixity import FileFixity, Fixity

MEMORY = Path("/dev/shm")
OURS = "ours"
_FOLDER_FILES = 500


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


COMPARED = contest.Comparison("sync", list(FULL))


def main() -> int:
    options = _options()
    tables = {}
    with (
        contest.folder("sync-bench-", at=options.folder) as on_disk,
        contest.folder("sync-bench-", at=MEMORY) as in_memory,
    ):
        for name in options.only:
            table = FULL[name]
            wanted = replace(table, files=table.files // 10) if options.quick else table
            folder = (in_memory if wanted.in_memory else on_disk) / name
            tables[name] = _measured(wanted, folder, options)
            contest.give_back(folder)
            print(f"\n{wanted.title}\n{table_text(tables[name])}", flush=True)
            if options.save:  # at once: whoever is interrupted keeps what was measured
                contest.save(COMPARED, tables, options)
    return 0


def _options() -> argparse.Namespace:
    parser = contest.parser(COMPARED, about=__doc__)
    parser.add_argument("--contenders", nargs="+", choices=list(sync_peers.CONTENDERS), help="default: all")
    chosen = contest.options(parser)
    chosen.save = chosen.save and not chosen.contenders  # a part of a table must not stand for the whole
    return chosen


def _measured(wanted: Table, folder: Path, options: argparse.Namespace) -> dict[str, Figures]:
    """All contenders on one work, by turns."""
    work = staged(wanted, folder / "staging")
    names = list(sync_peers.IN_MEMORY if wanted.in_memory else sync_peers.ON_DISK)
    names = [name for name in names if name in (options.contenders or names)]
    held = contest.Contest(wanted.title)

    def one(name: str, turn: int) -> contest.Run:
        return _one(name, wanted, work, folder / f"{turn}-{names.index(name)}", options)

    held.hold(names, one, turns=options.runs)
    return held.figures(wanted.files * wanted.size_bytes)


def staged(wanted: Table, folder: Path) -> Path:
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
    (folder / fixity.digests_name("W1")).write_bytes(fixity.dumps(Fixity("W1", "manifest", files)))
    lines = [f"{file.digests['sha512']}  {name}\n" for name, file in files.items()]
    (folder / "manifest-sha512.txt").write_text("".join(lines))
    peers.compile_limit(work, (f"0 {file.size_bytes} {name}\n" for name, file in files.items()))
    return work


def _one(name: str, wanted: Table, work: Path, into: Path, options: argparse.Namespace) -> contest.Run:
    into.mkdir()
    contest.warm(*work.rglob("*.jpg"))
    peers.sync_file_system(into)  # what others left to be written is not this one's burden
    run = contest.measured(
        [sys.executable, str(Path(sync_peers.__file__)), name, str(work), str(into)],
        patience=options.patience,
        log=into.with_name(f"{into.name}.log"),
        environment={"PYTHONDONTWRITEBYTECODE": ""},
    )
    verdict = contest.spoilt(run, missing=sync_peers.MISSING)
    if not verdict and not name.startswith("limit") and sum(1 for _ in into.rglob("*.jpg")) != wanted.files:
        verdict = "wrong: the copy is not all there"
    contest.give_back(into)
    return run, verdict


def table_text(figures: Mapping[str, Figures]) -> str:
    """The figures of one work as Markdown, and how ours compares with the faster of the two pairs."""
    lines = ["| | wall s | ours / it | CPU s | MB/s |", "|---|--:|--:|--:|--:|"]
    base = figures[OURS].get("wall_seconds")
    for name, of in figures.items():
        if of["verdict"] != "ok":
            lines.append(f"| {name} | {of['verdict']} | | | |")
            continue
        ratio = f"{float(base) / float(of['wall_seconds']):.2f}" if base else "-"
        rate = f"{float(of['bytes_per_second']) / 1e6:.0f}"
        lines.append(f"| {name} | {contest.seconds(of)} | {ratio} | {of['cpu_seconds']:.2f} | {rate} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
