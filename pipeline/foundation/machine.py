"""This machine: how many CPUs this process may use, and what of a file is in the page cache.

A file is taken out of the cache so that a read shows what the storage holds.
"""

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")

# As a PyDLL, it keeps the interpreter's lock: these calls take a microsecond, getting the lock back may take ten.
_libc = ctypes.PyDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value
_RESIDENT = b"\x01"


def drop_cache(descriptor: int) -> bool:
    """Ask the system to forget its pages of an open file; whether none is left for certain.

    The kernel takes POSIX_FADV_DONTNEED for a wish: dirty pages and pages that others have mapped stay, and tmpfs has
    nothing but its pages. So mincore(2) is asked afterwards. False also where that cannot be told, as for files that
    this user may only read: the kernel then says that all pages are there.
    """
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        size_bytes = os.fstat(descriptor).st_size
    except OSError:
        return False
    return size_bytes == 0 or not _any_cached(descriptor, size_bytes)


def _any_cached(descriptor: int, size_bytes: int) -> bool:
    """Whether a page of the file is in memory, or it cannot be told."""
    address = _libc.mmap(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _MAP_FAILED:
        return True
    pages = ctypes.create_string_buffer(-(-size_bytes // mmap.PAGESIZE))
    answered = _libc.mincore(address, size_bytes, pages) == 0
    _libc.munmap(address, size_bytes)
    return not answered or _RESIDENT in pages.raw


def available_cpus() -> int:
    """CPUs that this process may use: its affinity, cut down to its cgroup's quota.

    `os.cpu_count()` is the machine's; a container with a quota of one CPU on a host of 64 would start 64 threads.
    """
    cpus = len(os.sched_getaffinity(0))
    limits = [
        int(quota) / int(period) for quota, period in _quotas() if quota.isdigit() and period.isdigit() and int(period)
    ]
    return max(1, min(cpus, round(min(limits)))) if limits else cpus


def _quotas() -> Iterator[tuple[str, str]]:
    """The quota and period of this process's control groups; one that is no number is no limit."""
    for group in _own_groups("", _CGROUPS):  # version 2: "quota period", or "max period"
        quota, _, period = _first_line(group / "cpu.max").partition(" ")
        yield quota, period
    for group in _own_groups("cpu", _CGROUPS / "cpu"):  # version 1: -1 is none
        yield _first_line(group / "cpu.cfs_quota_us"), _first_line(group / "cpu.cfs_period_us")


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ""


def _own_groups(controller: str, root: Path) -> list[Path]:
    """The control group of this process and those above it, nearest first; a limit of any of them counts."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            group = root / path.lstrip("/")
            return [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return [root]
