"""How far a long step is: bytes, rate and time left, for the log and for whoever shows it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

from pipeline.foundation.work import human_bytes, human_seconds

Show = Callable[[str, int], None]
"""Given a line for people, which begins with the work, and the percentage done."""


class Progress:
    """Tells how far a step is while its `with` block runs, and never more often than every few seconds.

    What shows it may be out of reach for minutes, so it is called in a thread of its own: the step does not wait.

    Args:
        work_rid: the work.
        doing: what is being done to it: `downloading`.
        show: shows it to people, elsewhere than in the log.
        log: where lines go.
        show_seconds: between two calls of `show`, at least.
        log_seconds: between two lines in the log.
    """

    def __init__(
        self,
        work_rid: str,
        doing: str,
        *,
        show: Show,
        log: logging.Logger,
        show_seconds: float = 5.0,
        log_seconds: float = 30.0,
    ) -> None:
        self._show_seconds = show_seconds
        self._log_seconds = log_seconds
        self._what = f"{work_rid}: {doing}"
        self._show = show
        self._log = log
        self._began = self._shown = self._logged = time.monotonic()
        self._known_bytes = -1
        self._told: tuple[str, int] | None = None
        self._news = threading.Event()
        self._over = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._news.set()

    def tell(self, done_bytes: int, total_bytes: int) -> None:
        """Note how many bytes are done, of how many; it may be called as often as one likes."""
        now = time.monotonic()
        if self._known_bytes < 0:
            self._known_bytes = done_bytes
        if now - self._shown < self._show_seconds:
            return
        text = f"{self._what}: {self._how_far(done_bytes, total_bytes, now)}"
        self._known_bytes, self._shown = done_bytes, now
        if now - self._logged >= self._log_seconds:
            self._logged = now
            self._log.info("%s", text)
        self._told = (text, 100 * done_bytes // total_bytes if total_bytes else 100)
        if self._thread is None:
            self._thread = threading.Thread(target=self._tell_on, name="progress", daemon=True)
            self._thread.start()
        self._news.set()

    def _how_far(self, done_bytes: int, total_bytes: int, now: float) -> str:
        if not done_bytes:
            # A program of others works, such as the sync script: all that is known is how much it has to do.
            return f"{human_bytes(total_bytes)}, for {human_seconds(now - self._began)} now"
        rate = max(0, done_bytes - self._known_bytes) / (now - self._shown)
        text = f"{human_bytes(done_bytes)} of {human_bytes(total_bytes)}, {human_bytes(rate)}/s"
        return f"{text}, {human_seconds((total_bytes - done_bytes) / rate)} left" if rate else text

    def _tell_on(self) -> None:
        while self._news.wait() and not self._over:
            self._news.clear()
            if self._told is not None:
                self._show(*self._told)
