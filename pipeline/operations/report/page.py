"""The page: one file that holds everything. What comes from bags is text to it, never markup or code."""

import base64
import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.foundation.work import exact_seconds, human_bytes, printable
from pipeline.operations.report import figures, pictures
from pipeline.operations.report.figures import MOST_ROWS, Story

_FOLDER = Path(__file__).resolve().parent


def html(story: Story, *, host: str) -> str:
    """The page as text."""
    # Escaping is the template engine's: nothing has to be remembered at each place where a name is shown.
    engine = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    engine.filters |= {"bytes": human_bytes, "minute": _minute, "printable": printable, "seconds": exact_seconds}
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    shown: dict[str, Any] = {
        "story": story,
        "host": host,
        "totals": figures.totals(story),
        "works": story.works[:MOST_ROWS],
        "left_out": story.left_out + max(0, len(story.works) - MOST_ROWS),
        "pictures": _pictures(story),
        "most_in_timeline": figures.MOST_IN_TIMELINE,
        "style": Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file
        "script": Markup(script),  # noqa: S704  # our own file
        # Should any name get through as markup after all, the browser runs this script and no other.
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return engine.from_string((_FOLDER / "page.html").read_text(encoding="utf-8")).render(shown)


def _pictures(story: Story) -> dict[str, Markup]:
    """The pictures that there is something to draw for; matplotlib has escaped what they say."""
    drawn = {}
    if story.throughput:
        drawn["over_time"] = pictures.over_time(story)
    if story.latest:
        drawn["timeline"] = pictures.timeline(story.latest)
    if story.durations:
        drawn["by_step"] = pictures.by_step(story)
    if story.failures:
        drawn["by_kind"] = pictures.by_kind(story)
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704  # drawn, not read


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
