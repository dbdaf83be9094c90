"""Log lines for programs: a JSON object each, with the work, bag, step, lane and attempt that it is about."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

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
            "message": record.getMessage(),
            **_about,
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)
