"""Lanes as processes: started, started again when they die, and ended in order.

Each lane is an operating-system process of its own, forked from a parent that has read its settings and imported the
program, and that never opens a client, a connection or a thread: a forked client would return other people's bytes.
So lanes start in milliseconds and share the program's memory (`docs/decisions/0002-lanes-are-forked-clean.md`).
"""

import ctypes
import gc
import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from typing import Any

from pipeline import record
from pipeline.foundation import aws, failpoints
from pipeline.foundation.errors import PipelineError
from pipeline.foundation.logs import log_to
from pipeline.foundation.signals import FORCED, stopping_on_signals
from pipeline.lanes.lane import Lane, LaneTally
from pipeline.settings import Settings
from pipeline.tasks import context, room

EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE = 0, 1, 3
_DEFECT = 70  # as sysexits.h has it: an error of the program itself
_RESTART_SECONDS, _LONGEST_RESTART_SECONDS = 5.0, 60.0
_STEADY_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1
_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """How lanes are to run."""

    lanes: int
    watch: bool = False
    local_scheduler: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Summary:
    """What all lanes together have done."""

    done: int
    failed: int
    exit_status: int


def run_here(chosen: Settings, options: RunOptions) -> Summary:
    """One lane in this process: what a debugger can follow."""
    here = context.open_site(chosen, lane="1", local_scheduler=options.local_scheduler)
    lane = Lane(here, watch=options.watch)
    with stopping_on_signals(lane.stop):
        try:
            room.sweep(here)
            tally = lane.run()
        except PipelineError as error:
            _log.error("%s", error)
            return Summary(0, 0, EXIT_UNREACHABLE)
    return Summary(tally.done, tally.failed, exit_status(tally))


def exit_status(tally: LaneTally) -> int:
    """The exit status that a lane's work deserves."""
    if tally.unreachable:
        return EXIT_UNREACHABLE
    return EXIT_FAILED if tally.failed else EXIT_DONE


@dataclass
class _Running:
    """A lane's process."""

    process: ForkProcess
    since: float
    told_to_stop: bool = False

    def seconds(self) -> float:
        return time.monotonic() - self.since


class Lanes:
    """The parent of the lanes: starts them, starts them again when they die in watch mode, passes signals on."""

    def __init__(self, chosen: Settings, options: RunOptions) -> None:
        self._settings = chosen
        self._options = options
        self._context = multiprocessing.get_context("fork")
        # Counted where a killed lane cannot take the count with it: done and failed, a pair a lane.
        self._counts = self._context.RawArray("l", 2 * options.lanes)
        self._lanes: dict[int, _Running] = {}
        self._due = dict.fromkeys(range(options.lanes), 0.0)  # when each lane that does not run is to be started
        self._falls: dict[int, int] = {}
        self._worst = EXIT_DONE
        self._stopping = False
        self._woken, self._wake = os.pipe()

    def run(self) -> Summary:
        """Run all lanes to their end."""
        with stopping_on_signals(self._stop):
            aws.preload()
            record.preload(self._settings.database_url)
            if self._prepared():
                try:
                    self._tend()
                finally:
                    self._stop_lanes()
        done, failed = sum(self._counts[0::2]), sum(self._counts[1::2])
        # A watch that ends because it was asked to has done its job, whatever became of single works meanwhile.
        return Summary(done, failed, EXIT_DONE if self._options.watch and self._stopping else self._worst)

    def _stop(self) -> None:
        # A handler's part is to say it; what is done about it is done in the loop, which is never half-way through.
        self._stopping = True
        os.write(self._wake, b"!")

    def _rest(self, processes: Sequence[ForkProcess], seconds: float) -> None:
        """Wait until a process has ended, or a signal has come; no longer than so many seconds."""
        awaited = [self._woken, *(process.sentinel for process in processes)]
        if self._woken in multiprocessing.connection.wait(awaited, timeout=max(0.0, seconds)):
            os.read(self._woken, 1)

    def _prepared(self) -> bool:
        """Make the tables and sweep staging, once for all, in a process of its own; a watch tries until it can."""
        falls = 0
        while not self._stopping:
            process = self._fork(_prepare_process, (self._settings, self._options), "prepare")
            while process.is_alive():
                if self._stopping:
                    process.terminate()  # it can be killed at any instant, as everything here
                self._rest([process], 1.0)
            code = process.exitcode or 0
            process.close()
            if code == 0:
                return True
            if not self._options.watch:
                self._worst = EXIT_DONE if self._stopping else EXIT_UNREACHABLE
                return False
            falls += 1
            self._rest([], _restart_seconds(falls))
        return False

    def _tend(self) -> None:
        """Until no lane runs, and none is to be started."""
        while self._lanes or self._due:
            for number, when in list(self._due.items()):
                if when <= time.monotonic() and not self._stopping:
                    self._start(number)
            if self._stopping:
                self._due.clear()
                self._stop_lanes()
            self._touch_alive_file()
            until = min(self._due.values(), default=math.inf) - time.monotonic()
            self._rest([lane.process for lane in self._lanes.values()], min(1.0, until))
            for number, lane in list(self._lanes.items()):
                if not lane.process.is_alive():
                    self._ended(number, lane)

    def _touch_alive_file(self) -> None:
        """Tell a health check that all lanes run, and not only for the moment after each death."""
        file = self._settings.alive_file
        steady = [number not in self._falls or lane.seconds() > _STEADY_SECONDS for number, lane in self._lanes.items()]
        if file is not None and len(steady) == self._options.lanes and all(steady):
            try:
                file.touch()
            except OSError as error:
                _log.warning("[pipeline] alive_file: %s", error)  # it must not end the lanes

    def _fork(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> ForkProcess:
        if context.is_open() or threading.active_count() > 1:
            raise AssertionError("the parent of the lanes must not hold clients, connections or threads")
        gc.collect()
        gc.freeze()  # the lanes' collections then leave the shared pages alone
        process = self._context.Process(target=target, args=args, name=name)
        # A child must not meet a signal before it has its own handlers: it unblocks them when it is ready.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process

    def _start(self, number: int) -> None:
        args = (self._settings, self._options, number, self._counts, os.getpid())
        del self._due[number]
        try:
            process = self._fork(_lane_process, args, f"lane-{number + 1}")
        except OSError as error:  # no memory, or too many processes: the lanes that run must not suffer
            _log.error("lane %d cannot be started: %s", number + 1, error.strerror)
            self._worst = max(self._worst, EXIT_FAILED)
            if self._options.watch:
                self._start_again(number, by_itself=True)
        else:
            self._lanes[number] = _Running(process, time.monotonic())

    def _ended(self, number: int, lane: _Running) -> None:
        code = lane.process.exitcode or 0
        lane.process.close()
        del self._lanes[number]
        died = code not in {EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE}
        what = "died" if died else "ended"
        then = "; a work that it had is taken up when its lease ends" if died else ""
        again = self._options.watch and not self._stopping
        if again:
            seconds = self._start_again(number, by_itself=code >= 0 and lane.seconds() < _LONGEST_RESTART_SECONDS)
            then += f"; it is started again in {seconds:.0f} s"
        else:
            self._worst = max(self._worst, EXIT_FAILED if died else code)
        if died or again:
            _log.error("lane %d %s (exit status %d)%s", number + 1, what, code, then)

    def _start_again(self, number: int, *, by_itself: bool) -> float:
        """After how many seconds: soon where it was killed, as it was well; later each time where it ends by itself."""
        self._falls[number] = self._falls.get(number, 0) + 1 if by_itself else 1
        seconds = _restart_seconds(self._falls[number])
        self._due[number] = time.monotonic() + seconds
        return seconds

    def _stop_lanes(self) -> None:
        for lane in self._lanes.values():
            if not lane.told_to_stop:
                lane.told_to_stop = True
                lane.process.terminate()


def _restart_seconds(falls: int) -> float:
    """How long what ended is left alone: longer each time that it ends soon."""
    return float(min(_RESTART_SECONDS * 2 ** min(falls - 1, 10), _LONGEST_RESTART_SECONDS))


def _prepare_process(chosen: Settings, options: RunOptions) -> None:
    """What is done once before the lanes start."""
    failpoints.disarm()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        log_to(chosen.lane_logs, "prepare", verbose=options.verbose, json_lines=chosen.log_json)
        room.sweep(context.open_site(chosen, lane="0"))
    except PipelineError as error:
        _log.error("%s", error)
        sys.exit(EXIT_UNREACHABLE)


def _lane_process(chosen: Settings, options: RunOptions, number: int, counts: Any, parent: int) -> None:
    """The life of one lane process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(EXIT_FAILED)  # the parent died before we could ask to be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent passes it on
    try:
        sys.exit(_live(chosen, options, number, counts, parent))
    except PipelineError as error:
        _log.error("%s", error)
        sys.exit(EXIT_UNREACHABLE)
    except Exception:  # noqa: BLE001  # multiprocessing would tell it on stderr alone, with a status of ours
        _log.exception("this lane ends by a defect of the program")
        sys.exit(_DEFECT)


def _live(chosen: Settings, options: RunOptions, number: int, counts: Any, parent: int) -> int:
    name = f"{number + 1}"
    log_to(chosen.lane_logs, f"lane-{name}", verbose=options.verbose, json_lines=chosen.log_json)
    here = context.open_site(chosen, lane=name, local_scheduler=options.local_scheduler)

    done, failed = counts[2 * number], counts[2 * number + 1]  # of the lane that died, where this one takes its place

    def count(tally: LaneTally) -> None:
        counts[2 * number], counts[2 * number + 1] = done + tally.done, failed + tally.failed

    lane = Lane(here, watch=options.watch, on_change=count)
    asked: list[int] = []

    def on_term(_number: int, _frame: object) -> None:
        # A stop of a whole process group (`kill %1`, `timeout`) comes twice, the second time from the parent. Only one
        # after the parent has gone is meant to force: it was forced itself.
        if asked and os.getppid() != parent:
            os._exit(FORCED)
        if not asked:
            asked.append(1)
            lane.stop()

    signal.signal(signal.SIGTERM, on_term)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    return exit_status(lane.run())
