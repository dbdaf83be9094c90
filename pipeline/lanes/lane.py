"""One lane: receive a parcel (a message, a dropped zip) -> build -> settle the parcel; and again."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline import record
from pipeline.foundation.errors import DatabaseUnavailable, PipelineError, SchedulerUnreachable
from pipeline.lanes.bring_home import bring_home, verdict_of
from pipeline.lanes.builds import scheduler_paused
from pipeline.lanes.folder_source import FolderSource
from pipeline.lanes.parcel import Outcome, Parcel, Verdict
from pipeline.lanes.queue_source import QueueSource, TakenUp
from pipeline.record import BagRow, turns
from pipeline.tasks.context import Site
from pipeline.tasks.presence import Presence
from pipeline.tasks.restoring import tend
from pipeline.tasks.room import sweep

_log = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 300.0
# What all lanes need is back soon, or a person sees to it; until then works of killed lanes wait with all others.
_LONGEST_OUTAGE_SECONDS = 30.0
_DEAD_LANE_SECONDS = 30


class _StopReceiving(BaseException):
    """Raised by the signal handler while the lane waits for a message, so that it need not wait the poll out."""


@dataclass
class LaneTally:
    """What a lane has done; `unreachable` says what it could not reach, if it ended for that.

    A bag counts once, however often it comes: as done when this lane brought it home, as failed until it is home.
    """

    done: int = 0
    unreachable: str = ""
    _failed: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many bags, and messages without one, are not home by a failure."""
        return sum(self._failed.values())

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """Add the verdicts on one message."""
        for verdict in verdicts:
            if verdict.outcome is Outcome.DONE:
                self.done += not verdict.already
                self._failed.pop(verdict.bag_id, None)
            elif verdict.outcome in {Outcome.TRANSIENT, Outcome.PERMANENT}:
                self._failed[verdict.bag_id] = 1 if verdict.bag_id else self._failed.get("", 0) + 1


@dataclass
class Lane:
    """A lane.

    Args:
        here: its site.
        watch: go on for ever, instead of until the sources are empty.
        on_change: told after every parcel, for whoever counts.
    """

    here: Site
    watch: bool = False
    on_change: Callable[[LaneTally], None] = lambda _tally: None
    tally: LaneTally = field(default_factory=LaneTally)
    _sources: "deque[_Inlet]" = field(default_factory=deque)
    _turns: "deque[Callable[[], bool]]" = field(default_factory=deque)
    _looks: "dict[bool | None, _Look]" = field(default_factory=lambda: {one: _Look() for one in (None, False, True)})
    _in_vain: set[str] = field(default_factory=set)
    _paused: bool = False
    _swept: float = 0.0
    _tended: float = -_LOOK_AGAIN_SECONDS

    def __post_init__(self) -> None:
        """What was begun comes first; then whatever there is takes turns, so that nothing keeps the rest waiting."""
        self._turns.extend([partial(self._take_up, failed=False), partial(self._take_up, failed=True), self._take_in])

    def stop(self) -> None:
        """Called by a signal handler: end at the next safe point; at once when only waiting for a message."""
        self.here.stopping.set()
        if any(inlet.source.waiting for inlet in self._sources):
            raise _StopReceiving

    def run(self) -> LaneTally:
        """Work until there is nothing left, or until stopped."""
        chosen = self.here.settings
        sources: list[QueueSource | FolderSource] = [
            QueueSource(self.here, source, watch=self.watch) for source in chosen.sources
        ]
        sources += [FolderSource(self.here, folder, watch=self.watch) for folder in chosen.folders]
        self._sources = deque(_Inlet(source) for source in sources)
        with Presence(self.here) as presence:
            self._loop(presence)
        self.on_change(self.tally)
        return self.tally

    def _loop(self, presence: Presence) -> None:
        wait = _LOOK_AGAIN_SECONDS
        while not self.here.stopping.is_set():
            try:
                presence.show()
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
                wait = min(wait * 2, _LONGEST_OUTAGE_SECONDS)
                continue
            if not (worked or self._pause()):
                break

    def _once(self) -> bool:
        """One turn: of what was begun, of what failed, or of what is new; False when there was nothing of any."""
        why = self._why_nothing_is_taken_in()
        self._paused = bool(why)
        if self._paused:
            _log.warning("%s", why)
            self.here.stopping.wait(_LOOK_AGAIN_SECONDS if self.watch else 0)
            return False
        self._tend_restores(every=_LOOK_AGAIN_SECONDS)
        if self._take_up(failed=None):  # a copy that ends before it is fetched is paid for twice
            return True
        for _ in range(len(self._turns)):
            turn = self._turns[0]
            self._turns.rotate(-1)
            if turn():
                return True
        self._tidy()
        return False

    def _why_nothing_is_taken_in(self) -> str:
        """Why no lane may take in anything now; empty: it may."""
        pause = record.pause_of(self.here.engine)
        if pause is not None:
            return f"intake is paused by {pause.by} ({pause.reason}); go on with: run_pipeline.py resume"
        if not self.here.local_scheduler and scheduler_paused(self.here.settings.scheduler.url):
            return "the scheduler is paused: nothing is taken in until it is resumed"
        return ""

    def _take_in(self) -> bool:
        """The next parcel of the source whose turn it is, or of one after it."""
        for _ in range(len(self._sources)):
            inlet = self._sources[0]
            self._sources.rotate(-1)  # each source has its turn, however much waits in the others
            if (parcel := self._receive(inlet)) is not None:
                self._process(parcel)
                return True
        return False

    def _pause(self) -> bool:
        """There is nothing to do: wait until there may be; False: there is nothing to wait for, the run is over."""
        if self._paused:
            return self.watch
        pauses = [
            inlet.source.pause_seconds() if inlet.error is None else inlet.seconds_left(watch=self.watch)
            for inlet in self._sources
        ]
        known = [pause for pause in pauses if pause is not None]
        if self.watch and not known:
            known = [_LOOK_AGAIN_SECONDS]
        if known:  # a source may be out of reach for long: works of lanes that die meanwhile need not wait for it
            self.here.stopping.wait(max(0.0, min(_LOOK_AGAIN_SECONDS, *known)))
        return bool(known)

    def _receive(self, inlet: "_Inlet") -> Parcel | None:
        """The next parcel of a source; one that is out of reach does not hold up the others."""
        if inlet.error is not None and inlet.seconds_left(watch=self.watch) != 0.0:
            return None
        try:
            parcel = inlet.source.receive()
        except (DatabaseUnavailable, SchedulerUnreachable):
            raise
        except PipelineError as error:
            inlet.failed(error)
            _log.error("source %s: %s", inlet.source.name, error)
            parcel = None
        else:
            inlet.error = None
        self.tally.unreachable = "; ".join(str(one.error) for one in self._sources if one.error is not None)
        return parcel

    def _tend_restores(self, *, every: float) -> None:
        if time.monotonic() >= self._tended + every:
            self._tended = time.monotonic()
            tend(self.here)

    def _take_up(self, *, failed: bool | None) -> bool:
        """A bag that the record brings up: to be tried again, or begun; None: either, and its copy ends soon."""
        look, now = self._looks[failed], time.monotonic()
        if now < look.again_on:
            return False
        look.again_on = now + _LOOK_AGAIN_SECONDS
        for bag_id in self._unfinished(failed=failed):
            row = self.here.record.bag(bag_id)
            if row is None or self.here.stopping.is_set() or bag_id in self._in_vain or not self._can_be_read(row):
                continue
            _log.info("%s: taking up what was left unfinished", row.bag.work_rid)
            verdicts = bring_home(self.here, [row.bag], parcel=TakenUp(self.here))
            if all(verdict.outcome is Outcome.BUSY for verdict in verdicts):
                look.again_on = 0.0
                continue
            in_vain = failed is not False and verdicts[0].outcome is Outcome.TRANSIENT
            if in_vain and not self.watch:
                self._in_vain.add(bag_id)  # the next run tries it again: this one is to come to an end
            look.next(in_vain=in_vain and self.watch)
            self.tally.count(verdicts)
            self.on_change(self.tally)
            return True
        return False

    def _can_be_read(self, row: BagRow) -> bool:
        """A local zip is left to the hosts on which its folder is there."""
        return not row.bag.is_local or Path(row.bag.key).parent.is_dir()

    def _tidy(self) -> None:
        """Clear what is left here of works that are home by now, by another host or another bag."""
        if not self.watch or time.monotonic() - self._swept >= _LOOK_AGAIN_SECONDS:
            self._swept = time.monotonic()
            sweep(self.here)
        self._tend_restores(every=_LOOK_AGAIN_SECONDS if self.watch else 0)  # what came home made room

    def _unfinished(self, *, failed: bool | None) -> list[str]:
        # A host keeps what it gave back to itself for two leases, and what a lane of it died of for less: that lane is
        # started again after 5 s, unless the host is gone.
        return turns.unfinished(
            self.here.engine,
            host=self.here.host,
            others_after_seconds=self.here.silent_seconds,
            dead_after_seconds=min(self.here.settings.lease_seconds, _DEAD_LANE_SECONDS),
            failed=failed,
            ends_within_hours=self.here.settings.notify.expiry_hours if failed is None else None,
        )

    def _process(self, parcel: Parcel) -> None:
        try:
            verdicts = self._settled(parcel)
        except (DatabaseUnavailable, SchedulerUnreachable):
            parcel.give_back()
            raise
        self.tally.count(verdicts)
        self.on_change(self.tally)

    def _settled(self, parcel: Parcel) -> list[Verdict]:
        try:
            bags = parcel.open()
        except DatabaseUnavailable:
            raise
        except PipelineError as error:
            verdicts = [verdict_of(self.here, error)]
            parcel.settle(verdicts)
            return verdicts
        return bring_home(self.here, bags, parcel=parcel)


@dataclass
class _Look:
    """When the record is asked again for bags of one kind: begun ones, or failed ones."""

    again_on: float = 0.0
    pause: float = 0.0

    def next(self, *, in_vain: bool) -> None:
        """Ask again at once; after a try in vain, after a pause that grows until a try is not in vain."""
        self.pause = min(_LOOK_AGAIN_SECONDS, max(1.0, 2 * self.pause)) if in_vain else 0.0
        self.again_on = time.monotonic() + self.pause


@dataclass
class _Inlet:
    """A source, and why it cannot be reached, where it cannot."""

    source: QueueSource | FolderSource
    error: PipelineError | None = None
    again_on: float = 0.0
    wait: float = _LOOK_AGAIN_SECONDS

    def failed(self, error: PipelineError) -> None:
        """It is asked again after a while, longer each time."""
        self.wait = _LOOK_AGAIN_SECONDS if self.error is None else min(self.wait * 2, _LONGEST_WAIT_SECONDS)
        self.error = error
        self.again_on = time.monotonic() + self.wait

    def seconds_left(self, *, watch: bool) -> float | None:
        """How long until it is asked again; None: not in this run."""
        return max(0.0, self.again_on - time.monotonic()) if watch else None
