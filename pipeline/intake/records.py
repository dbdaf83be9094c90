"""One event of S3: which bag it announces, or why there is none to bring home.

The forms are S3's own records (Amazon S3 User Guide, "Event message structure") and EventBridge's ("EventBridge event
message structure"). Keys are URL-encoded in S3's own records only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from pipeline.foundation.errors import InvalidRid, NotUnderstood
from pipeline.foundation.work import Bag, is_bag_zip, printable, rid_from_name

_RESTORED = "ObjectRestore:Completed"
_CREATED = "ObjectCreated:"
# Everything else that S3 documents ("Event notification types and destinations"; the API's list of events). It is
# ignored by name: what has another name may be a bag that nobody would bring home.
_NOTHING_TO_DO = re.compile(
    "ObjectRestore:(Post|Delete)"
    "|(ObjectRemoved|ObjectTagging|ObjectAcl|ObjectAnnotation|ObjectRetention|Replication|LifecycleExpiration):[A-Za-z]+"
    "|LifecycleTransition|IntelligentTiering|ReducedRedundancyLostObject"
)
_BRIDGED = {
    "Object Restore Completed": _RESTORED,
    "Object Created": _CREATED + "*",
}
# The rest of what S3 sends there (Amazon EventBridge Events Reference, "Amazon Simple Storage Service events").
_NOTHING_TO_DO_BRIDGED = {
    "Async Copy Completion",
    "Object ACL Updated",
    "Object Access Tier Changed",
    "Object Deleted",
    "Object Restore Expired",
    "Object Restore Initiated",
    "Object Storage Class Changed",
    "Object Tags Added",
    "Object Tags Deleted",
}
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_ETAG = re.compile(r"[!-~]{0,255}")
_VERSION = re.compile(r"[!-~]{0,1024}")
_LONGEST_KEY = 1024  # bytes of UTF-8; Amazon S3 User Guide, "Naming Amazon S3 objects"
_LARGEST_BYTES = 1 << 50  # S3 takes 5 TiB, others more
_SANE_YEARS = (2006, 9000)  # S3's first; MariaDB knows no year below 1000


@dataclass(frozen=True)
class ObjectEvent:
    """What an event says of an object, not checked yet.

    Attributes:
        name: of the event, as S3's own records have it, without `s3:`.
        is_known: it is one that S3 documents, and that asks for nothing.
    """

    name: str
    is_known: bool
    bucket: str
    key: str
    etag: str
    version_id: str
    size_bytes: int
    event_time: datetime | None
    expires_on: datetime | None

    @classmethod
    def from_s3(cls, record: Mapping[str, Any]) -> "ObjectEvent":
        """A record of S3's own."""
        s3 = _mapping(record, "s3")
        bucket, thing = _mapping(s3, "bucket"), _mapping(s3, "object")
        restored = _mapping(_mapping(record, "glacierEventData"), "restoreEventData")
        name = text_of(record, "eventName").removeprefix("s3:")
        return cls(
            name=name,
            is_known=_NOTHING_TO_DO.fullmatch(name) is not None,
            bucket=text_of(bucket, "name"),
            key=_decoded(text_of(thing, "key")),
            etag=text_of(thing, "eTag").strip('"'),
            version_id=_version(thing, "versionId"),
            size_bytes=_size(thing),
            event_time=_moment(record, "eventTime"),
            expires_on=_moment(restored, "lifecycleRestorationExpiryTime"),
        )

    @classmethod
    def from_eventbridge(cls, event: Mapping[str, Any]) -> "ObjectEvent":
        """An event of S3 as EventBridge tells it."""
        detail = _mapping(event, "detail")
        bucket, thing = _mapping(detail, "bucket"), _mapping(detail, "object")
        name = text_of(event, "detail-type")
        return cls(
            name=_BRIDGED.get(name, name),
            is_known=name in _NOTHING_TO_DO_BRIDGED,
            bucket=text_of(bucket, "name"),
            key=text_of(thing, "key"),
            etag=text_of(thing, "etag").strip('"'),
            version_id=_version(thing, "version-id"),
            size_bytes=_size(thing),
            event_time=_moment(event, "time"),
            expires_on=_moment(detail, "restore-expiry-time"),
        )

    def bag(self, source: str, bucket: str) -> Bag | str:
        """The bag; or, in words, why there is nothing to do.

        Raises:
            NotUnderstood: it is no event that S3 documents, or does not say which bag it is of.
        """
        name, address = printable(self.name[:200]), printable(f"s3://{self.bucket}/{self.key}"[:1200])
        if self.is_known:
            return f"{name} of {address}"
        if self.name != _RESTORED and not self.name.startswith(_CREATED):
            said = f"{name!r} is no event that S3 documents" if name else "the record has no eventName"
            raise NotUnderstood(f"{said}, of {address}")
        if not (self.bucket and self.key):
            raise NotUnderstood(f"{name} names no object")
        if not is_bag_zip(self.key):
            return f"{address} is not a .bag.zip"
        if wrong := self._wrong():
            raise NotUnderstood(f"{name} of {address}: {wrong}")
        if bucket and self.bucket != bucket:
            raise NotUnderstood(f"{name} of {address}: source {source} is of the bucket {bucket}")
        try:
            work_rid = rid_from_name(self.key)
        except InvalidRid as error:
            raise NotUnderstood(f"{self.name}: {error.what}") from error
        return Bag(
            work_rid=work_rid,
            bucket=self.bucket,
            key=self.key,
            etag=self.etag,
            version_id=self.version_id,
            source=source,
            size_bytes=self.size_bytes,
            event_time=self.event_time,
            restore_expires_on=self.expires_on,
            only_created=self.name != _RESTORED,
        )

    def _wrong(self) -> str:
        """What is told of the object that S3 would never tell, and that S3 or a database would refuse."""
        wrong = {
            "no bucket has that name": _BUCKET.fullmatch(self.bucket) is None,
            "no key is like that": "\0" in self.key or not 0 < len(_bytes(self.key)) <= _LONGEST_KEY,
            "no ETag is like that": _ETAG.fullmatch(self.etag) is None,
            "no version is like that": _VERSION.fullmatch(self.version_id) is None,
            "no object is that large": self.size_bytes > _LARGEST_BYTES,
        }
        return ", ".join(what for what, is_so in wrong.items() if is_so)


def text_of(parent: Mapping[str, Any], name: str) -> str:
    """A text of a JSON object; empty where it is missing, or something else."""
    value = parent.get(name, "")
    return value if isinstance(value, str) else ""


def _mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name, {})
    return value if isinstance(value, dict) else {}


def _bytes(text: str) -> bytes:
    """The text as UTF-8; nothing if it is none, as JSON's escapes may make it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return b""


def _version(parent: Mapping[str, Any], name: str) -> str:
    value = text_of(parent, name)
    return "" if value == "null" else value  # the version of objects in a bucket without versioning


def _size(parent: Mapping[str, Any]) -> int:
    value = parent.get("size", 0)
    return value if isinstance(value, int) and value >= 0 else 0


def _moment(parent: Mapping[str, Any], name: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text_of(parent, name))
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # OverflowError: in UTC it would be in the year 10000
        return None
    return moment if _SANE_YEARS[0] <= moment.year <= _SANE_YEARS[1] else None


def _decoded(key: str) -> str:
    """The key as S3 has it; empty where its bytes are not UTF-8."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return ""
