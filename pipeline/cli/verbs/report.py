"""`run_pipeline.py report --html FILE|--csv [FILE] [--since WHEN]`: what a time came to."""

import importlib
import io
import os
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

from pipeline.foundation import durable, guarded
from pipeline.foundation.arguments import Command
from pipeline.foundation.errors import UsageError
from pipeline.operations.report import figures, table
from pipeline.record import replicas, views
from pipeline.tasks import context

# Where links lead to what this process has open.
_OF_THE_SHELL = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))


def main(options: Namespace) -> int:
    """Write what was asked for.

    Raises:
        UsageError: nothing was asked for, or what draws the pictures is not installed.
    """
    if not (options.html or options.csv):
        raise UsageError("what is to be written? --html FILE, --csv [FILE], or both")
    page = _page() if options.html else None
    here, since = context.open_site(lane="report"), options.since
    if page is not None:
        _write(options.html, page.html(figures.story(here, since=since), host=here.host))
    if options.csv == "-":
        table.write(views.works(here.engine, since=since), sys.stdout, copies=replicas.copies(here.engine))
    elif options.csv:
        rows = io.StringIO(newline="")
        table.write(views.works(here.engine, since=since), rows, copies=replicas.copies(here.engine))
        _write(options.csv, rows.getvalue())
    for file in (options.html, options.csv):
        if file and file != "-":
            sys.stderr.write(f"{os.fspath(file)}: works since {since:%Y-%m-%d %H:%M} UTC\n")
    return 0


def _write(file: str | Path, text: str) -> None:
    """Whole or not at all; but what is no file (/dev/stdout, a pipe of the shell) is written to, not replaced."""
    target = Path(file)
    try:
        of_the_shell = target.parent in _OF_THE_SHELL
        if not of_the_shell:
            target = guarded.behind_our_links(target)
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8", newline="")
        else:
            durable.write_file(Path(os.path.realpath(target)) if of_the_shell else target, text.encode())
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; it was not written") from error


def _page() -> ModuleType:
    try:
        return importlib.import_module("pipeline.operations.report.page")
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"the pictures of --html need {missing.name}",
            go_on=Command(".venv/bin/python -m pip install --require-hashes -r locks/requirements-report.txt"),
            by_hand="install it as follows, or take --csv",
        ) from missing
