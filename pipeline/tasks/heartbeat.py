"""The heartbeat of a lane: renews what it holds while it works, and tells a step when to stop.

A thread of the lane's own process, so that it beats while a step computes, and ends when the process does. What it
renews: the leases of the bags in hand, and the invisibility of the message that brought them.

A process may be frozen at any instant, a machine be suspended or moved: then no thread of it notices. So whoever is
about to do something asks how long ago somebody last tried to renew; when that is longer than it can be in good health,
the database is asked before anything else.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from pipeline.foundation.errors import DatabaseUnavailable, LeaseLost, PipelineError, Stopping
from pipeline.foundation.signals import StopFlag
from pipeline.foundation.work import Pulse
from pipeline.record import Leases

_PROGRESS_SECONDS = 2.0
_OVERDUE = 1.5  # heartbeats; two of them fit into a lease at least
_TURN_SECONDS = 1.0
_MARGIN, _MOST_MARGIN_SECONDS = 0.1, 2.0
_log = logging.getLogger(__name__)


class _Moment:
    """An instant by three clocks: one that nobody sets, the wall clock, and one that counts during suspension."""

    def __init__(self) -> None:
        self.running, self.wall, self.boot = time.monotonic(), time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)

    def seconds_ago(self) -> float:
        """How long ago it was, by the clock that went furthest; a clock that was set counts as well."""
        now = _Moment()
        return max(now.running - self.running, now.boot - self.boot, abs(now.wall - self.wall))


class Heartbeat:
    """Holds leases and a message while its `with` block runs.

    Args:
        leases: with which the leases were taken.
        held: the works whose leases are held.
        seconds: between two renewals.
        stopping: set when the run is to end.
        extend_message: hides the message further; fails harmlessly, since the leases keep others away.
    """

    def __init__(
        self,
        leases: Leases,
        held: Iterable[str],
        *,
        seconds: float,
        stopping: StopFlag,
        extend_message: Callable[[], None],
    ) -> None:
        self._leases = leases
        self._held = frozenset(held)
        self._seconds = seconds
        self._stopping = stopping
        self._extend_message = extend_message
        self._over = threading.Event()
        self._lost: set[str] = set()
        self._told: dict[str, tuple[str, int, int]] = {}
        self._renewed = self._tried = _Moment()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def hold(self, work_rid: str) -> None:
        """Renew one more lease, taken just now."""
        self._lost.discard(work_rid)
        self._held |= {work_rid}

    def drop(self, work_rid: str) -> None:
        """Renew a lease no longer: it is about to be given back."""
        self._held -= {work_rid}

    @property
    def held(self) -> frozenset[str]:
        """The works whose leases are renewed."""
        return self._held

    def pulse(self, work_rid: str, step: str, tell: Callable[[int, int], None] | None = None) -> Pulse:
        """The pulse of a step that works on a bag: notes how far it is, and raises when it must stop.

        The pulse raises Stopping when the run is to end, LeaseLost when the work is no longer ours.
        """
        self._told[work_rid] = (step, 0, 0)

        def pulse(done: int, total: int) -> None:
            self._told[work_rid] = (step, done, total)
            self.check(work_rid)
            if tell is not None:
                tell(done, total)

        return pulse

    def check(self, work_rid: str) -> None:
        """See that the work may go on.

        Raises:
            Stopping: the run is to end.
            LeaseLost: see `see_held`.
        """
        if self._stopping.is_set():
            raise Stopping("stopped as asked; it goes on from here next time", work_rid=work_rid)
        self.see_held(work_rid)

    def see_held(self, *work_rids: str, ask: bool = False) -> None:
        """See that these works are ours; it costs nothing while the heartbeat beats.

        Args:
            work_rids: the works.
            ask: ask the database in any case, as before a step is begun.

        Raises:
            LeaseLost: a lease was taken over, or could not be renewed in time.
            DatabaseUnavailable: it was to be asked, and is out of reach.
        """
        if self._tried.seconds_ago() > _OVERDUE * self._seconds:
            self._look()
        elif ask and not self._leases.are_mine(work_rids):
            self._lost.update(work_rids)
        late = self._renewed.seconds_ago() > self._leases.seconds
        for work_rid in work_rids:
            if late or work_rid in self._lost or work_rid not in self._held:
                raise LeaseLost("the lease is gone; nothing more is done to this work here", work_rid=work_rid)

    def may_run_until(self) -> float:
        """Until when a process that somebody else started for us may run, by CLOCK_BOOTTIME: before the leases end."""
        seconds = self._leases.seconds
        return self._renewed.boot + seconds - min(seconds * _MARGIN, _MOST_MARGIN_SECONDS)

    def _beat(self) -> None:
        shown: dict[str, tuple[str, int, int]] = {}
        beaten = time.monotonic()
        while not self._over.wait(min(_PROGRESS_SECONDS, self._seconds / 2)):
            due = time.monotonic() - beaten >= self._seconds
            told = dict(self._told)
            if due or told != shown:
                with self._turn:
                    self._renew(told)
                shown = told
            if due:
                beaten = time.monotonic()
                self._extend()

    def _look(self) -> None:
        """Renew now; while the heartbeat itself is renewing and gets no answer, only the time since decides."""
        if self._turn.acquire(timeout=_TURN_SECONDS):
            try:
                self._renew(dict(self._told))
            finally:
                self._turn.release()

    def _renew(self, told: dict[str, tuple[str, int, int]]) -> None:
        self._tried = started = _Moment()
        try:
            for work_rid in self._held:
                step, done, total = told.get(work_rid, ("", 0, 0))
                if not self._leases.renew(work_rid, step=step, done_bytes=done, total_bytes=total):
                    self._lost.add(work_rid)
        except DatabaseUnavailable as error:
            _log.warning("%s: lease not renewed: %s", ", ".join(sorted(self._held)), error)
            return
        self._renewed = started

    def _extend(self) -> None:
        try:
            self._extend_message()
        except PipelineError as error:
            _log.warning("%s: message not extended: %s", ", ".join(sorted(self._held)), error)
