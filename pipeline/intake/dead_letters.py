"""Dead letters: looked at without being taken away, and sent back to the queue that they came from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.foundation.aws import failures_named
from pipeline.foundation.errors import PipelineError
from pipeline.intake.queue import Message, Queue, attributes_of, hide, message_of, send

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_HIDDEN_SECONDS = 120  # from others who look, in case we cannot give them back


@dataclass(frozen=True)
class DeadLetter:
    """A message in a dead-letter queue.

    Attributes:
        message: as it lies there; its queue is the dead-letter queue.
        attributes: what the pipeline says of it; empty where SQS itself moved it.
    """

    message: Message
    attributes: Mapping[str, str]

    @property
    def since(self) -> datetime:
        """When it came there; of one that SQS moved: when it was first sent."""
        return datetime.fromtimestamp(self.message.sent_at, UTC)


@contextmanager
def dead_letters(sqs: "SQSClient", queue: Queue, *, limit: int = 10_000) -> Iterator[list[DeadLetter]]:
    """The dead letters of a queue, oldest first; while the block runs nobody else sees them, then they are back.

    Killed meanwhile, they are back after two minutes. A dead-letter queue has no redrive of its own, so looking at
    them has no consequence.

    Raises:
        PipelineError: SQS cannot be reached, or refuses.
    """
    found: dict[str, DeadLetter] = {}
    try:
        while len(found) < limit and (batch := _receive(sqs, queue)):
            found.update((letter.message.message_id, letter) for letter in batch)
        yield sorted(found.values(), key=lambda letter: letter.since)
    finally:
        for letter in found.values():
            with suppress(PipelineError):  # it was sent on and deleted; or it comes back by itself
                hide(sqs, letter.message, seconds=0)


def _receive(sqs: "SQSClient", queue: Queue) -> list[DeadLetter]:
    now = datetime.now(UTC).timestamp()
    with failures_named(f"dead letters of source {queue.source}"):
        answer = sqs.receive_message(
            QueueUrl=queue.dead_letter_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,  # a short poll asks only some of SQS's servers
            VisibilityTimeout=_HIDDEN_SECONDS,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=["All"],
        )
    dead = Queue(queue.source, queue.dead_letter_url, "", 0)
    return [
        DeadLetter(message_of(dead, told, received_at=now), attributes_of(told)) for told in answer.get("Messages", [])
    ]


def send_back(sqs: "SQSClient", queue: Queue, letter: DeadLetter) -> None:
    """Send a dead letter to the queue that it came from.

    It is not deleted here: the caller records that it was sent, then acknowledges it among the dead letters. Killed
    in between it is in both queues, which is harmless: a work that is home is not brought home again.

    Raises:
        PipelineError: SQS cannot be reached, or refuses; it is where it was.
    """
    with failures_named(f"sending message {letter.message.message_id} back"):
        send(sqs, queue.url, letter.message, letter.attributes)
