"""Draws `benchmarks/results/download.json`: `python -m benchmarks.download_picture RESULTS PICTURE`."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.download import FULL

_OURS, _PALE, _THEIRS = "#b5451b", "#dd8a5f", "#8796a5"
_COLOURS = {"ours, verified": _OURS, "ours, verified, 8 at once": _OURS}
_FIGURES = {"bytes_per_second": "MB/s, more is better", "cpu_seconds_per_gb": "CPU seconds per GB, less is better"}


def draw(report: dict[str, Any], target: Path) -> None:
    """A column for each kind of download; above how fast, below at what cost."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "download", "svg.fonttype": "none", "font.size": 8.5})
    pyplot = importlib.import_module("matplotlib.pyplot")
    inputs = report["inputs"]
    figure, axes = pyplot.subplots(2, len(inputs), figsize=(4 * len(inputs), 5.2), facecolor="white", squeeze=False)
    for column, (name, figures) in enumerate(inputs.items()):
        for row, (key, title) in enumerate(_FIGURES.items()):
            _panel(axes[row][column], f"{FULL[name].title}\n{title}" if row == 0 else title, figures, key)
    machine = report["machine"]
    figure.suptitle("Download from S3, and compare with its digests", fontsize=13, fontweight="bold", color="#222")
    note = f"{machine['cpus']} cores, SeaweedFS on the same machine, medians of {report['runs']} alternating runs. "
    figure.text(
        0.5, 0.012, f"{note}Only 'ours, verified' compares what came with S3's digests.", ha="center", color="#444"
    )
    figure.tight_layout(rect=(0, 0.03, 1, 0.98))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", facecolor="white", metadata={"Date": None})


def _panel(axis: Any, title: str, figures: dict[str, Any], key: str) -> None:
    names = list(figures)
    values = [figures[name].get(key, 0) / (1e6 if key == "bytes_per_second" else 1) for name in names]
    ours = [_COLOURS.get(name, _PALE if name.startswith("ours") else _THEIRS) for name in names]
    axis.barh(range(len(names)), values, color=ours)
    axis.set_yticks(range(len(names)), names, color="#222")
    axis.invert_yaxis()
    for row, value in enumerate(values):
        text = f"{value:.0f}" if key == "bytes_per_second" else f"{value:.2f}"
        style = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "color": "#222"}
        axis.annotate(text if value else "missing", (value, row), **style)
    axis.set_xlim(0, max([*values, 0.01]) * 1.25)
    axis.set_title(title, loc="left", fontsize=9, color="#222")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors="#444")
    axis.set_facecolor("white")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
