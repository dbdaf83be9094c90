"""A server that misbehaves: the right bytes or a named failure each time, never wrong bytes."""

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline import download
from pipeline.foundation.errors import (
    AccessDenied,
    CredentialsExpired,
    DownloadMismatch,
    NoRoom,
    NotRestored,
    ObjectGone,
    ObjectReplaced,
    PipelineError,
    RestoreExpired,
    Stopping,
    StorageUnreachable,
    WorkBusy,
)
from tests.world.faulty_s3 import S3, Asked, Fault, Script, faulty_s3

MIB = 1 << 20
CONTENT = random.Random(5).randbytes(6 * MIB + 12_345)
QUICK = download.FetchOptions(
    connections=4, chunk_bytes=MIB, verify=download.Verify.ALWAYS, stall_seconds=5, attempts=4, pause_seconds=0.01
)
CHUNKS = 7


@pytest.fixture
def s3() -> Iterator[S3]:
    """An object of seven ranges, uploaded in parts of half a range."""
    with faulty_s3(CONTENT, part_bytes=MIB // 2) as made:
        yield made


def fetch(s3: S3, folder: Path, *, options: download.FetchOptions = QUICK, attempts: int = 3) -> download.Fetched:
    return download.fetch(s3.client(attempts=attempts), s3.bag, to=folder / "W1.bag.zip", options=options)


def once(fault: Fault, *, at: int = 3 * MIB) -> Script:
    """The first GET of the range that begins at this byte goes wrong; further ones are served."""
    seen: list[Asked] = []

    def script(asked: Asked) -> Fault | None:
        if asked.method != "GET" or asked.start != at or seen:
            return None
        seen.append(asked)
        return fault

    return script


def always(fault: Fault, *, at: int = 3 * MIB) -> Script:
    return lambda asked: fault if asked.method == "GET" and asked.start == at else None


def nothing_under_the_name(folder: Path) -> bool:
    return not (folder / "W1.bag.zip").exists()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        (Fault(send=300_000, then="reset"), 300_000),
        (Fault(send=300_000, then="stall"), 300_000),
        (Fault(send=300_000, then="close"), 300_000),
        (Fault(send=0, then="reset"), 0),
        (Fault(error=(503, "SlowDown")), 0),
        (Fault(error=(500, "InternalError")), 0),
        (Fault(shift=17), 0),
    ],
    ids=["reset", "stall", "truncated", "reset at once", "throttled", "broken", "another range"],
)
def test_what_breaks_off_is_asked_for_again_from_where_it_broke_off(
    s3: S3, tmp_path: Path, fault: Fault, again: int
) -> None:
    s3.script = once(fault)

    fetched = fetch(s3, tmp_path, options=replace(QUICK, stall_seconds=1 if fault.then == "stall" else 30))

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.verified == "etag-md5-of-parts"
    assert fetched.digests == {"etag-md5-of-parts": s3.etag}
    # What a block of the buffer held may come again, and nothing else.
    assert len(CONTENT) <= fetched.fetched_bytes <= len(CONTENT) + (1 << 18)
    assert [asked for asked in s3.gets() if 3 * MIB <= asked.start <= 3 * MIB + again][1:], "it was asked for once"


def test_a_storm_of_503_is_ridden_out(s3: S3, tmp_path: Path) -> None:
    dice = random.Random(1)
    s3.script = lambda _asked: Fault(error=(503, "SlowDown")) if dice.random() < 0.3 else None

    assert fetch(s3, tmp_path, attempts=10).path.read_bytes() == CONTENT


def test_a_storm_of_503_that_meets_the_head_is_ridden_out_too(s3: S3, tmp_path: Path) -> None:
    """A HEAD has no body that says SlowDown: botocore would hurry, and be through with its attempts in seconds."""
    heads: list[Asked] = []

    def script(asked: Asked) -> Fault | None:
        heads.extend([asked] if asked.method == "HEAD" else [])
        return Fault(error=(503, "SlowDown")) if asked.method == "HEAD" and len(heads) <= 6 else None

    s3.script = script

    assert fetch(s3, tmp_path).path.read_bytes() == CONTENT


def test_a_connection_on_which_bytes_trickle_is_given_up_and_the_rest_asked_for_anew(s3: S3, tmp_path: Path) -> None:
    s3.script = once(Fault(send=300_000, then="trickle"))

    fetched = fetch(s3, tmp_path, options=replace(QUICK, stall_seconds=30, slow_seconds=0.5))

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.refetched == ()
    assert fetched.seconds < 20


def test_connections_that_break_all_the_time_but_bring_something_are_ridden_out(s3: S3, tmp_path: Path) -> None:
    """Each brings more than a quarter of a mebibyte before it breaks."""
    s3.script = lambda asked: Fault(send=300_000, then="close") if asked.method == "GET" else None

    assert fetch(s3, tmp_path, options=replace(QUICK, attempts=2)).path.read_bytes() == CONTENT


@pytest.mark.parametrize("then", ["reset", "stall", "close"])
def test_a_range_that_never_comes_is_a_named_failure_and_the_rest_is_kept(s3: S3, tmp_path: Path, then: str) -> None:
    s3.script = always(Fault(send=0, then=then))
    options = replace(QUICK, stall_seconds=0.1)

    with pytest.raises(StorageUnreachable, match="broke off 4 times") as caught:
        fetch(s3, tmp_path, options=options)

    assert nothing_under_the_name(tmp_path)
    assert "kept in" in caught.value.kept
    before = s3.sent_bytes
    s3.script = lambda _asked: None
    fetched = fetch(s3, tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.fetched_bytes == s3.sent_bytes - before < len(CONTENT)


def test_a_server_that_throttles_for_ever_is_a_named_failure(s3: S3, tmp_path: Path) -> None:
    s3.script = lambda asked: Fault(error=(503, "SlowDown")) if asked.method == "GET" else None

    with pytest.raises(StorageUnreachable, match="SlowDown"):
        fetch(s3, tmp_path, attempts=2)

    assert left(tmp_path) == []


@pytest.mark.parametrize("part_bytes", [MIB // 2, 0, 5 * MIB], ids=["parts", "one piece", "parts larger than ranges"])
@pytest.mark.parametrize("chunk_bytes", [MIB, 64 * MIB])
def test_a_flipped_bit_is_found_and_its_range_is_named_and_fetched_again(
    tmp_path: Path, part_bytes: int, chunk_bytes: int
) -> None:
    at = 3 * MIB if chunk_bytes == MIB else 0
    with faulty_s3(CONTENT, part_bytes=part_bytes, script=once(Fault(flip=3 * MIB + 5), at=at)) as s3:
        fetched = fetch(s3, tmp_path, options=replace(QUICK, chunk_bytes=chunk_bytes))

    assert fetched.path.read_bytes() == CONTENT
    (named,) = fetched.refetched
    first, last = (int(text) for text in named.removeprefix("bytes ").split("-"))
    assert first <= 3 * MIB + 5 <= last


@pytest.mark.parametrize("part_bytes", [MIB // 2, 0])
def test_a_bit_that_flips_each_time_is_a_named_failure_and_is_not_paid_for_a_third_time(
    tmp_path: Path, part_bytes: int
) -> None:
    with faulty_s3(CONTENT, part_bytes=part_bytes, script=always(Fault(flip=3 * MIB + 5))) as s3:
        with pytest.raises(DownloadMismatch, match="--from download"):
            fetch(s3, tmp_path)
        paid = s3.sent_bytes
        with pytest.raises(DownloadMismatch):
            fetch(s3, tmp_path)

    assert paid == 2 * len(CONTENT)
    assert s3.sent_bytes == paid
    assert nothing_under_the_name(tmp_path)


def test_an_object_overwritten_between_head_and_get_is_replaced_not_mixed(s3: S3, tmp_path: Path) -> None:
    bag = replace(s3.bag, etag="")
    other = random.Random(6).randbytes(len(CONTENT))

    def script(asked: Asked) -> None:
        if asked.method == "GET":
            s3.content = other

    s3.script = script
    with pytest.raises(ObjectReplaced):
        download.fetch(s3.client(), bag, to=tmp_path / "W1.bag.zip", options=QUICK)

    assert left(tmp_path) == []


@pytest.mark.parametrize("honours_pins", [True, False], ids=["412", "a server that ignores If-Match"])
def test_an_object_overwritten_half_way_is_replaced_not_mixed(s3: S3, tmp_path: Path, *, honours_pins: bool) -> None:
    s3.honours_pins = honours_pins
    bag, other = s3.bag, random.Random(6).randbytes(len(CONTENT))

    def script(asked: Asked) -> None:
        if asked.start == 5 * MIB:
            s3.content = other

    s3.script = script
    with pytest.raises(ObjectReplaced, match="discarded"):
        download.fetch(s3.client(), bag, to=tmp_path / "W1.bag.zip", options=replace(QUICK, connections=1))

    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "code", "error", "says"),
    [
        (403, "AccessDenied", AccessDenied, "grant s3:GetObject"),
        (400, "ExpiredToken", CredentialsExpired, "renew the credentials"),
        (403, "InvalidObjectState", RestoreExpired, "run_pipeline.py restore W1"),
        (503, "SlowDown", StorageUnreachable, "run_pipeline.py|SlowDown"),
    ],
)
def test_what_is_refused_half_way_has_its_name_and_what_came_is_kept(
    s3: S3, tmp_path: Path, status: int, code: str, error: type[PipelineError], says: str
) -> None:
    s3.script = lambda asked: Fault(error=(status, code)) if asked.start == 5 * MIB else None

    with pytest.raises(error, match=says) as caught:
        fetch(s3, tmp_path, options=replace(QUICK, connections=1))

    assert "5.0 MiB of 6.0 MiB are kept" in caught.value.kept
    s3.script = lambda _asked: None
    fetched = fetch(s3, tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.fetched_bytes == len(CONTENT) - 5 * MIB


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", AccessDenied),
        (400, "ExpiredToken", CredentialsExpired),
        (403, "InvalidObjectState", NotRestored),
        (404, "NoSuchKey", ObjectGone),
    ],
)
def test_what_is_refused_at_once_has_its_name_though_a_head_does_not_tell_it(
    s3: S3, tmp_path: Path, status: int, code: str, error: type[PipelineError]
) -> None:
    s3.script = lambda _asked: Fault(error=(status, code))

    with pytest.raises(error) as caught:
        fetch(s3, tmp_path)

    assert type(caught.value) is error
    assert left(tmp_path) == []


def test_a_bucket_that_is_not_there_is_not_taken_for_a_zip_that_is_not(s3: S3, tmp_path: Path) -> None:
    s3.script = lambda _asked: Fault(error=(404, "NoSuchBucket"))
    with pytest.raises(StorageUnreachable, match="NoSuchBucket"):
        fetch(s3, tmp_path)

    s3.script = lambda _asked: Fault(error=(404, "NoSuchKey"))
    with pytest.raises(ObjectGone, match="NoSuchKey"):
        fetch(s3, tmp_path)


def test_an_object_that_is_removed_half_way_is_gone_and_nothing_is_left(s3: S3, tmp_path: Path) -> None:
    s3.script = lambda asked: Fault(error=(404, "NoSuchKey")) if asked.start == 5 * MIB else None

    with pytest.raises(ObjectGone, match="discarded"):
        fetch(s3, tmp_path, options=replace(QUICK, connections=1))

    assert left(tmp_path) == []


def test_a_range_that_is_answered_wrongly_each_time_is_a_named_failure(s3: S3, tmp_path: Path) -> None:
    s3.script = always(Fault(shift=17))

    with pytest.raises(DownloadMismatch, match="asked for bytes 3145728-4194303"):
        fetch(s3, tmp_path)

    assert nothing_under_the_name(tmp_path)


@pytest.mark.parametrize("part_bytes", [MIB // 2, 0])
def test_a_server_that_ignores_ranges_is_asked_for_everything(tmp_path: Path, part_bytes: int) -> None:
    with faulty_s3(CONTENT, part_bytes=part_bytes, script=lambda _asked: Fault(ignore_range=True)) as s3:
        fetched = fetch(s3, tmp_path)

    assert fetched.path.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_and_breaks_off_is_asked_for_everything_again(tmp_path: Path) -> None:
    def script(asked: Asked) -> Fault:
        return Fault(ignore_range=True, send=2 * MIB if asked.number < 8 else None)

    with faulty_s3(CONTENT, script=script) as s3:
        assert fetch(s3, tmp_path, options=replace(QUICK, attempts=20)).path.read_bytes() == CONTENT


class Clock:
    """A pulse that asks to stop after a while."""

    def __init__(self, seconds: float) -> None:
        self._over = time.monotonic() + seconds
        self.asked = 0.0
        self.told: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if time.monotonic() > self._over:
            self.asked = time.monotonic()
            raise Stopping("enough")


@pytest.mark.parametrize("silent", ["in the body", "before the answer"])
def test_a_stop_is_honoured_at_once_though_every_connection_stalls(s3: S3, tmp_path: Path, silent: str) -> None:
    def script(asked: Asked) -> Fault | None:
        if asked.method == "HEAD" or asked.start < 2 * MIB:
            return None
        if silent == "before the answer":
            s3.over.wait(20)
        return Fault(send=100_000, then="stall")

    s3.script = script
    clock = Clock(0.6)
    with pytest.raises(Stopping) as caught:
        download.fetch(
            s3.client(), s3.bag, to=tmp_path / "W1.bag.zip", options=replace(QUICK, stall_seconds=30), pulse=clock
        )

    assert time.monotonic() - clock.asked < 15  # a connection stalls for 30 s before it is given up
    assert "2.0 MiB of 6.0 MiB are kept" in caught.value.kept
    s3.script = lambda _asked: None
    assert fetch(s3, tmp_path).fetched_bytes == len(CONTENT) - 2 * MIB


@pytest.mark.parametrize("asked_for", ["what it is", "everything at once", "what identifies it"])
def test_a_stop_is_honoured_at_once_though_the_first_question_is_never_answered(
    s3: S3, tmp_path: Path, asked_for: str
) -> None:
    def script(_asked: Asked) -> Fault | None:
        s3.over.wait(20)
        return None

    s3.script = script
    client = s3.client()
    small = replace(s3.bag, size_bytes=len(CONTENT)) if asked_for == "everything at once" else s3.bag
    options = replace(QUICK, chunk_bytes=8 * MIB)
    ask = partial(download.fetch, to=tmp_path / "W1.bag.zip", options=options)
    began, clock = time.monotonic(), Clock(0.6)
    with pytest.raises(Stopping):
        (download.identify if asked_for == "what identifies it" else ask)(client, small, pulse=clock)

    assert time.monotonic() - began < 0.6 + 15  # the answer would take 20 s
    assert left(tmp_path) == []


@pytest.mark.parametrize("part_bytes", [MIB // 2, 0, 4 * MIB])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_stop_in_the_middle_of_a_range_costs_what_was_under_way_and_no_more(
    tmp_path: Path, part_bytes: int, *, damaged: bool
) -> None:
    options = replace(QUICK, connections=2, chunk_bytes=4 * MIB)
    part = tmp_path / "W1.bag.zip.part"
    with faulty_s3(CONTENT, part_bytes=part_bytes, block_seconds=0.02) as s3:
        with pytest.raises(Stopping, match="kept"):
            download.fetch(s3.client(), s3.bag, to=part.with_suffix(""), options=options, pulse=Clock(0.6))
        before, s3.block_seconds = s3.sent_bytes, 0
        if damaged:
            with part.open("r+b") as file:
                file.write(bytes(4096))
        fetched = fetch(s3, tmp_path, options=options)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.refetched == ()
    assert fetched.fetched_bytes <= len(CONTENT) - (MIB // 2)
    if not damaged:
        assert before + fetched.fetched_bytes < len(CONTENT) + MIB


def test_the_pulse_is_told_how_far_it_is_and_never_more_than_there_is(s3: S3, tmp_path: Path) -> None:
    s3.block_seconds = 0.02
    clock = Clock(60)
    s3.script = once(Fault(send=300_000, then="reset"))

    download.fetch(s3.client(), s3.bag, to=tmp_path / "W1.bag.zip", options=QUICK, pulse=clock)

    done = [told for told, _ in clock.told]
    assert done == sorted(done)
    assert clock.told[-1] == (len(CONTENT), len(CONTENT))


def test_a_staging_disk_that_is_not_full_but_unusable_is_not_said_to_be_full(s3: S3, tmp_path: Path) -> None:
    (tmp_path / "W1.bag.zip.part").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NoRoom, match="see to the staging disk"):
        fetch(s3, tmp_path)

    assert s3.asked == []


def test_two_processes_never_write_the_same_file(s3: S3, tmp_path: Path) -> None:
    """A lane that lost its lease may not know it yet."""
    s3.block_seconds = 0.05
    first = threading.Thread(target=fetch, args=(s3, tmp_path))
    first.start()
    try:
        while not s3.gets():
            time.sleep(0.01)
        with pytest.raises(WorkBusy, match="still writes"):
            fetch(s3, tmp_path)
    finally:
        first.join()

    assert (tmp_path / "W1.bag.zip").read_bytes() == CONTENT


def test_memory_stays_bounded_whatever_the_size(s3: S3, tmp_path: Path) -> None:
    """Counted in open buffers: a connection has one, and nothing else grows."""
    threads = threading.active_count()
    fetch(s3, tmp_path)

    assert threading.active_count() <= threads + len(s3.asked)  # the server's own; none of the download's is left
    assert not [thread for thread in threading.enumerate() if thread.name == "download"]
    assert os.stat(tmp_path / "W1.bag.zip").st_size == len(CONTENT)
