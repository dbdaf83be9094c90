"""Messages of SQS: received, hidden, acknowledged, sent to the dead letters.

Every function that asks SQS raises a PipelineError, by its name, where SQS cannot be reached, or refuses.
"""

import hashlib
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

from pipeline.foundation import failpoints
from pipeline.foundation.aws import failures_named

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_LONGEST_DELAY_SECONDS = 43_200
_CALL_SECONDS = 30  # a call that is repeated arrives late, and SQS refuses what ends beyond its 12 hours
SEAL = "Seal"
"""The message attribute by which a redriven dead letter is known again: nobody else can know what it holds."""
SEALED_WORK = "WorkRid"


class _Terms(TypedDict, total=False):
    MessageGroupId: str
    MessageDeduplicationId: str


@dataclass(frozen=True)
class Queue:
    """A queue from which messages are taken, with its dead-letter queue.

    Attributes:
        source: the name of the source.
        url: the queue's URL.
        dead_letter_url: the dead-letter queue's URL; empty when the queue has no redrive policy.
        max_receives: after so many receives SQS itself moves a message there; 0 without a redrive policy.
    """

    source: str
    url: str
    dead_letter_url: str
    max_receives: int

    @property
    def odd_pair(self) -> str:
        """How queue and dead-letter queue differ in kind, which SQS does not serve; empty where they do not."""
        if not self.dead_letter_url or is_fifo(self.url) == is_fifo(self.dead_letter_url):
            return ""
        return "is FIFO, its dead-letter queue is not" if is_fifo(self.url) else "is not FIFO, its dead-letter queue is"


@dataclass(frozen=True)
class Message:
    """A message as SQS delivered it.

    Attributes:
        receives: how often SQS has delivered it, this time included.
        received_at: by the local clock, in seconds since the epoch; SQS counts its 12 hours from then.
        sent_at: by SQS's clock, in seconds since the epoch; 0 where SQS did not say.
        seal: the seal of a dead letter of this pipeline, and its work's RID; empty for other messages. Whoever can send
            messages can make one up, so the record keeps those that were given.
    """

    queue: Queue
    message_id: str
    receipt_handle: str
    body: str
    receives: int
    received_at: float
    sent_at: float = 0.0
    seal: tuple[str, str] = ("", "")


def is_fifo(url: str) -> bool:
    """Whether a queue is FIFO, which its name says (SQS API Reference, CreateQueue)."""
    return url.endswith(".fifo")


def _sending_terms(url: str, identity: str) -> "_Terms":
    """What SendMessage needs besides, where the queue is FIFO (SQS API Reference, SendMessage).

    Args:
        url: of the queue that is sent to.
        identity: of the message that is sent on. If it is sent twice within five minutes, it arrives once. Each message
            is a group of its own, so one that waits holds up no other.
    """
    return {"MessageGroupId": identity, "MessageDeduplicationId": identity} if is_fifo(url) else {}


def find_queue(sqs: "SQSClient", *, source: str, queue: str) -> Queue:
    """Look a queue up by name (or URL), with its dead-letter queue.

    Raises:
        PipelineError: SQS cannot be reached, refuses, or has no such queue.
    """
    with failures_named(f"queue {queue} of source {source}"):
        url = queue if "://" in queue else sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"]).get("Attributes", {})
        policy = json.loads(attributes.get("RedrivePolicy", "{}"))
        arn = str(policy.get("deadLetterTargetArn", ""))
        dead_letter_url = ""
        if arn:
            *_, account, name = arn.split(":")
            dead_letter_url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
    return Queue(source, url, dead_letter_url, int(policy.get("maxReceiveCount", 0)))


def busy_seconds(message: Message, *, lease_seconds: int) -> int:
    """For how long to hide a message whose work another lane has: until that lane's lease is over, or longer.

    Every delivery counts towards the queue's redrive, also one that only finds the work busy. So the delays double,
    and the last deliveries that the queue allows are put off by SQS's longest delay: a healthy work's duplicate
    outlives the work instead of ending in the dead-letter queue.
    """
    if message.queue.max_receives and message.receives >= message.queue.max_receives - 1:
        return _LONGEST_DELAY_SECONDS
    return min(_LONGEST_DELAY_SECONDS, lease_seconds << min(message.receives - 1, 16))


def depth(sqs: "SQSClient", url: str) -> dict[str, int]:
    """How many messages wait in a queue, are in flight, and are delayed; approximate, as SQS tells it."""
    names = {
        "waiting": "ApproximateNumberOfMessages",
        "in_flight": "ApproximateNumberOfMessagesNotVisible",
        "delayed": "ApproximateNumberOfMessagesDelayed",
    }
    with failures_named(f"queue {url}"):
        told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    numbers = {str(name): value for name, value in told.items()}
    return {name: int(numbers.get(attribute, "0")) for name, attribute in names.items()}


def receive(sqs: "SQSClient", queue: Queue, *, wait_seconds: int, visibility_seconds: int) -> Message | None:
    """The next message, waiting up to `wait_seconds` for one; hidden from others for `visibility_seconds`."""
    now = datetime.now(UTC).timestamp()
    with failures_named(f"receive from {queue.url}"):
        answer = sqs.receive_message(
            QueueUrl=queue.url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=visibility_seconds,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=[SEAL, SEALED_WORK],
        )
    for message in answer.get("Messages", []):
        return message_of(queue, message, received_at=now)
    return None


def message_of(queue: Queue, told: "MessageTypeDef", *, received_at: float) -> Message:
    """A message that was received, with its system attributes."""
    attributes, system = attributes_of(told), told.get("Attributes", {})
    return Message(
        queue=queue,
        message_id=told.get("MessageId", ""),
        receipt_handle=told["ReceiptHandle"],
        body=told.get("Body", ""),
        receives=int(system.get("ApproximateReceiveCount", "1")),
        received_at=received_at,
        sent_at=int(system.get("SentTimestamp", "0")) / 1000,
        seal=(attributes.get(SEAL, ""), attributes.get(SEALED_WORK, "")),
    )


def attributes_of(told: "MessageTypeDef") -> dict[str, str]:
    """The texts among the attributes that whoever sent a message gave it."""
    return {name: value.get("StringValue", "") for name, value in told.get("MessageAttributes", {}).items()}


def acknowledge(sqs: "SQSClient", message: Message) -> None:
    """Delete a message: everything that it carries is done, and recorded.

    Raises:
        PipelineError: SQS cannot be reached, or refuses; the message comes back, which is harmless.
    """
    failpoints.before(failpoints.Act.ACKNOWLEDGE)
    with failures_named(f"delete of message {message.message_id}"):
        sqs.delete_message(QueueUrl=message.queue.url, ReceiptHandle=message.receipt_handle)
    failpoints.after(failpoints.Act.ACKNOWLEDGE)


def hide(sqs: "SQSClient", message: Message, *, seconds: int) -> None:
    """Let a message be delivered again after so many seconds, 0 for at once; never beyond SQS's 12 hours.

    Raises:
        PipelineError: SQS cannot be reached, or refuses; the message then comes back when its time is over.
    """
    age = datetime.now(UTC).timestamp() - message.received_at
    most = max(0, int(_LONGEST_DELAY_SECONDS - age) - _CALL_SECONDS)
    with failures_named(f"visibility of message {message.message_id}"):
        sqs.change_message_visibility(
            QueueUrl=message.queue.url,
            ReceiptHandle=message.receipt_handle,
            VisibilityTimeout=min(seconds, most),
        )


def dead_letter(sqs: "SQSClient", message: Message, *, reason: Mapping[str, str]) -> None:
    """Send a message to its dead-letter queue: the body as it was, the reason as message attributes.

    It is not deleted here: the caller records that it was sent, then acknowledges it. So it is never lost, and sent
    twice only if the process is killed between sending and recording.
    """
    attributes = {"MessageId": message.message_id, "Source": message.queue.source, **reason}
    clean = {name: _sendable(value) for name, value in attributes.items()}
    with failures_named(f"dead-lettering of message {message.message_id}"):
        send(sqs, message.queue.dead_letter_url, message, clean)


def send(sqs: "SQSClient", url: str, message: Message, attributes: Mapping[str, str]) -> None:
    """Send what a message says on to another queue."""
    failpoints.before(failpoints.Act.SEND)
    sqs.send_message(
        QueueUrl=url,
        MessageBody=message.body,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
        },
        **_sending_terms(url, message.message_id),
    )
    failpoints.after(failpoints.Act.SEND)


def seal_digest(seal: str) -> str:
    """What the record keeps of a seal: people may read the record, and only the letter is to hold the seal itself."""
    return hashlib.sha256(seal.encode("utf-8", "replace")).hexdigest()


def backoff_seconds(failures: int, *, first: float, limit: int) -> int:
    """Seconds to wait after the n-th failure: doubling from `first` to `limit`, less up to a quarter at random.

    The jitter keeps works that failed together from coming back together.
    """
    delay: float = min(limit, first * 2 ** min(max(failures, 1) - 1, 30))
    return math.ceil(delay * random.uniform(0.75, 1.0))  # noqa: S311  # no secret


def _sendable(text: str) -> str:
    """What SQS allows in an attribute: no control characters, and short, since they count into the message's size."""
    clean = "".join(
        char if char in "\t\n\r" or (char >= " " and char not in "\ufffe\uffff") else "\ufffd" for char in text
    )
    return clean.encode("utf-8", "replace")[:8000].decode("utf-8", "ignore")
