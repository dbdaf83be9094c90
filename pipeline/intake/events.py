"""What a message's body asks for.

What S3 sends is untrusted and comes in several envelopes: S3's own events, EventBridge's, and either of them inside an
SNS notification, or inside what a Lambda function was given of a queue or a topic and has passed on. Envelopes inside
each other are opened, a few deep. What comes in no known one is not understood, and never taken for nothing to do.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pipeline.foundation.errors import NotUnderstood
from pipeline.foundation.work import Bag, printable
from pipeline.intake.records import ObjectEvent, text_of

_DEEPEST = 5  # envelopes in each other: two topics, a queue and a function on the way would be four
_MOST_TOLD = 10  # reasons; a message may have thousands of records
_CONFIRMATIONS = {  # Amazon SNS Developer Guide, "HTTP/HTTPS subscription confirmation JSON format"
    "SubscriptionConfirmation": "SNS asks to confirm the subscription to topic {}",
    "UnsubscribeConfirmation": "SNS tells that the subscription to topic {} has ended",
}


@dataclass(frozen=True)
class Delivery:
    """What a message carries.

    Attributes:
        bags: to bring home, each once.
        ignored: why other records ask for nothing.
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
        bucket: the bucket whose events the source brings; empty: any. Bags of others are refused: else whoever can send
            to the queue could choose what is archived.

    Raises:
        NotUnderstood: it is no event of S3 in any known envelope, or lacks what identifies an object.
    """
    bags: dict[tuple[str, str, str], Bag] = {}
    ignored: list[str] = []
    not_understood: list[str] = []
    for found in _opened_text(body, "the message", depth=0):
        try:
            meant = found.bag(source, bucket) if isinstance(found, ObjectEvent) else found
        except NotUnderstood as error:
            meant = error
        if isinstance(meant, NotUnderstood):
            not_understood.append(meant.what)
        elif isinstance(meant, str):
            ignored.append(meant)
        else:
            bags[meant.bucket, meant.key, meant.etag] = meant  # the same object twice in a message is one bag
    if not_understood and not bags:
        raise NotUnderstood(listed(not_understood), facts={"body": body[:2000]})
    return Delivery(tuple(bags.values()), tuple(ignored), tuple(not_understood))


def body_of(bag: Bag) -> str:
    """The body of a message that announces a bag as S3 would, for a bag whose message is gone."""
    thing = {"key": quote(bag.key), "eTag": bag.etag, "versionId": bag.version_id or "null"}
    record = {
        "eventSource": "bag-pipeline",  # not S3's word: a person who reads it is to see that
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bag.bucket}, "object": thing},
    }
    if bag.event_time is not None:
        record["eventTime"] = bag.event_time.isoformat()
    return json.dumps({"Records": [record]})


def listed(reasons: Sequence[str]) -> str:
    """The reasons in one line for people: the first ones, and how many more there are."""
    more = len(reasons) - _MOST_TOLD
    return "; ".join([*reasons[:_MOST_TOLD], *([f"and {more:,} more"] if more > 0 else [])])


def _opened_text(text: str, what: str, *, depth: int) -> Iterator[ObjectEvent | str | NotUnderstood]:
    """What a JSON text holds: events; in words, why something asks for nothing; what is not understood as a failure."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield NotUnderstood(f"{what} is not JSON: {error}")
        return
    if isinstance(event, dict):
        yield from _opened(event, what, depth=depth)
    else:
        yield NotUnderstood(f"{what} is not a JSON object")


def _opened(event: dict[str, Any], what: str, *, depth: int) -> Iterator[ObjectEvent | str | NotUnderstood]:
    """What an envelope holds, as in `_opened_text`."""
    records, kind = event.get("Records"), text_of(event, "Type")
    if depth > _DEEPEST:
        yield NotUnderstood(f"{what} has more than {_DEEPEST} envelopes in each other")
    elif event.get("Event") == "s3:TestEvent" and not records:
        yield "S3's test event"
    elif kind in _CONFIRMATIONS:
        yield NotUnderstood(
            _CONFIRMATIONS[kind].format(printable(text_of(event, "TopicArn")[:300]))
            + ": if it is wanted, a person has to visit the SubscribeURL in the message; the pipeline never does"
        )
    elif ("TopicArn" in event or kind == "Notification") and isinstance(event.get("Message"), str):
        yield from _opened_text(event["Message"], "what the SNS notification holds", depth=depth + 1)
    elif event.get("source") == "aws.s3" and text_of(event, "detail-type").endswith("via CloudTrail"):
        yield _of_cloudtrail(event.get("detail"))
    elif event.get("source") == "aws.s3" and "detail-type" in event:
        yield ObjectEvent.from_eventbridge(event)
    elif isinstance(records, list) and records:
        for record in records:
            yield from _opened_record(record, depth=depth)
    else:
        yield NotUnderstood(f"{what} is no event of S3")


def _opened_record(record: Any, *, depth: int) -> Iterator[ObjectEvent | str | NotUnderstood]:
    """What one of the `Records` is or holds: S3, Lambda and CloudTrail all call theirs so."""
    if not isinstance(record, dict):
        yield NotUnderstood("a record of the event is not an object")
        return
    service = text_of(record, "eventSource") or text_of(record, "EventSource")
    if "s3" in record:
        yield ObjectEvent.from_s3(record)
    elif service == "aws:sqs" and isinstance(record.get("body"), str):
        yield from _opened_text(record["body"], "the body of a record of SQS", depth=depth + 1)
    elif service == "aws:sns" and isinstance(record.get("Sns"), dict):
        yield from _opened(record["Sns"], "a record of SNS", depth=depth + 1)
    elif "requestParameters" in record or service.endswith(".amazonaws.com"):
        yield _of_cloudtrail(record)
    else:
        by = f" (eventSource {printable(service[:100])})" if service else ""
        yield NotUnderstood(f"a record{by} is no event of S3")


def _of_cloudtrail(record: Any) -> NotUnderstood:
    """CloudTrail tells what was asked for, also where that failed, and never that a restore has ended."""
    call = printable(text_of(record, "eventName")[:100]) if isinstance(record, dict) else ""
    asked = record.get("requestParameters") if isinstance(record, dict) else None
    if isinstance(asked, dict):
        call += printable(f" of s3://{text_of(asked, 'bucketName')}/{text_of(asked, 'key')}"[:1200])
    return NotUnderstood(
        f"a record of CloudTrail ({call.strip() or 'of no call'}): it tells of a request, not of an object that is"
        " there; let the bucket itself send its events to the queue"
    )
