"""A queue as a source: its parcels are messages."""

import logging
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline import intake, settings
from pipeline.foundation import failpoints
from pipeline.foundation.errors import DatabaseUnavailable, NotUnderstood, PipelineError
from pipeline.foundation.work import Bag
from pipeline.intake import Delivery, Message, Queue
from pipeline.lanes.bring_home import MOST_AT_ONCE, tried_too_long, verdict_of
from pipeline.lanes.parcel import Outcome, Parcel, Verdict
from pipeline.record import BagRow, overview
from pipeline.tasks.context import Site

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_log = logging.getLogger(__name__)
_EMPTY_POLL_SECONDS = 1  # a short poll asks only some of SQS's servers: an empty answer would prove nothing
_GIVEN_BACK_SECONDS = 10


class QueueSource:
    """A queue, polled.

    Args:
        here: the lane's site.
        source: which queue.
        watch: wait for messages as long as SQS allows, instead of only seeing that there is none.
    """

    def __init__(self, here: Site, source: settings.Source, *, watch: bool) -> None:
        self.name = source.name
        self.waiting = False
        self._here = here
        self._source = source
        self._watch = watch
        self._queue: Queue | None = None

    def receive(self) -> "MessageParcel | None":
        """The next message.

        Raises:
            PipelineError: SQS cannot be reached, or refuses.
        """
        sqs, chosen = self._here.sqs(self._source), self._here.settings
        if self._queue is None:
            self._queue = intake.find_queue(sqs, source=self.name, queue=self._source.queue)
        wait = min(_EMPTY_POLL_SECONDS, chosen.wait_seconds)
        if self._watch:
            # All queues are polled in turn: together they take one long poll's time.
            wait = max(1, chosen.wait_seconds // len(chosen.sources))
        try:
            self.waiting = True
            message = intake.receive(
                sqs,
                self._queue,
                wait_seconds=wait,
                # Short at first, and renewed by the heartbeat: a poll that a stop breaks off may still be answered,
                # and that message then comes back soon.
                visibility_seconds=min(chosen.lease_seconds, int(1.5 * chosen.heartbeat_seconds) + 1),
            )
        finally:
            self.waiting = False
        if message is None:
            return None
        failpoints.point("message received")
        if message.receives > 1:
            _log.info("message %s: delivery number %d", message.message_id, message.receives)
        return MessageParcel(self._here, self._source, message)

    def pause_seconds(self) -> float | None:
        """0 in watch mode, as the poll itself has waited; None otherwise: an empty queue is the end of the run."""
        return 0.0 if self._watch else None


class MessageParcel(Parcel):
    """A message, and what becomes of it."""

    def __init__(self, here: Site, source: settings.Source, message: Message) -> None:
        self.name = f"message {message.message_id}"
        self._here = here
        self._sqs = here.sqs(source)
        self._source = source
        self._message = message
        self._delivery = Delivery(())

    @cached_property
    def again(self) -> str:
        """Why its refused bags are tried once more: it was redriven, which the seal proves that this pipeline gave it.

        Raises:
            DatabaseUnavailable: whether it did cannot be told.
        """
        seal, work_rid = self._message.seal
        known = bool(seal) and self._here.record.is_dead_lettered(work_rid, seal=intake.seal_digest(seal))
        return "its message was sent back from the dead-letter queue" if known else ""

    def open(self) -> Sequence[Bag]:
        """The bags that it announces, without the sizes that it tells: whoever wrote it would reserve the disk.

        Raises:
            NotUnderstood: it is no event of S3.
            DatabaseUnavailable: that it carries nothing could not be recorded.
        """
        self._delivery = intake.parse(self._message.body, source=self._source.name, bucket=self._source.bucket)
        ignored = self._delivery.ignored
        if ignored:
            detail = {"message_id": self._message.message_id, "why": list(ignored)}
            self._here.record.note("intake", "ignored", detail)
            _log.info("message %s: nothing to process: %s", self._message.message_id, intake.listed(ignored))
        bags = deque(replace(bag, size_bytes=0) for bag in self._delivery.bags)
        # Only the first ones have their turn now. Those that tell no ETag are not known to the record either: at each
        # delivery others come first.
        bags.rotate((1 - self._message.receives) * MOST_AT_ONCE)
        return list(bags)

    def extend(self) -> None:
        """Hide it for another lease."""
        intake.hide(self._sqs, self._message, seconds=self._here.settings.lease_seconds)

    def give_back(self) -> None:
        """Let it come back after a delay that grows, from a short one: it is not the message that has failed."""
        seconds = self._here.backoff_seconds(self._message.receives, first=_GIVEN_BACK_SECONDS)
        intake.hide(self._sqs, self._message, seconds=seconds)

    def settle(self, verdicts: Sequence[Verdict]) -> None:
        """Decide what becomes of the message: see docs/intake.md.

        What may still succeed decides first, then what never will; only a message of which everything is done goes.
        """
        open_ones = [v for v in verdicts if v.outcome in {Outcome.TRANSIENT, Outcome.BUSY, Outcome.STOPPED}]
        unknown = next((v for v in open_ones if v.outcome is Outcome.TRANSIENT and not v.bag_id), None)
        permanent = next((v for v in verdicts if v.outcome is Outcome.PERMANENT), None)
        if any(verdict.outcome is Outcome.STOPPED for verdict in verdicts):
            intake.hide(self._sqs, self._message, seconds=0)
        elif unknown is not None and (over := tried_too_long(self._here, self._age_seconds, unknown.reason)):
            # The record knows of no bag that it could give up by itself.
            self._dead_letter(Verdict(unknown.work_rid, "", Outcome.PERMANENT, reason=str(over), kind=over.kind))
        elif open_ones:
            waits = [
                intake.busy_seconds(self._message, lease_seconds=verdict.wait_seconds)
                if verdict.outcome is Outcome.BUSY
                else verdict.wait_seconds
                for verdict in open_ones
            ]
            intake.hide(self._sqs, self._message, seconds=max(waits))
        elif permanent is not None and permanent.work_rid:
            self._dead_letter(permanent)
        elif permanent is not None:
            self._not_understood(permanent)
        elif self._delivery.not_understood:
            error = NotUnderstood(intake.listed(self._delivery.not_understood))
            self._not_understood(verdict_of(self._here, error))
        else:
            intake.acknowledge(self._sqs, self._message)

    def _not_understood(self, verdict: Verdict) -> None:
        detail = {
            "message_id": self._message.message_id,
            "kind": verdict.kind,
            "error": verdict.reason,
            "body": self._message.body[: overview.SAID],
        }
        self._here.record.note("intake", "failed", detail)
        _log.error("message %s: %s", self._message.message_id, verdict.reason)
        self._dead_letter(verdict)

    @property
    def _age_seconds(self) -> float:
        """For how long the message has been in its queue."""
        return self._message.received_at - self._message.sent_at if self._message.sent_at else 0.0

    def _dead_letter(self, verdict: Verdict) -> None:
        message = self._message
        if message.queue.dead_letter_url:
            if not self._here.record.is_dead_lettered(verdict.work_rid, message_id=message.message_id):
                _send_letter(self._here, self._sqs, message, verdict)
            intake.acknowledge(self._sqs, message)
            _log.error("message %s moved to the dead-letter queue: %s", message.message_id, verdict.reason)
        else:
            # Never deleted silently: without a dead-letter queue it stays, and comes back after the longest delay.
            _log.error("message %s stays, its queue has no dead-letter queue: %s", message.message_id, verdict.reason)
            intake.hide(self._sqs, message, seconds=self._here.settings.backoff_limit_seconds)


class TakenUp(Parcel):
    """A bag that the record alone has brought up again; its message may be long gone."""

    def __init__(self, here: Site) -> None:
        self._here = here

    def give_up(self, row: BagRow, error: PipelineError) -> None:
        """Send a dead letter of the bag.

        It is the bag's last word, not its condition: where SQS is out of reach the record says the same.
        """
        source = self._here.settings.source(row.bag.source)
        if source is None:
            return
        name = f"bag-{row.bag.bag_id}-{row.failures}"  # killed after this, the same is found to be sent
        try:
            sqs = self._here.sqs(source)
            queue = intake.find_queue(sqs, source=source.name, queue=source.queue)
            if queue.dead_letter_url and not self._here.record.is_dead_lettered(row.bag.work_rid, message_id=name):
                body, now = intake.body_of(row.bag), datetime.now(UTC).timestamp()
                letter = Message(queue, name, "", body, row.failures, now)
                _send_letter(self._here, sqs, letter, verdict_of(self._here, error, row.bag))
        except DatabaseUnavailable:
            raise
        except PipelineError as refused:
            _log.warning("%s: no dead letter could be sent: %s", row.bag.work_rid, refused)


def _send_letter(here: Site, sqs: "SQSClient", message: Message, verdict: Verdict) -> None:
    seal = secrets.token_hex(16)
    reason = {
        "ErrorKind": verdict.kind,
        "Reason": verdict.reason,
        "WorkRid": verdict.work_rid,
        "BagId": verdict.bag_id,
        "Agent": here.agent,
    }
    detail = {
        "message_id": message.message_id,
        "queue": message.queue.dead_letter_url,
        "seal": intake.seal_digest(seal),  # the record is shown to people; the seal is what only the letter has
        **reason,
    }
    intake.dead_letter(sqs, message, reason={**reason, intake.SEAL: seal})
    here.record.note("intake", "dead-lettered", detail, work_rid=verdict.work_rid, bag_id=verdict.bag_id)
