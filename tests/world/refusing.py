"""A kernel that refuses some system calls, as shares refuse them in the field.

seccomp(2), so the answers are real ones of the kernel, to Python, cp, rsync and whatever a script calls.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = (
    0x20,
    0x15,
    0x06,
)  # of the BPF machine: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBERS = {
    "x86_64": {"flock": 73, "fsync": 74, "chmod": 90, "fchmod": 91, "utime": 132, "utimes": 235, "futimesat": 261}
    | {"fchmodat": 268, "utimensat": 280, "syncfs": 306, "renameat2": 316, "fchmodat2": 452},
    "aarch64": {"flock": 32, "fchmod": 52, "fchmodat": 53, "fsync": 82, "utimensat": 88, "syncfs": 267}
    | {"renameat2": 276, "fchmodat2": 452},
}

TIMES = dict.fromkeys(("utime", "utimes", "futimesat", "utimensat"), errno.EPERM)
MODES = dict.fromkeys(("chmod", "fchmod", "fchmodat", "fchmodat2"), errno.EPERM)


Result = TypeVar("Result")


def refusing(refused: Mapping[str, int], act: Callable[[], Result]) -> Result:
    """Call `act` where the kernel ends these system calls with these error numbers; what it raises is raised.

    In a thread of its own: a filter holds for the thread that asked for it, for the threads and processes that it
    starts, and for nothing else.
    """
    numbers = _NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    if numbers is None:
        pytest.skip(f"the numbers of system calls are not known for {platform.machine()}")

    def filtered() -> Result:
        _refuse({numbers[name]: code for name, code in refused.items() if name in numbers})
        return act()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(filtered).result()


def _refuse(calls: Mapping[int, int]) -> None:
    program = [(_LOAD, 0, 0, 0)]  # the number of the call
    for number, code in calls.items():
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | code)]
    program.append((_RETURN, 0, 0, _ALLOW))
    steps = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(steps)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, whole, 0, 0):
        pytest.skip(f"this kernel takes no filter: {os.strerror(ctypes.get_errno())}")
