"""A multipart upload of what is made while it is sent: in parts, several at a time, each with its SHA-256.

A killed upload goes on: what is sent is the same each time, so a part that S3 has with the same checksum is not sent
again. S3 refuses a part that is not what its checksum says. When it has put them together it tells a *composite*
checksum, of all parts' checksums: it has to be ours.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pipeline.foundation import aws, failpoints
from pipeline.foundation.errors import ObjectGone, ReplicaUnproved

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_PARTS = 10_000  # limits of S3
LEAST_PART_BYTES = 8 << 20
_MOST_MEMORY_BYTES = 96 << 20
_AT_ONCE = 4
_TRIES = 3


@dataclass(frozen=True)
class Sent:
    """An object that was sent.

    Attributes:
        checksum: that S3 has to tell of it, composite SHA-256: base64, `-`, number of parts.
        version_id: empty where the bucket keeps no versions.
        size_bytes: of the object.
        parts: how many; `parts_sent`: how many of them came now.
    """

    checksum: str
    version_id: str
    size_bytes: int
    parts: int
    parts_sent: int


@dataclass(frozen=True)
class _Part:
    etag: str
    sha256: bytes
    size_bytes: int

    def is_of(self, part: bytearray, sha256: bytes) -> bool:
        """Whether it is of these bytes; where a service lists no checksum, its ETag says so, which is an MD5."""
        if self.size_bytes != len(part):
            return False
        md5 = hashlib.md5(part, usedforsecurity=False)
        return self.sha256 == sha256 if self.sha256 else self.etag.strip('"') == md5.hexdigest()


class Upload:
    """A file that can only be written, from its first byte to its last; `finish` makes an object of it.

    Without `finish` nothing becomes an object, and S3 keeps the parts that came. Parts are sent by threads that nobody
    has to wait for: a stop is honoured at once, whatever the connections wait for.

    Args:
        s3: the client.
        place: `Bucket` and `Key`.
        upload_id: of the upload to go on with.
        part_bytes: of each part but the last.
        waiting: called a few times a second while S3 is waited for; what it raises is raised at once.
    """

    def __init__(
        self,
        s3: "S3Client",
        place: Mapping[str, Any],
        upload_id: str,
        *,
        part_bytes: int,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._s3, self._place, self._upload_id = s3, dict(place), upload_id
        self._part_bytes = part_bytes
        self._until_answered = waiting
        self._known = aws.answered(partial(_known_parts, s3, place, upload_id), waiting=waiting)
        self._parts: dict[int, _Part] = {}
        self._sent = 0
        self._now, self._filled = bytearray(part_bytes), 0
        self._free: list[bytearray] = []  # fresh memory costs more than all that is copied into it
        self._at_once = max(1, min(_AT_ONCE, _MOST_MEMORY_BYTES // part_bytes - 1))
        self._waiting: dict[Future[tuple[_Part, bytearray]], int] = {}

    def write(self, data: bytes) -> int:
        """Take bytes; waits while as many parts are on their way as may be."""
        view = memoryview(data)
        taken = 0
        while taken < len(view):
            some = view[taken : taken + self._part_bytes - self._filled]
            self._now[self._filled : self._filled + len(some)] = some
            self._filled += len(some)
            taken += len(some)
            if self._filled == self._part_bytes:
                self._send()
        return len(view)

    def _send(self) -> None:
        part = self._now
        del part[self._filled :]
        self._gather(down_to=self._at_once - 1)
        number = len(self._parts) + len(self._waiting) + 1
        self._waiting[aws.asked(partial(self._deliver, number, part))] = number
        self._now, self._filled = self._free.pop() if self._free else bytearray(self._part_bytes), 0

    def _gather(self, *, down_to: int) -> None:
        while len(self._waiting) > down_to:
            done, _ = wait(self._waiting, aws.TICK_SECONDS, return_when=FIRST_COMPLETED)
            self._until_answered()
            for one in done:
                self._parts[self._waiting.pop(one)], part = one.result()
                self._free.append(part)

    def _deliver(self, number: int, part: bytearray) -> tuple[_Part, bytearray]:
        sha256 = hashlib.sha256(part).digest()
        known = self._known.get(number)
        if known is not None and known.is_of(part, sha256):
            return replace(known, sha256=sha256), part
        checksum, body = base64.b64encode(sha256).decode(), cast("Any", part)  # the stubs know bytes alone
        for _ in range(_TRIES):
            with aws.failures_named(f"part {number} of {self._place['Key']}"):
                told = self._s3.upload_part(
                    **self._place, UploadId=self._upload_id, PartNumber=number, Body=body, ChecksumSHA256=checksum
                )
            failpoints.point(f"part {number} sent")
            if told.get("ChecksumSHA256", checksum) == checksum:
                self._sent += 1
                return _Part(told["ETag"], sha256, len(part)), part
        raise ReplicaUnproved(f"part {number} of {self._place['Key']} arrived as something else {_TRIES} times")

    def finish(self) -> Sent:
        """Make the object of all parts."""
        self._send()
        self._gather(down_to=0)
        parts = [self._parts[number] for number in sorted(self._parts)]
        checksum = composite([part.sha256 for part in parts])
        listed: Any = [
            {"PartNumber": number, "ETag": part.etag, "ChecksumSHA256": base64.b64encode(part.sha256).decode()}
            for number, part in enumerate(parts, 1)
        ]
        whole: Any = {"UploadId": self._upload_id, "MultipartUpload": {"Parts": listed}}
        complete = partial(self._s3.complete_multipart_upload, **self._place, **whole)
        with aws.failures_named(f"upload of {self._place['Key']}"):
            told = aws.answered(complete, waiting=self._until_answered)
        failpoints.point("upload finished, not recorded")
        size = sum(part.size_bytes for part in parts)
        version_id = told.get("VersionId", "").removeprefix("null")
        return Sent(checksum, version_id, size, len(parts), self._sent)

    def flush(self) -> None:
        """A part is sent when it is full, and not before."""

    def close(self) -> None:
        """Nothing is open that could be closed."""


def part_bytes(most_bytes: int) -> int:
    """How large the parts of an object are that has so many bytes at most: whole MiB, as few as may be."""
    needed = -(-most_bytes // MOST_PARTS)
    return max(LEAST_PART_BYTES, -(-needed >> 20) << 20)


def requests(size_bytes: int) -> int:
    """How many requests an upload takes that are paid for: its beginning, its parts, its end."""
    return 2 + -(-size_bytes // part_bytes(size_bytes))


def composite(sha256s: list[bytes]) -> str:
    """S3's checksum of an object in parts: of the parts' checksums, with their number."""
    return f"{base64.b64encode(hashlib.sha256(b''.join(sha256s)).digest()).decode()}-{len(sha256s)}"


def begin(s3: "S3Client", place: Mapping[str, Any], **options: Any) -> str:
    """Begin an upload, and let go of any other that was begun for this key; returns its id."""
    with aws.failures_named(f"upload of {place['Key']}"):
        abandon(s3, place)
        made = s3.create_multipart_upload(**place, ChecksumAlgorithm="SHA256", **options)
    return made["UploadId"]


def abandon(s3: "S3Client", place: Mapping[str, Any], *, only: str = "") -> None:
    """Let go of every unfinished upload for this key, or of that one, so that its parts are paid for no more."""
    with aws.failures_named(f"unfinished uploads of {place['Key']}"):
        for upload_id in unfinished(s3, place):
            if only in {"", upload_id}:
                s3.abort_multipart_upload(**place, UploadId=upload_id)


def unfinished(s3: "S3Client", place: Mapping[str, Any]) -> dict[str, datetime]:
    """The unfinished uploads for this key, and since when each is."""
    with aws.failures_named(f"unfinished uploads of {place['Key']}"):
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=place["Bucket"], Prefix=place["Key"])
        uploads = [one for page in pages for one in page.get("Uploads", [])]
        return {one["UploadId"]: one["Initiated"] for one in uploads if one["Key"] == place["Key"]}


def sent_bytes(s3: "S3Client", place: Mapping[str, Any], upload_id: str) -> int:
    """What the parts of an unfinished upload take."""
    return sum(part.size_bytes for part in _known_parts(s3, place, upload_id).values())


def is_open(s3: "S3Client", place: Mapping[str, Any], upload_id: str) -> bool:
    """Whether an upload can be gone on with."""
    try:
        with aws.failures_named(f"upload of {place['Key']}"):
            s3.list_parts(**place, UploadId=upload_id, MaxParts=1)
    except ObjectGone:
        return False
    return True


def _known_parts(s3: "S3Client", place: Mapping[str, Any], upload_id: str) -> dict[int, _Part]:
    """The parts that S3 has, with the checksums that it tells."""
    with aws.failures_named(f"upload of {place['Key']}"):
        pages = s3.get_paginator("list_parts").paginate(**place, UploadId=upload_id)
        parts = [part for page in pages for part in page.get("Parts", [])]
    return {
        part["PartNumber"]: _Part(part["ETag"], base64.b64decode(part.get("ChecksumSHA256", "")), part["Size"])
        for part in parts
    }
