"""A question to S3 whose answer may be minutes in coming: asked in a thread of its own, so that a stop need not wait.

botocore rides out throttling and silence inside a call, for minutes, and nothing can be done about the thread that
waits there. So it is never the caller's: that one asks its pulse, and leaves the thread behind when it has to end.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

_TICK_SECONDS = 0.25

Answer = TypeVar("Answer")


def answered(
    ask: Callable[[], Answer], *, waiting: Callable[[], None], unwanted: Callable[[Answer], None] = lambda _answer: None
) -> Answer:
    """What `ask` returns, or raises.

    Args:
        ask: the question.
        waiting: called a few times a second until the answer is there; what it raises is raised at once.
        unwanted: given an answer that comes after that, to be cleared away.
    """
    told: list[Answer] = []
    failed: list[BaseException] = []
    lock, over, left = threading.Lock(), threading.Event(), threading.Event()

    def work() -> None:
        try:
            answer = ask()
        except BaseException as error:  # noqa: BLE001  # it is raised again in the caller's thread
            failed.append(error)
        else:
            with lock:
                if left.is_set():
                    unwanted(answer)
                else:
                    told.append(answer)
        finally:
            over.set()

    threading.Thread(target=work, daemon=True, name="asking S3").start()
    try:
        while not over.wait(_TICK_SECONDS):
            waiting()
    except BaseException:
        with lock:
            left.set()
            for answer in told:
                unwanted(answer)
        raise
    if failed:
        raise failed[0]
    return told[0]
