"""How far a step is: told seldom, in words for people, and never at the step's expense."""

import logging
import threading
import time

import pytest

from pipeline.tasks.progress import Progress
from tests.world.stack import wait_until

MIB = 1 << 20
LOG = logging.getLogger("test-progress")


def test_a_step_that_is_soon_over_tells_nothing() -> None:
    shown: list[str] = []
    with Progress("W1", "downloading", show=lambda text, _percent: shown.append(text), log=LOG) as progress:
        for done in range(100):
            progress.tell(done, 100)

    assert shown == []


def test_bytes_rate_and_time_left_are_told_in_the_log_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    shown: list[tuple[str, int]] = []
    caplog.set_level(logging.INFO)
    with Progress(
        "W1",
        "downloading",
        show=lambda *told: shown.append(told),
        log=LOG,
        show_seconds=0.1,
        log_seconds=0.1,
    ) as progress:
        progress.tell(0, 100 * MIB)
        time.sleep(0.2)
        progress.tell(25 * MIB, 100 * MIB)
        wait_until(lambda: shown)

    ((text, percent),) = shown
    assert percent == 25
    assert text.startswith("W1: downloading: 25.0 MiB of 100.0 MiB, ")
    assert text.endswith(" s left")
    assert [record.getMessage() for record in caplog.records] == [text]


def test_many_calls_are_told_once_in_a_while() -> None:
    shown: list[str] = []
    with Progress(
        "W1", "downloading", show=lambda text, _percent: shown.append(text), log=LOG, show_seconds=0.1
    ) as progress:
        began = time.monotonic()
        while time.monotonic() < began + 0.55:
            progress.tell(1, 2)

    assert 1 <= len(shown) <= 10 * (time.monotonic() - began)


def test_a_scheduler_that_does_not_answer_holds_up_nothing() -> None:
    asked, free = threading.Event(), threading.Event()

    def show(_text: str, _percent: int) -> None:
        asked.set()
        free.wait(30)

    try:
        with Progress("W1", "downloading", show=show, log=LOG, show_seconds=0.01) as progress:
            began = time.monotonic()
            while not asked.is_set():
                progress.tell(1, 2)
            for _ in range(100):
                progress.tell(1, 2)
        assert time.monotonic() - began < 25
    finally:
        free.set()
