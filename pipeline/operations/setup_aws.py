"""What `setup-aws` would change on AWS, how it does it, and how `check` knows what drifted.

Two that set up one bucket at the same time: what is there is looked at once more right before it is replaced, and
S3 knows no condition for that. So a change of the same seconds may be lost; `check` and the next set-up tell.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.foundation import aws
from pipeline.foundation.errors import PipelineError
from pipeline.operations.aws_events import LifecyclePart, NotificationPart, RulePart
from pipeline.operations.aws_parts import Part, QueuePart, State, TopicPart, also_allowed, found
from pipeline.settings import Replica, Source
from pipeline.settings.rights import Arns


@dataclass(frozen=True)
class Change:
    """A part that is not as it is to be."""

    part: Part
    was: State | None
    target: State | None

    @property
    def names(self) -> str:
        """The part, with what of it differs, in a few words."""
        if self.was is None or self.target is None:
            return f"{self.part.name} is {'not ' if self.was is None else ''}there"
        was, target = self.was, self.target
        names = [name for name in {**was, **target} if was.get(name) != target.get(name)]
        return f"{self.part.name}: {', '.join(names)}"

    def lines(self) -> Iterator[str]:
        """What would be changed, as a diff."""
        would = {(True, False): "would be made", (False, True): "would be deleted"}
        yield f"{self.part.name} {would.get((self.was is None, self.target is None), 'would be changed')}"
        if self.target is None:
            return
        was, target = list(_flat(self.was)), list(_flat(self.target))
        yield from (f"  - {line}" for line in was if line not in target)
        yield from (f"  + {line}" for line in target if line not in was)


def _flat(value: Any, name: str = "") -> Iterator[str]:
    """A state as lines: one a value, and one an element of a list."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(one, f"{name}.{key}".removeprefix(".")) if one != {} else [f"{name}.{key}".lstrip(".")]
    elif isinstance(value, list):
        yield from (f"{name} {json.dumps(one, sort_keys=True)}" for one in value)
    elif value is not None:
        yield f"{name} {value if isinstance(value, str) else json.dumps(value)}"


class Parts:
    """What is set up together.

    Args:
        name: of the source, or the replica.
        parts: in the order in which they are made.
    """

    def __init__(self, name: str, parts: list[Part]) -> None:
        self.name, self.parts = name, parts

    def changes(self) -> list[Change]:
        """What is not as it is to be, in the order in which it has to be made.

        Raises:
            PipelineError: AWS refuses to tell; or something of somebody else's is in the way.
        """
        looked = [(part, part.look()) for part in self.parts]
        told = [Change(part, was, part.wanted(was)) for part, was in looked]
        return [change for change in told if change.was != change.target]

    def removals(self, *, losing_messages: bool) -> list[Change]:
        """What was made here, in the order in which it has to go.

        Raises:
            PipelineError: AWS refuses to tell; or a queue that would be deleted holds messages.
        """
        looked = [(part, was) for part in reversed(self.parts) if (was := part.look()) is not None]
        told = [Change(part, was, part.without(was)) for part, was in looked]
        for change in told:
            if isinstance(change.part, QueuePart) and change.target is None:
                change.part.losing_messages = losing_messages
                change.part.see_empty()
        return [change for change in told if change.was != change.target]

    def notes(self) -> Iterable[str]:
        """What a person should know besides."""
        return ()


def of_replica(replica: Replica, *, profile: str = "") -> Parts:
    """The set-up of a bucket of second copies: uploads that never end are let go of.

    Raises:
        PipelineError: S3 cannot be reached.
    """
    s3 = aws.s3_client(region=replica.region, profile=profile or replica.profile, endpoint_url=replica.endpoint_url)
    return Parts(replica.name, [LifecyclePart(s3, replica)])


class SetUp(Parts):
    """The set-up of one source.

    Args:
        source: the source.
        lease_seconds: for how long its messages are hidden.
        profile: whose credentials are used; empty: the source's.

    Raises:
        PipelineError: AWS cannot be reached, or refuses; the queue is another account's.
    """

    def __init__(self, source: Source, *, lease_seconds: int, profile: str = "") -> None:
        profile = profile or source.profile
        client = partial(aws.client, region=source.region, profile=profile, endpoint_url=source.endpoint_url)
        sqs, what, self.source = client("sqs"), f"queue {source.queue_name}", source
        told = found(sqs.get_queue_url, what, QueueName=source.queue_name)
        with aws.failures_named(f"account of source {source.name}"):
            if told:
                names = ["QueueArn", "RedrivePolicy"]
                told = sqs.get_queue_attributes(QueueUrl=told["QueueUrl"], AttributeNames=names)["Attributes"]
            arn = told["QueueArn"] if told else client("sts").get_caller_identity()["Arn"]
        _, partition, _, _, account, *_ = arn.split(":")
        if "://" in source.queue and source.queue.rstrip("/").split("/")[-2] != account:
            raise PipelineError(
                f"{source.queue} of [source {source.name}] is not of account {account}",
                kept="nothing was changed",
                by_hand="look at queue and profile of that source",
            )
        redrive = json.loads((told or {}).get("RedrivePolicy") or "{}")  # a queue keeps its own dead-letter queue
        dead_letters = redrive.get("deadLetterTargetArn", "").rpartition(":")[2]
        self.arns = Arns(source, account, dead_letters, partition)
        made = partial(QueuePart, sqs, self.arns, lease_seconds=lease_seconds)
        self._queue = made()
        parts: list[Part] = [made(dead=True), self._queue]
        if source.topic:
            parts.append(TopicPart(client("sns"), self.arns))
        if source.is_fifo:
            parts.append(RulePart(client("events"), self.arns))
        super().__init__(source.name, [*parts, NotificationPart(client("s3"), self.arns)])

    def notes(self) -> Iterator[str]:
        """What a person should know besides."""
        queue = self._queue
        for name in also_allowed((queue.look() or {}).get("Policy")):
            yield f"{queue.name}: statement {name} of its policy, which is not ours, lets others use it; it stays"
        if self.source.is_fifo:
            yield f"{queue.name} is FIFO: EventBridge sends it one group, so one message is at work at a time"


def carry_out(changes: list[Change], say: Callable[[str], object]) -> None:
    """Make the changes, each only if what it changes is still as it was shown.

    Raises:
        PipelineError: AWS refuses, or somebody changed something meanwhile.
    """
    kept, again = "what was done before stays", "try again: it begins where this one ended"
    for change in changes:
        if change.part.look() != change.was:
            raise PipelineError(f"{change.part.name} changed since it was shown", kept=kept, by_hand=again)
        try:
            change.part.put(change.was, change.target)
        except PipelineError as error:
            error.kept, error.by_hand = error.kept or kept, error.by_hand or again
            raise
        say(f"{change.part.name}: done")
