"""The object in S3: what it is, and its bytes, pinned: every answer is looked at before a byte of it is taken."""

import contextlib
import http.client
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import urllib3.exceptions

from pipeline.download.plan import Remote
from pipeline.foundation.aws import answered, error_code, translated
from pipeline.foundation.errors import ObjectReplaced, PipelineError, StorageUnreachable
from pipeline.foundation.work import Bag, Pulse, no_pulse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_REQUEST_FAILED = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)
# A HEAD that fails comes without the reason, a GET with it; and botocore takes a 503 that does not say SlowDown for a
# hiccup: its eight attempts are over after some 5 s instead of 45.
_UNEXPLAINED = frozenset({"400", "403", "404", "429", "500", "503"})
_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")
BODY_BROKE = (
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.HTTPClientError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)
"""What reading a body can raise when the connection is reset, stalls or ends early."""


class RangeIgnored(Exception):
    """Asked for a range, the server sends the whole object."""


class WrongAnswer(Exception):
    """The answer is not of the range that was asked for."""


class Body:
    """The bytes of one answer."""

    def __init__(self, answer: Any, *, stall_seconds: float) -> None:
        self._closing = contextlib.ExitStack()
        stream = answer["Body"]
        stream.set_socket_timeout(stall_seconds)
        self._response = self._closing.enter_context(stream)  # the response of urllib3 that the stream wraps
        # urllib3's own readinto makes a new bytes object of every block, copies it, and costs a fifth more CPU; the
        # standard library's response below it reads into our buffer. See docs/decisions/0010.
        below = getattr(self._response, "_fp", None)
        self.readinto = below.readinto if isinstance(below, http.client.HTTPResponse) else stream.readinto

    def release(self) -> None:
        """Everything was read: the connection serves the next request."""
        self._response.release_conn()

    def close(self) -> None:
        """Give the body up, and the connection with it."""
        self._closing.close()

    def interrupt(self) -> None:
        """Wake whoever waits for bytes of this body in another thread; they find it at its end."""
        with contextlib.suppress(*BODY_BROKE, RuntimeError, ValueError):
            self._response.shutdown()


def identify(s3: "S3Client", bag: Bag, *, pulse: Pulse = no_pulse) -> Bag:
    """The bag with ETag, version and size as S3 has them; what an event says of a size anybody may have written.

    Args:
        s3: the client.
        bag: one of which perhaps only the key is known, as from some events and from operators.
        pulse: asked while S3 is silent.

    Raises:
        ObjectGone: it is not there (any more).
        ObjectReplaced: the bucket now holds other bytes under the key than the bag names.
        PipelineError: S3 cannot be reached, or refuses; or what the pulse raised.
    """
    told = answered(lambda: _head(s3, bag, **_pin(bag)), waiting=lambda: pulse(0, 0))
    return replace(bag, etag=told["ETag"].strip('"'), version_id=_version(told), size_bytes=told["ContentLength"])


def look(s3: "S3Client", bag: Bag) -> Remote:
    """What S3 says of the object that `bag` identifies; one request, a second one for a multipart upload.

    Raises:
        ObjectGone: it is not there (any more).
        ObjectReplaced: the bucket now holds other bytes under the key.
        PipelineError: S3 cannot be reached, or refuses.
    """
    return _remote(s3, bag, _head(s3, bag, ChecksumMode="ENABLED", **_pin(bag)))


def open_whole(s3: "S3Client", bag: Bag, *, stall_seconds: float) -> tuple[Remote, Body]:
    """The whole object with one request, a second one for a multipart upload of several parts.

    Raises:
        PipelineError: as `look`, and NotRestored.
    """
    answer = _get(s3, bag, ChecksumMode="ENABLED", **_pin(bag))
    with _body_of(answer, stall_seconds) as body:
        return _remote(s3, bag, answer), body


def open_range(s3: "S3Client", bag: Bag, remote: Remote, *, start: int, end: int, stall_seconds: float) -> Body:
    """The bytes from `start` up to, not including, `end`.

    Raises:
        NotRestored: it is frozen in Glacier, or is so again.
        ObjectReplaced: these are bytes of another object.
        RangeIgnored: the server sends everything.
        WrongAnswer: the server sends another range.
        PipelineError: as `look`.
    """
    whole = (start, end) == (0, remote.size_bytes)
    wanted = {} if whole else {"Range": f"bytes={start}-{end - 1}"}
    pinned = {"IfMatch": f'"{remote.etag}"'} | ({"VersionId": remote.version_id} if remote.version_id else {})
    answer = _get(s3, bag, **wanted, **pinned)
    with _body_of(answer, stall_seconds) as body:
        _check(answer, bag, remote, start=start, end=end)
        return body


@contextlib.contextmanager
def _body_of(answer: Any, stall_seconds: float) -> Iterator[Body]:
    """The body of an answer, which is given up if the block finds that it is another one than was asked for."""
    body = Body(answer, stall_seconds=stall_seconds)
    try:
        yield body
    except BaseException:
        body.close()
        raise


def _check(answer: Any, bag: Bag, remote: Remote, *, start: int, end: int) -> None:
    """That the answer is of these bytes of this object; S3's stand-ins do not all honour `If-Match` and `Range`."""
    if answer.get("ETag", "").strip('"') != remote.etag:
        raise ObjectReplaced(f"download of {bag.address}: the object was overwritten", work_rid=bag.work_rid)
    told = answer.get("ContentRange", "")
    if not told and (start, end) != (0, remote.size_bytes):
        raise RangeIgnored("the server sends no ranges")
    said = _RANGE.fullmatch(told) if told else None
    found = tuple(map(int, said.groups())) if said else (0, answer.get("ContentLength", -1) - 1, remote.size_bytes)
    if found != (start, end - 1, remote.size_bytes) or answer.get("ContentLength") != end - start:
        raise WrongAnswer(
            f"asked for bytes {start}-{end - 1} of {remote.size_bytes}, the answer says {told or 'everything'}, "
            f"{answer.get('ContentLength')} bytes"
        )


def _pin(bag: Bag) -> dict[str, Any]:
    if bag.version_id:
        return {"VersionId": bag.version_id}
    return {"IfMatch": f'"{bag.etag}"'} if bag.etag else {}


def _head(s3: "S3Client", bag: Bag, **wanted: Any) -> Any:
    asked_why = False
    while True:
        try:
            return s3.head_object(Bucket=bag.bucket, Key=bag.key, **wanted)
        except _REQUEST_FAILED as error:
            if asked_why or error_code(error) not in _UNEXPLAINED:
                raise _named(error, "look at", bag) from error
        with _get(s3, bag, Range="bytes=0-0", **_pin(bag))["Body"]:
            asked_why = True  # it was refused to HEAD only, or the storm is over


def _get(s3: "S3Client", bag: Bag, **wanted: Any) -> Any:
    try:
        return s3.get_object(Bucket=bag.bucket, Key=bag.key, **wanted)
    except _REQUEST_FAILED as error:
        raise _named(error, "download of", bag) from error


def _named(error: Exception, doing: str, bag: Bag) -> PipelineError:
    return translated(error, f"{doing} {bag.address}", work_rid=bag.work_rid, needs=_needs(bag))


def _needs(bag: Bag) -> str:
    version = ", s3:GetObjectVersion" if bag.version_id else ""
    return (
        f"s3:GetObject{version} on arn:aws:s3:::{bag.bucket}/*, s3:ListBucket on arn:aws:s3:::{bag.bucket} (without it "
        f"a missing key is denied too), and kms:Decrypt on the key if the bucket is encrypted with one"
    )


def _remote(s3: "S3Client", bag: Bag, told: Any) -> Remote:
    """What the headers of a HEAD, or of a GET of everything, tell.

    Raises:
        ObjectReplaced: the ETag is not the one that the event announced.
        PipelineError: S3 cannot be asked for the size of the parts.
    """
    etag, size = told.get("ETag", "").strip('"'), told.get("ContentLength")
    if size is None or not etag:
        raise StorageUnreachable(f"{bag.address}: the answer tells no size or no ETag", work_rid=bag.work_rid)
    if bag.etag and etag != bag.etag:
        raise ObjectReplaced(
            f"{bag.address}: the object was overwritten: its ETag is {etag}, announced was {bag.etag}",
            work_rid=bag.work_rid,
        )
    full = told.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    crc32 = told.get("ChecksumCRC32", "") if full else ""
    remote = Remote(
        size_bytes=size,
        etag=etag,
        version_id=_version(told),
        digest_etag=told.get("ServerSideEncryption", "AES256") == "AES256" and not told.get("SSECustomerAlgorithm"),
        crc64nvme=told.get("ChecksumCRC64NVME", "") if full else "",
        crc32="" if "-" in crc32 else crc32,
    )
    if remote.parts <= 1:
        return replace(remote, part_bytes=size * remote.parts)
    # Not pinned by ETag: S3's stand-ins compare it with the part's. The digest in the end decides anyhow.
    version = {"VersionId": remote.version_id} if remote.version_id else {}
    return replace(remote, part_bytes=int(_head(s3, bag, PartNumber=1, **version)["ContentLength"]))


def _version(told: Any) -> str:
    version = str(told.get("VersionId", ""))
    return "" if version == "null" else version
