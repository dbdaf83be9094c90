"""A process and all that it started: memory as the kernel shares it out, bytes read and written, CPU time."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_SAMPLE_SECONDS = 0.1
_GRACE_SECONDS = 15


@dataclass(frozen=True)
class Memory:
    """The memory of several processes together, in bytes.

    Attributes:
        pss: proportional: a page that n processes share, whichever they are, counts for 1/n in each.
        rss: resident: a page that n of these processes share counts n times.
    """

    pss: int
    rss: int


@dataclass(frozen=True)
class Moved:
    """What the kernel counts in /proc/PID/io of a process, with all children that it waited for.

    Attributes:
        rchar: bytes asked of read(2) and its like, from files and pipes; not what came over sockets by recv(2).
        wchar: bytes given to write(2) and its like; not what was sent over sockets by send(2).
        read_bytes: what had to be fetched from the disk, past the page cache.
        write_bytes: what was made to be written to the disk, files removed before that included.
    """

    rchar: int
    wchar: int
    read_bytes: int
    write_bytes: int


@dataclass(frozen=True)
class Run:
    """What a command and all that it started took."""

    wall_seconds: float
    cpu_seconds: float
    moved: Moved
    peak_pss_bytes: int
    peak_disk_bytes: int


class CommandFailed(RuntimeError):
    """A measured command did not end as it should."""


def members(pid: int) -> list[psutil.Process]:
    """A process and its descendants that live now."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory(processes: Iterable[psutil.Process]) -> Memory:
    """What these processes hold now; one that has ended holds nothing."""
    pss = rss = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            held = process.memory_full_info()
            pss, rss = pss + held.pss, rss + held.rss
    return Memory(pss, rss)


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time of these processes so far, with the children that they waited for."""
    spent = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent


def settle(pid: int, *, at_least: int, seconds: float = 60) -> None:
    """Wait until a process has so many descendants and all of them together have nothing to do for half a second.

    Raises:
        CommandFailed: it ended, or did not come to rest.
    """
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        before = members(pid)
        spent = cpu_seconds(before)
        time.sleep(0.5)
        if len(before) > at_least and len(members(pid)) == len(before) and cpu_seconds(before) - spent < 0.03:
            return
    raise CommandFailed(f"process {pid} did not come to rest in {seconds:.0f} s")


@contextlib.contextmanager
def running(command: Sequence[str], *, environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that runs while the block does; then it is asked to end, and its whole group killed if it does not."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


def run(command: Sequence[str], *, environment: dict[str, str], log: Path, home: Path) -> Run:
    """Run a command to its end, and watch its memory and the disk that `home` takes.

    Raises:
        CommandFailed: its exit status was not 0.
    """
    started = time.monotonic()
    with running(command, environment=environment, log=log) as process, _Sampler(process.pid, home) as sampler:
        # Left unreaped for a moment: the kernel's counters of a process go when it is reaped.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.monotonic() - started
        moved = _moved(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CommandFailed(f"exit status {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, moved, sampler.peak_pss, sampler.peak_disk)


def _moved(pid: int) -> Moved:
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return Moved(*(int(counters[name]) for name in ("rchar", "wchar", "read_bytes", "write_bytes")))


def disk_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk; what goes meanwhile counts as gone, a link to a file once."""
    taken: dict[int, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(parent, name))
                taken[status.st_ino] = status.st_blocks * 512
    return sum(taken.values())


class _Sampler:
    """Looks at memory and disk often while its block runs, and keeps the most that it saw."""

    def __init__(self, pid: int, home: Path) -> None:
        self.peak_pss = self.peak_disk = 0
        self._pid, self._home = pid, home
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._often, args=[look]) for look in (self._memory, self._disk)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _often(self, look: Callable[[], None]) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            look()

    def _memory(self) -> None:
        self.peak_pss = max(self.peak_pss, memory(members(self._pid)).pss)

    def _disk(self) -> None:
        self.peak_disk = max(self.peak_disk, disk_bytes(self._home))
