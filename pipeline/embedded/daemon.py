"""A program that runs in the background, from a pid file that cannot lie.

The running program itself holds a lock on its pid file, from before it is executed until the last of its processes
has ended. So whether it runs is asked of the kernel: a stale file, a number that another process has got since, or a
starter that was killed half-way deceive nobody.
"""

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.foundation import guarded
from pipeline.foundation.errors import PipelineError

_START_SECONDS, _STOP_SECONDS = 60.0, 30.0
_POLL_SECONDS = 0.05
_LAST_LINES = 15


class ServiceFailed(PipelineError):
    """A program in the background did not start, or did not end."""


@dataclass(frozen=True)
class Daemon:
    """One program in the background.

    Attributes:
        name: what it is called; names its pid file and its log.
        home: the folder for both.
        command: the program and its arguments; it has to stay in the foreground.
        stop_signal: what asks it to end in order.
        user: as whom it runs; None: as who starts it.
        environment: variables on top of this process's own.
    """

    name: str
    home: Path
    command: tuple[str, ...]
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def pid_file(self) -> Path:
        """Holds the number of the process; locked while it runs."""
        return self.home / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        """Its stdout and stderr, of all its runs."""
        return self.home / f"{self.name}.log"

    def pid(self) -> int | None:
        """The number of the running process; None when it does not run."""
        try:
            with os.fdopen(guarded.open_file(self.pid_file), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return self._written_pid()
        return None

    def _written_pid(self) -> int:
        # Locked and still empty: it is just being started.
        over = time.monotonic() + 1
        while not (text := self.pid_file.read_text(encoding="ascii").strip()) and time.monotonic() < over:
            time.sleep(_POLL_SECONDS)
        return int(text or 0)

    def start(self, answers: Callable[[], bool]) -> None:
        """Start it, and wait until it answers.

        Raises:
            ServiceFailed: it ended, or did not answer in time; then it is ended again.
        """
        process = self._spawn()
        over = time.monotonic() + _START_SECONDS
        while not answers():
            if process.poll() is not None or time.monotonic() > over:
                self.stop()
                raise ServiceFailed(f"{self.name} did not start: {self._last_words()}", by_hand=f"read {self.log}")
            time.sleep(_POLL_SECONDS)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        descriptor = guarded.open_file(self.pid_file, flags=os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

            def write_pid() -> None:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())

            with os.fdopen(guarded.open_file(self.log, flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
                return subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self.environment},
                    user=self.user,
                    extra_groups=None if self.user is None else [],
                    pass_fds=[descriptor],
                    preexec_fn=write_pid,  # noqa: PLW1509  # this process has no threads
                    start_new_session=True,
                )
        except BlockingIOError as error:
            raise ServiceFailed(f"{self.name} runs already") from error
        finally:
            os.close(descriptor)

    def stop(self) -> bool:
        """End it, in order if it can, and wait; returns whether it ran.

        Raises:
            ServiceFailed: not even SIGKILL ended it.
        """
        pid = self.pid()
        if not pid:
            self.pid_file.unlink(missing_ok=True)
            return False
        # The number of a session cannot be given away while any of its processes lives, and one of them holds the lock.
        for number, seconds in ((self.stop_signal, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            with suppress(ProcessLookupError):
                (os.killpg if number is signal.SIGKILL else os.kill)(pid, number)
            if self._gone_within(seconds):
                self.pid_file.unlink(missing_ok=True)
                return True
        raise ServiceFailed(f"{self.name} (process {pid}) does not end")

    def _gone_within(self, seconds: float) -> bool:
        over = time.monotonic() + seconds
        while self.pid() is not None:
            with suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            if time.monotonic() > over:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-_LAST_LINES:] if line.strip())[-1000:] or "it said nothing"


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Two who start and stop services of one folder at the same time do so one after the other.

    Raises:
        ServiceFailed: the folder cannot be made, or others decide what lies in it.
    """
    try:
        guarded.make_ours_alone(home)
        lock = guarded.open_file(home / "lock", flags=os.O_WRONLY | os.O_CREAT)
    except OSError as error:
        raise ServiceFailed(
            f"{home} cannot be used: {error.strerror}", by_hand="name another one: --home DIR"
        ) from error
    with os.fdopen(lock, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Service:
    """A daemon, where it answers, and what makes it ready for the pipeline.

    Attributes:
        address: for people; holds no password.
        host: where it listens.
        port: where it listens.
        before: done before each start; makes its data where there is none.
        after: done after each start.
        data: what `reset` deletes.
    """

    daemon: Daemon
    address: str
    host: str
    port: int
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    data: tuple[Path, ...] = ()

    def answers(self) -> bool:
        """Whether somebody listens there."""
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.host, self.port)) == 0

    def claim(self) -> None:
        """Make sure that nobody listens where this service is to listen.

        Raises:
            ServiceFailed: somebody does.
        """
        if self.answers():
            raise ServiceFailed(
                f"{self.daemon.name}: somebody else listens on {self.host}, port {self.port}",
                by_hand="free that port, or set another one; then the same again",
            )
