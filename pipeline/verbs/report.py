"""`run_pipeline.py report --html FILE|--csv [FILE] [--since WHEN]`: what a time came to."""

import importlib
import os
import sys
from argparse import Namespace
from datetime import UTC, datetime
from types import ModuleType

from pipeline import durable, settings, site
from pipeline.errors import UsageError
from pipeline.report import table
from pipeline.report.figures import Story
from pipeline.steps.record import chronicle, views
from pipeline.work import human_count


def main(options: Namespace) -> int:
    """Write what was asked for.

    Raises:
        UsageError: nothing was asked for, or what draws the pictures is not installed.
    """
    if not (options.html or options.csv):
        raise UsageError("what is to be written? --html FILE, --csv [FILE], or both")
    page = _page() if options.html else None
    chosen = settings.load()
    engine = site.open_site(chosen, lane="report").engine
    since = options.since
    works = [work for work in views.works(engine) if datetime.fromisoformat(work.updated_on) >= since]
    story = Story(since, datetime.now(UTC), works, chronicle.happenings(engine, since=since))
    try:
        if page is not None:
            durable.write_file(options.html, page.html(story, host=chosen.host).encode())
        if options.csv == "-":
            table.write(story, sys.stdout)
        elif options.csv:
            with open(options.csv, "w", encoding="utf-8", newline="") as out:
                table.write(story, out)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    for file in (options.html, options.csv):
        if file and file != "-":
            sys.stderr.write(f"{os.fspath(file)}: {human_count(len(works), 'work')} since {since:%Y-%m-%d %H:%M} UTC\n")
    return 0


def _page() -> ModuleType:
    try:
        return importlib.import_module("pipeline.report.page")
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"the pictures of --html need {missing.name}",
            go_on="pip install -r requirements-report.txt, or report --csv",
        ) from missing
