"""What a message's body asks for.

What S3 sends is untrusted and comes in several envelopes: S3's own events, the same inside an SNS notification, and
EventBridge's. Keys are URL-encoded in S3's own events only (Amazon S3 User Guide, "Event message structure").
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from pipeline.errors import InvalidRid, NotUnderstood
from pipeline.work import Bag, is_bag_zip, rid_from_name

_RESTORED = "ObjectRestore:Completed"
_CREATED = "ObjectCreated:"
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


def parse(body: str, *, source: str = "") -> Delivery:
    """What a message's body asks for.

    Args:
        body: the message's body as SQS delivered it.
        source: the name of the source that it came from.

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
            bag = record.bag(source)
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

    def bag(self, source: str) -> Bag | str:
        """The bag, or why there is none."""
        if self.name != _RESTORED and not self.name.startswith(_CREATED):
            return f"{self.name} of s3://{self.bucket}/{self.key}"
        if not (self.bucket and self.key):
            raise NotUnderstood(f"{self.name} names no object")
        if not is_bag_zip(self.key):
            return f"s3://{self.bucket}/{self.key} is not a .bag.zip"
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
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _decodes(key: str) -> bool:
    try:
        unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
