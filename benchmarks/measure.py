"""One run of a contender: wall time, CPU time and peak memory of its process and of all that it starts."""

import mmap
import os
import platform
import signal
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TOUCHED_BYTES = 2_500_000_000  # about what a run makes anew
_WRITTEN_BYTES = 1_300_000_000  # likewise, of files
_BLOCK = bytes(1 << 18)  # as most programs write


@dataclass(frozen=True)
class Run:
    """What one run took.

    Attributes:
        status: exit status of the process.
        wall_seconds: from its start to its end.
        cpu_seconds: user and system time of it and of all that it waited for.
        peak_bytes: of the largest process, as the kernel counts; at least what we take ourselves, which it forked from.
        peak_sum_bytes: of all processes at one moment; sampled, and pages that are shared count for each.
        error: the last line of what it wrote to stderr.
        busy_before: how busy others kept the machine when it began, from 0 to 1.
    """

    status: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    peak_sum_bytes: int
    error: str = ""
    busy_before: float = 0.0


def run(command: Sequence[str], *, environment: dict[str, str], log: Path) -> Run:
    """Run a command and measure it; on an interruption it is killed with all that it started."""
    with log.open("wb") as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=environment, start_new_session=True
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            sampler.ended.set()
            sampler.join()
    lines = log.read_text(errors="replace").strip().splitlines() or [""]
    peak = usage.ru_maxrss * 1024
    return Run(process.returncode, wall, usage.ru_utime + usage.ru_stime, peak, sampler.peak_bytes, lines[-1])


def median(runs: Sequence[Run], field: str) -> float:
    """The median of a figure over several runs."""
    return float(statistics.median(getattr(one, field) for one in runs))


def busy_share(seconds: float = 0.3) -> float:
    """The share of all CPUs' time that anybody used, over so many seconds from now."""
    first = _cpu_times()
    time.sleep(seconds)
    idle, whole = (now - then for now, then in zip(_cpu_times(), first, strict=True))
    return 1 - idle / whole if whole else 0.0


def wait_for_quiet(seconds: float, *, quiet: float = 0.1) -> float:
    """Wait until others let the machine be, at most so many seconds; returns how busy they still keep it."""
    ends = time.monotonic() + seconds
    busy = busy_share()
    while busy > quiet and time.monotonic() < ends:
        busy = busy_share()
    return busy


def touch_memory(folder: Path) -> None:
    """Write to free memory once: a virtual machine's fresh pages cost up to ten times as much as used ones.

    The host takes back what was given back for a while: it is done before each run. Programs' memory comes in small
    pieces and that of files in large ones, which the kernel keeps apart; both are touched.

    Args:
        folder: on the disk that is measured; nothing stays in it.
    """
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(told["MemFree"].split()[0]) * 1024 * 9 // 10
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(min(free // 2, _WRITTEN_BYTES) // len(_BLOCK)):
            file.write(_BLOCK)
        file.truncate(0)
    if child := os.fork():  # a process counts as its peak what the one had that it was forked from
        os.waitpid(child, 0)
        return
    memory = mmap.mmap(-1, min(max(free, _PAGE), _TOUCHED_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(memory), _PAGE):
        memory[at] = 1
    os._exit(0)


def machine() -> dict[str, str | int]:
    """What was measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model[0].partition(":")[2].strip() if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }


def _cpu_times() -> tuple[int, int]:
    values = [int(value) for value in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return values[3] + values[4], sum(values)


class _Sampler(threading.Thread):
    """Adds up the resident memory of a process and its descendants, often."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak_bytes = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(_SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, _resident(self.pid))


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, IndexError):  # it ended meanwhile
        return 0
    return pages * _PAGE + sum(map(_resident, children))
