"""Bringing bags home in one build, and what became of each: the truth is the database, not what Luigi reports."""

import logging
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline import download, record
from pipeline.foundation import failpoints
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
from pipeline.lanes.builds import build, scheduler_paused
from pipeline.record import BagRow, BagState, turns
from pipeline.tasks import graph
from pipeline.tasks.context import Site
from pipeline.tasks.heartbeat import Heartbeat
from pipeline.tasks.step_task import way_on

_log = logging.getLogger(__name__)
GivenUp = Callable[[BagRow, PipelineError], None]
_MOST_DEATHS = 3  # so many lanes may die of the same step of a bag


class Outcome(StrEnum):
    """What became of a bag."""

    DONE = "done"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    BUSY = "busy"
    NOT_RESTORED = "not-restored"
    SKIPPED = "skipped"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Verdict:
    """What became of a bag, and when it makes sense to look again.

    Attributes:
        outcome: decides what is done with the message.
        reason: why it is not done; empty when it is.
        kind: the failure's name; empty when there is none.
        wait_seconds: after how many seconds to look again.
        already: it was home before this delivery.
    """

    work_rid: str
    bag_id: str
    outcome: Outcome
    reason: str = ""
    kind: str = ""
    wait_seconds: int = 0
    already: bool = False


def bring_home(
    here: Site,
    bags: Sequence[Bag],
    *,
    local_scheduler: bool,
    again: str = "",
    extend_message: Callable[[], None] = lambda: None,
    given_up: GivenUp = lambda _row, _error: None,
    settle: Callable[[Sequence[Verdict]], None] = lambda _verdicts: None,
) -> list[Verdict]:
    """Work on the bags of one message until each is home or has failed, and settle the message.

    Leases are taken before anything is touched and given back when all is settled, whatever happens.

    Args:
        here: the lane's site.
        bags: what the message carries.
        local_scheduler: without luigid.
        again: why bags that were refused are to be tried once more; empty: they are not.
        extend_message: hides the message further.
        given_up: told of a bag before it is recorded that it is tried no more, where there is no message that will be
            a dead letter.
        settle: does with the message what the verdicts ask for; when a lease was lost, they say that it is busy.

    Raises:
        SchedulerUnreachable: luigid stopped answering; nothing is lost.
        DatabaseUnavailable: the record cannot be read or written; nothing is lost.
    """
    verdicts: list[Verdict] = []
    mine: list[Bag] = []
    heartbeat = Heartbeat(
        here.leases, seconds=here.settings.heartbeat_seconds, stopping=here.stopping, extend_message=extend_message
    )
    here.heartbeat = heartbeat
    try:
        with heartbeat:
            for bag in bags:
                known = _identified(here, bag)
                verdict = known if isinstance(known, Verdict) else _before(here, known, heartbeat, again, given_up)
                if verdict is not None:
                    verdicts.append(verdict)
                elif isinstance(known, Bag):
                    mine.append(known)
            if mine:
                here.in_hand = frozenset((bag.work_rid, bag.bag_id) for bag in mine)
                failpoints.point("leases taken")
                build(here, mine, heartbeat, local_scheduler=local_scheduler)
                verdicts += [_after(here, bag) for bag in mine]
            return _settled(here, verdicts, heartbeat, settle)
    finally:
        here.heartbeat, here.in_hand = None, frozenset()
        for work_rid in heartbeat.held:
            here.leases.release(work_rid)


def _settled(
    here: Site, verdicts: list[Verdict], heartbeat: Heartbeat, settle: Callable[[Sequence[Verdict]], None]
) -> list[Verdict]:
    """Settle a message while its works are ours; where one of them is not any more, it comes back for who has it."""
    held = heartbeat.held
    try:
        heartbeat.see_held(*held, ask=bool(held))
        with failpoints.only_while(lambda: heartbeat.see_held(*held)):
            settle(verdicts)
    except LeaseLost as error:
        _log.warning("%s", error)
        lost = verdict_of(here, error)
        verdicts = [replace(lost, work_rid=verdict.work_rid, bag_id=verdict.bag_id) for verdict in verdicts]
        try:
            settle(verdicts)
        except PipelineError as harmless:  # another lane has received it by now
            _log.warning("%s", harmless)
    return verdicts


def _identified(here: Site, bag: Bag) -> Bag | Verdict:
    """Events that name an object without its ETag or version are completed by asking S3."""
    if bag.etag or bag.version_id:
        return bag

    def pulse(_done: int, _total: int) -> None:
        if here.stopping.is_set():
            raise Stopping("stopped before it began", work_rid=bag.work_rid)

    try:
        return download.identify(here.s3(bag), bag, pulse=pulse)
    except Stopping as error:
        return verdict_of(here, error)
    except PipelineError as error:
        error.go_on = error.go_on or way_on(bag, error)
        here.record.note("intake", "failed", {"kind": error.kind, "error": str(error)}, work_rid=bag.work_rid)
        return verdict_of(here, error, work_rid=bag.work_rid)


def _before(here: Site, bag: Bag, heartbeat: Heartbeat, again: str, given_up: GivenUp) -> Verdict | None:
    """The verdict on a bag that needs no work, or that somebody else works on; None: its lease is ours, and held.

    The lease comes first: a bag that is seen and that nobody holds is unfinished, and any lane may take it up.
    """
    if not here.leases.take(bag.work_rid, bag.bag_id):
        here.record.see(bag)
        if here.record.all_synced(bag.bag_id):
            _log.info("%s: home already, nothing to do", bag.work_rid)
            return Verdict(bag.work_rid, bag.bag_id, Outcome.DONE, already=True)
        wait = _rest_of_lease(here, bag.work_rid)
        _log.info("%s: another lane works on it", bag.work_rid)
        return Verdict(bag.work_rid, bag.bag_id, Outcome.BUSY, "another lane works on it", "work-busy", wait)
    heartbeat.hold(bag.work_rid)
    try:
        with failpoints.only_while(lambda: heartbeat.see_held(bag.work_rid)):
            return _leased(here, bag, again, given_up)
    except LeaseLost as error:
        return verdict_of(here, error, bag_id=bag.bag_id)


def _leased(here: Site, bag: Bag, again: str, given_up: GivenUp) -> Verdict | None:
    """The same, once its lease is ours."""
    row = here.record.see(bag)
    if here.record.all_synced(bag.bag_id):
        if row.state != BagState.DONE or here.place(bag).staging.exists():
            graph.finish(here, bag)  # a lane was killed after its last commit, before the clearing
        _log.info("%s: home already, nothing to do", bag.work_rid)
        return Verdict(bag.work_rid, bag.bag_id, Outcome.DONE, already=True)
    return _not_to_be_begun(here, row, again, given_up)


def _not_to_be_begun(here: Site, row: BagRow, again: str, given_up: GivenUp) -> Verdict | None:
    """The verdict on a bag, ours and not home, that is not to be worked on all the same; None: it is."""
    bag = row.bag
    if row.state == BagState.REFUSED and again:
        here.record.reopen(bag, reason=again)
    elif row.state == BagState.REFUSED:
        return Verdict(bag.work_rid, bag.bag_id, Outcome.PERMANENT, reason=row.error, kind=row.error_kind)
    elif row.state == BagState.SKIPPED:
        # Nothing to process, which is recorded: its message may go. Also a dead letter sent back does not undo a skip.
        why = {"why": row.error}
        here.record.note("intake", "skipped", why, work_rid=bag.work_rid, bag_id=bag.bag_id, held=True)
        _log.info("%s: %s", bag.work_rid, row.error)
        return Verdict(bag.work_rid, bag.bag_id, Outcome.SKIPPED, reason=row.error, kind=row.error_kind)
    elif (died := turns.deaths(here.engine, bag)) >= _MOST_DEATHS:
        return _set_aside(here, row, died)
    elif row.state == BagState.FAILED and (seconds := turns.failing_seconds(here.engine, bag)) > patience_seconds(here):
        error = tried_too_long(seconds, row.error, work_rid=bag.work_rid)
        given_up(row, error)
        _log.error("%s", error)
        here.record.failed(bag, "intake", error)
        return verdict_of(here, error, work_rid=bag.work_rid, bag_id=bag.bag_id)
    return None


def tried_too_long(seconds: float, last: str, *, work_rid: str = "") -> TriedTooLong:
    """The failure of what has failed for so long for reasons that may pass; `last` is the last of them."""
    again = f"run_pipeline.py retry {shlex.quote(work_rid)}" if work_rid else "run_pipeline.py dead-letters resend"
    last = last.partition("; go on with: ")[0]
    return TriedTooLong(
        f"it has failed for {human_seconds(seconds)}, and is tried no more; the last time: {last}",
        work_rid=work_rid,
        kept="what was done so far stays",
        go_on=f"see to the cause, then: {again}",
    )


def patience_seconds(here: Site) -> float:
    """For how long what may pass is tried again."""
    return here.settings.retry_days * 86_400


def _set_aside(here: Site, row: BagRow, died: int) -> Verdict:
    """A bag that kills every lane would go round for ever, and take with it what else those lanes had in hand."""
    bag, step = row.bag, record.step_after(row.phase)
    error = LaneDied(
        f"the lanes that worked on it died {died} times one after the other in the step {step}",
        work_rid=bag.work_rid,
        kept="what was done so far stays in staging",
        go_on=f"find out why (out of memory?), then: run_pipeline.py retry {shlex.quote(bag.work_rid)}",
        facts={"step": step, "deaths": died},
    )
    _log.error("%s", error)
    here.record.failed(bag, step, error)
    return verdict_of(here, error, work_rid=bag.work_rid, bag_id=bag.bag_id)


def put_off(
    here: Site, bags: Sequence[Bag], *, again: str = "", extend_message: Callable[[], None] = lambda: None
) -> list[Verdict]:
    """What is known of bags that a message announces besides those of this turn; they are seen, and have turns of their
    own: one message with thousands of bags holds up no other.

    Raises:
        DatabaseUnavailable: the record cannot be read or written; nothing is lost.
    """
    verdicts: list[Verdict] = []
    due = 0.0
    for bag in bags:
        if here.stopping.is_set():
            return [*verdicts, Verdict("", "", Outcome.STOPPED, "stopped before it began")]
        if time.monotonic() >= due:
            extend_message()
            due = time.monotonic() + here.settings.heartbeat_seconds
        verdicts.append(_put_off(here, bag, again=again))
    return verdicts


def _put_off(here: Site, bag: Bag, *, again: str) -> Verdict:
    waits = Verdict(bag.work_rid, "", Outcome.BUSY, "its turn comes", "work-busy", here.settings.lease_seconds)
    if not (bag.etag or bag.version_id):
        return waits  # S3 is asked which bytes these are when they have their turn: another time, others come first
    row = here.record.see(bag)
    if row.state == BagState.REFUSED and again:
        with here.leased(bag.work_rid, bag.bag_id) as ours:
            if ours:
                here.record.reopen(bag, reason=again)
        return replace(waits, bag_id=bag.bag_id)
    ended = {BagState.DONE: Outcome.DONE, BagState.REFUSED: Outcome.PERMANENT, BagState.SKIPPED: Outcome.SKIPPED}
    if row.state not in ended:
        return replace(waits, bag_id=bag.bag_id)
    return Verdict(bag.work_rid, bag.bag_id, ended[row.state], reason=row.error, kind=row.error_kind)


def why_nothing_is_taken_in(here: Site, *, local_scheduler: bool) -> str:
    """Why no lane may take in anything now; empty: it may.

    Raises:
        SchedulerUnreachable: luigid does not answer.
        DatabaseUnavailable: the record cannot be read.
    """
    pause = record.pause_of(here.engine)
    if pause is not None:
        return f"intake is paused by {pause.by} ({pause.reason}); go on with: run_pipeline.py resume"
    if not local_scheduler and scheduler_paused(here.settings.scheduler.url):
        return "the scheduler is paused: nothing is taken in until it is resumed"
    return ""


def _after(here: Site, bag: Bag) -> Verdict:
    if here.record.all_synced(bag.bag_id):
        return Verdict(bag.work_rid, bag.bag_id, Outcome.DONE)
    failure = here.failures[bag.bag_id]
    return verdict_of(
        here, failure.error, work_rid=bag.work_rid, bag_id=bag.bag_id, retry_seconds=failure.retry_seconds
    )


def _rest_of_lease(here: Site, work_rid: str) -> int:
    """Seconds until somebody else's lease is over, and a little."""
    return here.leases.remaining_seconds(work_rid) + 1 + here.settings.lease_seconds // 20


def verdict_of(
    here: Site, error: PipelineError, *, work_rid: str = "", bag_id: str = "", retry_seconds: int | None = None
) -> Verdict:
    """What a failure means for what is to become of a bag; tried again after the first delay unless told otherwise."""
    wait = here.settings.backoff_seconds if retry_seconds is None else retry_seconds
    work_rid = work_rid or error.work_rid
    outcome = Outcome.TRANSIENT
    if isinstance(error, Stopping):
        outcome, wait = Outcome.STOPPED, 0
    elif isinstance(error, LeaseLost | WorkBusy):
        outcome = Outcome.BUSY
        wait = _rest_of_lease(here, error.work_rid or work_rid)
    elif isinstance(error, NotRestored):
        outcome = Outcome.NOT_RESTORED
    elif isinstance(error, PermanentError):
        outcome = Outcome.PERMANENT
    return Verdict(work_rid, bag_id, outcome, reason=str(error), kind=error.kind, wait_seconds=wait)
