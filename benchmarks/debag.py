"""Debag side by side with its peers, in one run on the same inputs, against the limits of this very machine.

`python -m benchmarks.debag [--quick] [--peers-python PATH]`. Every contender runs in a fresh process, all by turns, the
zip in the page cache; medians. What is made lies under one temporary folder, and goes when the run
ends, however it ends.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import contest, inputs, peers
from benchmarks.contest import Figures

COMPARED = contest.Comparison("debag", list(inputs.FULL))
OURS, OURS_DURABLE = "ours, no sync", "ours, durable"
_OURS_HERE = (OURS, OURS_DURABLE)
_MEGABYTE = 1_000_000


def main() -> int:
    options = _options()
    wanted = inputs.QUICK if options.quick else inputs.FULL
    tables = {}
    with contest.folder("debag-bench-", at=options.folder) as temporary:
        for name in options.only:
            (temporary / name).mkdir()
            tables[name] = _measured(wanted[name], temporary / name, options)
            contest.give_back(temporary / name)
            print(f"\n{wanted[name].title}\n{table(tables[name])}", flush=True)
            if options.save:  # at once: whoever is interrupted keeps what was measured
                contest.save(COMPARED, tables, options)
    return 0


def _options() -> argparse.Namespace:
    parser = contest.parser(COMPARED, about=__doc__)
    parser.add_argument(
        "--peers-python", default=sys.executable, help="an interpreter with benchmarks/requirements-debag.txt"
    )
    return contest.options(parser)


def _measured(wanted: inputs.Input, folder: Path, options: argparse.Namespace) -> dict[str, Figures]:
    """All contenders on one input, by turns."""
    bag_zip = inputs.make(wanted, folder / "W1.bag.zip")
    peers.prepare_limit(bag_zip)
    names = list(peers.CONTENDERS)
    held = contest.Contest(wanted.title)

    def one(name: str, turn: int) -> contest.Run:
        return _one(name, wanted, bag_zip, folder / f"{turn}-{names.index(name)}", options)

    held.hold(names, one, turns=options.runs)
    return held.figures(wanted.bytes)


def _one(name: str, wanted: inputs.Input, bag_zip: Path, into: Path, options: argparse.Namespace) -> contest.Run:
    into.mkdir()
    contest.warm(bag_zip)
    peers.sync_file_system(into)  # what others left to be written is not this one's burden
    python = sys.executable if name in _OURS_HERE or name.startswith("limit") else options.peers_python
    run = contest.measured(
        [python, str(Path(peers.__file__)), name, str(bag_zip), str(into)],
        patience=options.patience,
        log=into.with_name(f"{into.name}.log"),
        environment={"HOME": str(into.parent), "PYTHONDONTWRITEBYTECODE": ""},
    )
    verdict = contest.spoilt(run, missing=peers.MISSING)
    if not verdict and not name.startswith("limit") and _payload(into) != (wanted.files, wanted.bytes):
        verdict = "wrong: the payload is not all there"
    contest.give_back(into)
    return run, verdict


def _payload(into: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in into.rglob("*.jpg")]
    return len(sizes), sum(sizes)


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
        lines.append(f"| {name} | {contest.seconds(of)} | {ratio} | {of['cpu_seconds']:.2f} | {memory} | {rate} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
