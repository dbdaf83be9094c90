"""A queue as a source: its parcels are messages."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace

from pipeline import plug, settings
from pipeline.errors import NotUnderstood
from pipeline.site import Site
from pipeline.steps import intake
from pipeline.steps.intake import Delivery, Message, Queue
from pipeline.steps.record import views
from pipeline.verdicts import Outcome, Verdict
from pipeline.work import Bag

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
        plug.point("message received")
        if message.receives > 1:
            _log.info("message %s: delivery number %d", message.message_id, message.receives)
        return MessageParcel(self._here, self._source, message)

    def pause_seconds(self) -> float | None:
        """None: in watch mode the poll itself has waited, otherwise an empty queue is the end of the run."""
        return 0.0 if self._watch else None


class MessageParcel:
    """A message, and what becomes of it."""

    def __init__(self, here: Site, source: settings.Source, message: Message) -> None:
        self.name = f"message {message.message_id}"
        self._here = here
        self._sqs = here.sqs(source)
        self._source = source
        self._message = message
        self._delivery = Delivery(())

    @property
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
        return [replace(bag, size_bytes=0) for bag in self._delivery.bags]

    def extend(self) -> None:
        """Hide it for another lease."""
        intake.hide(self._sqs, self._message, seconds=self._here.settings.lease_seconds)

    def give_back(self) -> None:
        """Let it come back after a delay that grows, from a short one: it is not the message that has failed."""
        chosen = self._here.settings
        seconds = intake.backoff_seconds(
            self._message.receives,
            first=min(chosen.backoff_seconds, _GIVEN_BACK_SECONDS),
            limit=chosen.backoff_limit_seconds,
        )
        intake.hide(self._sqs, self._message, seconds=seconds)

    def settle(self, verdicts: Sequence[Verdict]) -> None:
        """Decide what becomes of the message: see the table in the README's section on settling.

        What may still succeed decides first, then what never will; only a message of which everything is done goes.
        """
        open_ones = [v for v in verdicts if v.outcome in {Outcome.TRANSIENT, Outcome.BUSY, Outcome.STOPPED}]
        permanent = next((v for v in verdicts if v.outcome is Outcome.PERMANENT), None)
        if any(verdict.outcome is Outcome.STOPPED for verdict in verdicts):
            intake.hide(self._sqs, self._message, seconds=0)
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
            self._not_understood(Verdict("", "", Outcome.PERMANENT, reason=str(error), kind=error.kind))
        else:
            intake.acknowledge(self._sqs, self._message)

    def _not_understood(self, verdict: Verdict) -> None:
        detail = {
            "message_id": self._message.message_id,
            "kind": verdict.kind,
            "error": verdict.reason,
            "body": self._message.body[: views.SAID],
        }
        self._here.record.note("intake", "failed", detail)
        _log.error("message %s: %s", self._message.message_id, verdict.reason)
        self._dead_letter(verdict)

    def _dead_letter(self, verdict: Verdict) -> None:
        record, message = self._here.record, self._message
        reason = {
            "ErrorKind": verdict.kind,
            "Reason": verdict.reason,
            "WorkRid": verdict.work_rid,
            "BagId": verdict.bag_id,
            "Agent": self._here.agent,
        }
        seal = secrets.token_hex(16)
        detail = {
            "message_id": message.message_id,
            "queue": message.queue.dead_letter_url,
            "seal": intake.seal_digest(seal),  # the record is shown to people; the seal is what only the letter has
            **reason,
        }
        if message.queue.dead_letter_url:
            if not record.is_dead_lettered(verdict.work_rid, message_id=message.message_id):
                intake.dead_letter(self._sqs, message, reason={**reason, intake.SEAL: seal})
                record.note("intake", "dead-lettered", detail, work_rid=verdict.work_rid, bag_id=verdict.bag_id)
            intake.acknowledge(self._sqs, message)
            _log.error("message %s moved to the dead-letter queue: %s", message.message_id, verdict.reason)
        else:
            # Never deleted silently: without a dead-letter queue it stays, and comes back after the longest delay.
            _log.error("message %s stays, its queue has no dead-letter queue: %s", message.message_id, verdict.reason)
            intake.hide(self._sqs, message, seconds=self._here.settings.backoff_limit_seconds)
