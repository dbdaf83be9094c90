"""The step: a second copy of an archived work in a bucket, proved by S3's own checksum of what came."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.foundation import aws, failpoints
from pipeline.foundation.errors import FixityFailed, ObjectGone, ReplicaConflict, ReplicaUnproved
from pipeline.foundation.work import Pulse, no_pulse, staging_key
from pipeline.replicate import bag_stream, upload
from pipeline.replicate.bag_stream import Content
from pipeline.replicate.replica import Replica

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONTENT = "content-sha512"  # of the object's own metadata


@dataclass(frozen=True)
class Replicated(upload.Sent):
    """A second copy of a work; no part was sent where it was there already.

    Attributes:
        key: of the object.
        content: the digest of the work's digests; see `Content.digest`.
        seconds: that it took.
    """

    key: str
    content: str
    seconds: float

    def facts(self) -> dict[str, Any]:
        """For the record."""
        told = asdict(self)
        size = told.pop("size_bytes")
        return {**told, "bytes": size, "seconds": round(self.seconds, 3)}


class CopyVerdict(StrEnum):
    """What a look at a copy found."""

    PASSED = "passed"
    FAILED = "failed"
    NO_CHECKSUM = "no-checksum"


def key_of(replica: Replica, work_rid: str) -> str:
    """The key of a work's second copy."""
    return replica.prefix + staging_key(work_rid)


def see_rights(s3: "S3Client", replica: Replica) -> str:
    """Try what a copy takes, and leave nothing: looking for one, beginning one in the storage class, letting go of it.

    Returns:
        what was found, for a person.

    Raises:
        StorageUnreachable, AccessDenied: as of every call of S3.
    """
    place = {"Bucket": replica.bucket, "Key": f"{replica.prefix}.check"}
    _object(s3, place)
    kept = "keeps versions" if _keeps_versions(s3, replica.bucket) else "keeps no versions"
    upload.begin(s3, place, **_options(replica, {}))
    upload.abandon(s3, place)
    return f"takes {replica.storage_class}, {kept}"


def replicate(
    s3: "S3Client",
    replica: Replica,
    sent: Content,
    *,
    upload_id: str = "",
    began: Callable[[str], None] = lambda _: None,
    replace: bool = False,
    pulse: Pulse = no_pulse,
) -> Replicated:
    """Send an archived work to a bucket, unless the bucket has it.

    Args:
        s3: a client for the bucket.
        replica: where to.
        sent: the work.
        upload_id: of an upload of this very content that did not end; empty: none is known.
        began: told the id of a new upload, before the first part of it is sent.
        replace: put it over other content, also where the bucket keeps no versions.
        pulse: called with payload bytes done and in all; it may raise to stop.

    Raises:
        FixityFailed: a file of the archive is not what it was; S3 keeps nothing of what came.
        ReplicaConflict: the bucket has other content under this key, and keeps no versions.
        ReplicaUnproved: what S3 has is not what was sent.
        StorageUnreachable, AccessDenied: as of every call of S3.
        OSError: the archive cannot be listed.
    """
    started, place = time.monotonic(), {"Bucket": replica.bucket, "Key": key_of(replica, sent.payload.work_rid)}
    far = _Progress(pulse, sent.payload.size_bytes)
    there = partial(_there_already, s3, replica, sent, place, replace=replace)
    made = aws.answered(there, waiting=far.again)
    if made is None:
        is_open = partial(upload.is_open, s3, place, upload_id)
        if not upload_id or not aws.answered(is_open, waiting=far.again):
            failpoints.see_allowed()
            ascii_rid = sent.payload.work_rid.encode("ascii", "backslashreplace").decode()
            options = _options(replica, {"work-rid": ascii_rid, _CONTENT: sent.digest})
            upload_id = aws.answered(partial(upload.begin, s3, place, **options), waiting=far.again)
            began(upload_id)
        made = _send(s3, sent, place, upload_id, far)
    return Replicated(**vars(made), key=place["Key"], content=sent.digest, seconds=time.monotonic() - started)


class _Progress:
    """How far it is with the payload, told again while S3 is waited for: whoever has to stop does not wait for it."""

    def __init__(self, pulse: Pulse, total: int) -> None:
        self._pulse, self._total, self._done = pulse, total, 0

    def tell(self, done: int, _total: int) -> None:
        """So many bytes are read."""
        self._done = done
        self.again()

    def again(self) -> None:
        """The same as before."""
        self._pulse(self._done, self._total)


def _there_already(
    s3: "S3Client", replica: Replica, sent: Content, place: dict[str, Any], *, replace: bool
) -> upload.Sent | None:
    """The copy, where the bucket has this content under this key; None: it is to be sent."""
    there = _object(s3, place)
    if there is None:
        return None
    checksum = there.get("ChecksumSHA256", "")
    if checksum and there["Metadata"].get(_CONTENT) == sent.digest:
        parts = int(checksum.partition("-")[2] or 1)
        return upload.Sent(checksum, there.get("VersionId", ""), there["ContentLength"], parts, parts_sent=0)
    if not replace and not _keeps_versions(s3, replica.bucket):
        raise ReplicaConflict(
            f"{replica.name}: s3://{place['Bucket']}/{place['Key']} is other content, and its bucket keeps no versions",
            work_rid=sent.payload.work_rid,
            kept="nothing was sent",
            by_hand="find out whose it is",
            go_on=("replicate", sent.payload.work_rid, "--replace"),
        )
    return None


def _send(s3: "S3Client", sent: Content, place: dict[str, Any], upload_id: str, far: _Progress) -> upload.Sent:
    part_bytes = upload.part_bytes(sent.most_bytes)
    sink = upload.Upload(s3, place, upload_id, part_bytes=part_bytes, waiting=far.again)
    try:
        bag_stream.write(sent, sink, pulse=far.tell)
        failpoints.see_allowed()
        made = sink.finish()
    except FixityFailed:
        aws.answered(partial(upload.abandon, s3, place), waiting=far.again)
        raise
    proof: dict[str, Any] = {"version_id": made.version_id, "checksum": made.checksum, "size_bytes": made.size_bytes}
    verdict, wrong = aws.answered(partial(look, s3, place, **proof), waiting=far.again)
    if verdict is not CopyVerdict.PASSED:
        raise ReplicaUnproved(f"s3://{place['Bucket']}/{place['Key']} {wrong}", work_rid=sent.payload.work_rid)
    return made


def look(
    s3: "S3Client", place: Mapping[str, str], *, version_id: str, checksum: str, size_bytes: int
) -> tuple[CopyVerdict, str]:
    """Look whether a copy is there as it was made, by its size and S3's checksum; no byte of it is retrieved.

    Args:
        s3: a client for the bucket.
        place: `Bucket` and `Key`.
        version_id: of the object; empty: the one that is there now.
        checksum: that it had.
        size_bytes: that it had.

    Returns:
        the verdict, and what is wrong, for a person.

    Raises:
        StorageUnreachable, AccessDenied: as of every call of S3.
    """
    there = _object(s3, {**place} | ({"VersionId": version_id} if version_id else {}))
    if there is None:
        return CopyVerdict.FAILED, "is gone"
    if there["ContentLength"] != size_bytes:
        return CopyVerdict.FAILED, f"has {there['ContentLength']:,} bytes, not {size_bytes:,}"
    theirs = there.get("ChecksumSHA256", "")
    if not theirs:
        return CopyVerdict.NO_CHECKSUM, "has no checksum"
    if theirs.partition("-")[0] != checksum.partition("-")[0]:  # services other than S3 leave the number out
        return CopyVerdict.FAILED, f"has the checksum {theirs}, not {checksum}"
    return CopyVerdict.PASSED, ""


def _object(s3: "S3Client", place: dict[str, Any]) -> Any:
    """What HEAD tells of an object; None where there is none."""
    try:
        with aws.failures_named(f"s3://{place['Bucket']}/{place['Key']}"):
            return s3.head_object(**place, ChecksumMode="ENABLED")
    except ObjectGone:
        return None


def _keeps_versions(s3: "S3Client", bucket: str) -> bool:
    with aws.failures_named(f"versioning of {bucket}"):
        return s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"


def _options(replica: Replica, metadata: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "StorageClass": replica.storage_class,
        "Metadata": metadata,
        "ContentType": "application/zip",
    }
    if replica.kms_key:
        options |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": replica.kms_key}
    if replica.lock_days:
        until = datetime.now(UTC) + timedelta(days=replica.lock_days)
        options |= {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}
    return options
