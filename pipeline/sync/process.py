"""Running a site's script so that no process of it outlives us: not when it is stopped, not when we are killed.

Two processes are started into one process group of their own, in this order:

1. the *guard*, a shell that waits on a pipe whose other end only this process holds. When this process ends, however it
   ends (SIGKILL, out of memory), the kernel closes the pipe, and the guard kills the whole group, itself included. It
   does the same when the time is over up to which the script may run, and this process has not told it a later one:
   it may be frozen, which nothing in it would notice, while the script writes on where others may be at work by then.
   Times are those of the machine since it started (/proc/uptime, CLOCK_BOOTTIME), so that one that is told late, by a
   process that was frozen before it could tell it, is over when it comes.
2. the script, in bash. Until its `exec` it holds a copy of that pipe's end, so the guard cannot act between the two.

What holds: everything that the script starts and that stays in the group ends with it, with a stop, or with us. What
does not: a program that makes a session or group of its own (setsid, a daemon), and one that hangs in the kernel.
The guard leads the group and is reaped after the last signal, so the group's number never belongs to somebody else.
(PR_SET_PDEATHSIG would reach bash and not its children; PR_SET_CHILD_SUBREAPER would change the whole lane.)
"""

import contextlib
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_GUARD = """
trap '' HUP INT QUIT TERM
until=$1
while read -r up _ </proc/uptime
      left=$((until - 10#${up/./}))
      printf -v wait '%d.%02d' $((left / 100)) $((left % 100))
      ((left > 0)) && read -r -t "$wait" until
do :; done
kill -KILL 0
"""
_TICKS = 100  # of the guard's clock, a second
_FOR_EVER_SECONDS = 10_000_000.0
_CHUNK_BYTES = 256 * 1024
_TICK_SECONDS = 0.1
_KILLED_SECONDS = 10.0  # after KILL, a process is there only if it hangs in the kernel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """How the script ended.

    Attributes:
        status: its exit status; negative: the signal that ended it.
        timed_out: its time limit was over.
        overdue: the guard ended it, as nobody had said in time that it may go on.
    """

    status: int
    timed_out: bool = False
    overdue: bool = False


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    printed: Callable[[bytes], None],
    beat: Callable[[], None],
    time_limit_seconds: float = 0,
    grace_seconds: float = 5,
    until: Callable[[], float] | None = None,
) -> Ended:
    """Run `command` to its end; when this returns or raises, nothing of its process group is left.

    Args:
        command: bash, the script and its arguments.
        environment: all of the script's environment.
        folder: where it runs.
        printed: takes what it prints, as it comes.
        beat: called several times a second; if it raises, the script is stopped and the exception goes on.
        time_limit_seconds: after so long it is stopped; 0 = never.
        grace_seconds: between TERM and KILL.
        until: asked several times a second until when it may run if this is not asked any more, in seconds of
            CLOCK_BOOTTIME; None = as long as this process lives.

    Raises:
        OSError: bash is not to be found, no process can be made, or what it prints cannot be.
    """
    started = time.monotonic()
    timed_out = False
    with _Group(command, environment, folder, printed, until) as group:
        try:
            while not group.ended():
                beat()
                group.reprieve()
                timed_out = 0 < time_limit_seconds < time.monotonic() - started
                if timed_out:
                    break
                group.listen(_TICK_SECONDS)
        except BaseException:
            group.stop(grace_seconds)
            raise
        if timed_out:
            group.stop(grace_seconds)
    return Ended(group.status, timed_out, overdue=group.overdue)


class _Group:
    """The guard, the script, and whatever it starts."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        printed: Callable[[bytes], None],
        until: Callable[[], float] | None,
    ) -> None:
        self._printed = printed
        for_ever = time.clock_gettime(time.CLOCK_BOOTTIME) + _FOR_EVER_SECONDS
        self._until = until or (lambda: for_ever)
        self._told = int(self._until() * _TICKS)
        self.overdue = False
        self._guard = subprocess.Popen(
            [command[0], "-c", _GUARD, "guard", str(self._told)],
            env={"PATH": environment["PATH"]},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            self._script = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                process_group=self._guard.pid,
            )
        except BaseException:
            self._end_guard()
            raise
        assert self._script.stdout is not None
        self._output = self._script.stdout
        os.set_blocking(self._output.fileno(), False)
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN | select.POLLHUP)
        self._silent = False  # nobody holds the output's other end any more

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Not asked of the guard: its KILL takes one of the group after the other, and it may be the last.
        killed = self._script.poll() == -signal.SIGKILL
        self.overdue = killed and time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS >= self._told
        self._end_guard()
        try:
            self._script.wait(_KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            logger.error("process %d hangs in the kernel and cannot be ended", self._script.pid)  # noqa: TRY400  # no bug
        self._output.close()

    @property
    def status(self) -> int:
        """The script's exit status; as subprocess has it, negative for a signal."""
        return -signal.SIGKILL if self._script.returncode is None else self._script.returncode

    def ended(self) -> bool:
        """Whether the script has ended; all that it printed before was then given on."""
        if self._script.poll() is None:
            return False
        self.listen(0)
        return True

    def reprieve(self) -> None:
        """Tell the guard until when the script may run, where that has changed; it may have ended everything by now."""
        ticks = int(self._until() * _TICKS)
        if ticks == self._told:
            return
        self._told = ticks
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            os.write(self._guard.stdin.fileno(), b"%d\n" % ticks)

    def listen(self, seconds: float) -> None:
        """Take what is printed for so long, or for one tick if it does not cease; sooner when the script ends."""
        until = time.monotonic() + max(seconds, _TICK_SECONDS)
        if self._silent:  # it closed its output, as nearly always because it ends just now
            self._wait_script(seconds)
            return
        waiting = seconds
        while not self._silent and time.monotonic() < until and self._poll.poll(waiting * 1000):
            chunk = self._output.read(_CHUNK_BYTES)
            if chunk:
                self._printed(chunk)
            elif chunk is not None:
                self._silent = True
                self._wait_script(seconds)
            waiting = 0

    def stop(self, grace_seconds: float) -> None:
        """TERM for the group, and time to tidy up until none of it holds the output; KILL follows at the end."""
        until = time.monotonic() + grace_seconds
        os.killpg(self._guard.pid, signal.SIGTERM)
        while time.monotonic() < until and not (self._silent and self._script.poll() is not None):
            self.listen(min(_TICK_SECONDS, grace_seconds))

    def _wait_script(self, seconds: float) -> None:
        try:
            self._script.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def _end_guard(self) -> None:
        """KILL for whatever is left of the group; its leader, the guard, is reaped only now."""
        os.killpg(self._guard.pid, signal.SIGKILL)
        self._guard.wait()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
