"""What is asked of a download, and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.download.bandwidth import Bandwidth


@dataclass(frozen=True)
class How:
    """How to fetch.

    Attributes:
        connections: at once.
        stall_seconds: a connection that brings nothing for so long is given up.
        slow_seconds: likewise one that takes longer for a block of 256 KiB.
        attempts: for the rest of a range, without progress between them, before the whole fails.
        pause_seconds: before the second attempt; doubles with each, and is shortened at random.
        claim_bytes: after so many bytes of a range the journal is told how far it is.
        durable: the disk is to begin with what came before all has come.
        bandwidth: the limit that all lanes of the host share.
    """

    connections: int
    stall_seconds: float
    slow_seconds: float
    attempts: int
    pause_seconds: float
    claim_bytes: int
    durable: bool
    bandwidth: Bandwidth | None


@dataclass(frozen=True)
class Options:
    """How to download.

    Attributes:
        connections: at once; one of real S3's gives 85 to 90 MB/s.
        chunk_bytes: of a range, made up to whole parts of a multipart upload.
        claim_bytes: after so many bytes of a range the journal is told; what a kill costs for each connection.
        verify: compare the whole with what S3 has; False leaves all but the size to the bag's manifests.
        durable: make the file survive a power cut before it gets its name.
        bandwidth: the limit that all lanes of the host share.
        stall_seconds: a connection that brings nothing for so long is given up, and the rest asked for again.
        slow_seconds: likewise one that takes longer for a block of 256 KiB; 2 KiB a second are enough.
        attempts: for a range that breaks off, without progress between them.
        pause_seconds: before the second attempt; doubles with each, shortened at random.
    """

    connections: int = 8
    chunk_bytes: int = 64 << 20
    claim_bytes: int = 8 << 20
    verify: bool = True
    durable: bool = True
    bandwidth: Bandwidth | None = None
    stall_seconds: float = 30.0
    slow_seconds: float = 120.0
    attempts: int = 8
    pause_seconds: float = 0.25

    @property
    def how(self) -> How:
        """What a transfer needs to know of it."""
        return How(
            self.connections,
            self.stall_seconds,
            self.slow_seconds,
            self.attempts,
            self.pause_seconds,
            self.claim_bytes,
            self.durable,
            self.bandwidth,
        )


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
