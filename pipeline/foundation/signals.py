"""Signals that ask this process to stop, and a flag that their handlers may set at any instant."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

FORCED = 130
_LOOK_SECONDS = 0.2


class StopFlag:
    """Set once, when the process is to stop.

    Not a threading.Event: its `set` takes a lock that the main thread holds for an instant whenever it begins or ends
    a wait, and a handler runs in the main thread: a signal in that instant would hang the process.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """It is to stop."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether it is to stop."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until it is set, and a fifth of a second; returns whether it is set."""
        over = time.monotonic() + seconds
        while not self._is_set and (left := over - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
        return self._is_set


@contextlib.contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call `stop` once; the second one ends this process at once."""
    asked = False

    def on_signal(number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            os._exit(FORCED)
        asked = True
        with contextlib.suppress(OSError):  # nobody reads what we say: we stop all the same
            os.write(2, f"{signal.Signals(number).name}: stopping at the next safe point; again to force\n".encode())
        stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
