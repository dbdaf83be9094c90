"""Dead letters with what has become of the works that they announce; and letting them go."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pipeline import intake
from pipeline.foundation.errors import NotUnderstood
from pipeline.foundation.work import Bag
from pipeline.intake import DeadLetter, Queue
from pipeline.operations import repair
from pipeline.record import SUPERSEDED, BagState, superseded
from pipeline.settings import Source
from pipeline.tasks.context import Site


@dataclass(frozen=True)
class Letter:
    """A dead letter, the queue it came from, the bags that it announces, and what has become of those by now."""

    source: Source
    queue: Queue
    letter: DeadLetter
    bags: tuple[Bag, ...]
    states: tuple[str, ...]

    @property
    def message_id(self) -> str:
        """Its identity among the dead letters."""
        return self.letter.message.message_id

    def is_called(self, beginning: str) -> bool:
        """Whether its identity begins so; or that of the message it was, under which logs and record tell of it."""
        return any(known.startswith(beginning) for known in (self.message_id, self.was_message))

    @property
    def was_message(self) -> str:
        """The identity that it had in its queue; empty where SQS moved it, and it has that identity still."""
        return self.letter.attributes.get("MessageId", "")

    @property
    def works(self) -> list[str]:
        """The works that it announces."""
        return [bag.work_rid for bag in self.bags]

    @property
    def is_over(self) -> bool:
        """Whether none of its bags needs it any more: each is home, or was brought home by a later one."""
        return bool(self.states) and {*self.states} <= {BagState.DONE, SUPERSEDED}

    @property
    def carries(self) -> str:
        """Its works, for people."""
        return ", ".join(self.works) or "a message that was not understood"


def lying(here: Site, stack: ExitStack) -> Iterator[Letter]:
    """The dead letters of every source; until the stack is closed nobody else sees them.

    Raises:
        PipelineError: a queue is out of reach.
    """
    over = superseded(here.engine)
    for source in here.settings.sources:
        sqs = here.sqs(source)
        queue = intake.find_queue(sqs, source=source.name, queue=source.queue)
        if not queue.dead_letter_url:
            continue
        for letter in stack.enter_context(intake.dead_letters(sqs, queue)):
            try:
                bags = intake.parse(letter.message.body, source=source.name, bucket=source.bucket).bags
            except NotUnderstood:
                bags = ()
            yield Letter(source, queue, letter, bags, tuple(_state(here, bag, over) for bag in bags))


def _state(here: Site, bag: Bag, over: Collection[str]) -> str:
    row = here.record.bag(bag.bag_id) if bag.etag or bag.version_id else None
    if row is None:
        return "not known"
    return SUPERSEDED if bag.bag_id in over else str(row.state)


def note(here: Site, one: Letter, outcome: str, more: Mapping[str, Any]) -> None:
    """Put what an operator did to a letter into the story of each work that it announces."""
    facts = {"message_id": one.message_id, "queue": one.queue.url, "works": one.works, "by": repair.operator(), **more}
    for bag in one.bags:
        known = bag.bag_id if bag.etag or bag.version_id else ""
        here.record.note("intake", outcome, facts, work_rid=bag.work_rid, bag_id=known)
    if not one.bags:
        here.record.note("intake", outcome, facts)


def drop(here: Site, one: Letter) -> None:
    """Delete a letter, once all that it said is in the record: killed in between it is still there.

    Raises:
        PipelineError: its queue is out of reach.
    """
    note(here, one, "dropped", {"body": one.letter.message.body, "attributes": dict(one.letter.attributes)})
    intake.acknowledge(here.sqs(one.source), one.letter.message)
