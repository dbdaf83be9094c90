"""Log lines: for people, and for programs as JSON objects with the work, bag, step, lane and attempt they are about.

What comes from outside (keys, names in bags, the words of servers) is in them. It is never obeyed by a terminal, and
never passes for a line of its own.
"""

import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.foundation import guarded
from pipeline.foundation.errors import SettingsError
from pipeline.foundation.work import printable, without_users

_LOG_BYTES, _LOG_FILES = 10 << 20, 5
# Of the process, not of a thread: a lane works on one bag at a time, with whatever threads a step takes for it.
_about: dict[str, str | int] = {}


@contextmanager
def about(*, work: str, bag: str, step: str, attempt: int) -> Iterator[None]:
    """Lines that are logged in this block are about this."""
    _about.update(work=work, bag=bag, step=step, attempt=attempt)
    try:
        yield
    finally:
        _about.clear()


class LogFile(logging.handlers.RotatingFileHandler):
    """A file of log lines that may be on a full disk: that is told once, not with a traceback for each line."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name that logging calls
        """Tell it; the next line is tried again."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            with suppress(OSError):
                sys.stderr.write(f"{self.baseFilename}: {error.strerror}; what it lacks is told here alone\n")

    def close(self) -> None:
        """Also where what is still to be written finds no room: a full disk ends no process."""
        with suppress(OSError):
            super().close()


class PlainLines(logging.Formatter):
    """Lines for people; where a message has several, those after the first are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name that logging calls
        """The line, but for a traceback."""
        record.message = _plain(without_users(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name that logging calls
        """The traceback: an exception's text may hold anything."""
        return _plain(without_users(super().formatException(ei)))


def _plain(text: str) -> str:
    return text if text.isprintable() else "\n    ".join(printable(line) for line in text.split("\n"))


class JsonLines(logging.Formatter):
    """A line each: `time` (RFC 3339, UTC), `level`, `lane`, `logger`, `message`, what it is about, `error` (traceback).

    Args:
        lane: who logs: `lane-1`, `work`.
    """

    def __init__(self, lane: str) -> None:
        super().__init__()
        self._lane = lane

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "lane": self._lane,
            "process": record.process or 0,
            "logger": record.name,
            "message": without_users(record.getMessage()),
            **_about,
        }
        if record.exc_info:
            told["error"] = without_users(self.formatException(record.exc_info))
        return json.dumps(told)


def log_to(folder: os.PathLike[str] | None, name: str, *, verbose: bool = False, json_lines: bool = False) -> None:
    """Log to stderr, and to a file of this process alone that is rotated at 10 MiB; without a folder, to stderr alone.

    Raises:
        SettingsError: the folder cannot be written to.
    """
    full: logging.Formatter = PlainLines("%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s")
    if json_lines:
        full = JsonLines(name)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(full)
    if folder is not None:
        if not json_lines:
            handlers[0].setFormatter(PlainLines("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
        path = os.path.join(folder, f"{name}.log")
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            with guarded.ours(Path(folder), make=True):
                file = LogFile(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8")
        except OSError as error:
            raise SettingsError([f"[pipeline] logs: {error.filename or folder}: {error.strerror}"]) from error
        file.setFormatter(full)
        handlers.append(file)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("pipeline").setLevel(logging.DEBUG if verbose else logging.INFO)
    # Luigi tells every failure again, with a traceback; ours have names.
    logging.getLogger("luigi-interface").setLevel(logging.WARNING if verbose else logging.CRITICAL)
