"""The whole pipeline on an embedded stack: real protocols of S3 and SQS, a real scheduler and database, sample bags."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live

from pipeline import intake, record
from pipeline.embedded.samples import make_sample_bag, sample_rid
from pipeline.embedded.stack import BUCKET, DEAD_LETTERS, QUEUE, Stack, clients, set_up_aws, stack
from pipeline.foundation import guarded, start
from pipeline.foundation.arguments import positive, size
from pipeline.foundation.errors import PipelineError, UsageError
from pipeline.foundation.work import SCHEDULER_USER, human_bytes, human_count, rid_from_name, staging_key
from pipeline.operations import show
from pipeline.record import views

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUN_PIPELINE = Path(__file__).resolve().parents[2] / "run_pipeline.py"
_REFRESH_SECONDS = 0.3
_ENDED = "  (ended with this demo; --keep leaves it running)"


class DemoFailed(PipelineError):
    """Something did not happen as the demo tells it."""


def run(options: argparse.Namespace) -> int:
    """The demo, from nothing to the last table; 0 when all happened as told.

    Args:
        options: as `usage.working.DEMO` has them; `bags`: the corrupt one included, `size`: of each work, in bytes.

    Raises:
        UsageError: fewer than two bags leave nothing to show.
        DemoFailed: it did not end as told.
    """
    if options.bags < 2:
        raise UsageError("--bags: at least 2, one of them is the corrupt one")
    out = show.console()
    home = options.home or Path(tempfile.mkdtemp(prefix="pipeline-demo-"))
    try:
        guarded.make_ours_alone(home.absolute())
    except OSError as error:
        raise DemoFailed(f"{home} cannot be used: {error.strerror}", by_hand="name another one: --home DIR") from error
    home = home.resolve()
    with _ended_by_signals(), stack(home, lanes=options.lanes) as running:
        out.print(f"S3 and SQS: moto at {running.moto_url}; scheduler: luigid at {running.luigid_url}")
        before = {work.work_rid: work.stage for work in _works(home)}
        zips = _make_bags(out, home, options)
        _announce(out, running, zips)
        _run_lanes(out, running, options.lanes)
        _judge(out, running, zips, before)
        _tell_places(out, running, keep=options.keep)
        if options.keep:
            _wait_for_ctrl_c(out)
    return 0


def feed(arguments: Sequence[str]) -> int:
    """Sample bags for workers elsewhere, as in the compose stack; each of them is announced by S3 itself."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.embedded.demo", description=feed.__doc__)
    parser.add_argument("url", metavar="URL", help="where moto answers")
    parser.add_argument("--bags", type=positive, default=6, metavar="N", help="how many, one of them corrupt")
    parser.add_argument("--size", type=size, default=2 << 20, metavar="SIZE", help="of each work: 500k, 2M (default)")
    options = parser.parse_args(arguments)
    out, (s3, sqs) = show.console(), clients(options.url)
    set_up_aws(s3, sqs, bucket=BUCKET, queue=QUEUE, dead_letters=DEAD_LETTERS)
    if s3.list_objects_v2(Bucket=BUCKET)["KeyCount"]:
        out.print("the bags were put before; after a restart of moto they will be put again")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _restore(out, _make_bags(out, Path(folder), options), s3=s3, moto_url=options.url)
    return 0


def _works(home: Path) -> list[views.WorkStatus]:
    database = home / "pipeline.db"
    if not database.exists():
        return []
    engine = record.connect(f"sqlite:///{database}")
    try:
        record.prepare(engine)
        return sorted(views.works(engine), key=lambda work: (len(work.work_rid), work.work_rid))
    finally:
        engine.dispose()


def _make_bags(out: Console, home: Path, options: argparse.Namespace) -> list[Path]:
    """Sample bags, the last one corrupt."""
    out.print(f"making {options.bags} sample bags of {human_bytes(options.size)}, the last one corrupt")
    folder = home / f"bags-{options.size}"
    return [
        make_sample_bag(folder, number, size_bytes=options.size, corrupt=number == 0)
        for number in [*range(1, options.bags), 0]
    ]


def _restore(out: Console, zips: list[Path], *, s3: "S3Client", moto_url: str) -> None:
    """Put the bags as frozen objects and ask S3 to restore them; S3 itself then tells the queue."""
    for path in zips:
        with path.open("rb") as body:
            s3.put_object(
                Bucket=BUCKET, Key=staging_key(rid_from_name(path.name)), Body=body, StorageClass="DEEP_ARCHIVE"
            )
    out.print(f"{human_count(len(zips), 'object')} put as DEEP_ARCHIVE; asking S3 to restore them")
    # moto's restore takes two looks at the object; real Glacier takes twelve hours.
    transition: dict[str, Any] = {"model_name": "s3::keyrestore", "transition": {"progression": "manual", "times": 2}}
    control = urllib.request.Request(  # noqa: S310  # moto's own remote control, at the URL of the embedded stack
        f"{moto_url}/moto-api/state-manager/set-transition",
        data=json.dumps(transition).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(control, timeout=10):  # noqa: S310  # as above
        pass
    for path in zips:
        key = staging_key(rid_from_name(path.name))
        s3.restore_object(
            Bucket=BUCKET, Key=key, RestoreRequest={"Days": 14, "GlacierJobParameters": {"Tier": "Standard"}}
        )
        for _ in range(3):
            s3.head_object(Bucket=BUCKET, Key=key)


def _announce(out: Console, running: Stack, zips: list[Path]) -> None:
    queue = intake.find_queue(running.sqs, source="demo", queue=QUEUE)
    before = intake.depth(running.sqs, queue.url)["waiting"]
    _restore(out, zips, s3=running.s3, moto_url=running.moto_url)
    waiting = intake.depth(running.sqs, queue.url)["waiting"] - before
    out.print(
        f"S3 has sent {human_count(waiting, 'message')} to the queue" + (", after its test event" if before else "")
    )
    if waiting != len(zips):
        raise DemoFailed(f"messages in the queue: {waiting}, {len(zips)} were expected")


def _run_lanes(out: Console, running: Stack, lanes: int) -> None:
    command = [sys.executable, str(RUN_PIPELINE), "run", "--lanes", str(lanes)]
    out.print(f"run_pipeline.py run --lanes {lanes}")
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
            _watch(out, running.home, process)
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


def _watch(out: Console, home: Path, process: "subprocess.Popen[bytes]") -> None:
    """A live table on a terminal; elsewhere a line for every change."""
    told: dict[str, str] = {}
    live = Live(console=out, refresh_per_second=4, transient=True) if out.is_terminal else None
    if live is not None:
        live.start()
    try:
        ended = False
        while not ended:
            ended = process.poll() is not None
            works = _works(home)
            if live is not None:
                live.update(show.table(show.works_rows(works)))
            else:
                _tell_changes(out, works, told)
            time.sleep(0 if ended else _REFRESH_SECONDS)
    finally:
        if live is not None:
            live.stop()


def _tell_changes(out: Console, works: list[views.WorkStatus], told: dict[str, str]) -> None:
    for work in works:
        if told.get(work.work_rid) != work.stage:
            told[work.work_rid] = work.stage
            out.print(f"{work.work_rid}: {work.stage}")


def _judge(out: Console, running: Stack, zips: list[Path], before: dict[str, str]) -> None:
    """Compare what is there with what should have happened."""
    rids = {rid_from_name(path.name) for path in zips}
    works = [work for work in _works(running.home) if work.work_rid in rids]
    out.print()
    show.tell(out, show.works_rows(works))
    out.print()
    stages = {work.work_rid: work.stage for work in works}
    wanted = {rid: "refused" if rid == sample_rid(0) else "done" for rid in rids}
    if stages != wanted:
        wrong = sorted(rid for rid in rids if stages.get(rid) != wanted[rid])
        what = f"these did not end as they should: {', '.join(wrong)}"
        raise DemoFailed(what, by_hand=f"read {running.home / 'logs'}")
    queue = intake.find_queue(running.sqs, source="demo", queue=QUEUE)
    left, dead = intake.depth(running.sqs, queue.url), intake.depth(running.sqs, queue.dead_letter_url)
    if sum(left.values()) or dead["waiting"] != 1:
        raise DemoFailed(f"queue: {left}; dead-letter queue: {dead}; 0 and 1 messages were expected")
    new = [rid for rid in rids if before.get(rid) != wanted[rid]]
    if not new:
        out.print(
            f"Nothing was left to do: {human_count(len(rids) - 1, 'work was', 'works were')} home before, "
            "and the refused bag stays refused."
        )
        return
    home = len([rid for rid in new if rid != sample_rid(0)])
    out.print(f"{human_count(home, 'work')} came home. The queue is empty.")
    if sample_rid(0) in new:
        out.print(
            f"{sample_rid(0)} was made corrupt: refused, kept, explained, and its message is in the dead-letter queue."
        )


def _tell_places(out: Console, running: Stack, *, keep: bool) -> None:
    places: dict[str, Any] = {
        "archive": running.home / "archive",
        "database": running.home / "pipeline.db",
        "refused bags": running.home / "quarantine",
        "logs": running.home / "logs",
        "visualiser": f"{running.luigid_url}/static/visualiser/index.html"
        + (f"  (user {SCHEDULER_USER}, password in {running.password_file})" if keep else _ENDED),
    }
    for name, place in places.items():
        out.print(f"{name:13} {place}")
    verb = "status" if keep else f"explain {sample_rid(0)}"
    command = f"{running.by_hand} {shlex.join([sys.executable, str(RUN_PIPELINE)])}"
    # So that what is typed next, as failures tell it, goes by the demo's settings too.
    out.print(f"look around   alias run_pipeline.py={shlex.quote(command)}", soft_wrap=True)
    out.print(f"              run_pipeline.py {verb}")


def _wait_for_ctrl_c(out: Console) -> None:
    out.print("Ctrl-C ends the visualiser and the demo.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        out.print("ended")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: through every `finally`, so no child stays behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    start.use_utf8()
    sys.exit(feed(sys.argv[1:]))
