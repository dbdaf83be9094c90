"""Draws `benchmarks/results/sync.json` for the documents: `python -m benchmarks.sync_picture RESULTS PICTURE`."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

_SHOWN = {
    "ours": ("this pipeline: on disk, read back", "#b5451b"),
    "rsync -a, rsync -c": ("rsync -a, rsync -c", "#a9b4be"),
    "cp -a, sha512sum -c": ("cp -a, sha512sum -c", "#a9b4be"),
    "rsync -a, sync, rsync -c": ("rsync, on disk, read back", "#6f7f8f"),
    "cp -a, sync, sha512sum -c": ("cp, on disk, read back", "#6f7f8f"),
}
_LIMIT = "limit: digests alone"


def draw(report: dict[str, Any], target: Path) -> None:
    """A panel a table, a bar a contender, and a line where the digests alone would end."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "sync", "svg.fonttype": "none", "font.size": 9})
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 5.6), facecolor="white")
    for axis, (name, figures) in zip(axes.flat, report["inputs"].items(), strict=False):
        _panel(axis, report["titles"][name], figures)
    title = "Copy a work into the archive and verify it: seconds, less is better"
    figure.suptitle(title, fontsize=13, fontweight="bold", color="#222")
    note = f"{report['machine']['cpus']} cores, staging in the cache, medians of {report['runs']} alternating runs. "
    figure.text(0.5, 0.012, f"{note}Dashed: SHA-512 of the bytes alone, on all cores.", ha="center", color="#444")
    figure.tight_layout(rect=(0, 0.03, 1, 0.97))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", facecolor="white", metadata={"Date": None})


def _panel(axis: Any, title: str, figures: dict[str, Any]) -> None:
    shown = [name for name in _SHOWN if name in figures]
    walls = [figures[name].get("wall_seconds", 0) for name in shown]
    axis.barh(range(len(shown)), walls, color=[_SHOWN[name][1] for name in shown])
    axis.set_yticks(range(len(shown)), [_SHOWN[name][0] for name in shown], color="#222")
    axis.invert_yaxis()
    base = figures["ours"].get("wall_seconds")
    for row, wall in enumerate(walls):
        ratio = f"  ({wall / base:.1f}x)" if base and row else ""
        axis.text(wall, row, f" {wall:.2f}{ratio}" if wall else " missing", va="center", color="#222", fontsize=8)
    if "wall_seconds" in figures.get(_LIMIT, {}):
        axis.axvline(figures[_LIMIT]["wall_seconds"], color="#222", linestyle="--", linewidth=1)
    axis.set_xlim(0, max([*walls, 0.01]) * 1.35)
    axis.set_title(title, loc="left", fontsize=10, color="#222")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors="#444")
    axis.set_facecolor("white")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
