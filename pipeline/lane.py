"""One lane: receive a message -> build -> settle the message; and again."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline import plug, staging
from pipeline.errors import DatabaseUnavailable, NotUnderstood, PipelineError, SchedulerUnreachable
from pipeline.settings import Source
from pipeline.site import Site
from pipeline.steps import intake
from pipeline.steps.intake import Delivery, Message, Queue
from pipeline.steps.record import BagState, views
from pipeline.verdicts import Outcome, Verdict, bring_home, scheduler_paused

_log = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 10.0
_EMPTY_POLL_SECONDS = 1  # a short poll asks only some of SQS's servers: an empty answer would prove nothing


class _StopReceiving(BaseException):
    """Raised by the signal handler while the lane waits for a message, so that it need not wait the poll out."""


@dataclass
class Tally:
    """What a lane has done; `unreachable` says that it ended because something it depends on is."""

    done: int = 0
    failed: int = 0
    busy: int = 0
    unreachable: str = ""

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """Add the verdicts on one message."""
        for verdict in verdicts:
            if verdict.outcome is Outcome.DONE:
                self.done += 1
            elif verdict.outcome in {Outcome.TRANSIENT, Outcome.PERMANENT}:
                self.failed += 1
            elif verdict.outcome is Outcome.BUSY:
                self.busy += 1


@dataclass
class Lane:
    """A lane.

    Args:
        here: its site.
        watch: go on for ever, instead of until the sources are empty.
        local_scheduler: without luigid.
        on_change: told after every message, for whoever counts.
    """

    here: Site
    watch: bool = False
    local_scheduler: bool = False
    on_change: Callable[[Tally], None] = lambda _tally: None
    tally: Tally = field(default_factory=Tally)
    _queues: dict[str, Queue] = field(default_factory=dict)
    _receiving: bool = False
    _looked: float = 0.0
    _swept: float = field(default_factory=time.monotonic)

    def stop(self) -> None:
        """Called by a signal handler: end at the next safe point; at once when only waiting for a message."""
        self.here.stopping.set()
        if self._receiving:
            raise _StopReceiving

    def run(self) -> Tally:
        """Work until there is nothing left, or until stopped."""
        wait = _LOOK_AGAIN_SECONDS
        while not self.here.stopping.is_set():
            try:
                worked = self._once()
                wait = _LOOK_AGAIN_SECONDS
            except _StopReceiving:
                break
            except PipelineError as error:
                self.tally.unreachable = str(error)
                _log.error("%s", error)
                if not self.watch:
                    break
                self.here.stopping.wait(wait)
                wait = min(wait * 2, 300.0)
                continue
            if not (worked or self.watch):
                break
        self.on_change(self.tally)
        return self.tally

    def _once(self) -> bool:
        """One round: a bag that the record knows as unfinished, else the next message; False when there was neither."""
        if not self.local_scheduler and scheduler_paused(self.here.settings.scheduler.url):
            _log.warning("the scheduler is paused: nothing is taken in until it is resumed")
            self.here.stopping.wait(_LOOK_AGAIN_SECONDS if self.watch else 0)
            return False
        self.tally.unreachable = ""
        if self._take_up_unfinished():
            return True
        self._sweep_now_and_then()
        sources = self.here.settings.sources
        for source in sources:
            if (message := self._receive(source)) is not None:
                self._process(message)
                return True
        if not sources and self.watch:
            self.here.stopping.wait(_LOOK_AGAIN_SECONDS)
        return False

    def _take_up_unfinished(self) -> bool:
        now = time.monotonic()
        if self._looked and now - self._looked < _LOOK_AGAIN_SECONDS:
            return False
        self._looked = now
        for bag_id in self._unfinished():
            row = self.here.record.bag(bag_id)
            if row is None or self.here.stopping.is_set():
                continue
            _log.info("%s: taking up what was left unfinished", row.bag.work_rid)
            verdicts = bring_home(self.here, [row.bag], local_scheduler=self.local_scheduler)
            self._looked = 0.0
            if all(verdict.outcome is Outcome.BUSY for verdict in verdicts):
                continue
            self.tally.count(verdicts)
            self.on_change(self.tally)
            return True
        return False

    def _sweep_now_and_then(self) -> None:
        """In watch mode: works that began here and were brought home by another host leave their staging behind."""
        now = time.monotonic()
        if self.watch and now - self._swept > 2 * self.here.settings.lease_seconds:
            self._swept = now
            sweep(self.here)

    def _unfinished(self) -> list[str]:
        # A host that is gone keeps its works to itself for two leases: the first one ends in that time.
        return views.unfinished(
            self.here.engine, host=self.here.host, others_after_seconds=2 * self.here.settings.lease_seconds, limit=10
        )

    def _receive(self, source: Source) -> Message | None:
        sqs = self.here.sqs(source)
        if source.name not in self._queues:
            self._queues[source.name] = intake.find_queue(sqs, source=source.name, queue=source.queue)
        wait = min(_EMPTY_POLL_SECONDS, self.here.settings.wait_seconds)
        if self.watch:
            # All sources are polled in turn: together they take one long poll's time.
            wait = max(1, self.here.settings.wait_seconds // len(self.here.settings.sources))
        try:
            self._receiving = True
            return intake.receive(
                sqs,
                self._queues[source.name],
                wait_seconds=wait,
                # Short at first, and renewed by the heartbeat: a poll that a stop breaks off may still be answered,
                # and that message then comes back soon.
                visibility_seconds=min(
                    self.here.settings.lease_seconds, int(1.5 * self.here.settings.heartbeat_seconds) + 1
                ),
            )
        finally:
            self._receiving = False

    def _process(self, message: Message) -> None:
        plug.point("message received")
        if message.receives > 1:
            _log.info("message %s: delivery number %d", message.message_id, message.receives)
        source = self.here.settings.source(message.queue.source)
        assert source is not None
        sqs = self.here.sqs(source)
        try:
            try:
                delivery = intake.parse(message.body, source=source.name)
            except NotUnderstood as error:
                self._not_understood(message, error)
                self.tally.failed += 1
                return
            verdicts = self._verdicts(message, delivery)
        except (DatabaseUnavailable, SchedulerUnreachable):
            # Nothing could be done or recorded: the message comes back, as if it had never been received.
            intake.hide(sqs, message, seconds=self._backoff(message))
            raise
        self.tally.count(verdicts)
        self._settle(message, delivery, verdicts)
        self.on_change(self.tally)

    def _verdicts(self, message: Message, delivery: Delivery) -> list[Verdict]:
        source = self.here.settings.source(message.queue.source)
        assert source is not None
        sqs = self.here.sqs(source)
        if delivery.ignored:
            self.here.record.note(
                "intake", "ignored", {"message_id": message.message_id, "why": list(delivery.ignored)}
            )
            _log.info("message %s: nothing to process: %s", message.message_id, "; ".join(delivery.ignored))
        if not delivery.bags:
            return []
        return bring_home(
            self.here,
            delivery.bags,
            local_scheduler=self.local_scheduler,
            again=message.redriven,
            extend_message=lambda: intake.hide(sqs, message, seconds=self.here.settings.lease_seconds),
        )

    def _settle(self, message: Message, delivery: Delivery, verdicts: Sequence[Verdict]) -> None:
        """Decide what becomes of the message: see the table in the README's section on settling.

        What may still succeed decides first, then what never will; only a message of which everything is done goes.
        """
        source = self.here.settings.source(message.queue.source)
        assert source is not None
        sqs = self.here.sqs(source)
        outcomes = {verdict.outcome for verdict in verdicts}
        open_ones = [v for v in verdicts if v.outcome in {Outcome.TRANSIENT, Outcome.BUSY, Outcome.STOPPED}]
        if Outcome.STOPPED in outcomes:
            intake.hide(sqs, message, seconds=0)
        elif open_ones:
            waits = [
                intake.busy_seconds(message, lease_seconds=verdict.wait_seconds)
                if verdict.outcome is Outcome.BUSY
                else verdict.wait_seconds
                for verdict in open_ones
            ]
            intake.hide(sqs, message, seconds=max(waits))
        elif Outcome.PERMANENT in outcomes:
            self._dead_letter(message, next(v for v in verdicts if v.outcome is Outcome.PERMANENT))
        elif delivery.not_understood:
            self._not_understood(message, NotUnderstood("; ".join(delivery.not_understood)))
        else:
            intake.acknowledge(sqs, message)

    def _not_understood(self, message: Message, error: NotUnderstood) -> None:
        detail = {
            "message_id": message.message_id,
            "kind": error.kind,
            "error": str(error),
            "body": message.body[:2000],
        }
        self.here.record.note("intake", "failed", detail)
        _log.error("message %s: %s", message.message_id, error)
        self._dead_letter(message, Verdict("", "", Outcome.PERMANENT, reason=str(error), kind=error.kind))

    def _dead_letter(self, message: Message, verdict: Verdict) -> None:
        source = self.here.settings.source(message.queue.source)
        assert source is not None
        sqs = self.here.sqs(source)
        reason = {
            "ErrorKind": verdict.kind,
            "Reason": verdict.reason,
            "WorkRid": verdict.work_rid,
            "BagId": verdict.bag_id,
            "Agent": self.here.agent,
        }
        detail = {"message_id": message.message_id, "queue": message.queue.dead_letter_url, **reason}
        if message.queue.dead_letter_url:
            if not self.here.record.is_dead_lettered(message.message_id, work_rid=verdict.work_rid):
                intake.dead_letter(sqs, message, reason=reason)
                self.here.record.note(
                    "intake", "dead-lettered", detail, work_rid=verdict.work_rid, bag_id=verdict.bag_id
                )
            intake.acknowledge(sqs, message)
            _log.error("message %s moved to the dead-letter queue: %s", message.message_id, verdict.reason)
        else:
            # Never deleted silently: without a dead-letter queue it stays, and comes back after the longest delay.
            _log.error("message %s stays, its queue has no dead-letter queue: %s", message.message_id, verdict.reason)
            intake.hide(sqs, message, seconds=self.here.settings.backoff_limit_seconds)

    def _backoff(self, message: Message) -> int:
        chosen = self.here.settings
        return intake.backoff_seconds(
            message.receives, first=chosen.backoff_seconds, limit=chosen.backoff_limit_seconds
        )


def sweep(here: Site) -> None:
    """Remove what killed runs left behind: staging of works that are home, leases that nobody gave back."""
    here.leases.clear_expired()
    for bag_id, folder in staging.residue(here.settings.staging):
        row = here.record.bag(bag_id)
        if row is None or row.state != BagState.DONE or here.place(row.bag).staging != folder:
            continue
        if here.leases.take(row.bag.work_rid, bag_id):
            staging.clear(here.place(row.bag))
            here.leases.release(row.bag.work_rid)
            _log.info("%s: cleared what was left in staging", row.bag.work_rid)
