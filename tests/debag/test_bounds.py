"""Zips made to take all memory or time: judged within bounds, measured in a process of its own."""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.debag import FaultKind as Kind
from pipeline.foundation.errors import InvalidBag
from tests.world.awkward import (
    DEFLATED,
    Member,
    bag_with,
    central_header,
    end_records,
    good_members,
    local_header,
    members_of,
    zip_bytes,
)
from tests.world.bags import SMALL_WORK

ROOT = Path(__file__).parents[2]
MOST_MEMORY = 300 << 20
_UNPACK = """
import json, pathlib, resource, sys, time
from pipeline.foundation.errors import InvalidBag
from pipeline import debag
kinds = []
try:
    debag.unpack(pathlib.Path(sys.argv[1]), into=pathlib.Path(sys.argv[2]), threads=2, durable=False)
except InvalidBag as refusal:
    kinds = sorted({fault.kind for fault in refusal.faults})
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
print(json.dumps({"kinds": kinds, "seconds": time.process_time(), "peak": peak}))
"""


def judged(bag_zip: Path) -> tuple[set[str], float, int]:
    """What is said of a zip: kinds of fault, its CPU seconds (others may be busy), its peak of resident bytes."""
    command = [sys.executable, "-c", _UNPACK, str(bag_zip), str(bag_zip.with_name("out"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    facts = json.loads(done.stdout)
    return set(facts["kinds"]), facts["seconds"], facts["peak"]


def test_a_directory_of_a_million_entries_that_tells_another_number_takes_no_gigabyte(tmp_path: Path) -> None:
    count = 1_300_000
    directory = central_header(Member("x"), 0) * count
    head = local_header(Member("x"))
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(head + directory + end_records(count & 0xFFFF, len(directory), len(head)))
    kinds, seconds, peak = judged(bag_zip)
    assert kinds <= {"too-many-members", "zip-directory-damaged"}
    assert kinds
    assert (seconds < 10, peak < MOST_MEMORY) == (True, True), (seconds, peak >> 20)


@pytest.mark.parametrize("method", [0, DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("name", ["bagit.txt", "bag-info.txt", "manifest-sha512.txt", "notes.txt"])
def test_a_tag_file_that_is_huge_in_the_zip_and_small_by_its_size_is_not_read_whole(
    tmp_path: Path, name: str, method: int
) -> None:
    huge = 1 << 30
    fields: Mapping[str, int | bytes] = {
        "packed_size": huge,
        "size": 10,
        "crc": zlib.crc32(bytes(10)),
        "method": method,
    }
    others = [m for m in members_of(bag_with()) if m.name != f"W1.bag/{name}"]
    whole = zip_bytes(others)
    directory_at = whole.index(b"PK\x01\x02")
    member = Member(f"W1.bag/{name}", local=fields, central=fields)
    directory = whole[directory_at:-22] + central_header(member, directory_at)
    bag_zip = tmp_path / "W1.bag.zip"
    with bag_zip.open("wb") as file:
        file.write(whole[:directory_at] + local_header(member))
        file.seek(huge, os.SEEK_CUR)  # a hole: takes no disk
        start = file.tell()
        file.write(directory + end_records(len(others) + 1, len(directory), start))
    kinds, seconds, peak = judged(bag_zip)
    assert kinds
    assert (seconds < 10, peak < 200 << 20) == (True, True), (seconds, peak >> 20)


def test_a_comment_full_of_end_records_is_searched_quickly(tmp_path: Path) -> None:
    ends = b"".join(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, 46, 0, 65535 - 22 * n) for n in range(2900))
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(zip_bytes(members_of(bag_with()))[:-22] + ends)
    kinds, seconds, _ = judged(bag_zip)
    assert kinds
    assert seconds < 5


@pytest.mark.parametrize("members", [3, 20_000])
@pytest.mark.parametrize("line", [b"ab\n", b"\n", b"0 ../x\n"], ids=["garbage", "empty", "outside"])
def test_a_manifest_of_millions_of_bad_lines_takes_no_gigabyte(tmp_path: Path, line: bytes, members: int) -> None:
    files = {str(number): b"" for number in range(members)}
    size = (4_000_000 + 1_000 * members) // len(line)
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(zip_bytes(members_of(bag_with(files=files, replaced={"manifest-sha512.txt": line * size}))))
    kinds, seconds, peak = judged(bag_zip)
    assert kinds
    assert (seconds < 20, peak < MOST_MEMORY) == (True, True), (seconds, peak >> 20)


@pytest.mark.parametrize("name", ["fetch.txt", "bag-info.txt"])
@pytest.mark.parametrize(
    "line", [b"x\n", b"a:\n", b"a - b\n", b"a 1 ../b\n"], ids=["bare", "label", "elsewhere", "outside"]
)
def test_other_tag_files_of_a_million_bad_lines_take_no_gigabyte(tmp_path: Path, name: str, line: bytes) -> None:
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(zip_bytes(members_of(bag_with(replaced={name: line * (4_000_000 // len(line))}))))
    _, seconds, peak = judged(bag_zip)
    assert (seconds < 15, peak < MOST_MEMORY) == (True, True), (seconds, peak >> 20)


@pytest.mark.parametrize(
    ("members", "folders"), [(10_000, "a/" * 95), (2_000, f"{'x' * 30}/" * 90)], ids=["many", "long"]
)
def test_names_that_stand_for_more_folders_than_anybody_wants_make_none(
    tmp_path: Path, members: int, folders: str
) -> None:
    files = {f"{number}/{folders}x": b"" for number in range(members)}
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(zip_bytes(members_of(bag_with(files=files))))
    kinds, seconds, peak = judged(bag_zip)
    assert kinds == {"too-many-members"}
    assert (seconds < 15, peak < MOST_MEMORY) == (True, True), (seconds, peak >> 20)


def test_a_bag_of_thousands_of_works_takes_no_more_than_one_of_as_many_files(tmp_path: Path) -> None:
    files = {f"W{number}/images/1": b"" for number in range(5_000)}
    tags = {f"notes/{number}": b"" for number in range(100)}
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(zip_bytes([*members_of(bag_with(files=files)), *(Member(f"W1.bag/{n}") for n in tags)]))
    kinds, seconds, peak = judged(bag_zip)
    assert kinds == {"tag-file-too-big"}
    assert (seconds < 15, peak < MOST_MEMORY) == (True, True), (seconds, peak >> 20)


def _quickly_deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize("method", [0, DEFLATED], ids=["stored", "deflated"])
def test_a_payload_of_many_megabytes_takes_little_memory(tmp_path: Path, method: int) -> None:
    files = {**SMALL_WORK, **{f"{number}.tif": os.urandom(2 << 20) * 40 for number in range(2)}}
    members = [
        replace(member, method=method, packed=_quickly_deflated(member.content)) if method else member
        for member in members_of(bag_with(files=files))
    ]
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(zip_bytes(members))
    kinds, _, peak = judged(bag_zip)
    assert (kinds, peak < 100 << 20) == (set(), True), (kinds, peak >> 20)


def over_4_gib(path: Path, *, begin: Callable[[Member], bytes] = local_header) -> Path:
    """A zip with a hole of 4 GiB, which takes no disk, as macOS' Archive Utility makes them: positions modulo 2^32."""
    member = Member("W1.bag/data/huge.tif", bytes(10))
    with path.open("wb") as file:
        file.write(begin(member))
        file.seek(1 << 32, os.SEEK_CUR)
        start = file.tell() + 10
        file.seek(start)
        good = zip_bytes(good_members())
        directory = good[good.index(b"PK\x01\x02") : -22]
        file.write(directory + end_records(len(good_members()), len(directory), start & 0xFFFFFFFF))
    return path


def test_a_zip_over_4_gib_by_a_packer_without_zip64_is_called_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidBag) as refusal:
        debag.unpack(over_4_gib(tmp_path / "W1.bag.zip"), into=tmp_path / "out", durable=False)
    assert [fault.kind for fault in (*refusal.value.faults, *refusal.value.warnings)] == [Kind.ZIP64_LEFT_OUT]


def test_a_zip_behind_4_gib_of_something_else_is_not_taken_for_one_without_zip64(tmp_path: Path) -> None:
    path = over_4_gib(tmp_path / "W1.bag.zip", begin=lambda member: bytes(len(local_header(member))))
    with pytest.raises(InvalidBag) as refusal:
        debag.unpack(path, into=tmp_path / "out", durable=False)
    assert Kind.ZIP64_LEFT_OUT not in {fault.kind for fault in refusal.value.faults}
