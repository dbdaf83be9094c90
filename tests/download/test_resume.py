"""Killed, stopped, or struck by a power cut: the next try re-hashes what is there, and fetches only the rest."""

import base64
import importlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import download
from pipeline.download import crc
from pipeline.embedded import embedded
from pipeline.foundation.errors import AccessDenied, ObjectGone, ObjectReplaced, StorageUnreachable
from tests.world import crc64
from tests.world.faulty_s3 import KMS, S3, Asked, Fault, etag_of, faulty_s3
from tests.world.stack import ROOT

MIB = 1 << 20
CONTENT = random.Random(7).randbytes(24 * MIB + 1)
OPTIONS = download.FetchOptions(
    connections=4, chunk_bytes=MIB, verify=download.Verify.ALWAYS, stall_seconds=5, pause_seconds=0.01
)
ONE_BY_ONE = replace(OPTIONS, connections=1)

_PROGRAM = """
import sys
from pathlib import Path
from pipeline import download
from pipeline.foundation import aws
from pipeline.foundation.work import Bag
url, etag, to, verify = sys.argv[1:]
options = download.FetchOptions(
    connections=4, chunk_bytes=8 << 20, claim_bytes=1 << 19, stall_seconds=5, verify=download.Verify(verify)
)
bag = Bag("W1", "bucket", "W1.bag.zip", etag=etag)
download.fetch(aws.s3_client(region="us-east-1", endpoint_url=url), bag, to=Path(to), options=options)
"""


@pytest.fixture
def s3() -> Iterator[S3]:
    with faulty_s3(CONTENT, part_bytes=MIB) as made:
        yield made


def fetch(s3: S3, folder: Path, options: download.FetchOptions = OPTIONS) -> download.Fetched:
    return download.fetch(s3.client(), s3.bag, to=folder / "W1.bag.zip", options=options)


def cut_short(s3: S3, folder: Path, *, after: int, options: download.FetchOptions = ONE_BY_ONE) -> None:
    """A try that ends after so many ranges."""
    s3.script = lambda asked: Fault(error=(403, "AccessDenied")) if asked.start >= after * MIB else None
    with pytest.raises(AccessDenied):
        fetch(s3, folder, options)
    s3.script = lambda _asked: None


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("part_bytes", "verify"),
    [(3 * MIB, "always"), (20 * MIB, "always"), (0, "always"), (0, "manifest")],
    ids=["ranges of several parts", "ranges of one part", "one upload", "unverified"],
)
def test_killed_again_and_again_no_byte_is_paid_for_twice_but_the_last_of_each_connection(
    tmp_path: Path, part_bytes: int, verify: str
) -> None:
    dice, kills = random.Random(part_bytes), 4
    to = tmp_path / "W1.bag.zip"
    with faulty_s3(CONTENT, part_bytes=part_bytes, block_seconds=0.002) as s3:
        command = [sys.executable, "-c", _PROGRAM, s3.url, s3.etag, str(to), verify]
        for number in range(kills + 1):
            process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **embedded.CREDENTIALS})
            wanted = s3.sent_bytes + dice.randrange(5 * MIB, 6 * MIB)
            while number < kills and s3.sent_bytes < wanted and process.poll() is None:
                time.sleep(0.002)
            if number < kills:
                process.send_signal(signal.SIGKILL)
            status = process.wait(60)

    assert status == 0
    assert to.read_bytes() == CONTENT
    claimed_late, on_the_line = 4 * MIB // 2, MIB  # of four connections; what was sent, and not read when it was killed
    # Were only whole ranges claimed, each kill would cost the 5 MiB since the last one.
    assert s3.sent_bytes < len(CONTENT) + kills * (claimed_late + on_the_line)


def test_what_is_there_is_hashed_again_and_only_the_rest_is_fetched(s3: S3, tmp_path: Path) -> None:
    cut_short(s3, tmp_path, after=10)
    with (tmp_path / "W1.bag.zip.part").open("r+b") as part:  # as if its last blocks had never reached the disk
        part.seek(3 * MIB + 4096)
        part.write(bytes(4096))

    fetched = fetch(s3, tmp_path)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.fetched_bytes == len(CONTENT) - 9 * MIB
    assert fetched.verified == "etag-md5-of-parts"


@pytest.mark.parametrize("torn", [b'{"chunk": 3, "tak', b"\n\xff\x00\n[1]\n7\n"])
def test_a_journal_that_was_cut_short_costs_its_last_range_at_most(s3: S3, tmp_path: Path, torn: bytes) -> None:
    cut_short(s3, tmp_path, after=10)
    journal = tmp_path / "W1.bag.zip.journal"
    lines = journal.read_bytes().rstrip().split(b"\n")
    journal.write_bytes(b"\n".join(lines[:-1]) + b"\n" + torn)

    fetched = fetch(s3, tmp_path)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.fetched_bytes == len(CONTENT) - 9 * MIB


@pytest.mark.parametrize("journal", [b"", b"nonsense", b'{"remote": {}}', b'{"chunk": 1, "taken": ["0"]}'])
def test_a_journal_that_tells_nothing_is_begun_anew(s3: S3, tmp_path: Path, journal: bytes) -> None:
    cut_short(s3, tmp_path, after=10)
    (tmp_path / "W1.bag.zip.journal").write_bytes(journal)

    fetched = fetch(s3, tmp_path)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.fetched_bytes == len(CONTENT)


def test_a_download_goes_on_in_the_ranges_it_began_with_whatever_is_set_since(s3: S3, tmp_path: Path) -> None:
    cut_short(s3, tmp_path, after=10)

    fetched = fetch(s3, tmp_path, replace(OPTIONS, chunk_bytes=4 * MIB, connections=2))

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.fetched_bytes == len(CONTENT) - 10 * MIB


def test_what_is_there_of_an_object_that_was_overwritten_since_is_discarded(s3: S3, tmp_path: Path) -> None:
    bag = s3.bag
    cut_short(s3, tmp_path, after=10)
    s3.content = CONTENT[::-1]

    with pytest.raises(ObjectReplaced, match="discarded"):
        download.fetch(s3.client(), bag, to=tmp_path / "W1.bag.zip", options=OPTIONS)

    assert left(tmp_path) == []


def test_what_is_there_of_another_object_is_not_taken_for_this_one(s3: S3, tmp_path: Path) -> None:
    cut_short(s3, tmp_path, after=10)
    s3.content = CONTENT[::-1]

    assert fetch(s3, tmp_path).path.read_bytes() == CONTENT[::-1]


def test_a_file_that_nothing_vouched_for_yet_is_looked_at_again_not_paid_again(s3: S3, tmp_path: Path) -> None:
    """Killed between giving the file its name and writing its marker."""
    fetch(s3, tmp_path)
    paid = s3.sent_bytes

    again = fetch(s3, tmp_path)

    assert again.path.read_bytes() == CONTENT
    assert (again.fetched_bytes, s3.sent_bytes) == (0, paid)
    assert left(tmp_path) == ["W1.bag.zip", "W1.bag.zip.journal"]
    download.settle(again.path)
    assert left(tmp_path) == ["W1.bag.zip"]


def test_what_came_complete_needs_no_s3_any_more(s3: S3, tmp_path: Path) -> None:
    """A restored copy may be gone by the time a killed run is taken up."""
    fetch(s3, tmp_path)
    asked = len(s3.asked)
    s3.script = lambda _asked: Fault(error=(403, "InvalidObjectState"))

    assert fetch(s3, tmp_path).path.read_bytes() == CONTENT
    assert len(s3.asked) == asked


@pytest.mark.parametrize(
    ("boot", "flushed", "kept"),
    [("the same", "all", 10), ("the same", "none", 10), ("another", "all", 10), ("another", "none", 0)],
)
def test_ranges_without_a_digest_count_after_a_restart_of_the_machine_if_they_had_reached_the_disk(
    s3: S3, tmp_path: Path, boot: str, flushed: str, kept: int
) -> None:
    options, journal = replace(ONE_BY_ONE, verify=download.Verify.MANIFEST), tmp_path / "W1.bag.zip.journal"
    cut_short(s3, tmp_path, after=10, options=options)
    assert journal.read_text().count('"flushed": true') == 10 + 1  # each, and all at the end of the attempt in order
    if flushed == "none":  # as an earlier release wrote it
        journal.write_text(journal.read_text().replace('"flushed": true', '"flushed": false'))
    if boot == "another":
        journal.write_text(journal.read_text().replace('"boot": "', '"boot": "0'))
    cut_short(s3, tmp_path, after=kept, options=options)  # and goes on with that after the restart

    fetched = fetch(s3, tmp_path, options)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.verified == "size"
    assert fetched.fetched_bytes == len(CONTENT) - kept * MIB


def test_a_range_that_was_begun_counts_after_a_restart_of_the_machine_if_the_attempt_ended_in_order(
    tmp_path: Path,
) -> None:
    options = replace(ONE_BY_ONE, verify=download.Verify.MANIFEST, chunk_bytes=16 * MIB, attempts=1)
    journal = tmp_path / "W1.bag.zip.journal"
    with faulty_s3(CONTENT) as s3:
        s3.script = lambda asked: Fault(send=5 * MIB) if asked.method == "GET" else None
        with pytest.raises(StorageUnreachable):
            fetch(s3, tmp_path, options)
        journal.write_text(journal.read_text().replace('"boot": "', '"boot": "0'))
        s3.script = lambda _asked: None

        fetched = fetch(s3, tmp_path, options)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.fetched_bytes == len(CONTENT) - 5 * MIB


def flip(path: Path, *positions: int) -> None:
    with path.open("r+b") as file:
        for position in positions:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("part_bytes", [MIB, 20 * MIB, 0], ids=["parts", "large parts", "one upload"])
@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_what_came_without_digests_is_compared_when_it_is_doubted_and_mended_once_if_it_came_wrong(
    tmp_path: Path, part_bytes: int, *, wrong: bool
) -> None:
    options = replace(OPTIONS, verify=download.Verify.MANIFEST, chunk_bytes=4 * MIB)
    zip_path = tmp_path / "W1.bag.zip"
    with faulty_s3(CONTENT, part_bytes=part_bytes) as s3:
        assert not fetch(s3, tmp_path, options).compared
        asked = len(s3.asked)
        if wrong:
            flip(zip_path, 5 * MIB)

        proved = download.prove(s3.client(), s3.bag, at=zip_path, options=options)

    assert zip_path.read_bytes() == CONTENT
    assert proved is not None
    assert proved.compared
    assert proved.digests == {proved.verified: etag_of(CONTENT, part_bytes)}
    assert bool(proved.fetched_bytes) == wrong
    assert proved.refetched == (("bytes 4194304-8388607",) if wrong else ())
    if not wrong:
        assert len(s3.asked) == asked, "S3 said everything before"


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_proof_that_is_cut_short_goes_on_as_a_download_and_ends_the_same(s3: S3, tmp_path: Path, cut: int) -> None:
    """S3 refuses, at the first, second or third range that is to come again."""
    options, zip_path = replace(ONE_BY_ONE, verify=download.Verify.MANIFEST), tmp_path / "W1.bag.zip"
    fetch(s3, tmp_path, options)
    flip(zip_path, 2 * MIB + 1)
    s3.script = lambda asked: Fault(error=(403, "AccessDenied")) if asked.start >= cut * MIB else None
    with pytest.raises(AccessDenied, match=r"kept in"):
        download.prove(s3.client(), s3.bag, at=zip_path, options=options)
    s3.script = lambda _asked: None
    assert left(tmp_path) == ["W1.bag.zip.journal", "W1.bag.zip.part"]

    went_on = fetch(s3, tmp_path, options)

    assert went_on.path.read_bytes() == CONTENT
    assert went_on.verified == "etag-md5-of-parts"
    assert went_on.fetched_bytes <= 3 * MIB


def test_what_came_wrong_and_is_gone_from_s3_is_kept(s3: S3, tmp_path: Path) -> None:
    options, zip_path = replace(OPTIONS, verify=download.Verify.MANIFEST), tmp_path / "W1.bag.zip"
    fetch(s3, tmp_path, options)
    flip(zip_path, 2 * MIB + 1)
    damaged = zip_path.read_bytes()
    s3.script = lambda _asked: Fault(error=(404, "NoSuchKey"))

    with pytest.raises(ObjectGone, match="is kept in"):
        download.prove(s3.client(), s3.bag, at=zip_path, options=options)

    assert (tmp_path / "W1.bag.zip.part").read_bytes() == damaged


def test_nothing_is_compared_nor_fetched_where_s3_has_no_digest_or_what_it_said_is_not_known_any_more(
    tmp_path: Path,
) -> None:
    options, zip_path = replace(OPTIONS, verify=download.Verify.MANIFEST), tmp_path / "W1.bag.zip"
    with faulty_s3(CONTENT, part_bytes=MIB, headers=KMS) as s3:
        fetch(s3, tmp_path, options)
        asked, status = len(s3.asked), zip_path.stat()

        found = download.prove(s3.client(), s3.bag, at=zip_path, options=options)
        assert found is not None
        assert (found.compared, found.fetched_bytes) == (False, 0)
        download.settle(zip_path)
        assert download.prove(s3.client(), s3.bag, at=zip_path, options=options) is None

    assert len(s3.asked) == asked
    assert (zip_path.stat().st_ino, zip_path.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert zip_path.read_bytes() == CONTENT


def test_a_small_object_takes_one_request(tmp_path: Path) -> None:
    with faulty_s3(CONTENT[:100_000]) as s3:
        bag = replace(s3.bag, size_bytes=100_000)
        fetched = download.fetch(s3.client(), bag, to=tmp_path / "z", options=OPTIONS)

    assert fetched.path.read_bytes() == CONTENT[:100_000]
    assert fetched.verified == "etag-md5"
    assert [asked.method for asked in s3.asked] == ["GET"]


def test_an_object_that_is_larger_than_its_event_said_is_fetched_all_the_same(s3: S3, tmp_path: Path) -> None:
    fetched = download.fetch(s3.client(), replace(s3.bag, size_bytes=1), to=tmp_path / "z", options=OPTIONS)

    assert fetched.path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("headers", "part_bytes", "crc32", "level"),
    [
        ({}, 0, False, "etag-md5"),
        ({}, MIB, False, "etag-md5-of-parts"),
        ({}, 3 * MIB - 1, False, "etag-md5-of-parts"),
        ({}, 20 * MIB, False, "etag-md5-of-parts"),
        (KMS, MIB, False, "size"),
        (KMS, 0, False, "size"),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, 0, False, "size"),
        (KMS, 0, True, "crc32"),
    ],
)
def test_the_highest_level_that_the_object_allows_is_reached_and_told(
    tmp_path: Path, headers: dict[str, str], part_bytes: int, *, crc32: bool, level: str
) -> None:
    with faulty_s3(CONTENT, part_bytes=part_bytes, headers=headers) as s3:
        if crc32:
            s3.with_crc32()
        fetched = fetch(s3, tmp_path)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.verified == level
    assert len(fetched.digests) == 1
    if level.startswith("etag"):
        assert fetched.digests == {level: etag_of(CONTENT, part_bytes)}


@pytest.fixture
def checksums(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The optional awscrt, or what computes the same where it is not installed."""
    try:
        found = importlib.import_module("awscrt.checksums")
    except ImportError:
        found = crc64
        monkeypatch.setitem(sys.modules, "awscrt", crc64)
        monkeypatch.setitem(sys.modules, "awscrt.checksums", crc64)
    crc.crt.cache_clear()
    yield found
    crc.crt.cache_clear()


def test_the_checksum_is_the_one_of_the_catalogue(checksums: Any) -> None:
    assert checksums.crc64nvme(b"123456789") == 0xAE8B14860A799888
    assert checksums.combine_crc64nvme(checksums.crc64nvme(b"1234"), checksums.crc64nvme(b"56789"), 5) == (
        0xAE8B14860A799888
    )


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("verify", [download.Verify.MANIFEST, download.Verify.ALWAYS])
def test_with_awscrt_the_crc_of_the_whole_is_compared_as_it_comes(
    tmp_path: Path, checksums: Any, verify: download.Verify, *, wrong: bool
) -> None:
    content = CONTENT[:100_001]
    value = as_s3_tells_it(checksums.crc64nvme(content))
    told = {"x-amz-checksum-crc64nvme": value, "x-amz-checksum-type": "FULL_OBJECT", **KMS}

    def script(asked: Asked) -> Fault | None:
        return Fault(flip=40_000) if wrong and asked.method == "GET" and asked.number < 8 else None

    with faulty_s3(content, headers=told, script=script) as s3:
        fetched = fetch(s3, tmp_path, replace(OPTIONS, chunk_bytes=20_000, verify=verify))

    assert fetched.path.read_bytes() == content
    assert (fetched.verified, fetched.digests) == ("crc64nvme", {"crc64nvme": value})
    assert fetched.refetched == (("bytes 40000-59999",) if wrong else ())


def test_a_limit_on_bandwidth_holds_for_all_that_share_it(tmp_path: Path) -> None:
    limit = 8 * MIB
    shared = download.Bandwidth(tmp_path / "bandwidth", limit)
    another = download.Bandwidth(tmp_path / "bandwidth", limit)
    with faulty_s3(CONTENT[: 3 * MIB]) as s3:
        began = time.monotonic()
        threads = [
            threading.Thread(target=fetch, args=(s3, tmp_path / str(number), replace(OPTIONS, bandwidth=line)))
            for number, line in enumerate([shared, another])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began

    assert (tmp_path / "1" / "W1.bag.zip").read_bytes() == CONTENT[: 3 * MIB]
    assert seconds >= 6 * MIB / limit - 0.05


def test_a_limit_from_before_a_restart_of_the_machine_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "bandwidth"
    download.Bandwidth(path, 1).take(1_000_000, _set())  # the line is taken for eleven days

    began = time.monotonic()
    download.Bandwidth(path, 1_000_000).take(1000, threading.Event())

    assert time.monotonic() - began < 60


def test_a_limit_holds_however_far_ahead_its_connections_have_taken_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bandwidth"
    download.Bandwidth(path, 100_000).take(10_000_000, _set())  # 100 s, as of 38 connections with a buffer each

    assert not _is_free(path)
    known = path.read_bytes()
    path.write_bytes(known[:8] + b"0" * len(known[8:]))  # by the clock of another start of the machine
    assert _is_free(path)


def test_under_a_low_limit_no_connection_is_silent_for_so_long_that_s3_would_end_it(tmp_path: Path) -> None:
    connections, limit = 32, 100_000

    assert connections * download.Bandwidth(tmp_path / "bandwidth", limit).block_bytes / limit < 10


def _is_free(path: Path) -> bool:
    over = threading.Event()
    timer = threading.Timer(3, over.set)
    timer.start()
    download.Bandwidth(path, 100_000).take(1, over)
    free = not over.is_set()
    timer.cancel()
    timer.join()
    return free


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def as_s3_tells_it(value: int) -> str:
    return base64.b64encode(value.to_bytes(8)).decode()
