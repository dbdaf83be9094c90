"""Download: one object of S3, whole and pinned, into one file. Touches S3 and the staging disk.

The bytes go to `{name}.part`, are pinned to the ETag or version that the event announced, and get their name only when
their number and, where S3's ETag is a digest, their MD5 agree (Amazon S3 API Reference, "Common Response Headers").
"""

import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import botocore.exceptions
import urllib3.exceptions

from pipeline import durable, plug
from pipeline.aws import translated
from pipeline.errors import DownloadMismatch, NoRoom, ObjectGone, PipelineError, StorageUnreachable
from pipeline.work import Bag, Pulse, no_pulse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BUFFER_BYTES = 1 << 20
_NETWORK_ERRORS = (
    botocore.exceptions.ClientError,
    botocore.exceptions.BotoCoreError,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
)


@dataclass(frozen=True)
class Fetched:
    """A zip on the local disk.

    Attributes:
        verified: how its bytes were compared with what S3 has: `etag-md5`, `etag-md5-of-parts`, `size`, or for a local
            zip `sha256`.
    """

    path: Path
    size_bytes: int
    etag: str
    version_id: str
    verified: str
    seconds: float


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def etag(self) -> str: ...


class _WholeMd5:
    """The ETag of an object that was put in one piece."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)

    def update(self, data: bytes, /) -> None:
        self._md5.update(data)

    def etag(self) -> str:
        return self._md5.hexdigest()


class _PartsMd5:
    """The ETag of a multipart upload: the MD5 of its parts' MD5s, a dash, the number of parts."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._room = part_bytes
        self._part = hashlib.md5(usedforsecurity=False)
        self._parts: list[bytes] = []

    def update(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view:
            piece = view[: self._room]
            self._part.update(piece)
            self._room -= len(piece)
            view = view[len(piece) :]
            if not self._room:
                self._close_part()

    def _close_part(self) -> None:
        self._parts.append(self._part.digest())
        self._part = hashlib.md5(usedforsecurity=False)
        self._room = self._part_bytes

    def etag(self) -> str:
        if self._room < self._part_bytes:
            self._close_part()
        return f"{hashlib.md5(b''.join(self._parts), usedforsecurity=False).hexdigest()}-{len(self._parts)}"


def identify(s3: "S3Client", bag: Bag) -> Bag:
    """The bag with ETag, version and size as S3 has them now; for events and operators that name only a key.

    Raises:
        ObjectGone: there is no such object.
        PipelineError: S3 cannot be reached, or refuses.
    """
    head = _head(s3, bag)
    return bag.identified(
        etag=head["ETag"].strip('"'),
        version_id=_version(head),
        size_bytes=head["ContentLength"],
    )


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


def fetch(s3: "S3Client", bag: Bag, *, to: Path, pulse: Pulse = no_pulse) -> Fetched:
    """Bring the object that `bag` identifies to the file `to`; it appears under that name only when whole and durable.

    Raises:
        NotRestored: it is still frozen in Glacier.
        ObjectGone: it is not there (any more).
        ObjectReplaced: the bucket now holds other bytes under the key.
        DownloadMismatch: what came is not what S3 has.
        NoRoom: the disk is full.
        PipelineError: S3 cannot be reached, or refuses.
    """
    started = time.monotonic()
    head = _head(s3, bag, pinned=True)
    size, etag = head["ContentLength"], head["ETag"].strip('"')
    digest, verified = _digest_for(s3, bag, head)
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{to.name}.part")
    try:
        _stream(s3, bag, part=part, size=size, digest=digest, pulse=pulse)
        if digest is not None and digest.etag() != etag:
            raise DownloadMismatch(
                f"{bag.address}: the bytes that came have ETag {digest.etag()}, S3 says {etag}", work_rid=bag.work_rid
            )
        durable.publish(part, to)
    except PipelineError:
        part.unlink(missing_ok=True)
        raise
    except OSError as error:
        part.unlink(missing_ok=True)
        raise NoRoom(f"{to}: {error.strerror}", work_rid=bag.work_rid, go_on="make room on the staging disk") from error
    return Fetched(to, size, etag, _version(head), verified, time.monotonic() - started)


def adopt(bag: Bag) -> Fetched:
    """Take a zip on a local disk as it lies there; it is neither copied nor touched.

    Raises:
        ObjectGone: it is gone, or not what it was when it was identified.
    """
    started = time.monotonic()
    found = identify_local(Path(bag.key), bag.work_rid)
    if found.etag != bag.etag:
        raise ObjectGone(f"{bag.key} has changed since it was handed in", work_rid=bag.work_rid)
    return Fetched(Path(bag.key), found.size_bytes, bag.etag, "", "sha256", time.monotonic() - started)


def _pin(bag: Bag) -> dict[str, Any]:
    if bag.version_id:
        return {"VersionId": bag.version_id}
    return {"IfMatch": f'"{bag.etag}"'} if bag.etag else {}


def _head(s3: "S3Client", bag: Bag, *, pinned: bool = False) -> Any:
    try:
        return s3.head_object(Bucket=bag.bucket, Key=bag.key, **(_pin(bag) if pinned else {}))
    except _NETWORK_ERRORS as error:
        raise translated(error, f"look at {bag.address}", work_rid=bag.work_rid) from error


def _version(head: Any) -> str:
    version = str(head.get("VersionId", ""))
    return "" if version == "null" else version


def _digest_for(s3: "S3Client", bag: Bag, head: Any) -> tuple[_Digest | None, str]:
    """How the bytes can be compared with the ETag, and what that is called; with KMS or SSE-C it is no digest."""
    etag = head["ETag"].strip('"')
    if head.get("ServerSideEncryption", "AES256") != "AES256" or head.get("SSECustomerAlgorithm"):
        return None, "size"
    if re.fullmatch(r"[0-9a-f]{32}", etag):
        return _WholeMd5(), "etag-md5"
    if not re.fullmatch(r"[0-9a-f]{32}-[0-9]+", etag):
        return None, "size"
    try:
        # Not pinned by ETag: S3's stand-ins compare it with the part's. The digest in the end decides anyhow.
        version = {"VersionId": bag.version_id} if bag.version_id else {}
        first = s3.head_object(Bucket=bag.bucket, Key=bag.key, PartNumber=1, **version)  # type: ignore[arg-type]  # optional keywords
    except _NETWORK_ERRORS as error:
        raise translated(error, f"look at {bag.address}", work_rid=bag.work_rid) from error
    part_bytes, parts = first["ContentLength"], int(etag.rpartition("-")[2])
    # Parts of different lengths cannot be told from the first one: then the number of parts does not fit.
    if part_bytes <= 0 or -(-head["ContentLength"] // part_bytes) != parts:
        return None, "size"
    return _PartsMd5(part_bytes), "etag-md5-of-parts"


def _stream(s3: "S3Client", bag: Bag, *, part: Path, size: int, digest: _Digest | None, pulse: Pulse) -> None:
    done = 0
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        if size:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found before a byte is paid for
        try:
            body = s3.get_object(Bucket=bag.bucket, Key=bag.key, **_pin(bag))["Body"]
            with body:
                while chunk := body.read(_BUFFER_BYTES):
                    file.write(chunk)
                    if digest is not None:
                        digest.update(chunk)
                    done += len(chunk)
                    plug.point("download half-way")
                    pulse(done, size)
        except _NETWORK_ERRORS as error:
            raise translated(error, f"download of {bag.address}", work_rid=bag.work_rid) from error
        if done != size:
            raise StorageUnreachable(f"download of {bag.address}: {done} of {size} bytes came", work_rid=bag.work_rid)
        os.fsync(file.fileno())
