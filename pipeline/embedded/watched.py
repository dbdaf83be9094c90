"""A run of the line on the embedded stack, watched while works come home."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from pipeline import record
from pipeline.embedded.stack import Stack
from pipeline.foundation.errors import PipelineError
from pipeline.operations import show
from pipeline.record import views

RUN_PIPELINE = Path(__file__).resolve().parents[2] / "run_pipeline.py"
_REFRESH_SECONDS = 0.3


class DemoFailed(PipelineError):
    """Something did not happen as the demo tells it."""


def works(home: Path) -> list[views.WorkStatus]:
    """All works that the record of a stack knows, in the order of their numbers."""
    database = home / "pipeline.db"
    if not database.exists():
        return []
    engine = record.connect(f"sqlite:///{database}")
    try:
        record.prepare(engine)
        return sorted(views.works(engine), key=lambda work: (len(work.work_rid), work.work_rid))
    finally:
        engine.dispose()


def run_lanes(out: Console, running: Stack, lanes: int) -> None:
    """One run of the line, until its sources are empty.

    Raises:
        DemoFailed: it broke off.
    """
    command = [sys.executable, str(RUN_PIPELINE), "run", "--lanes", str(lanes)]
    out.print(f"run_pipeline.py run --lanes {lanes}")
    told = {work.work_rid: work.stage for work in works(running.home)}
    log = running.home / "logs" / "run.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command,
            env=running.environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
        try:
            _watch(out, running.home, process, told)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    if process.returncode not in {0, 1}:
        raise DemoFailed(f"`run_pipeline.py run` ended with exit status {process.returncode}", by_hand=f"read {log}")


def _watch(out: Console, home: Path, process: "subprocess.Popen[bytes]", told: dict[str, str]) -> None:
    """A live table on a terminal; elsewhere a line for every change."""
    live = Live(console=out, refresh_per_second=4, transient=True) if out.is_terminal else None
    if live is not None:
        live.start()
    try:
        ended = False
        while not ended:
            ended = process.poll() is not None
            found = works(home)
            if live is not None:
                live.update(show.table(show.works_rows(found)))
            else:
                _tell_changes(out, found, told)
            time.sleep(0 if ended else _REFRESH_SECONDS)
    finally:
        if live is not None:
            live.stop()


def _tell_changes(out: Console, found: list[views.WorkStatus], told: dict[str, str]) -> None:
    for work in found:
        if told.get(work.work_rid) != work.stage:
            told[work.work_rid] = work.stage
            out.print(f"{work.work_rid}: {work.stage}")
