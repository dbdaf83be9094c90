"""The whole pipeline on an embedded stack: real protocols of S3 and SQS, a real scheduler and database, sample bags."""

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pipeline import intake
from pipeline.embedded.samples import make_sample_bag, sample_rid
from pipeline.embedded.stack import AT_MOST_WORKS, BUCKET, DEAD_LETTERS, QUEUE, Stack, clients, set_up_aws, stack
from pipeline.embedded.watched import RUN_PIPELINE, DemoFailed, run_lanes, works
from pipeline.foundation import guarded, start
from pipeline.foundation.arguments import positive, size
from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import SCHEDULER_USER, human_bytes, human_count, rid_from_name, staging_key
from pipeline.operations import show

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ASKED = re.compile(rf"POST /{BUCKET}/(\S+)\?restore ")
_ENDED = "  (ended with this demo; --keep leaves it running)"


def run(options: argparse.Namespace) -> int:
    """The demo, from nothing to the last table; 0 when all happened as told.

    Args:
        options: as `usage.working.DEMO` has them; `bags`: the corrupt one included, `size`: of each work, in bytes.

    Raises:
        UsageError: fewer than two bags leave nothing to show.
        DemoFailed: it did not end as told.
    """
    options.bags = options.bags or (12 if options.campaign else 6)
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
        before = {work.work_rid: work.stage for work in works(home)}
        zips = _make_bags(out, home, options)
        if options.campaign:
            _bring_home_from_the_cold(out, running, zips, lanes=options.lanes)
        else:
            _announce(out, running, zips)
            run_lanes(out, running, options.lanes)
        _judge(out, running, zips, before)
        _tell_places(out, running, keep=options.keep, campaign=options.campaign)
        if options.keep:
            _wait_for_ctrl_c(out)
    return 0


def feed(arguments: Sequence[str]) -> int:
    """Sample bags for workers elsewhere, as in the compose stack; each of them is announced by S3 itself."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.embedded.demo", description=feed.__doc__)
    parser.add_argument("url", metavar="URL", help="where moto answers")
    parser.add_argument("--bags", type=positive, default=6, metavar="N", help="how many, one of them corrupt")
    parser.add_argument("--size", type=size, default=2 << 20, metavar="SIZE", help="of each work: 500k, 2M (default)")
    parser.set_defaults(campaign=False)
    options = parser.parse_args(arguments)
    out, (s3, sqs) = show.console(), clients(options.url)
    set_up_aws(s3, sqs, bucket=BUCKET, queue=QUEUE, dead_letters=DEAD_LETTERS)
    if s3.list_objects_v2(Bucket=BUCKET)["KeyCount"]:
        out.print("the bags were put before; after a restart of moto they will be put again")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _restore(out, _make_bags(out, Path(folder), options), s3=s3, moto_url=options.url)
    return 0


def _make_bags(out: Console, home: Path, options: argparse.Namespace) -> list[Path]:
    """Sample bags; the last one corrupt, unless they are of a campaign."""
    numbers = [*range(1, options.bags), options.bags if options.campaign else 0]
    corrupt = "" if numbers[-1] else ", the last one corrupt"
    out.print(f"making {options.bags} sample bags of {human_bytes(options.size)}{corrupt}")
    folder = home / f"bags-{options.size}"
    return [make_sample_bag(folder, number, size_bytes=options.size, corrupt=number == 0) for number in numbers]


def _restore(out: Console, zips: list[Path], *, s3: "S3Client", moto_url: str) -> None:
    """Put the bags as frozen objects and ask S3 to restore them; S3 itself then tells the queue."""
    keys = _put(zips, s3=s3, moto_url=moto_url)
    out.print(f"{human_count(len(zips), 'object')} put as DEEP_ARCHIVE; asking S3 to restore them")
    for key in keys:
        s3.restore_object(
            Bucket=BUCKET, Key=key, RestoreRequest={"Days": 14, "GlacierJobParameters": {"Tier": "Standard"}}
        )
    _let_time_pass(s3, keys)


def _put(zips: list[Path], *, s3: "S3Client", moto_url: str) -> list[str]:
    """Put the bags as frozen objects; returns their keys."""
    keys = [staging_key(rid_from_name(path.name)) for path in zips]
    for key, path in zip(keys, zips, strict=True):
        with path.open("rb") as body:
            s3.put_object(Bucket=BUCKET, Key=key, Body=body, StorageClass="DEEP_ARCHIVE")
    # moto's restore takes two looks at the object; real Glacier takes twelve hours.
    transition: dict[str, Any] = {"model_name": "s3::keyrestore", "transition": {"progression": "manual", "times": 2}}
    control = urllib.request.Request(  # noqa: S310  # moto's own remote control, at the URL of the embedded stack
        f"{moto_url}/moto-api/state-manager/set-transition",
        data=json.dumps(transition).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(control, timeout=10):  # noqa: S310  # as above
        pass
    return keys


def _let_time_pass(s3: "S3Client", keys: Iterable[str]) -> None:
    """Until S3 has restored what it was asked for: moto does when it is looked at."""
    for key in keys:
        for _ in range(3):
            s3.head_object(Bucket=BUCKET, Key=key)


def _bring_home_from_the_cold(out: Console, running: Stack, zips: list[Path], *, lanes: int) -> None:
    """Want all of them at once; then run after run asks for as many as there is room for, and brings some home.

    Raises:
        DemoFailed: a run brought nothing home, or S3 was asked for too many, or for one twice.
    """
    log = running.home / "logs" / "moto.log"  # the server's own word on who asked for what
    begin = log.stat().st_size
    _put(zips, s3=running.s3, moto_url=running.moto_url)
    rids = [rid_from_name(path.name) for path in zips]
    out.print(f"{human_count(len(zips), 'object')} put as DEEP_ARCHIVE\nrun_pipeline.py restore {rids[0]} …")
    typed = [sys.executable, str(RUN_PIPELINE), "restore", *rids, "--yes"]
    told = subprocess.run(typed, env=running.environment, capture_output=True, text=True, check=False)
    if told.returncode:
        raise DemoFailed(f"`run_pipeline.py restore` failed: {told.stderr.strip()}")
    out.print(told.stdout.rstrip(), markup=False)
    before, asked = _home(running, rids), Counter[str]()
    home = before
    while True:
        earlier, restored = home, set(asked)
        run_lanes(out, running, lanes)
        home = _home(running, rids)
        asked = Counter(_ASKED.findall(log.read_bytes()[begin:].decode()))
        out.print(f"S3 was asked for {len(asked)} so far; {len(home)} of {len(rids)} are home")
        if len(asked) - len(home - before) > AT_MOST_WORKS or max(asked.values(), default=1) > 1:
            raise DemoFailed(f"S3 was asked for too many, or for one twice: {dict(asked)}", by_hand=f"read {log}")
        if len(home) == len(rids):
            break
        if home == earlier and (restored or not asked):
            raise DemoFailed("a run brought nothing home", by_hand=f"read {running.home / 'logs' / 'run.log'}")
        out.print("hours pass, and S3 restores what it was asked for")
        _let_time_pass(running.s3, asked)
    if len(asked) != len(home - before):
        raise DemoFailed(f"S3 was asked for {len(asked)} objects, {len(home - before)} were expected")
    if asked:
        out.print(f"S3 was asked for each of them once; after no run it had more than {AT_MOST_WORKS} in hand.")


def _home(running: Stack, rids: Collection[str]) -> set[str]:
    return {work.work_rid for work in works(running.home) if work.work_rid in rids and work.stage == "done"}


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


def _judge(out: Console, running: Stack, zips: list[Path], before: dict[str, str]) -> None:
    """Compare what is there with what should have happened."""
    rids = {rid_from_name(path.name) for path in zips}
    found = [work for work in works(running.home) if work.work_rid in rids]
    out.print()
    show.tell(out, show.works_rows(found))
    out.print()
    stages = {work.work_rid: work.stage for work in found}
    wanted = {rid: "refused" if rid == sample_rid(0) else "done" for rid in rids}
    refused = list(wanted.values()).count("refused")
    if stages != wanted:
        wrong = sorted(rid for rid in rids if stages.get(rid) != wanted[rid])
        what = f"these did not end as they should: {', '.join(wrong)}"
        raise DemoFailed(what, by_hand=f"read {running.home / 'logs'}")
    queue = intake.find_queue(running.sqs, source="demo", queue=QUEUE)
    left, dead = intake.depth(running.sqs, queue.url), intake.depth(running.sqs, queue.dead_letter_url)
    if sum(left.values()) or dead["waiting"] != refused:
        raise DemoFailed(f"queue: {left}; dead-letter queue: {dead}; 0 and {refused} messages were expected")
    new = [rid for rid in rids if before.get(rid) != wanted[rid]]
    if not new:
        out.print(
            f"Nothing was left to do: {human_count(len(rids) - refused, 'work was', 'works were')} home before"
            + (", and the refused bag stays refused." if refused else ".")
        )
        return
    home = len([rid for rid in new if rid != sample_rid(0)])
    out.print(f"{human_count(home, 'work')} came home. The queue is empty.")
    if sample_rid(0) in new:
        out.print(
            f"{sample_rid(0)} was made corrupt: refused, kept, explained, and its message is in the dead-letter queue."
        )


def _tell_places(out: Console, running: Stack, *, keep: bool, campaign: bool) -> None:
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
    verb = "status" if keep else "restore list --all" if campaign else f"explain {sample_rid(0)}"
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
