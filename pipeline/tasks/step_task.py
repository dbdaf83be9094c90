"""What the tasks of the steps have in common: a bag, what "done" looks like, failures recorded before Luigi hears."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from typing import ClassVar

from pipeline.foundation import failpoints, logs
from pipeline.foundation.arguments import command
from pipeline.foundation.errors import (
    LeaseLost,
    NoRoom,
    ObjectGone,
    ObjectReplaced,
    PipelineError,
    StagingDamaged,
    Stopping,
    Unexpected,
    WorkBusy,
)
from pipeline.foundation.work import Bag, Pulse
from pipeline.record import BagRow, Record, Step, failure_facts
from pipeline.tasks import context
from pipeline.tasks.context import Failure, InHand, Site
from pipeline.tasks.lean import luigi
from pipeline.tasks.progress import Progress
from pipeline.tasks.staging import Place

_log = logging.getLogger("pipeline.tasks")


class NoLease(PipelineError):
    """A task was started by hand, past the lanes."""


def tell_way_on(bag: Bag, error: PipelineError) -> None:
    """Add how to go on to a failure that does not say it: the work once more, unless that would fail the same."""
    if error.go_on or error.by_hand:
        return
    error.go_on = command("work", bag.address if isinstance(error, ObjectGone | ObjectReplaced) else bag.work_rid)
    if isinstance(error, ObjectReplaced):
        error.by_hand = "see that what is there now is right"
    elif isinstance(error, ObjectGone):
        left_out = command("skip", bag.work_rid, "--reason", "its bag is gone")
        error.by_hand = f"put its bag there again (or leave it out: {left_out})"


def failed(
    here: Site, hand: InHand, bag: Bag, step: Step, error: PipelineError, *, first_seconds: float = math.inf
) -> None:
    """Record why a bag in hand did not come home, and when it is tried again.

    Args:
        here: the lane's site.
        hand: where the lane finds it after the build.
        bag: the bag.
        step: in which it failed.
        error: why.
        first_seconds: the first delay, where it is to be shorter than `[queue] backoff_seconds`.
    """
    retry_seconds = 0
    try:
        if isinstance(error, LeaseLost):
            raise error
        if isinstance(error, Stopping | WorkBusy):  # nothing is wrong with the bag
            facts = failure_facts(error)
            here.record.note(step, error.kind, facts, work_rid=bag.work_rid, bag_id=bag.bag_id, held=True)
            _log.warning("%s", error)
        else:
            row = here.record.bag(bag.bag_id)
            retry_seconds = here.backoff_seconds(1 + (row.failures if row else 0), first=first_seconds)
            here.record.failed(bag, step, error, retry_seconds=retry_seconds)
            _log.error("%s", error)
    except LeaseLost as lost:
        # Whatever went wrong here: the bag is another lane's, and so is the word on it.
        _log.warning("%s", lost)
        error, retry_seconds = lost, 0
    hand.failures[bag.bag_id] = Failure(error, retry_seconds)


class Vouched(luigi.Target):
    """Files: there while their marker can be read, and vouches for what lies there now. Neither S3 nor SQS is asked.

    Args:
        read: reads the marker; raises StagingDamaged where it does not vouch.
    """

    def __init__(self, read: Callable[[], object]) -> None:
        self._read = read

    def exists(self) -> bool:
        """Whether the marker stands, and vouches for what it is of."""
        try:
            self._read()
        except StagingDamaged:
            return False
        return True


class SyncRows(luigi.Target):
    """The works in the archive: there when each work that the zip holds has its row in the database."""

    def __init__(self, record: Record, bag_id: str) -> None:
        self._record = record
        self._bag_id = bag_id

    def exists(self) -> bool:
        """Whether every sync row is committed.

        Raises:
            DatabaseUnavailable: the database is out of reach.
        """
        return self._record.all_synced(self._bag_id)


class ReplicaRows(luigi.Target):
    """The works in the archive and in every replica: there when each has its rows in the database."""

    def __init__(self, here: Site, bag: Bag) -> None:
        self._here = here
        self._bag = bag

    def exists(self) -> bool:
        """Whether every row is committed.

        Raises:
            DatabaseUnavailable: the database is out of reach.
        """
        return self._here.is_home(self._bag)


class StepTask(luigi.Task):
    """A task of one step for one bag: what fails is recorded under its name before Luigi hears of it."""

    work_rid = luigi.Parameter(description="the RID that the key promised")
    bag_id = luigi.Parameter(description="short hash of what identifies the zip's bytes")
    phase: ClassVar[Step]

    @property
    def row(self) -> BagRow:
        """What the record knows of the bag.

        Raises:
            PipelineError: it knows no such bag.
        """
        row = context.current().record.bag(self.bag_id)
        if row is None:
            raise PipelineError(f"the record knows no bag {self.bag_id}", work_rid=self.work_rid)
        return row

    @property
    def place(self) -> Place:
        """Where the bag's files lie."""
        return context.current().place(self)

    def run(self) -> None:
        """Do the step.

        Raises:
            PipelineError: the named failure, recorded.
        """
        here, row = context.current(), self.row
        hand = here.in_hand
        if hand is None or (self.work_rid, self.bag_id) not in ((bag.work_rid, bag.bag_id) for bag in hand.bags):
            raise NoLease(
                "this process does not hold this work's lease; tasks run in a lane only",
                work_rid=self.work_rid,
                go_on=("work", self.work_rid),
            )
        with logs.about(work=self.work_rid, bag=self.bag_id, step=self.phase, attempt=row.failures + 1):
            self._do(here, hand, row)

    def _do(self, here: Site, hand: InHand, row: BagRow) -> None:
        try:
            hand.heartbeat.see_held(self.work_rid, ask=True)
            with failpoints.only_while(lambda: hand.heartbeat.see_held(self.work_rid)):
                self.step(here, row)
        except Exception as error:
            named = self._named(error)
            named.work_rid = named.work_rid or self.work_rid
            tell_way_on(row.bag, named)
            failed(here, hand, row.bag, self.phase, named)
            if named is error:
                raise
            raise named from error

    def _named(self, error: Exception) -> PipelineError:
        if isinstance(error, PipelineError):
            return error
        if isinstance(error, OSError):
            return NoRoom(f"{self.phase}: {error}")
        _log.exception("%s: %s failed in a way that nobody foresaw", self.work_rid, self.phase)
        return Unexpected(f"{self.phase}: {type(error).__name__}: {error}")

    def step(self, here: Site, row: BagRow) -> None:
        """What the task does, with what the record knew of the bag when it began; each task's own."""
        raise NotImplementedError

    @contextlib.contextmanager
    def pulse(self, work_rid: str, doing: str) -> Iterator[Pulse]:
        """The pulse of the step, which tells how far it is with a work, and stops it when it has to stop."""
        heartbeat = context.current().heartbeat
        with Progress(work_rid, doing, show=self.show, log=_log) as progress:
            yield heartbeat.pulse(self.work_rid, self.phase, progress.tell)

    @contextlib.contextmanager
    def leased(self, here: Site, work_rid: str) -> Iterator[None]:
        """The zip's own work is leased already; any other that it turned out to hold only while it is worked on."""
        if work_rid == self.work_rid:
            yield
            return
        if not here.leases.take(work_rid, self.bag_id):
            raise WorkBusy("another lane works on this work", work_rid=work_rid, kept="everything stays in staging")
        heartbeat = here.heartbeat
        heartbeat.hold(work_rid)
        try:
            with failpoints.only_while(lambda: heartbeat.see_held(self.work_rid, work_rid)):
                yield
        finally:
            heartbeat.drop(work_rid)
            here.leases.release(work_rid)

    def show(self, text: str, percent: int) -> None:
        """Show on luigid's page how far the step is; harmless when luigid is out of reach."""
        message, percentage = self.set_status_message, self.set_progress_percentage
        if message is None or percentage is None:
            return  # the step has ended meanwhile
        with contextlib.suppress(luigi.rpc.RPCError):
            message(text)
            percentage(percent)

    def on_failure(self, exception: BaseException) -> str:
        """What luigid's page shows: the named error, not where in the code it came up."""
        return str(exception)
