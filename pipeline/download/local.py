"""A zip that lies on a local disk already: known by its SHA-256, left where its owner put it."""

import contextlib
import hashlib
import os
import time
from pathlib import Path

from pipeline.download.fetch_options import Fetched
from pipeline.foundation import guarded
from pipeline.foundation.errors import ObjectGone, ObjectReplaced, ZipUnreadable
from pipeline.foundation.work import Bag, Pulse, no_pulse, stamp_of

_BUFFER_BYTES = 1 << 20


def identify_local(path: Path, work_rid: str, *, pulse: Pulse = no_pulse) -> Bag:
    """The bag that a zip on a local disk is: its path, its size, its SHA-256.

    Raises:
        ObjectGone: there is no such file.
        ZipUnreadable: it cannot be read, or was changed meanwhile.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with os.fdopen(guarded.open_file(path), "rb") as file:
            before = os.fstat(file.fileno())
            while chunk := file.read(_BUFFER_BYTES):
                digest.update(chunk)
                done += len(chunk)
                pulse(done, before.st_size)
            stamp = stamp_of(os.fstat(file.fileno()))
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise ZipUnreadable(f"{path.parent} is not there; is it mounted?", work_rid=work_rid) from error
        raise ObjectGone(f"{path} is not there", work_rid=work_rid) from error
    except OSError as error:
        raise ZipUnreadable(f"{path} cannot be read: {error.strerror}", work_rid=work_rid) from error
    if stamp != stamp_of(before):
        raise ZipUnreadable(f"{path} was changed while it was read", work_rid=work_rid)
    return Bag(work_rid=work_rid, bucket="", key=str(path), etag=digest.hexdigest(), version_id=stamp, size_bytes=done)


def adopt(bag: Bag, *, pulse: Pulse = no_pulse) -> Fetched:
    """Take a zip on a local disk as it lies there; it is neither copied nor touched.

    It is read again only if its stamp is no longer the one with which it was identified.

    Raises:
        ObjectGone: it is gone.
        ObjectReplaced: it is not what it was when it was identified.
        ZipUnreadable: it cannot be read.
    """
    started = time.monotonic()
    path, size = Path(bag.key), bag.size_bytes
    stamp: str | None = None
    with contextlib.suppress(OSError):  # why, the reading tells
        stamp = stamp_of(path.stat())
    if stamp != bag.version_id:
        found = identify_local(path, bag.work_rid, pulse=pulse)
        size = found.size_bytes
        if found.etag != bag.etag:
            raise ObjectReplaced(f"{bag.key} has changed since it was handed in", work_rid=bag.work_rid)
    return Fetched(
        path=path,
        size_bytes=size,
        etag=bag.etag,
        version_id="",
        verified="sha256",
        digests={"sha256": bag.etag},
        fetched_bytes=0,
        refetched=(),
        seconds=time.monotonic() - started,
    )
