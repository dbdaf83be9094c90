"""What a message's body asks for.

What S3 sends is untrusted and comes in several envelopes: S3's own events, the same inside an SNS notification, and
EventBridge's. Keys are URL-encoded in S3's own events only (Amazon S3 User Guide, "Event message structure").
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from pipeline.errors import InvalidRid, NotUnderstood
from pipeline.work import Bag, is_bag_zip, printable, rid_from_name

_RESTORED = "ObjectRestore:Completed"
_CREATED = "ObjectCreated:"
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_ETAG = re.compile(r"[!-~]{0,255}")
_VERSION = re.compile(r"[!-~]{0,1024}")
_LONGEST_KEY = 1024  # bytes of UTF-8; Amazon S3 User Guide, "Naming Amazon S3 objects"
_LARGEST_BYTES = 1 << 50  # S3 takes 5 TiB, others more
_SANE_YEARS = (2006, 9000)  # S3's first; MariaDB knows no year below 1000
_EVENTBRIDGE_NAMES = {
    "Object Restore Completed": _RESTORED,
    "Object Created": _CREATED + "*",
    "Object Restore Initiated": "ObjectRestore:Post",
    "Object Restore Expired": "ObjectRestore:Delete",
}


@dataclass(frozen=True)
class Delivery:
    """What a message carries.

    Attributes:
        bags: to bring home, each once.
        ignored: why the rest of it is nothing to do.
        not_understood: records that should name a bag and do not.
    """

    bags: tuple[Bag, ...]
    ignored: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


def parse(body: str, *, source: str = "", bucket: str = "") -> Delivery:
    """What a message's body asks for.

    Args:
        body: the message's body as SQS delivered it.
        source: the name of the source that it came from.
        bucket: the bucket whose events the source brings; bags elsewhere are none of its business, as whoever can put
            a message into the queue would choose what is archived. Empty: any.

    Raises:
        NotUnderstood: it is no event of S3 in any known envelope, or lacks what identifies an object.
    """
    event = _json_object(body)
    if "TopicArn" in event and isinstance(event.get("Message"), str):
        event = _json_object(event["Message"])
    if event.get("Event") == "s3:TestEvent":
        return Delivery((), ignored=("S3's test event",))
    if event.get("source") == "aws.s3" and "detail-type" in event:
        records = [_from_eventbridge(event)]
    elif isinstance(event.get("Records"), list):
        records = [_from_record(record) for record in event["Records"]]
    else:
        raise NotUnderstood("the message is no event of S3", facts={"body": body[:2000]})
    bags: dict[tuple[str, str, str], Bag] = {}
    ignored: list[str] = []
    not_understood: list[str] = []
    for record in records:
        try:
            bag = record.bag(source, bucket)
        except NotUnderstood as error:
            not_understood.append(str(error))
            continue
        if isinstance(bag, str):
            ignored.append(bag)
        else:
            bags[bag.bucket, bag.key, bag.etag] = bag  # the same object twice in a message is one bag
    if not_understood and not bags:
        raise NotUnderstood("; ".join(not_understood), facts={"body": body[:2000]})
    if not (bags or ignored):
        ignored.append("an event without records")
    return Delivery(tuple(bags.values()), tuple(ignored), tuple(not_understood))


@dataclass(frozen=True)
class _Record:
    name: str
    bucket: str
    key: str
    etag: str
    version_id: str
    size_bytes: int
    event_time: datetime | None
    expires_on: datetime | None

    def bag(self, source: str, bucket: str) -> Bag | str:
        """The bag, or why there is none."""
        name, address = printable(self.name[:200]), printable(f"s3://{self.bucket}/{self.key}"[:1200])
        if self.name != _RESTORED and not self.name.startswith(_CREATED):
            return f"{name} of {address}"
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
        )

    def _wrong(self) -> str:
        """What S3 would never tell of an object, and neither it nor a database would take."""
        wrong = {
            "no bucket has that name": _BUCKET.fullmatch(self.bucket) is None,
            "no key is like that": "\0" in self.key or not 0 < len(_bytes(self.key)) <= _LONGEST_KEY,
            "no ETag is like that": _ETAG.fullmatch(self.etag) is None,
            "no version is like that": _VERSION.fullmatch(self.version_id) is None,
            "no object is that large": self.size_bytes > _LARGEST_BYTES,
        }
        return ", ".join(what for what, is_so in wrong.items() if is_so)


def _bytes(text: str) -> bytes:
    """The text as UTF-8; nothing if it is none, as JSON's escapes may make it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return b""


def _from_record(record: Any) -> _Record:
    if not isinstance(record, dict):
        raise NotUnderstood("a record of the event is not an object")
    s3 = _mapping(record, "s3")
    bucket, thing = _mapping(s3, "bucket"), _mapping(s3, "object")
    restored = _mapping(_mapping(record, "glacierEventData"), "restoreEventData")
    return _Record(
        name=_text(record, "eventName").removeprefix("s3:"),
        bucket=_text(bucket, "name"),
        key=unquote_plus(_text(thing, "key"), errors="strict") if _decodes(_text(thing, "key")) else "",
        etag=_text(thing, "eTag").strip('"'),
        version_id=_version(thing, "versionId"),
        size_bytes=_size(thing),
        event_time=_moment(record, "eventTime"),
        expires_on=_moment(restored, "lifecycleRestorationExpiryTime"),
    )


def _from_eventbridge(event: Mapping[str, Any]) -> _Record:
    detail = _mapping(event, "detail")
    bucket, thing = _mapping(detail, "bucket"), _mapping(detail, "object")
    name = _text(event, "detail-type")
    return _Record(
        name=_EVENTBRIDGE_NAMES.get(name, name),
        bucket=_text(bucket, "name"),
        key=_text(thing, "key"),
        etag=_text(thing, "etag").strip('"'),
        version_id=_version(thing, "version-id"),
        size_bytes=_size(thing),
        event_time=_moment(event, "time"),
        expires_on=_moment(detail, "restore-expiry-time"),
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(f"the message is not JSON: {error}", facts={"body": text[:2000]}) from error
    if not isinstance(found, dict):
        raise NotUnderstood("the message is not a JSON object", facts={"body": text[:2000]})
    return found


def _mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name, {})
    return value if isinstance(value, dict) else {}


def _text(parent: Mapping[str, Any], name: str) -> str:
    value = parent.get(name, "")
    return value if isinstance(value, str) else ""


def _version(parent: Mapping[str, Any], name: str) -> str:
    value = _text(parent, name)
    return "" if value == "null" else value  # the version of objects in a bucket without versioning


def _size(parent: Mapping[str, Any]) -> int:
    value = parent.get("size", 0)
    return value if isinstance(value, int) and value >= 0 else 0


def _moment(parent: Mapping[str, Any], name: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_text(parent, name))
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # OverflowError: in UTC it would be in the year 10000
        return None
    return moment if _SANE_YEARS[0] <= moment.year <= _SANE_YEARS[1] else None


def _decodes(key: str) -> bool:
    try:
        unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
