"""Calls of verbs at any time to come: in a process whose clock, and SQLite's in it, is set by libfaketime."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Future:
    """Verbs are called in it, one after the other; see `future`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def call(self, day: int, *words: str) -> tuple[int, str]:
        """A verb's exit status and standard output, so many days from now."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([day, *words]) + "\n")
        self._process.stdin.flush()
        status, told = json.loads(self._process.stdout.readline() or '[-1, "it has ended"]')
        return int(status), str(told)


@contextlib.contextmanager
def future(environment: Mapping[str, str]) -> Iterator[Future]:
    """A process that is ended with the block; what it logs is dropped."""
    faketime = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not faketime:
        pytest.skip("libfaketime is not installed; .ci/run installs it")
    clock = {
        "LD_PRELOAD": str(faketime[0]),
        "FAKETIME": "+0",
        "FAKETIME_NO_CACHE": "1",  # so that it can be set anew
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else who waits for the interpreter's lock spins
        "NO_FAKE_STAT": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.world.clock"],
        cwd=ROOT,
        env={**environment, **clock},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield Future(process)
        finally:
            process.kill()


def _serve() -> None:
    from pipeline.cli import main  # noqa: PLC0415  # only where the clock is another one
    from pipeline.tasks import context  # noqa: PLC0415  # as above

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        day, *words = json.loads(line)
        os.environ["FAKETIME"] = f"+{day * 86400}"
        with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.redirect_stderr(io.StringIO()):
            status = main.main(words)
        context.current().engine.dispose()  # a process of its own would have ended
        answers.write(json.dumps([status, told.getvalue()]) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
