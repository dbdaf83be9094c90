"""Lanes as processes, and the signals that end them.

Each lane is an operating-system process of its own, forked from a parent that has read its settings and imported the
program, and that never opens a client, a connection or a thread: a forked client would return other people's bytes.
So lanes start in milliseconds and share the program's memory (`docs/decisions/0002-lanes-are-forked-clean.md`).
"""

import ctypes
import gc
import logging
import logging.handlers
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from typing import Any

from pipeline import aws, plug, room, site
from pipeline.errors import PipelineError
from pipeline.lane import Lane, Tally
from pipeline.log_lines import JsonLines, PlainLines
from pipeline.settings import Settings
from pipeline.steps import record

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 0, 1, 2, 3
_FORCED = 130
_RESTART_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_LOG_BYTES, _LOG_FILES = 10 << 20, 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
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


def log_to(folder: os.PathLike[str] | None, name: str, *, verbose: bool = False, json_lines: bool = False) -> None:
    """Log to stderr, and to a file of this process alone that is rotated at 10 MiB; without a folder, to stderr alone.

    Raises:
        OSError: the folder cannot be written to.
    """
    full: logging.Formatter = PlainLines("%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s")
    if json_lines:
        full = JsonLines(name)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(full)
    if folder is not None:
        if not json_lines:
            handlers[0].setFormatter(PlainLines("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
        os.makedirs(folder, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            os.path.join(folder, f"{name}.log"), maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8"
        )
        file.setFormatter(full)
        handlers.append(file)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("pipeline").setLevel(logging.DEBUG if verbose else logging.INFO)
    # Luigi tells every failure again, with a traceback; ours have names.
    logging.getLogger("luigi-interface").setLevel(logging.WARNING if verbose else logging.CRITICAL)


def run_here(chosen: Settings, options: Options) -> Summary:
    """One lane in this process: what a debugger can follow."""
    here = site.open_site(chosen, lane="1")
    lane = Lane(here, watch=options.watch, local_scheduler=options.local_scheduler)
    with stopping_on_signals(lane.stop):
        try:
            room.sweep(here)
            tally = lane.run()
        except PipelineError as error:
            _log.error("%s", error)
            return Summary(0, 0, EXIT_UNREACHABLE)
    return Summary(tally.done, tally.failed, exit_status(tally))


def exit_status(tally: Tally) -> int:
    """The exit status that a lane's work deserves."""
    if tally.unreachable:
        return EXIT_UNREACHABLE
    return EXIT_FAILED if tally.failed else EXIT_DONE


class stopping_on_signals:  # noqa: N801  # used like a function: `with stopping_on_signals(lane.stop):`
    """SIGTERM and Ctrl-C call `stop` once; the second one ends this process at once."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._asked = False
        self._before: dict[int, Any] = {}

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._asked:
            os._exit(_FORCED)
        self._asked = True
        os.write(2, f"{signal.Signals(number).name}: stopping at the next safe point; again to force\n".encode())
        self._stop()

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Lanes:
    """The parent of the lanes: starts them, starts them again when they die in watch mode, passes signals on."""

    def __init__(self, chosen: Settings, options: Options) -> None:
        self._settings = chosen
        self._options = options
        self._context = multiprocessing.get_context("fork")
        # Counted where a killed lane cannot take the count with it: done and failed, a pair a lane.
        self._counts = self._context.RawArray("l", 2 * options.lanes)
        self._lanes: dict[int, ForkProcess] = {}
        self._worst = EXIT_DONE
        self._stopping = False

    def run(self) -> Summary:
        """Run all lanes to their end."""
        with stopping_on_signals(self._stop):
            aws.preload()
            record.preload(self._settings.database_url)
            while not self._prepared() and self._options.watch and not self._stopping:
                time.sleep(_RESTART_SECONDS)
            if self._worst != EXIT_DONE or self._stopping:
                return Summary(0, 0, self._worst)
            for number in range(self._options.lanes):
                self._start(number)
            while self._lanes:
                self._touch_alive_file()
                multiprocessing.connection.wait([lane.sentinel for lane in self._lanes.values()], timeout=1.0)
                for number, lane in list(self._lanes.items()):
                    if not lane.is_alive():
                        self._ended(number, lane)
        done, failed = sum(self._counts[0::2]), sum(self._counts[1::2])
        # A watch that ends because it was asked to has done its job, whatever became of single works meanwhile.
        return Summary(done, failed, EXIT_DONE if self._options.watch and self._stopping else self._worst)

    def _touch_alive_file(self) -> None:
        """Tell a health check that all lanes run; a lane that cannot be told of must not end the others."""
        file = self._settings.alive_file
        if file is not None and len(self._lanes) == self._options.lanes:
            try:
                file.touch()
            except OSError as error:
                _log.warning("[pipeline] alive_file: %s", error)

    def _prepared(self) -> bool:
        """Make the tables and sweep staging, once for all lanes, in a process of its own."""
        process = self._fork(_prepare_process, (self._settings, self._options), "prepare")
        process.join()
        code = process.exitcode or 0
        self._worst = EXIT_DONE if code == 0 or self._options.watch else EXIT_UNREACHABLE
        return code == 0

    def _fork(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> ForkProcess:
        if site.is_open() or threading.active_count() > 1:
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
        self._lanes[number] = self._fork(_lane_process, args, f"lane-{number + 1}")

    def _ended(self, number: int, lane: ForkProcess) -> None:
        lane.join()
        code = lane.exitcode or 0
        lane.close()
        del self._lanes[number]
        if code < 0 or code not in {EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE}:
            _log.error("lane %d died (exit status %d); its work is taken up when its lease ends", number + 1, code)
            code = EXIT_FAILED
        if self._options.watch and not self._stopping:
            time.sleep(_RESTART_SECONDS)
            if not self._stopping:
                self._start(number)
            return
        self._worst = max(self._worst, code)

    def _stop(self) -> None:
        self._stopping = True
        for lane in self._lanes.values():
            if lane.is_alive():
                lane.terminate()


def _prepare_process(chosen: Settings, options: Options) -> None:
    """What is done once before the lanes start."""
    plug.disarm()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    log_to(chosen.lane_logs, "prepare", verbose=options.verbose, json_lines=chosen.log_json)
    try:
        room.sweep(site.open_site(chosen, lane="0"))
    except PipelineError as error:
        _log.error("%s", error)
        sys.exit(EXIT_UNREACHABLE)


def _lane_process(chosen: Settings, options: Options, number: int, counts: Any, parent: int) -> None:
    """The life of one lane process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(EXIT_FAILED)  # the parent died before we could ask to be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent passes it on
    name = f"{number + 1}"
    log_to(chosen.lane_logs, f"lane-{name}", verbose=options.verbose, json_lines=chosen.log_json)
    here = site.open_site(chosen, lane=name)

    def count(tally: Tally) -> None:
        counts[2 * number], counts[2 * number + 1] = tally.done, tally.failed

    lane = Lane(here, watch=options.watch, local_scheduler=options.local_scheduler, on_change=count)
    asked: list[int] = []

    def on_term(_number: int, _frame: object) -> None:
        if asked:
            os._exit(_FORCED)
        asked.append(1)
        lane.stop()

    signal.signal(signal.SIGTERM, on_term)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        sys.exit(exit_status(lane.run()))
    except PipelineError as error:
        _log.error("%s", error)
        sys.exit(EXIT_UNREACHABLE)
