"""Messages in other people's envelopes: each is opened, ignored by name, or not understood and says what it is."""

import json
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from pipeline import intake
from pipeline.foundation.errors import NotUnderstood
from tests.world.stack import EVENTS, Site, lines

KEY = "Archive0/00/W1/W1.bag.zip"
RECORD = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "eventTime": "2026-11-20T10:00:00.000Z",
    "eventName": "ObjectRestore:Completed",
    "s3": {
        "bucket": {"name": "trial"},
        "object": {"key": KEY, "size": 6000, "eTag": "d41d8cd98f00b204e9800998ecf8427e"},
    },
}
S3 = {"Records": [RECORD]}
BRIDGED = {
    "version": "0",
    "source": "aws.s3",
    "detail-type": "Object Restore Completed",
    "time": "2026-11-20T10:00:00Z",
    "detail": {
        "bucket": {"name": "trial"},
        "object": {"key": KEY, "size": 6000, "etag": "d41d8cd98f00b204e9800998ecf8427e"},
    },
}
TEST_EVENT = json.loads((EVENTS / "test-event.json").read_text(encoding="utf-8"))
TOPIC = "arn:aws:sns:us-east-1:1:a"
TRAIL = {
    "eventVersion": "1.05",
    "eventSource": "s3.amazonaws.com",
    "eventName": "CompleteMultipartUpload",
    "requestParameters": {"bucketName": "trial", "key": KEY},
}


def sns(held: Any, **more: Any) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": TOPIC, "Message": json.dumps(held), **more}


def sqs_of_lambda(*held: Any) -> dict[str, Any]:
    return {"Records": [{"messageId": "m-1", "body": json.dumps(one), "eventSource": "aws:sqs"} for one in held]}


def sns_of_lambda(*held: Any) -> dict[str, Any]:
    return {"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": sns(one)} for one in held]}


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in record.items() if field != name}


def confirmation(kind: str) -> dict[str, Any]:
    url = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=secret"
    return {"Type": kind, "TopicArn": TOPIC, "Message": "You have chosen …", "SubscribeURL": url}


def nested(held: dict[str, Any], times: int) -> dict[str, Any]:
    for _ in range(times):
        held = sns(held)
    return held


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(S3, id="S3"),
        pytest.param(
            {"Records": [{**RECORD, "eventName": "s3:ObjectRestore:Completed"}]}, id="S3, name with its prefix"
        ),
        pytest.param(BRIDGED, id="EventBridge"),
        pytest.param(sns(S3), id="SNS"),
        pytest.param(sns(BRIDGED), id="EventBridge in SNS"),
        pytest.param(sns(sns(S3)), id="SNS in SNS"),
        pytest.param(sqs_of_lambda(S3), id="SQS record of a Lambda"),
        pytest.param(sqs_of_lambda(BRIDGED), id="EventBridge in an SQS record of a Lambda"),
        pytest.param(sqs_of_lambda(sns(S3)), id="SNS in an SQS record of a Lambda"),
        pytest.param(sns_of_lambda(S3), id="SNS record of a Lambda"),
        pytest.param(
            {"Records": [{"EventSource": "aws:sns", "Sns": without(sns(S3), "TopicArn")}]}, id="without its topic"
        ),
        pytest.param(sns(sqs_of_lambda(sns_of_lambda(S3))), id="a Lambda's after a Lambda's, in SNS"),
        pytest.param(sqs_of_lambda(S3, TEST_EVENT, S3), id="several in a batch"),
        pytest.param(nested(S3, 5), id="five envelopes"),
    ],
)
def test_an_envelope_that_can_be_opened_without_guessing_yields_its_bag(body: dict[str, Any]) -> None:
    delivery = intake.parse(json.dumps(body), source="test", bucket="trial")

    assert [bag.bag_id for bag in delivery.bags] == [intake.parse(json.dumps(S3)).bags[0].bag_id]
    assert delivery.bags[0].key == KEY
    assert not delivery.not_understood


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"Records": [without(RECORD, "eventName")]}, f"the record has no eventName, of s3://trial/{KEY}"),
        ({"Records": [{**RECORD, "eventName": "ObjectAccessed:Get"}]}, "'ObjectAccessed:Get' is no event"),
        ({"Records": [{**RECORD, "eventName": "ObjectRestore:Finished"}]}, "'ObjectRestore:Finished' is no event"),
        ({"Records": [{**RECORD, "eventName": "ObjectCreated"}]}, "'ObjectCreated' is no event"),
        ({"Records": []}, "no event of S3"),
        ({"Records": [TRAIL]}, f"CloudTrail (CompleteMultipartUpload of s3://trial/{KEY}): it tells of a request"),
        ({**BRIDGED, "detail-type": "AWS API Call via CloudTrail", "detail": TRAIL}, f"Upload of s3://trial/{KEY})"),
        ({**BRIDGED, "detail-type": "AWS Service Event via CloudTrail", "detail": 7}, "CloudTrail (of no call)"),
        ({**BRIDGED, "detail-type": "Object Restored"}, "'Object Restored' is no event"),
        ({**BRIDGED, "source": "aws.glacier"}, "no event of S3"),
        (sns_of_lambda({"Records": [TRAIL]}), "CloudTrail"),
        (sqs_of_lambda("hello"), "the body of a record of SQS is not a JSON object"),
        ({"Records": [{"eventSource": "aws:sqs", "body": "hello"}]}, "the body of a record of SQS is not JSON"),
        ({"Records": [{"eventSource": "aws:kinesis"}]}, "(eventSource aws:kinesis) is no event of S3"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": "hello"}]}, "(eventSource aws:sns) is no event of S3"),
        (without(sns(S3), "Message") | {"Message": "hello"}, "what the SNS notification holds is not JSON"),
        (confirmation("SubscriptionConfirmation"), f"SNS asks to confirm the subscription to topic {TOPIC}"),
        (confirmation("UnsubscribeConfirmation"), f"SNS tells that the subscription to topic {TOPIC} has ended"),
        (without(confirmation("SubscriptionConfirmation"), "SubscribeURL"), "SNS asks to confirm the subscription"),
        (sns_of_lambda(confirmation("SubscriptionConfirmation")), "a person has to visit the SubscribeURL"),
        (nested(S3, 6), "more than 5 envelopes"),
        ([BRIDGED], "not a JSON object"),
        ({"Records": [RECORD["s3"]]}, "a record is no event of S3"),
    ],
)
def test_what_is_not_understood_says_what_it_is(body: Any, told: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        intake.parse(json.dumps(body))

    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_is_not_understood_does_not_hold_up_what_lies_beside_it() -> None:
    delivery = intake.parse(json.dumps(sqs_of_lambda("hello", S3, {"Records": [TRAIL]}, TEST_EVENT)))

    assert [bag.work_rid for bag in delivery.bags] == ["W1"]
    assert len(delivery.not_understood) == 2
    assert delivery.ignored == ("S3's test event",)


def test_what_calls_itself_s3_s_test_event_and_has_records_is_read() -> None:
    assert [bag.work_rid for bag in intake.parse(json.dumps({**TEST_EVENT, **S3})).bags] == ["W1"]


def documented() -> Iterator[str]:
    """The events that S3's own description of its API lists; `ObjectRemoved:*` stands for a family of them."""
    model = botocore.session.get_session().get_service_model("s3")
    for name in model.shape_for("Event").metadata["enum"]:
        yield str(name).replace(":*", ":Any")


@pytest.mark.parametrize("name", sorted(set(documented()) - {"s3:ObjectRestore:Any"}))
def test_each_event_that_s3_documents_is_wanted_or_ignored_by_name(name: str) -> None:
    delivery = intake.parse(json.dumps({"Records": [{**RECORD, "eventName": name}]}))

    wanted = name.startswith("s3:ObjectCreated:") or name == "s3:ObjectRestore:Completed"
    assert (len(delivery.bags), len(delivery.ignored)) == ((1, 0) if wanted else (0, 1))


@pytest.mark.parametrize(
    "detail_type",
    [
        "Async Copy Completion",
        "Object ACL Updated",
        "Object Access Tier Changed",
        "Object Deleted",
        "Object Restore Expired",
        "Object Restore Initiated",
        "Object Storage Class Changed",
        "Object Tags Added",
        "Object Tags Deleted",
    ],
)
def test_what_s3_tells_eventbridge_besides_is_ignored_by_name(detail_type: str) -> None:
    delivery = intake.parse(json.dumps({**BRIDGED, "detail-type": detail_type}))

    assert delivery.bags == ()
    assert len(delivery.ignored) == 1


def test_thousands_of_reasons_are_told_in_a_line() -> None:
    with pytest.raises(NotUnderstood) as caught:
        intake.parse(json.dumps({"Records": [without(RECORD, "eventName")] * 4000}))

    assert len(str(caught.value)) < 2000
    assert str(caught.value).endswith("and 3,990 more")


def test_a_message_that_names_a_bag_in_a_way_nobody_knows_is_kept_as_a_dead_letter(site: Site) -> None:
    bodies = [
        {"Records": [without(RECORD, "eventName")]},
        {"Records": [TRAIL]},
        confirmation("SubscriptionConfirmation"),
    ]
    for body in bodies:
        site.send(body)

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    assert site.depth() == 0
    assert sorted(dead["Body"] for dead in site.dead_letters()) == sorted(json.dumps(body) for body in bodies)
    assert lines(ended.stderr, "SubscribeURL", "a person has to visit")
    assert "Token=secret" not in ended.stderr
