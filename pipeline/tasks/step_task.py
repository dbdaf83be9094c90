"""What the tasks of the steps have in common: a bag, and failures recorded by name before Luigi hears of them."""

import contextlib
import logging
import shlex
from typing import ClassVar

import luigi
import luigi.rpc

from pipeline import intake
from pipeline.foundation import failpoints, logs
from pipeline.foundation.errors import (
    LeaseLost,
    NoRoom,
    ObjectGone,
    ObjectReplaced,
    PipelineError,
    Stopping,
    Unexpected,
    WorkBusy,
)
from pipeline.foundation.work import Bag
from pipeline.record import BagRow, Phase, failure_facts
from pipeline.tasks import context
from pipeline.tasks.context import Failure, Site
from pipeline.tasks.heartbeat import Heartbeat
from pipeline.tasks.staging import Place

_log = logging.getLogger("pipeline.tasks")


class NoLease(PipelineError):
    """A task was started by hand, past the lanes."""


def way_on(bag: Bag, error: PipelineError) -> str:
    """How to go on after a failure that does not say it itself: the work once more, unless that would fail the same."""
    rid, address = shlex.quote(bag.work_rid), shlex.quote(bag.address)
    if isinstance(error, ObjectReplaced):
        return f"run_pipeline.py work {address}, which takes what is there now"
    if isinstance(error, ObjectGone):
        again = f"put its bag there again, then run_pipeline.py work {address}"
        return f"{again}; or leave it out: run_pipeline.py skip {rid} --reason 'its bag is gone'"
    return f"run_pipeline.py work {rid}"


class StepTask(luigi.Task):
    """A task of one step for one bag: what fails is recorded under its name before Luigi hears of it."""

    work_rid = luigi.Parameter(description="the RID that the key promised")
    bag_id = luigi.Parameter(description="short hash of what identifies the zip's bytes")
    phase: ClassVar[Phase]

    @property
    def row(self) -> BagRow:
        """What the record knows of the bag.

        Raises:
            PipelineError: nothing.
        """
        row = context.current().record.bag(self.bag_id)
        if row is None:
            raise PipelineError(f"the record knows no bag {self.bag_id}", work_rid=self.work_rid)
        return row

    @property
    def place(self) -> Place:
        """Where the bag's files lie."""
        return context.current().place(self.row.bag)

    def run(self) -> None:
        """Do the step.

        Raises:
            PipelineError: the named failure, recorded.
        """
        here, row, heartbeat = context.current(), self.row, context.current().heartbeat
        if heartbeat is None or (self.work_rid, self.bag_id) not in here.in_hand:
            raise NoLease(
                "this process does not hold this work's lease; tasks run in a lane only",
                work_rid=self.work_rid,
                go_on=f"run_pipeline.py work {shlex.quote(self.work_rid)}",
            )
        with logs.about(work=self.work_rid, bag=self.bag_id, step=self.phase, attempt=row.failures + 1):
            self._do(here, row.bag, heartbeat)

    def _do(self, here: Site, bag: Bag, heartbeat: Heartbeat) -> None:
        try:
            heartbeat.see_held(self.work_rid, ask=True)
            with failpoints.only_while(lambda: heartbeat.see_held(self.work_rid)):
                self.step(here, bag)
        except PipelineError as error:
            self._failed(here, bag, error)
            raise
        except OSError as error:
            named = NoRoom(f"{self.phase}: {error}", work_rid=self.work_rid)
            self._failed(here, bag, named)
            raise named from error
        except Exception as error:
            named_bug = Unexpected(f"{self.phase}: {type(error).__name__}: {error}", work_rid=self.work_rid)
            _log.exception("%s: %s failed in a way that nobody foresaw", self.work_rid, self.phase)
            self._failed(here, bag, named_bug)
            raise named_bug from error

    def _failed(self, here: Site, bag: Bag, error: PipelineError) -> None:
        if not error.work_rid:
            error.work_rid = self.work_rid
        error.go_on = error.go_on or way_on(bag, error)
        try:
            failure = self._recorded(here, bag, error)
        except LeaseLost as lost:
            # Whatever went wrong here: the bag is another lane's, and so is the word on it.
            _log.warning("%s", lost)
            failure = Failure(lost, 0)
        here.failures[self.bag_id] = failure

    def _recorded(self, here: Site, bag: Bag, error: PipelineError) -> Failure:
        if isinstance(error, LeaseLost):
            raise error
        if isinstance(error, Stopping | WorkBusy):  # nothing is wrong with the bag
            facts = failure_facts(error)
            here.record.note(self.phase, error.kind, facts, work_rid=self.work_rid, bag_id=self.bag_id, held=True)
            _log.warning("%s", error)
            return Failure(error, 0)
        retry_seconds = intake.backoff_seconds(
            self.row.failures + 1, first=here.settings.backoff_seconds, limit=here.settings.backoff_limit_seconds
        )
        here.record.failed(bag, self.phase, error, retry_seconds=retry_seconds)
        _log.error("%s", error)
        return Failure(error, retry_seconds)

    def step(self, here: Site, bag: Bag) -> None:
        """What the task does; each task's own."""
        raise NotImplementedError

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
