"""Messages in, bags out: every form of event, and what becomes of a message."""

import json
import time
from datetime import UTC, datetime

import pytest

from pipeline import intake
from pipeline.foundation.errors import NotUnderstood, StorageUnreachable
from tests.world.stack import EVENTS, Site

NLM = ("glacier.staging.nlm.bdrc.org", "Archive0/00/W1NLM4700/W1NLM4700.bag.zip")
FPL = ("glacier.staging.nlm.bdrc.org", "Archive1/51/W1FPL2251/W1FPL2251.bag.zip")


def event(name: str) -> str:
    return (EVENTS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("restore-completed.json", [NLM]),
        ("created-multipart.json", [("manifest.bdrc.org", "ao1060/W1FPL2251.bag.zip")]),
        ("created-put-encoded-key.json", [("manifest.bdrc.org", "ao1060/བཀྲ W1FPL2252.bag.zip")]),
        ("many-records.json", [NLM, FPL]),
        ("sns-wrapped.json", [NLM]),
        ("eventbridge.json", [NLM]),
    ],
)
def test_each_wanted_record_is_one_bag_under_its_decoded_key(name: str, where: list[tuple[str, str]]) -> None:
    delivery = intake.parse(event(name), source="test")

    assert [(bag.bucket, bag.key) for bag in delivery.bags] == where
    assert {bag.source for bag in delivery.bags} == {"test"}


@pytest.mark.parametrize(
    "name", ["restore-initiated.json", "restore-expired.json", "test-event.json", "not-a-bag.json"]
)
def test_what_asks_for_nothing_is_no_bag_and_says_why(name: str) -> None:
    delivery = intake.parse(event(name))

    assert delivery.bags == ()
    assert delivery.ignored
    assert not delivery.not_understood


@pytest.mark.parametrize("name", ["malformed.txt", "missing-fields.json"])
def test_what_is_not_understood_is_an_error_never_nothing_to_do(name: str) -> None:
    with pytest.raises(NotUnderstood):
        intake.parse(event(name))


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '"text"', "{}", '{"Records": 1}', "[" * 100_000, '{"Records": [7]}']
)
def test_other_people_s_messages_are_not_understood_and_break_nothing(body: str) -> None:
    with pytest.raises(NotUnderstood):
        intake.parse(body)


def test_a_restore_tells_size_etag_time_and_expiry() -> None:
    (bag,) = intake.parse(event("restore-completed.json")).bags

    assert bag.work_rid == "W1NLM4700"
    assert bag.size_bytes == 17017201852
    assert bag.etag == "41654cbd2a8f2d3c0abc83444fde825b-2029"
    assert bag.event_time == datetime(2024, 4, 6, 0, 11, 23, 730000, UTC)
    assert bag.restore_expires_on == datetime(2024, 4, 12, tzinfo=UTC)


def test_the_same_bytes_are_the_same_bag_in_whatever_envelope() -> None:
    names = ["restore-completed.json", "sns-wrapped.json", "eventbridge.json"]

    assert len({intake.parse(event(name)).bags[0].bag_id for name in names}) == 1


def test_the_same_object_twice_in_a_message_is_one_bag() -> None:
    record = json.loads(event("restore-completed.json"))["Records"][0]

    assert len(intake.parse(json.dumps({"Records": [record, record]})).bags) == 1


@pytest.mark.parametrize(
    "key", ["..%2F..%2Fetc.bag.zip", "a/-rf.bag.zip", "a/.bag.zip", "a/W1%0A.bag.zip", "%FF.bag.zip"]
)
def test_a_key_without_a_rid_is_not_understood_but_does_not_hold_up_the_others(key: str) -> None:
    records = json.loads(event("many-records.json"))["Records"]
    records[0]["s3"]["object"]["key"] = key

    delivery = intake.parse(json.dumps({"Records": records}))

    assert [bag.work_rid for bag in delivery.bags] in (["W1FPL2251"], ["etc", "W1FPL2251"])
    assert bool(delivery.not_understood) is (len(delivery.bags) == 1)


def changed(**values: object) -> str:
    """An event in which S3 tells something else; names as in `object_key`."""
    (record,) = json.loads(event("restore-completed.json"))["Records"]
    for name, value in values.items():
        parent, _, last = name.rpartition("_")
        (record["s3"][parent] if parent else record)[last] = value
    return json.dumps({"Records": [record]})


@pytest.mark.parametrize(
    "values",
    [
        {"object_key": "a/W1.\ud800.bag.zip"},
        {"object_key": "a/W1.%00.bag.zip"},
        {"object_key": "a/" * 512 + "W1.bag.zip"},
        {"object_eTag": "a\r\nX-Header: 1"},
        {"object_eTag": "a" * 256},
        {"object_versionId": "\ud800"},
        {"object_size": 10**30},
        {"bucket_name": "../../b?x#y"},
        {"eventName": "\x1b[2J\ud800"},
    ],
)
def test_what_neither_s3_nor_a_database_would_take_is_not_understood(values: dict[str, object]) -> None:
    with pytest.raises(NotUnderstood) as caught:
        intake.parse(changed(**values))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z", "soon"])
def test_a_time_that_no_database_has_is_left_out(moment: str) -> None:
    (bag,) = intake.parse(changed(eventTime=moment)).bags
    assert bag.event_time is None


def test_what_is_ignored_is_told_without_what_a_terminal_would_obey() -> None:
    (why,) = intake.parse(changed(object_key="\x1b]0;owned\x07\u202e")).ignored
    assert why.isprintable()


def test_a_bag_in_another_bucket_than_the_source_s_is_not_brought_home() -> None:
    """Whoever can put a message into the queue must not choose what is archived."""
    body = changed()
    assert intake.parse(body, source="nlm", bucket=NLM[0]).bags
    with pytest.raises(NotUnderstood, match="source fpl is of the bucket"):
        intake.parse(body, source="fpl", bucket="glacier.staging.fpl.bdrc.org")


def test_a_record_without_an_etag_still_names_a_bag_which_is_then_asked_of_s3() -> None:
    body = {
        "Records": [
            {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "x/W1.bag.zip"}}}
        ]
    }

    (bag,) = intake.parse(json.dumps(body)).bags

    assert (bag.bucket, bag.key, bag.etag) == ("b", "x/W1.bag.zip", "")


def test_the_delay_doubles_up_to_its_limit_with_jitter() -> None:
    delays = [[intake.backoff_seconds(n, first=60, limit=3600) for _ in range(50)] for n in (1, 2, 3, 20, 10_000)]

    for drawn, full in zip(delays, (60, 120, 240, 3600, 3600), strict=True):
        assert full * 0.75 - 1 <= min(drawn) < max(drawn) <= full


def test_a_message_is_hidden_and_comes_back_with_its_count(site: Site) -> None:
    queue = intake.find_queue(site.sqs, source="test", queue=site.queue)
    site.send("hello")

    first = intake.receive(site.sqs, queue, wait_seconds=1, visibility_seconds=30)
    assert first is not None
    assert intake.receive(site.sqs, queue, wait_seconds=0, visibility_seconds=30) is None
    intake.hide(site.sqs, first, seconds=0)
    again = intake.receive(site.sqs, queue, wait_seconds=1, visibility_seconds=30)

    assert again is not None
    assert (again.body, again.receives) == ("hello", 2)


def test_no_message_is_hidden_beyond_the_12_hours_that_sqs_allows(site: Site) -> None:
    queue = intake.find_queue(site.sqs, source="test", queue=site.queue)
    site.send("hello")
    message = intake.receive(site.sqs, queue, wait_seconds=1, visibility_seconds=30)
    assert message is not None

    intake.hide(site.sqs, message, seconds=10**9)  # SQS itself would refuse more than 43,200

    assert site.hidden() == 1


def test_a_dead_letter_keeps_its_body_and_says_why(site: Site) -> None:
    queue = intake.find_queue(site.sqs, source="test", queue=site.queue)
    site.send("poison")
    message = intake.receive(site.sqs, queue, wait_seconds=1, visibility_seconds=30)
    assert message is not None

    intake.dead_letter(site.sqs, message, reason={"Reason": "bad\x00 \ufffe" + "x" * 20_000, "Empty": ""})

    assert site.depth() == 1  # deleted only when it is recorded that it was sent
    (dead,) = site.dead_letters()
    assert dead["Body"] == "poison"
    assert dead["MessageAttributes"]["Reason"]["StringValue"].startswith("bad\ufffd \ufffdxxx")
    assert "Empty" not in dead["MessageAttributes"]


def test_a_queue_tells_its_dead_letter_queue_and_one_without_tells_none(site: Site) -> None:
    alone = site.sqs.create_queue(QueueName=f"{site.queue}-alone")["QueueUrl"]

    assert intake.find_queue(site.sqs, source="test", queue=site.queue).dead_letter_url == site.dead_url
    assert intake.find_queue(site.sqs, source="test", queue=site.queue).max_receives == 5
    assert intake.find_queue(site.sqs, source="test", queue=alone).dead_letter_url == ""


@pytest.mark.parametrize(
    ("receives", "seconds"), [(1, 300), (2, 600), (3, 1200), (4, 43_200), (5, 43_200), (100, 43_200)]
)
def test_the_last_deliveries_of_a_busy_work_are_put_off_as_long_as_sqs_allows(receives: int, seconds: int) -> None:
    queue = intake.Queue("test", "url", "dead", max_receives=5)
    message = intake.Message(queue, "id", "handle", "", receives=receives, received_at=0)

    assert intake.busy_seconds(message, lease_seconds=300) == seconds


def test_a_queue_that_is_not_there_is_a_named_failure(site: Site) -> None:
    with pytest.raises(StorageUnreachable, match=f"{site.queue}-nowhere"):
        intake.find_queue(site.sqs, source="test", queue=f"{site.queue}-nowhere")


def test_an_empty_queue_is_waited_for_as_long_as_asked(site: Site) -> None:
    queue = intake.find_queue(site.sqs, source="test", queue=site.queue)
    started = time.monotonic()

    assert intake.receive(site.sqs, queue, wait_seconds=1, visibility_seconds=30) is None

    assert time.monotonic() - started >= 0.9
