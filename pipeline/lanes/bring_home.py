"""Bringing bags home in one build, and what became of each: the truth is the database, not what Luigi reports."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from pipeline import download, record
from pipeline.foundation import failpoints
from pipeline.foundation.arguments import without_way
from pipeline.foundation.errors import (
    LaneDied,
    LeaseLost,
    NotRestored,
    PermanentError,
    PipelineError,
    Stopping,
    TriedTooLong,
    WorkBusy,
)
from pipeline.foundation.work import Bag, human_seconds
from pipeline.lanes.builds import build
from pipeline.lanes.parcel import ENDED, Outcome, Parcel, Verdict
from pipeline.record import BagState, Step, failure_facts, turns
from pipeline.tasks import graph
from pipeline.tasks.context import InHand, Site
from pipeline.tasks.step_task import tell_way_on

_log = logging.getLogger(__name__)
MOST_AT_ONCE = 10  # so many bags of one parcel are worked on in its turn; S3 announces one in each message
_MOST_DEATHS = 3  # so many lanes may die of the same step of a bag


def bring_home(here: Site, bags: Sequence[Bag], *, parcel: Parcel | None = None) -> list[Verdict]:
    """Work on the bags of a parcel until each is home or has failed, and settle the parcel.

    Leases are taken before anything is touched and given back when all is settled, whatever happens.

    Args:
        here: the lane's site.
        bags: those of the parcel; of many, the first ones have their turn now.
        parcel: from which they come; when a lease was lost, it is settled as one that is busy.

    Raises:
        SchedulerUnreachable: luigid stopped answering; nothing is lost.
        DatabaseUnavailable: the record cannot be read or written; nothing is lost.
    """
    parcel = parcel or Parcel()
    heartbeat = here.new_heartbeat(extend_message=parcel.extend)
    hand = here.in_hand = InHand(heartbeat)
    try:
        with heartbeat:
            known = [_begin(here, hand, bag, parcel) for bag in bags[:MOST_AT_ONCE]]
            verdicts = [verdict for verdict in known if verdict is not None]
            if hand.bags:
                failpoints.point("leases taken")
                build(here, hand)
                verdicts += [_after(here, hand, bag) for bag in hand.bags]
            return _settled(here, verdicts, bags[MOST_AT_ONCE:], parcel)
    finally:
        here.in_hand = None
        for work_rid in heartbeat.held:
            here.leases.release(work_rid)


def _settled(here: Site, verdicts: list[Verdict], others: Sequence[Bag], parcel: Parcel) -> list[Verdict]:
    """Settle a parcel while its works are ours; once one is not, the parcel comes back for the lane that has it."""
    heartbeat, held = here.heartbeat, here.heartbeat.held
    try:
        heartbeat.see_held(*held, ask=bool(held))
        with failpoints.only_while(lambda: heartbeat.see_held(*held)):
            return _settle(here, verdicts, others, parcel)
    except LeaseLost as error:
        _log.warning("%s", error)
        lost = verdict_of(here, error)
        verdicts = [replace(lost, work_rid=verdict.work_rid, bag_id=verdict.bag_id) for verdict in verdicts]
    try:
        return _settle(here, verdicts, others, parcel)
    except PipelineError as harmless:  # another lane has received it by now
        _log.warning("%s", harmless)
        return verdicts


def _settle(here: Site, verdicts: list[Verdict], others: Sequence[Bag], parcel: Parcel) -> list[Verdict]:
    together = [*verdicts, *_put_off(here, others, parcel)]
    parcel.settle(together)
    return together


def _begin(here: Site, hand: InHand, bag: Bag, parcel: Parcel) -> Verdict | None:
    """The verdict on a bag that needs no work, or that somebody else works on; None: it is in hand, its lease ours.

    The lease comes first: any lane may take up a bag that the record has seen and that nobody holds.
    """
    try:
        bag = _identified(here, bag)
    except PipelineError as error:
        return verdict_of(here, error, bag)
    if not here.leases.take(bag.work_rid, bag.bag_id):
        here.record.see(bag)
        if here.is_home(bag):
            return _home_already(bag)
        _log.info("%s: another lane works on it", bag.work_rid)
        return verdict_of(here, WorkBusy("another lane works on it"), bag)
    hand.heartbeat.hold(bag.work_rid)
    try:
        with failpoints.only_while(lambda: hand.heartbeat.see_held(bag.work_rid)):
            verdict = _leased(here, bag, parcel)
    except LeaseLost as error:
        return verdict_of(here, error, bag)
    if verdict is None:
        hand.bags.append(bag)
    return verdict


def _identified(here: Site, bag: Bag) -> Bag:
    """Events that name an object without its ETag or version are completed by asking S3.

    Raises:
        Stopping: the run is to end.
        PipelineError: S3 does not tell; that is recorded.
    """
    if bag.is_identified:
        return bag

    def pulse(_done: int, _total: int) -> None:
        if here.stopping.is_set():
            raise Stopping("stopped before it began", work_rid=bag.work_rid)

    try:
        return download.identify(here.s3(bag), bag, pulse=pulse)
    except Stopping:
        raise
    except PipelineError as error:
        tell_way_on(bag, error)
        here.record.note("intake", "failed", failure_facts(error), work_rid=bag.work_rid)
        raise


def _leased(here: Site, bag: Bag, parcel: Parcel) -> Verdict | None:
    """The verdict on a bag that is ours, if it is home or not to be worked on; None: it is to be worked on."""
    row = here.record.see(bag)
    if here.is_home(bag):
        if row.state != BagState.DONE or here.place(bag).staging.exists():
            graph.finish(here, bag)  # a lane was killed after its last commit, before the clearing
        return _home_already(bag)
    bag = row.bag
    if row.state == BagState.REFUSED and parcel.again:
        here.record.reopen(bag, reason=parcel.again)
    elif row.state == BagState.REFUSED:
        return Verdict.ended(row)
    elif row.state == BagState.SKIPPED:
        # Nothing to process, which is recorded: its message may go. Also a dead letter sent back does not undo a skip.
        why = {"why": row.error}
        here.record.note("intake", "skipped", why, work_rid=bag.work_rid, bag_id=bag.bag_id, held=True)
        _log.info("%s: %s", bag.work_rid, row.error)
        return Verdict.ended(row)
    elif (died := turns.deaths(here.engine, bag)) >= _MOST_DEATHS:
        step = record.step_after(row.phase)
        return _refused(here, bag, step, _deadly(bag, step, died))
    elif row.state == BagState.FAILED:
        over = tried_too_long(here, turns.failing_seconds(here.engine, bag), row.error, work_rid=bag.work_rid)
        if over is not None:
            parcel.give_up(row, over)
            return _refused(here, bag, "intake", over)
    return None


def _home_already(bag: Bag) -> Verdict:
    _log.info("%s: home already, nothing to do", bag.work_rid)
    return Verdict(bag.work_rid, bag.bag_id, Outcome.DONE, already=True)


def _refused(here: Site, bag: Bag, step: Step, error: PermanentError) -> Verdict:
    _log.error("%s", error)
    here.record.failed(bag, step, error)
    return verdict_of(here, error, bag)


def _deadly(bag: Bag, step: str, died: int) -> LaneDied:
    """A bag that kills every lane would go round for ever, and take with it what else those lanes had in hand."""
    return LaneDied(
        f"the lanes that worked on it died {died} times one after the other in the step {step}",
        work_rid=bag.work_rid,
        kept="what was done so far stays in staging",
        go_on=("retry", bag.work_rid),
        by_hand="find out why (out of memory?)",
        facts={"step": step, "deaths": died},
    )


def tried_too_long(here: Site, seconds: float, last: str, *, work_rid: str = "") -> TriedTooLong | None:
    """The failure of what has failed, for reasons that may pass, for longer than it is tried; None: it may be tried on.

    Args:
        here: the lane's site.
        seconds: for how long it has failed.
        last: the last of its failures.
        work_rid: the work, where one is known.
    """
    if seconds <= here.settings.retry_days * 86_400:
        return None
    return TriedTooLong(
        f"it has failed for {human_seconds(seconds)}, and is tried no more; the last time: {without_way(last)}",
        work_rid=work_rid,
        kept="what was done so far stays",
        go_on=("retry", work_rid) if work_rid else ("dead-letters", "list"),
        by_hand="see to the cause",
    )


def _put_off(here: Site, bags: Sequence[Bag], parcel: Parcel) -> list[Verdict]:
    """The verdicts on bags whose turn comes later: the record has seen them now, and brings them up itself.

    So one message with thousands of bags holds up no other.
    """
    verdicts: list[Verdict] = []
    due = 0.0
    for bag in bags:
        if here.stopping.is_set():
            return [*verdicts, verdict_of(here, Stopping("stopped before it began"))]
        if time.monotonic() >= due:
            parcel.extend()
            due = time.monotonic() + here.settings.heartbeat_seconds
        verdicts.append(_seen(here, bag, parcel))
    return verdicts


def _seen(here: Site, bag: Bag, parcel: Parcel) -> Verdict:
    waits = Verdict(bag.work_rid, "", Outcome.BUSY, "its turn comes", "work-busy", here.settings.lease_seconds)
    if not bag.is_identified:
        return waits  # S3 is asked which bytes these are when they have their turn: another time, others come first
    row = here.record.see(bag)
    again = row.state == BagState.REFUSED and parcel.again
    if row.state in ENDED and not again:
        return Verdict.ended(row)
    if again:
        with here.leased(bag.work_rid, bag.bag_id) as ours:
            if ours:
                here.record.reopen(bag, reason=again)
    return replace(waits, bag_id=bag.bag_id)


def _after(here: Site, hand: InHand, bag: Bag) -> Verdict:
    failure = hand.failures.get(bag.bag_id)
    if failure is None or here.is_home(bag):  # without a failure it was home when the build ended
        return Verdict(bag.work_rid, bag.bag_id, Outcome.DONE)
    return verdict_of(here, failure.error, bag, retry_seconds=failure.retry_seconds)


def verdict_of(
    here: Site, error: PipelineError, bag: Bag | None = None, *, retry_seconds: int | None = None
) -> Verdict:
    """The verdict that a failure leads to; without `retry_seconds` the bag is tried again after the first delay."""
    work_rid, bag_id = (bag.work_rid, bag.bag_id if bag.is_identified else "") if bag else (error.work_rid, "")
    wait = here.settings.backoff_seconds if retry_seconds is None else retry_seconds
    outcome = Outcome.TRANSIENT
    if isinstance(error, Stopping):
        outcome, wait = Outcome.STOPPED, 0
    elif isinstance(error, LeaseLost | WorkBusy):
        outcome = Outcome.BUSY
        # Until somebody else's lease is over, and a little.
        remaining = here.leases.remaining_seconds(error.work_rid or work_rid)
        wait = remaining + 1 + here.settings.lease_seconds // 20
    elif isinstance(error, NotRestored):
        outcome = Outcome.NOT_RESTORED
    elif isinstance(error, PermanentError):
        outcome = Outcome.PERMANENT
    return Verdict(work_rid, bag_id, outcome, reason=str(error), kind=error.kind, wait_seconds=wait)
