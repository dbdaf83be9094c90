"""A zip that lies on a local disk already: known by its SHA-256, left where its owner put it."""

import hashlib
import os
import time
from pathlib import Path

from pipeline.errors import ObjectGone
from pipeline.steps.download.terms import Fetched
from pipeline.work import Bag, Pulse, no_pulse

_BUFFER_BYTES = 1 << 20


def identify_local(path: Path, work_rid: str, *, pulse: Pulse = no_pulse) -> Bag:
    """The bag that a zip on a local disk is: its path, its size, its SHA-256.

    Raises:
        ObjectGone: there is no such file, or it cannot be read.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            while chunk := file.read(_BUFFER_BYTES):
                digest.update(chunk)
                done += len(chunk)
                pulse(done, total)
    except OSError as error:
        raise ObjectGone(f"{path} cannot be read: {error.strerror}", work_rid=work_rid) from error
    return Bag(work_rid=work_rid, bucket="", key=str(path), etag=digest.hexdigest(), size_bytes=done)


def adopt(bag: Bag, *, pulse: Pulse = no_pulse) -> Fetched:
    """Take a zip on a local disk as it lies there; it is neither copied nor touched.

    Raises:
        ObjectGone: it is gone, or not what it was when it was identified.
    """
    started = time.monotonic()
    found = identify_local(Path(bag.key), bag.work_rid, pulse=pulse)
    if found.etag != bag.etag:
        raise ObjectGone(f"{bag.key} has changed since it was handed in", work_rid=bag.work_rid)
    return Fetched(
        path=Path(bag.key),
        size_bytes=found.size_bytes,
        etag=bag.etag,
        version_id="",
        verified="sha256",
        digests={"sha256": bag.etag},
        fetched_bytes=0,
        refetched=(),
        seconds=time.monotonic() - started,
    )
