"""The zip as a file: what is no zip, what was cut off, what changes while it is read."""

import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.debag import FaultKind, Policy
from pipeline.debag.faults import Findings, UnreadableZip
from pipeline.debag.judge import Examined, examine
from pipeline.debag.zip_source import opened
from pipeline.foundation.errors import InvalidBag, StagingDamaged
from tests.world.awkward import Member, good_members, members_of, write, zip_bytes
from tests.world.bags import bag_members, make_bag_zip


def kinds(bag_zip: Path, policy: Policy | None = None) -> list[str]:
    return sorted({fault.kind for fault in examined(bag_zip, policy)[0].faults})


def examined(bag_zip: Path, policy: Policy | None = None) -> tuple[Findings, Examined]:
    """What is known of a zip before its payload is read."""
    say, found = Findings(), Examined([], 0, readable=False)
    with suppress(UnreadableZip), opened(bag_zip, say) as source:
        found = examine(source, policy or Policy(), say, work_rid="")
    return say, found


def test_a_zip_that_is_gone_is_no_fault_of_the_bag(tmp_path: Path) -> None:
    with pytest.raises(StagingDamaged, match="is gone"):
        debag.unpack(tmp_path / "W1.bag.zip", into=tmp_path / "out")


@pytest.mark.parametrize("what", ["folder", "pipe", "link", "empty", "text"])
def test_what_is_no_zip_is_named_so(tmp_path: Path, what: str) -> None:
    bag_zip = tmp_path / "W1.bag.zip"
    if what == "folder":
        bag_zip.mkdir()
    elif what == "pipe":
        os.mkfifo(bag_zip)
    elif what == "link":
        bag_zip.symlink_to(make_bag_zip(tmp_path / "elsewhere"))
    else:
        bag_zip.write_bytes(b"" if what == "empty" else b"no zip at all")
    assert kinds(bag_zip) == [FaultKind.NOT_A_ZIP]


def test_a_zip_cut_off_tells_what_is_still_whole_in_it(tmp_path: Path) -> None:
    content = make_bag_zip(tmp_path).read_bytes()
    say, _ = examined(write(tmp_path / "cut.zip", content[: content.index(b"second image")]))
    (fault, *_) = say.in_order()[0]
    assert fault.kind == FaultKind.ZIP_TRUNCATED
    assert "5 members are whole" in fault.detail
    assert "W1.bag/data/images/I1/I10002.jpg" in fault.detail


def test_two_tables_of_contents_that_both_fit_are_refused(tmp_path: Path) -> None:
    good = zip_bytes(good_members())
    other = zip_bytes([Member("W1.bag/data/other", b"x")])
    comment = len(other)
    twofold = good[:-2] + struct.pack("<H", comment) + other
    assert kinds(write(tmp_path / "W1.bag.zip", twofold)) == [FaultKind.ZIP_DIRECTORY_DAMAGED]


def test_bytes_around_a_zip_are_only_odd(tmp_path: Path) -> None:
    say, _ = examined(write(tmp_path / "W1.bag.zip", b"#!/bin/sh\n" + zip_bytes(good_members()) + b"\n"))
    faults, warnings = say.in_order()
    assert faults == ()
    assert {warning.kind for warning in warnings} == {FaultKind.PREPENDED_BYTES, FaultKind.APPENDED_BYTES}


@pytest.mark.parametrize("change", ["replaced", "grown", "removed"])
def test_a_zip_that_changes_while_it_is_read_is_no_fault_of_the_bag(tmp_path: Path, change: str) -> None:
    bag_zip = make_bag_zip(tmp_path)
    content = bag_zip.read_bytes()

    def meddle(done: int, _total: int) -> None:
        if done == 0 and change == "replaced":
            write(tmp_path / "other", content)
            os.replace(tmp_path / "other", bag_zip)
        elif done == 0 and change == "grown":
            write(bag_zip, content + b"more")
        elif done == 0:
            bag_zip.unlink()

    with pytest.raises(StagingDamaged, match="changed while it was read"):
        debag.unpack(bag_zip, into=tmp_path / "out", pulse=meddle)
    assert not (tmp_path / "out").exists()


def test_a_changed_zip_is_not_called_a_bad_bag(tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, corrupt="images/I1/I10001.jpg")
    with pytest.raises(StagingDamaged):
        debag.unpack(bag_zip, into=tmp_path / "out", pulse=lambda _done, _total: os.utime(bag_zip, (1, 1)))


def test_limits_of_members_are_those_of_the_policy(tmp_path: Path) -> None:
    assert kinds(make_bag_zip(tmp_path), Policy(max_members=6)) == [FaultKind.TOO_MANY_MEMBERS]
    assert kinds(make_bag_zip(tmp_path), Policy(max_members=7)) == []


def test_seventy_thousand_members_without_zip64_are_read(tmp_path: Path) -> None:
    files = {f"{number // 1000}/{number}": b"" for number in range(70_000)}
    content = zip_bytes(members_of(bag_members(files=files)), end={"here": 70_004 & 0xFFFF, "entries": 70_004 & 0xFFFF})
    say, found = examined(write(tmp_path / "W1.bag.zip", content))
    assert (say.count, [len(record.found.payload) for record in found.records]) == (0, [70_000])


def test_faults_of_a_refused_zip_include_what_only_reading_the_payload_tells(tmp_path: Path) -> None:
    members = bag_members()
    members["W1.bag/data/images/I1/I10001.jpg"] = b"altered"
    del members["W1.bag/data/images/I1/I10002.jpg"]
    bag_zip = write(tmp_path / "W1.bag.zip", zip_bytes(members_of(members)))
    with pytest.raises(InvalidBag) as refusal:
        debag.unpack(bag_zip, into=tmp_path / "out")
    assert {fault.kind for fault in refusal.value.faults} == {"digest-differs", "file-missing", "oxum-differs"}


def test_a_bag_ninety_folders_deep_goes_in_and_out_again(tmp_path: Path) -> None:
    contents = bag_members(files={"a/" * 90 + "x": b"deep", "z": b"z"})
    good = write(tmp_path / "W1.bag.zip", zip_bytes(members_of(contents)))
    assert debag.unpack(good, into=tmp_path / "out").files == 2
    debag.discard(tmp_path / "out")
    contents["W1.bag/data/z"] = b"y"  # of the same size, so that it is found only when the rest was written
    with pytest.raises(InvalidBag):
        debag.unpack(write(tmp_path / "bad.zip", zip_bytes(members_of(contents))), into=tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["W1.bag.zip", "bad.zip"]


def test_a_bag_a_thousand_folders_deep_is_refused(tmp_path: Path) -> None:
    contents = bag_members(files={"a/" * 1400 + "x": b"deep", "z": b"z"})
    bag_zip = write(tmp_path / "W1.bag.zip", zip_bytes(members_of(contents)))
    with pytest.raises(InvalidBag) as refusal:
        debag.unpack(bag_zip, into=tmp_path / "out")
    assert {fault.kind for fault in refusal.value.faults} >= {"name-too-long"}
    assert os.listdir(tmp_path) == ["W1.bag.zip"]
