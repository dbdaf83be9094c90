"""A limit on bytes a second that all lanes of a host keep together: libraries share their line."""

import fcntl
import os
import struct
import threading
import time
from pathlib import Path

from pipeline.foundation import durable

_MOMENT = struct.Struct("<d36s")  # with the start of the machine by whose clock it is
_LONGEST_SECONDS = 3600.0  # as far ahead as the blocks of no number of connections reach
_LEAST_BLOCK_BYTES, _MOST_BLOCK_BYTES = 1 << 14, 1 << 18
_BLOCK_SECONDS = 1 / 8  # the line carries a block in so long: so no connection waits for long, however many there are


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
        self._boot = durable.boot().encode()[:36].ljust(36)

    @property
    def block_bytes(self) -> int:
        """How much to read at a time, at most."""
        if self._rate <= 0:
            return _MOST_BLOCK_BYTES
        return max(_LEAST_BLOCK_BYTES, min(_MOST_BLOCK_BYTES, int(self._rate * _BLOCK_SECONDS)))

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
            free, boot = _MOMENT.unpack(known) if len(known) == _MOMENT.size else (now, b"")
            if boot != self._boot or not now < free < now + _LONGEST_SECONDS:
                free = now
            os.pwrite(descriptor, _MOMENT.pack(free + seconds, self._boot), 0)
        finally:
            os.close(descriptor)
        return float(free + seconds - now)
