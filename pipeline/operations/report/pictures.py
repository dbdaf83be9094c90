"""The pictures of the report, drawn by matplotlib as SVG that takes its colours from the page.

matplotlib is asked for colours that nobody would use; in the SVG they are then replaced by the page's CSS variables, so
one picture serves light and dark screens and paper.
"""

import io
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.foundation.work import human_count
from pipeline.operations.report.figures import Story
from pipeline.record.history import STEPS, Happening

_HAIRLINE = 0.3  # points: some four minutes of a week
_INK, _GRID = "#01fe01", "#02fe01"
_COLOURS = {"download": "#03fe01", "debag": "#04fe01", "sync": "#05fe01", "failed": "#06fe01", "waiting": "#07fe01"}
_VARIABLES = {_INK: "var(--ink)", _GRID: "var(--grid)"} | {
    colour: f"var(--{name})" for name, colour in _COLOURS.items()
}
_UNITS = ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "bytes"))
_TICKS = (0.001, 0.01, 0.1, 1, 5, 20, 60, 300, 1200, 3600, 4 * 3600, 86400, 7 * 86400)
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it is found, read aloud, and takes the page's fonts
    "svg.hashsalt": "report",
    "text.parse_math": False,  # names from outside are never formulas
    "font.size": 10,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def over_time(story: Story) -> str:
    """Bytes that came home, in stretches of time."""
    buckets = story.throughput
    with _axes(2.6) as (axes, svg):
        widths = [bucket.width * 0.9 for bucket in buckets]
        starts = date2num([bucket.start for bucket in buckets])
        size, unit = _unit(max(bucket.bytes for bucket in buckets))
        heights = [bucket.bytes / size for bucket in buckets]
        axes.bar(starts, heights, width=_days(widths), align="edge", color=_COLOURS["sync"])
        axes.set_ylabel(f"{unit} archived per {_told(buckets[0].width)}")
        axes.grid(axis="y")
        _dates(axes, story.began, story.until)
        return svg("over-time")


def timeline(latest: Sequence[Happening]) -> str:
    """The latest works on their way through the steps, a line each."""
    by_work: dict[str, list[Happening]] = defaultdict(list)
    for one in latest:
        by_work[one.work_rid].append(one)
    works = sorted(by_work.items(), key=lambda item: item[1][-1].at)
    with _axes(0.9 + 0.2 * len(works)) as (axes, svg):
        for line, (_, happened) in enumerate(works):
            _draw_work(axes, line, happened)
        axes.set_yticks(range(len(works)), [rid if len(rid) <= 24 else f"{rid[:23]}…" for rid, _ in works])
        axes.set_ylim(-0.7, len(works) - 0.3)
        axes.grid(axis="x")
        begins = [one.at - timedelta(seconds=one.seconds) for _, happened in works for one in happened]
        _dates(axes, min(begins), max(one.at for _, happened in works for one in happened))
        return svg("timeline")


def by_step(story: Story) -> str:
    """How long the steps took: the middle half as a box, the middle as a line, 5 and 95 % as whiskers."""
    steps = story.durations[::-1]
    names = ("whislo", "q1", "med", "q3", "whishi")
    with _axes(0.9 + 0.45 * len(steps)) as (axes, svg):
        drawn = axes.bxp(
            [dict(zip(names, (max(seconds, 0.001) for seconds in one.box), strict=True)) for one in steps],
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            patch_artist=True,
        )
        for step, box, middle in zip(steps, drawn["boxes"], drawn["medians"], strict=True):
            box.set(facecolor=_COLOURS[step.step], edgecolor=_INK)
            middle.set_color(_INK)
        for line in [*drawn["whiskers"], *drawn["caps"]]:
            line.set_color(_INK)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xticks([tick for tick in _TICKS if low <= tick <= high], minor=False)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _seconds(seconds)))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.set_yticks(range(1, len(steps) + 1), [one.step for one in steps])
        axes.grid(axis="x")
        return svg("by-step")


def by_kind(story: Story) -> str:
    """Failures, a bar for each kind."""
    kinds = story.failures[:20][::-1]
    with _axes(0.7 + 0.28 * len(kinds)) as (axes, svg):
        bars = axes.barh(
            [kind.kind for kind in kinds], [kind.count for kind in kinds], height=0.6, color=_COLOURS["failed"]
        )
        axes.bar_label(bars, padding=3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.margins(x=0.08)
        axes.grid(axis="x")
        return svg("by-kind")


def _draw_work(axes: Axes, line: int, happened: Sequence[Happening]) -> None:
    first = min(one.at - timedelta(seconds=one.seconds) for one in happened)
    axes.hlines(line, date2num(first), date2num(happened[-1].at), color=_COLOURS["waiting"], linewidth=1, zorder=1)
    for one in happened:
        if one.outcome == "failed":
            axes.plot([date2num(one.at)], [line], "X", color=_COLOURS["failed"], markersize=6)
        elif one.outcome == "done" and one.step in STEPS:
            start = date2num(one.at - timedelta(seconds=one.seconds))
            colour = _COLOURS[one.step]
            # A hairline keeps minutes visible on a picture of days, and makes no half hours of them.
            width = date2num(one.at) - start
            axes.barh(line, width, left=start, height=0.5, color=colour, edgecolor=colour, linewidth=_HAIRLINE)


@contextmanager
def _axes(height: float) -> Iterator[tuple[Axes, Callable[[str], str]]]:
    """A drawing so many inches high, and what turns it into SVG under a name."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Its own font lacks most of the world's letters, which only matters for how much room it leaves for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(9, height), layout="constrained")

        def svg(name: str) -> str:
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
            return _inline(drawn.getvalue(), name)

        yield figure.add_subplot(), svg


def _inline(svg: str, name: str) -> str:
    """The SVG as part of a page: without prologue, size and style of its own, its identifiers beginning with `name`."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1))
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def _dates(axes: Axes, first: datetime, last: datetime) -> None:
    margin = max((last - first) * 0.02, timedelta(seconds=1))
    axes.set_xlim(date2num(first - margin), date2num(last + margin))
    locator = AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _unit(size_bytes: int) -> tuple[int, str]:
    """The unit in which so many bytes are a number that people read: its size and name."""
    return next((1 << power, name) for power, name in _UNITS if size_bytes >= 1 << power or not power)


def _days(widths: Sequence[timedelta]) -> list[float]:
    return [width / timedelta(days=1) for width in widths]


def _told(width: timedelta) -> str:
    """A stretch of time in words: `hour`, `6 hours`."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if width >= unit:
            count = round(width / unit)
            return name if count == 1 else human_count(count, name)
    return f"{width.total_seconds():.0f} s"


def _seconds(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
