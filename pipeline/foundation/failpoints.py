"""What makes something visible, durable or gone: allowed only to who holds the work, and where tests pull the plug.

Two promises hang on these acts. Promise 5: right before each act on a disk or a queue, `only_while` has it asked
whether the work is still ours; a transaction asks for itself, inside. Promise 4: killed at any instant, run again, same
result. `PIPELINE_TEST_KILL_AT` names the instant at which the process kills itself with SIGKILL: a named point, such as
`message received`, or `before commit 7`, `after rename 2`: right before or after the n-th act of that kind in the
process. `PIPELINE_TEST_FREEZE_AT` names several, at each of which the first of all processes to come there stops itself
with SIGSTOP. With `PIPELINE_TEST_LOG_ACTS` set to a file, every act is told there, so that a test can try them all, and
beside it who froze at which instant. Without a variable an act costs one comparison.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

_KILL_AT = os.environ.get("PIPELINE_TEST_KILL_AT", "")
_FREEZE_AT = frozenset(filter(None, os.environ.get("PIPELINE_TEST_FREEZE_AT", "").split("|")))
_LOG_ACTS = os.environ.get("PIPELINE_TEST_LOG_ACTS", "")
_ON = bool(_KILL_AT or _FREEZE_AT or _LOG_ACTS)
_done: Counter[str] = Counter()
_allowed: Callable[[], None] | None = None


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


@contextmanager
def only_while(check: Callable[[], None]) -> Iterator[None]:
    """While the block runs, acts on disks and queues are done only if `check` does not raise, in whatever thread."""
    global _allowed  # noqa: PLW0603  # a lane, which is a process, works on one thing at a time
    outer, _allowed = _allowed, check
    try:
        yield
    finally:
        _allowed = outer


def see_allowed() -> None:
    """Called right before something is renamed, deleted or sent.

    Raises:
        PipelineError: it may not be done (any more): what the check raised.
    """
    if _allowed is not None:
        _allowed()


def point(name: str) -> None:
    """Die or freeze here if this is the point that a test has chosen."""
    if _ON:
        _strike(name)


def before(act: Act) -> None:
    """Called right before an act.

    Raises:
        PipelineError: it may not be done (any more): see `only_while`.
    """
    if _ON and threading.current_thread() is threading.main_thread():  # the heartbeat's acts come when they come
        _done[act] += 1
        _tell(f"before {act} {_done[act]}")
    if act is not Act.COMMIT:
        see_allowed()


def after(act: Act) -> None:
    """Called right after an act that succeeded."""
    if _ON and threading.current_thread() is threading.main_thread():
        _tell(f"after {act} {_done[act]}")


def _tell(instant: str) -> None:
    _log(instant)
    _strike(instant)


def _strike(instant: str) -> None:
    if instant == _KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)
    elif instant in _FREEZE_AT and _is_first_at(instant):
        os.kill(os.getpid(), signal.SIGSTOP)


def _is_first_at(instant: str) -> bool:
    try:
        with Path(f"{_LOG_ACTS}.{instant}").open("x", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _log(what: str) -> None:
    if _LOG_ACTS:
        with Path(_LOG_ACTS).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {what}\n")
