"""The embedded stack: what its moto has to be told, because moto's own queues were not made for several at a time."""

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from pipeline.embedded.embedded import OneChangeAtATime


class App:
    """Counts how many requests are in it at the same time, and keeps each until two are, or a moment is over."""

    def __init__(self) -> None:
        self.most = 0
        self._inside = 0
        self._two = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, _environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            if self._inside > 1:
                self._two.set()
        self._two.wait(0.2)
        with self._lock:
            self._inside -= 1
        return []


@pytest.mark.parametrize(
    ("method", "action", "at_once"),
    [
        ("POST", "AmazonSQS.DeleteMessage", 1),
        ("POST", "AmazonSQS.SendMessage", 1),
        ("PUT", "", 1),
        ("POST", "AmazonSQS.ReceiveMessage", 2),
        ("GET", "", 2),
    ],
)
def test_changes_wait_for_one_another_and_readers_for_nobody(method: str, action: str, at_once: int) -> None:
    app = App()
    guarded = OneChangeAtATime(app)
    environ = {"REQUEST_METHOD": method, "HTTP_X_AMZ_TARGET": action}
    threads = [threading.Thread(target=guarded, args=(environ, None)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.most == at_once
