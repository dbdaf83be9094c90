"""Pulling the plug on purpose, for the tests that prove promise 4: killed at any instant, run again, same result.

`PIPELINE_TEST_KILL_AT` names the instant at which the process kills itself with SIGKILL: a named point, such as
`message received`, or `before commit 7`, `after rename 2`: right before or after the n-th act of that kind in the
process. With `PIPELINE_TEST_LOG_ACTS` set to a file, every act is told there instead, so that a test can try them all.
Without either variable an act costs one comparison.
"""

import os
import signal
import threading
from collections import Counter
from enum import StrEnum
from pathlib import Path

_KILL_AT = os.environ.get("PIPELINE_TEST_KILL_AT", "")
_LOG_ACTS = os.environ.get("PIPELINE_TEST_LOG_ACTS", "")
_ON = bool(_KILL_AT or _LOG_ACTS)
_done: Counter[str] = Counter()

POINTS = (
    "message received",
    "leases taken",
    "download half-way",
    "downloaded, not vouched for",
    "debag published, not recorded",
    "sync copied, not committed",
    "half cleared",
)

FOLDER_POINTS = ("zip claimed", "zip identified", "zip set aside", "refusal reported")


class Act(StrEnum):
    """What makes something visible, durable, or gone."""

    COMMIT = "commit"
    RENAME = "rename"
    DELETE = "delete"
    SEND = "send"
    ACKNOWLEDGE = "acknowledge"


def disarm() -> None:
    """Nothing is counted or killed in this process: it is not the one that a test means."""
    global _ON  # noqa: PLW0603  # a switch of the whole process
    _ON = False


def point(name: str) -> None:
    """Die here if this is the point that a test has chosen."""
    if _ON and name == _KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def before(act: Act) -> None:
    """Called right before an act."""
    if _ON and threading.current_thread() is threading.main_thread():  # the heartbeat's acts come when they come
        _done[act] += 1
        _tell(f"before {act} {_done[act]}")


def after(act: Act) -> None:
    """Called right after an act that succeeded."""
    if _ON and threading.current_thread() is threading.main_thread():
        _tell(f"after {act} {_done[act]}")


def _tell(instant: str) -> None:
    if _LOG_ACTS:
        with Path(_LOG_ACTS).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {instant}\n")
    if instant == _KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)
