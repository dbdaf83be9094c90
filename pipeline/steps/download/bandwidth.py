"""A limit on bytes a second that all lanes of a host keep together: libraries share their line."""

import fcntl
import os
import struct
import threading
import time
from pathlib import Path

_MOMENT = struct.Struct("<d")
_LONGEST_SECONDS = 60.0  # a moment further ahead is from before a restart of the machine, when its clock began anew


class Bandwidth:
    """Who has taken bytes waits until the line would have carried them.

    The moment at which the line is free again stands in a small file, in the machine's monotonic clock, which all
    processes of a host share; whoever is killed leaves nothing locked.

    Args:
        path: the file; its folder has to be there.
        bytes_per_second: the limit; 0: none, and the file is not made.
    """

    def __init__(self, path: Path, bytes_per_second: int) -> None:
        self._path = path
        self._rate = bytes_per_second
        self._lock = threading.Lock()

    def take(self, size_bytes: int, stop: threading.Event) -> None:
        """Return when the line has carried so many bytes more, or at once when `stop` is set."""
        if self._rate <= 0:
            return
        with self._lock:
            wait = self._reserved(size_bytes / self._rate)
        if wait > 0:
            stop.wait(wait)

    def _reserved(self, seconds: float) -> float:
        """Put the line's free moment so much later; returns how long to wait for it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = time.monotonic()
            known = os.pread(descriptor, _MOMENT.size, 0)
            free = _MOMENT.unpack(known)[0] if len(known) == _MOMENT.size else now
            if not now < free < now + _LONGEST_SECONDS:
                free = now
            os.pwrite(descriptor, _MOMENT.pack(free + seconds), 0)
        finally:
            os.close(descriptor)
        return float(free + seconds - now)
