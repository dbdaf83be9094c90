"""One object in cold storage: how it stands, and the request to restore it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import botocore.exceptions

from pipeline.foundation.aws import error_code, failures_named, translated
from pipeline.foundation.work import Bag
from pipeline.restore.tiers import FROZEN_CLASSES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NOT_FROZEN = {"InvalidObjectState", "ObjectAlreadyInActiveTierError"}
_RESTORE = re.compile(r'ongoing-request="(true|false)"(?:, *expiry-date="([^"]+)")?')


class Copy(StrEnum):
    """What there is of an object that could be fetched."""

    FROZEN = "frozen"
    RESTORING = "being-restored"
    RESTORED = "restored"
    NOT_FROZEN = "not-frozen"


class Asked(StrEnum):
    """What became of a request."""

    TAKEN = "taken"
    RUNNING = "running"
    RESTORED = "restored"
    NOT_FROZEN = "not-frozen"


@dataclass(frozen=True)
class Found:
    """How an object stands.

    Attributes:
        bag: with ETag, version and size.
        storage_class: for objects of S3 Intelligent-Tiering the access tier that they lie in.
        expires_on: when the restored copy goes away.
    """

    bag: Bag
    copy: Copy
    storage_class: str
    expires_on: datetime | None = None


def look(s3: "S3Client", bag: Bag) -> Found:
    """How an object stands: one HEAD of whatever lies under its key now.

    Raises:
        ObjectGone: it is not there.
        PipelineError: S3 cannot be reached, or refuses.
    """
    what, needs = f"look at {bag.address}", f"s3:GetObject on arn:aws:s3:::{bag.bucket}/*, s3:ListBucket on the bucket"
    try:
        told: Any = s3.head_object(Bucket=bag.bucket, Key=bag.key)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        raise translated(error, what, work_rid=bag.work_rid, needs=needs) from error
    version = told.get("VersionId", "")
    known = replace(
        bag,
        etag=told["ETag"].strip('"'),
        version_id="" if version == "null" else version,
        size_bytes=told["ContentLength"],
    )
    storage_class = told.get("ArchiveStatus") or told.get("StorageClass") or "STANDARD"
    said = _RESTORE.search(told.get("Restore", ""))
    if said and said[1] == "true":
        return Found(known, Copy.RESTORING, storage_class)
    if storage_class not in FROZEN_CLASSES:
        return Found(known, Copy.NOT_FROZEN, storage_class)
    expires_on = parsedate_to_datetime(said[2]).astimezone(UTC) if said and said[2] else None
    if said is None or (expires_on and expires_on <= datetime.now(UTC)):
        return Found(known, Copy.FROZEN, storage_class)
    return Found(known, Copy.RESTORED, storage_class, expires_on)


def ask(s3: "S3Client", bag: Bag, *, storage_class: str, tier: str, days: int) -> Asked:
    """Ask S3 to restore an object. A request that runs already is as good as one that was taken.

    Args:
        s3: the client, with the right to ask.
        bag: which object, pinned to its version where it has one.
        storage_class: as `look` tells it.
        tier: one that the class has.
        days: that the restored copy is to stay; objects of Intelligent-Tiering come back for good.

    Raises:
        ObjectGone: it is not there.
        PipelineError: S3 refuses or throttles, which the fact `refused` says; or it cannot be reached, and may have
            taken it.
    """
    request: dict[str, Any] = {"GlacierJobParameters": {"Tier": tier.capitalize()}}
    if not storage_class.endswith("_ACCESS"):
        request["Days"] = days
    pinned: dict[str, Any] = {"VersionId": bag.version_id} if bag.version_id else {}
    try:
        told = s3.restore_object(Bucket=bag.bucket, Key=bag.key, RestoreRequest=request, **pinned)  # type: ignore[arg-type]  # its TypedDict
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        code = error_code(error)
        if code == "RestoreAlreadyInProgress":
            return Asked.RUNNING
        if code in _NOT_FROZEN:
            return Asked.NOT_FROZEN
        needs = f"s3:RestoreObject on arn:aws:s3:::{bag.bucket}/*"
        named = translated(error, f"restore of {bag.address}", work_rid=bag.work_rid, needs=needs)
        named.facts["refused"] = bool(code)
        raise named from error
    # 202: accepted; 200: the copy was there, and stays for longer (Amazon S3 API Reference, RestoreObject)
    return Asked.RESTORED if told["ResponseMetadata"]["HTTPStatusCode"] == 200 else Asked.TAKEN


def listed(s3: "S3Client", bucket: str, prefix: str) -> Iterator[str]:
    """The keys under a prefix, page by page.

    Raises:
        PipelineError: S3 cannot be reached, or refuses.
    """
    with failures_named(f"list of s3://{bucket}/{prefix}"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from (one["Key"] for one in page.get("Contents", []))
