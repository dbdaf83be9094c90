"""Draws `benchmarks/results/debag.json` or `sync.json`: `python -m benchmarks.picture RESULTS PICTURE`."""

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import inputs, sync

_OURS, _PALE, _THEIRS, _DARK, _LIGHT = "#b5451b", "#dd8a5f", "#8796a5", "#6f7f8f", "#a9b4be"
_LIMITS = ("limit: all of it in C, durable", "limit: all of it in C", "limit: digests alone")


@dataclass(frozen=True)
class Picture:
    """What is drawn of a benchmark's seconds.

    Attributes:
        title: above all.
        note: below all, after the number of cores.
        shown: contenders from the top down, each with its label and colour; the first is what ratios are of.
    """

    title: str
    note: str
    shown: Mapping[str, tuple[str, str]]


PICTURES = {
    "debag": Picture(
        "Unpack and verify a bag: seconds, less is better",
        "warm cache",
        {
            "ours, no sync": ("this pipeline", _OURS),
            "ours, durable": ("this pipeline, survives a power cut", _PALE),
            "bdrc-bag": ("bdrc-bag 0.0.7", _DARK),
            "bdrc-bag, then sync": ("bdrc-bag, then sync", _LIGHT),
            "zipfile + bagit": ("zipfile + bagit", _THEIRS),
            "bdbag": ("bdbag", _THEIRS),
        },
    ),
    "sync": Picture(
        "Copy a work into the archive and verify it: seconds, less is better",
        "staging in the cache",
        {
            "ours": ("this pipeline: on disk, read back", _OURS),
            "rsync -a, rsync -c": ("rsync -a, rsync -c", _LIGHT),
            "cp -a, sha512sum -c": ("cp -a, sha512sum -c", _LIGHT),
            "rsync -a, sync, rsync -c": ("rsync, on disk, read back", _DARK),
            "cp -a, sync, sha512sum -c": ("cp, on disk, read back", _DARK),
            "cp -a, sync, xargs -P sha512sum -c": ("cp, on disk, read back by all cores", _DARK),
        },
    ),
}


def draw(name: str, report: dict[str, Any], target: Path) -> None:
    """A panel an input, a bar a contender, and a line where a program that judges nothing ends."""
    picture, measured = PICTURES[name], report["inputs"]
    titles = {key: wanted.title for key, wanted in (inputs.FULL if name == "debag" else sync.FULL).items()}
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9})
    pyplot = importlib.import_module("matplotlib.pyplot")
    rows = -(-len(measured) // 2)
    figure, axes = pyplot.subplots(rows, 2, figsize=(10, 3.1 * rows), facecolor="white", squeeze=False)
    for axis in axes.flat[len(measured) :]:
        axis.set_axis_off()
    for axis, (key, figures) in zip(axes.flat, measured.items(), strict=False):
        _panel(axis, titles[key], figures, picture)
    figure.suptitle(picture.title, fontsize=13, fontweight="bold", color="#222")
    note = f"{report['machine']['cpus']} cores, {picture.note}, medians of {report['runs']} alternating runs. "
    note += "Dashed: reading, hashing and writing alone, in C; where nothing stands for it, hashing alone."
    figure.text(0.5, 0.012, note, ha="center", color="#444")
    figure.tight_layout(rect=(0, 0.03, 1, 0.97))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", facecolor="white", metadata={"Date": None})


def _panel(axis: Any, title: str, figures: dict[str, Any], picture: Picture) -> None:
    shown = [name for name in picture.shown if name in figures]
    walls = [figures[name].get("wall_seconds", 0) for name in shown]
    axis.barh(range(len(shown)), walls, color=[picture.shown[name][1] for name in shown])
    axis.set_yticks(range(len(shown)), [picture.shown[name][0] for name in shown], color="#222")
    axis.invert_yaxis()
    base = figures[next(iter(picture.shown))].get("wall_seconds")
    for row, (name, wall) in enumerate(zip(shown, walls, strict=True)):
        ratio = f"  ({wall / base:.1f}x)" if base and not name.startswith("ours") else ""
        told = f"{wall:.2f}{ratio}" if wall else "missing"
        style = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "color": "#222", "fontsize": 8}
        axis.annotate(told, (wall, row), **style)
    limits = [figures[name]["wall_seconds"] for name in _LIMITS if "wall_seconds" in figures.get(name, {})]
    if limits:
        axis.axvline(limits[0], color="#222", linestyle="--", linewidth=1)
    axis.set_xlim(0, max([*walls, 0.01]) * 1.45)
    axis.set_title(title, loc="left", fontsize=10, color="#222")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors="#444")
    axis.set_facecolor("white")


if __name__ == "__main__":
    results = Path(sys.argv[1])
    draw(results.stem, json.loads(results.read_text()), Path(sys.argv[2]))
