"""What is asked of a download, and what it gives."""

import fcntl
import os
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.download.plan import Level, Verify
from pipeline.foundation import durable
from pipeline.foundation.declared import holds, setting, within

_LEAST_BANDWIDTH = 100_000  # below, a connection's buffer would take longer than a connection may be silent
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
        bytes_per_second: the limit.
    """

    def __init__(self, path: Path, bytes_per_second: int) -> None:
        self._path = path
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._boot = durable.boot().encode()[:36].ljust(36)

    @property
    def block_bytes(self) -> int:
        """How much to read at a time, at most."""
        return max(_LEAST_BLOCK_BYTES, min(_MOST_BLOCK_BYTES, int(self._rate * _BLOCK_SECONDS)))

    def take(self, size_bytes: int, stop: threading.Event) -> None:
        """Return when the line has carried so many bytes more, or at once when `stop` is set."""
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


@dataclass(frozen=True)
class FetchOptions:
    """`[download]`: how zips come from S3.

    Attributes:
        chunk_bytes: made up to whole parts of a multipart upload.
        claim_bytes: after so many bytes of a range the journal is told; what a kill costs for each connection.
        durable: make the file survive a power cut before it gets its name, and each range before the journal claims it
            where there is no digest to know it by.
        bandwidth: the limit that all lanes of the host share.
        stall_seconds: a connection that brings nothing for so long is given up, and the rest asked for again.
        slow_seconds: likewise one that takes longer for a block of 256 KiB; 2 KiB a second are enough.
        attempts: for a range that breaks off, without progress between them.
        pause_seconds: before the second attempt; doubles with each, shortened at random.
    """

    connections: int = setting(8, "at once, for each lane; one brings 85 to 90 MB/s from S3", within(1, 64))
    chunk_bytes: int = setting(
        64 << 20,
        "of a range, which one connection brings",
        holds(lambda size, _: 1 << 20 <= size <= 1 << 32, "is {}, not 1 MiB to 4 GiB"),
    )
    bandwidth_bytes_per_second: int = setting(
        0,
        "what all lanes of this host together may take of the line; 0: all of it",
        holds(
            lambda limit, _: limit == 0 or limit >= _LEAST_BANDWIDTH,
            f"is {{}}, not 0 (no limit) or at least {_LEAST_BANDWIDTH}",
        ),
    )
    verify: Verify = setting(
        Verify.MANIFEST,
        "compare a zip with S3's digests where its manifests do not prove it; or always, as it comes; or never",
        choices={**{str(word): word for word in Verify}, "true": Verify.ALWAYS, "false": Verify.NEVER},
    )
    claim_bytes: int = 8 << 20
    durable: bool = True
    bandwidth: Bandwidth | None = None
    stall_seconds: float = 30.0
    slow_seconds: float = 120.0
    attempts: int = 8
    pause_seconds: float = 0.25


@dataclass(frozen=True)
class Fetched:
    """A zip on the local disk.

    Attributes:
        verified: how its bytes were compared with what S3 has: a `Level`, or for a local zip `sha256`.
        digests: of the whole, by name, as S3 writes them.
        fetched_bytes: what came over the network; less than the size when an earlier try had brought some.
        refetched: the ranges that came wrong and were fetched again.
    """

    path: Path
    size_bytes: int
    etag: str
    version_id: str
    verified: str
    digests: Mapping[str, str]
    fetched_bytes: int
    refetched: tuple[str, ...]
    seconds: float

    @property
    def compared(self) -> bool:
        """Whether a digest proves it, and not its size alone."""
        return self.verified != Level.SIZE

    def facts(self) -> dict[str, Any]:
        """What the record and the marker keep of it."""
        told = {name: value for name, value in vars(self).items() if name not in {"path", "size_bytes"}}
        return {
            **told,
            "bytes": self.size_bytes,
            "digests": dict(self.digests),
            "refetched": list(self.refetched),
            "seconds": round(self.seconds, 3),
        }
