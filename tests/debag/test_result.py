"""What lies there after a bag was unpacked, and after one was not: modes, times, digests, no remains."""

import hashlib
import os
import stat
import time
import zlib
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.foundation import fixity
from pipeline.foundation.errors import InvalidBag, PipelineError
from tests.world.awkward import DEFLATED, STORED, Member, bag_with, members_of, write, zip_bytes
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.verdicts import accepted, refused


def test_files_and_folders_get_plain_modes_whatever_the_zip_says(tmp_path: Path) -> None:
    members = [Member(m.name, m.content, mode=0o106777) for m in members_of(bag_with())]
    folder = Member("W1.bag/data/images/", mode=0o41777)
    work = accepted(tmp_path, zip_bytes([folder, *members])).works[0].path
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [work, *work.rglob("*")]}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {(True, 0o777 & ~mask), (False, 0o666 & ~mask)}


def test_files_keep_the_time_that_the_zip_has_for_them(tmp_path: Path) -> None:
    work = accepted(tmp_path, zip_bytes(members_of(bag_with()))).works[0].path
    expected = time.mktime((2024, 4, 6, 12, 0, 0, 0, 0, -1))
    assert {path.stat().st_mtime for path in work.rglob("*") if path.is_file()} == {expected}


def test_the_digests_file_tells_the_digests_of_every_file_in_every_algorithm(tmp_path: Path) -> None:
    files = {**SMALL_WORK, 'odd "name"\t\u2028\U0001f600': b"x"}
    result = accepted(tmp_path, zip_bytes(members_of(bag_with(files=files, algorithms=("sha256", "md5")))))
    work = result.works[0]
    told = fixity.load(work.digests)
    on_disk = {str(path.relative_to(work.path)): path for path in work.path.rglob("*") if path.is_file()}
    assert told.files.keys() == on_disk.keys()
    for name, path in on_disk.items():
        content = path.read_bytes()
        digests = {algorithm: hashlib.new(algorithm, content).hexdigest() for algorithm in ("sha256", "md5")}
        assert told.files[name] == fixity.FileFixity(len(content), digests)


def test_a_second_run_finds_the_work_done_and_a_damaged_result_is_not_taken_for_one(tmp_path: Path) -> None:
    bag_zip, into = make_bag_zip(tmp_path), tmp_path / "out"
    first = debag.unpack(bag_zip, into=into)
    assert debag.unpack(bag_zip, into=into).works == first.works
    (first.works[0].path / "images/I1/I10001.jpg").unlink()
    with pytest.raises(PipelineError):
        debag.unpack(bag_zip, into=into)


def test_another_zip_is_not_taken_for_done_because_something_lies_there(tmp_path: Path) -> None:
    into = tmp_path / "out"
    debag.unpack(make_bag_zip(tmp_path / "first"), into=into, durable=False)
    with pytest.raises(PipelineError):
        debag.unpack(make_bag_zip(tmp_path / "second", files={"other.jpg": b"other"}), into=into, durable=False)
    with pytest.raises(PipelineError):
        debag.unpack(make_bag_zip(tmp_path / "bad", corrupt="images/I1/I10001.jpg"), into=into, durable=False)


def test_a_damaged_bag_with_a_path_a_thousand_folders_deep_leaves_nothing_behind(tmp_path: Path) -> None:
    contents = bag_with(files={"a/" * 1400 + "x": b"deep", "z": b"z"}, replaced={"data/z": b"altered"})
    bag_zip, into = write(tmp_path / "W1.bag.zip", zip_bytes(members_of(contents))), tmp_path / "out"
    for _ in range(2):  # a second run must not find remains that it cannot clear away
        with pytest.raises(InvalidBag):
            debag.unpack(bag_zip, into=into, durable=False)
        assert [path.name for path in tmp_path.iterdir()] == [bag_zip.name]


@pytest.mark.parametrize("rid", ["../../evil", "/evil", ".."])
def test_an_expected_work_that_is_no_identifier_is_refused_at_the_door(tmp_path: Path, rid: str) -> None:
    contents = {name.removeprefix("W1.bag/"): content for name, content in bag_with().items()}
    bag_zip = write(tmp_path / "in" / "W1.bag.zip", zip_bytes(members_of(contents)))
    with pytest.raises(PipelineError) as refusal:
        debag.unpack(bag_zip, into=tmp_path / "out" / "W1", work_rid=rid, durable=False)
    assert refusal.value.kind in {"invalid-rid", "invalid-bag"}
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["W1.bag.zip"]


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    write(tmp_path / "out" / ".W1.staging" / "W1" / "half.jpg", b"half")
    result = debag.unpack(make_bag_zip(tmp_path), into=tmp_path / "out" / "W1", durable=False)
    assert result.files == len(SMALL_WORK)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["W1"]
    assert not (result.works[0].path / "half.jpg").exists()


def test_a_refusal_says_what_is_left_and_how_to_go_on(tmp_path: Path) -> None:
    refusal = refused(tmp_path, zip_bytes(members_of(bag_with(replaced={"data/images/I1/I10001.jpg": b"x"}))))
    assert "I10001.jpg" in str(refusal)
    assert refusal.kept
    assert refusal.by_hand == "mend the bag"


@pytest.mark.parametrize("method", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_a_huge_file_that_is_left_alone_is_verified_to_its_last_byte(tmp_path: Path, method: int) -> None:
    content = os.urandom(1 << 20) * 70 + b"end"  # from 64 MiB on it is hashed in threads of its own
    contents = bag_with(files={"huge": content}, algorithms=("sha256", "md5"))
    for flipped in (None, 0, 256 * 1024, len(content) - 1):
        damaged = bytearray(content)
        if flipped is not None:
            damaged[flipped] ^= 1
        packer = zlib.compressobj(0, zlib.DEFLATED, -15)
        packed = bytes(damaged) if method == STORED else packer.compress(damaged) + packer.flush()
        huge = Member("W1.bag/data/huge", bytes(damaged), method, packed=packed)
        members = [huge if m.name == huge.name else m for m in members_of(contents)]
        if flipped is None:
            work = accepted(tmp_path / "good", zip_bytes(members), threads=4).works[0]
            assert (work.path / "huge").read_bytes() == content
            told = fixity.load(work.digests).files["huge"].digests
            assert told == {name: hashlib.new(name, content).hexdigest() for name in ("sha256", "md5")}
        else:
            faults = refused(tmp_path / str(flipped), zip_bytes(members), threads=4).faults
            assert [(fault.kind, fault.path) for fault in faults] == [("digest-differs", "data/huge")]
            assert "sha256" in faults[0].detail
            assert "md5" in faults[0].detail
