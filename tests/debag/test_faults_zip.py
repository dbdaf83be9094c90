"""Zips that are broken, cut short, contradict themselves or are bombs: refused, with what can be known named."""

import random
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.debag import FaultKind as Kind
from pipeline.debag import Policy
from pipeline.foundation.errors import InvalidBag, NoRoom, Stopping, TransientError
from tests.world.awkward import (
    DEFLATED,
    STORED,
    TOO_BIG_32,
    Member,
    bag_with,
    changed,
    deflated,
    end_records,
    good_members,
    members_of,
    quoted_overlap_bomb,
    zip64_extra,
    zip_bytes,
)
from tests.world.bags import SMALL_WORK
from tests.world.verdicts import Case, assert_named, each, named, refused

IMAGE = "W1.bag/data/images/I1/I10001.jpg"
CONTENT = SMALL_WORK["images/I1/I10001.jpg"]
BROKEN_ZIP = {Kind.NOT_A_ZIP, Kind.ZIP_TRUNCATED, Kind.ZIP_DIRECTORY_DAMAGED, Kind.ZIP_SPLIT, Kind.ZIP_EMPTY}
# The member is named for what is wrong with it in the zip; that its bytes are not to be had may be said as well.
UNREADABLE = (Kind.DIGEST_DIFFERS, Kind.OXUM_DIFFERS, Kind.CRC_DIFFERS)


def image(about: str, kind: Kind, *also: Kind, method: int = STORED, **changes: object) -> Case:
    """A valid bag in which one image's member is changed, and refused for `kind`."""
    return Case(about, lambda: zip_bytes(changed(good_members(method=method), IMAGE, **changes)), [(kind, IMAGE)], also)


def local(about: str, method: int = STORED, **fields: int | bytes) -> Case:
    """A valid bag in which one local header says something else than the directory."""
    return image(about, Kind.LOCAL_HEADER_DIFFERS, *UNREADABLE, method=method, local=fields)


HEADERS = [
    local("a local name that is another", name=IMAGE.replace("I10001", "I10009").encode()),
    local("a local name that leads outside", name=b"../../../escaped"),
    local("a local size that differs", size=len(CONTENT) + 1),
    local("a local flag for encryption", flags=1),
    local("a local packed size that differs", packed_size=len(CONTENT) - 1),
    image("a local method of its own", Kind.LOCAL_HEADER_DIFFERS, *UNREADABLE, local={"method": DEFLATED}),
    image(
        "a central packed size that differs for a stored member",
        Kind.STORED_SIZE_DIFFERS,
        Kind.LOCAL_HEADER_DIFFERS,
        Kind.MEMBERS_OVERLAP,
        Kind.HIDDEN_BYTES,
        *UNREADABLE,
        central={"packed_size": len(CONTENT) - 1},
    ),
    image(
        "both sizes wrong in both headers of a stored member",
        Kind.STORED_SIZE_DIFFERS,
        *UNREADABLE,
        local={"size": len(CONTENT) + 9},
        central={"size": len(CONTENT) + 9},
    ),
    image("an offset into the middle", Kind.LOCAL_HEADER_DAMAGED, Kind.MEMBERS_OVERLAP, central={"offset": 77}),
    image("an offset behind the end", Kind.LOCAL_HEADER_DAMAGED, Kind.ZIP_DIRECTORY_DAMAGED, central={"offset": 10**9}),
    image(
        "sizes that zip64 should carry and does not",
        Kind.ZIP_DIRECTORY_DAMAGED,
        Kind.LOCAL_HEADER_DIFFERS,
        Kind.STORED_SIZE_DIFFERS,
        Kind.MEMBERS_OVERLAP,
        Kind.MEMBER_CUT_SHORT,
        *UNREADABLE,
        central={"size": TOO_BIG_32, "packed_size": TOO_BIG_32},
    ),
]


@each(HEADERS)
def test_a_zip_is_refused_with(tmp_path: Path, case: Case) -> None:
    if Kind.ZIP_DIRECTORY_DAMAGED in {kind for kind, _ in case.found}:
        assert {kind for kind, _ in named(refused(tmp_path, case.content()).faults)} <= {
            Kind.ZIP_DIRECTORY_DAMAGED,
            *case.also,
        }
    else:
        assert_named(case, refused(tmp_path, case.content()).faults)


PACKED = deflated(CONTENT)
DATA = [
    image("a wrong byte in a stored file", Kind.DIGEST_DIFFERS, Kind.CRC_DIFFERS, packed=b"X" + CONTENT[1:]),
    image("a deflate stream that is noise", Kind.MEMBER_DAMAGED, method=DEFLATED, packed=b"\xff" * len(PACKED)),
    image("an empty deflate stream", Kind.MEMBER_CUT_SHORT, Kind.MEMBER_DAMAGED, method=DEFLATED, packed=b""),
    image(
        "half a deflate stream",
        Kind.MEMBER_CUT_SHORT,
        Kind.MEMBER_DAMAGED,
        method=DEFLATED,
        packed=PACKED[: len(PACKED) // 2],
    ),
    image(
        "a deflate stream that ends early",
        Kind.MEMBER_CUT_SHORT,
        *UNREADABLE,
        method=DEFLATED,
        packed=deflated(CONTENT[:-5]),
    ),
    image(
        "a deflate stream that goes on",
        Kind.MEMBER_TOO_LONG,
        *UNREADABLE,
        method=DEFLATED,
        packed=deflated(CONTENT + b"more"),
    ),
    image("bytes behind the end of a deflate stream", Kind.MEMBER_TOO_LONG, method=DEFLATED, packed=PACKED + b"more"),
]


@each(DATA)
def test_a_zip_is_refused_that_holds(tmp_path: Path, case: Case) -> None:
    faults = named(refused(tmp_path, case.content()).faults)
    assert {path for _, path in faults} == {IMAGE}
    assert {kind for kind, _ in faults} <= {kind for kind, _ in case.found} | set(case.also)


def test_a_tag_file_that_no_digest_covers_is_held_to_its_crc(tmp_path: Path) -> None:
    name = "W1.bag/tagmanifest-sha512.txt"
    faults = named(
        refused(tmp_path, zip_bytes(changed(good_members(), name, central={"crc": 7}, local={"crc": 7}))).faults
    )
    assert faults == [(Kind.CRC_DIFFERS, name)]


def test_a_bag_without_tag_manifest_is_held_to_the_crc_of_its_manifest(tmp_path: Path) -> None:
    members = [member for member in good_members() if "tagmanifest" not in str(member.name)]
    name = "W1.bag/manifest-sha512.txt"
    faults = named(refused(tmp_path, zip_bytes(changed(members, name, central={"crc": 7}, local={"crc": 7}))).faults)
    assert (Kind.CRC_DIFFERS, name) in faults


GOOD = zip_bytes(good_members())
DIRECTORY_AT = GOOD.index(b"PK\x01\x02")


def with_end(**fields: int) -> bytes:
    return zip_bytes(good_members(), end=fields)


def with_end64(**fields: int) -> bytes:
    return zip_bytes(good_members(), zip64=fields)


BROKEN: Mapping[str, bytes] = {
    "an empty file": b"",
    "one byte": b"P",
    "a text": b"BagIt-Version: 0.97\n" * 50,
    "zeros": bytes(5000),
    "noise": random.Random(1).randbytes(5000),
    "a gzip": struct.pack("<4B", 31, 139, 8, 0) + bytes(500),
    "no members": end_records(0, 0, 0),
    "an end record and nothing else that claims members": end_records(3, 200, 0),
    "fewer entries told than there are": with_end(here=3, entries=3),
    "more entries told than there are": with_end(here=30, entries=30),
    "65535 entries told and no zip64": with_end(here=65535, entries=65535),
    "a directory told shorter than it is": with_end(size=100),
    "a directory told longer than the file": with_end(size=10**8),
    "a directory told to lie behind the end": with_end(offset=10**8),
    "a directory told to lie before the data": with_end(offset=3),
    "an end record of the second of two disks": with_end(disk=1, start_disk=1),
    "a directory that begins on another disk": with_end(start_disk=1),
    "entries on this disk that are not all": with_end(here=2),
    "a comment told longer than the file": with_end(comment_size=500),
    "a zip64 locator that points nowhere": with_end64(record_at=10**12),
    "a zip64 locator that points at the data": with_end64(record_at=0),
    "zip64 of two disks": with_end64(disks=2, disk=1, start_disk=1),
    "zip64 with a billion entries": with_end64(here=10**9, entries=10**9),
    "zip64 with 2 to the 64 entries": with_end64(here=2**64 - 1, entries=2**64 - 1),
    "zip64 with a directory of an exabyte": with_end64(size=10**18),
    "zip64 with a directory at an exabyte": with_end64(offset=10**18),
    "a directory cut out": GOOD[:DIRECTORY_AT] + GOOD[-22:],
    "a damaged signature in the directory": GOOD[:DIRECTORY_AT] + b"XX" + GOOD[DIRECTORY_AT + 2 :],
    "data without the directory": GOOD[:DIRECTORY_AT],
    "the directory without the data": GOOD[DIRECTORY_AT:],
}


@pytest.mark.parametrize("about", BROKEN)
def test_a_file_that_is_no_whole_zip_is_refused_with_a_name(tmp_path: Path, about: str) -> None:
    started = time.process_time()
    kinds = {kind for kind, _ in named(refused(tmp_path, BROKEN[about]).faults)}
    assert kinds & {*BROKEN_ZIP, Kind.LOCAL_HEADER_DAMAGED, Kind.TOO_MANY_MEMBERS}
    assert time.process_time() - started < 5


@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999])
def test_a_zip_cut_off_is_refused_as_truncated(tmp_path: Path, part: float) -> None:
    kinds = [kind for kind, _ in named(refused(tmp_path, GOOD[: int(len(GOOD) * part)]).faults)]
    assert kinds == [Kind.ZIP_TRUNCATED]


@pytest.mark.parametrize("start", [1, 30, 500, DIRECTORY_AT - 1])
def test_a_zip_without_its_beginning_is_refused(tmp_path: Path, start: int) -> None:
    assert refused(tmp_path, GOOD[start:]).faults


def test_a_zip_with_a_hole_is_refused_for_the_files_in_it(tmp_path: Path) -> None:
    at = GOOD.index(CONTENT)
    faults = named(refused(tmp_path, GOOD[:at] + bytes(len(CONTENT)) + GOOD[at + len(CONTENT) :]).faults)
    assert faults == [(Kind.DIGEST_DIFFERS, IMAGE)]


def test_a_bomb_that_quotes_overlapping_members_is_refused_before_it_grows(tmp_path: Path) -> None:
    started = time.process_time()
    kinds = {kind for kind, _ in named(refused(tmp_path, quoted_overlap_bomb(copies=200)).faults)}
    assert Kind.MEMBERS_OVERLAP in kinds
    assert time.process_time() - started < 5


def test_members_that_share_all_their_bytes_are_refused(tmp_path: Path) -> None:
    content = b"shared" * 50
    first = Member("W1.bag/data/a", content)
    contents = bag_with(files={"a": content, "b": content})
    members = members_of({name: bytes_ for name, bytes_ in contents.items() if not name.startswith("W1.bag/data/")})
    offset = len(b"".join(zip_bytes([member])[: zip_bytes([member]).index(b"PK\x01\x02")] for member in members))
    both = [
        first,
        Member("W1.bag/data/b", content, packed=b"", central={"offset": offset, "packed_size": len(content)}),
    ]
    kinds = {kind for kind, _ in named(refused(tmp_path, zip_bytes([*members, *both])).faults)}
    assert kinds & {Kind.MEMBERS_OVERLAP, Kind.LOCAL_HEADER_DIFFERS}


@pytest.mark.parametrize("declared", [True, False], ids=["honest", "lying"])
def test_a_bomb_of_zeros_is_refused_whether_or_not_it_tells_its_size(tmp_path: Path, *, declared: bool) -> None:
    zeros = bytes(40 << 20)
    member = Member("W1.bag/data/bomb", zeros, DEFLATED, packed=deflated(zeros))
    if not declared:
        small: Mapping[str, int | bytes] = {"size": 1000, "crc": zlib.crc32(bytes(1000))}
        member = Member("W1.bag/data/bomb", zeros, DEFLATED, packed=deflated(zeros), local=small, central=small)
    contents = bag_with(files={"bomb": zeros if declared else bytes(1000)})
    members = members_of({name: content for name, content in contents.items() if "bomb" not in name})
    kinds = {kind for kind, _ in named(refused(tmp_path, zip_bytes([*members, member])).faults)}
    assert kinds & ({Kind.RATIO_TOO_HIGH} if declared else {Kind.MEMBER_TOO_LONG})


def test_a_bomb_in_a_tag_file_is_refused_without_being_read(tmp_path: Path) -> None:
    bomb = b"\0" * (200 << 20)
    member = Member("W1.bag/bag-info.txt", b"", DEFLATED, packed=deflated(bomb))
    sizes: Mapping[str, int | bytes] = {"size": len(bomb), "crc": zlib.crc32(bomb)}
    members = changed(
        good_members(), "W1.bag/bag-info.txt", method=DEFLATED, packed=member.packed, local=sizes, central=sizes
    )
    kinds = {kind for kind, _ in named(refused(tmp_path, zip_bytes(members)).faults)}
    assert kinds & {Kind.TAG_FILE_TOO_BIG, Kind.RATIO_TOO_HIGH}


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "W1.bag.zip"
    path.write_bytes(content)
    return path


def test_a_zip64_extra_field_that_is_too_short_is_refused(tmp_path: Path) -> None:
    members = changed(good_members(), IMAGE, central={"size": TOO_BIG_32, "extra": zip64_extra()})
    assert refused(tmp_path, zip_bytes(members)).faults


def test_what_is_no_plain_file_is_refused_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "link.zip").symlink_to(_written(tmp_path, GOOD))
    for name in ("folder.zip", "link.zip"):
        with pytest.raises(InvalidBag) as refusal:
            debag.unpack(tmp_path / name, into=tmp_path / "out", durable=False)
        assert [kind for kind, _ in named(refusal.value.faults)] == [Kind.NOT_A_ZIP]
    assert not (tmp_path / "out").exists()


def test_a_zip_bigger_than_the_room_is_put_off_and_not_refused(tmp_path: Path) -> None:
    bag_zip = _written(tmp_path, GOOD)
    with pytest.raises(NoRoom):
        debag.unpack(bag_zip, into=tmp_path / "out", policy=Policy(reserve_bytes=1 << 60), durable=False)
    assert [path.name for path in tmp_path.iterdir()] == [bag_zip.name]
    assert bag_zip.read_bytes() == GOOD


def test_a_zip_that_is_gone_is_no_fault_of_the_bag(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        debag.unpack(tmp_path / "absent.zip", into=tmp_path / "out", durable=False)
    assert not list(tmp_path.iterdir())


def test_a_zip_that_is_changed_while_it_is_read_is_put_off_and_nothing_is_shown(tmp_path: Path) -> None:
    bag_zip = _written(tmp_path, GOOD)

    def meddle(_done: int, _total: int) -> None:
        bag_zip.write_bytes(GOOD + b"more")

    with pytest.raises(TransientError):
        debag.unpack(bag_zip, into=tmp_path / "out", pulse=meddle, durable=False)
    assert [path.name for path in tmp_path.iterdir()] == [bag_zip.name]


def test_a_run_that_is_stopped_leaves_nothing_and_a_second_one_succeeds(tmp_path: Path) -> None:
    bag_zip = _written(tmp_path, GOOD)

    def stop(_done: int, _total: int) -> None:
        raise Stopping("asked to")

    with pytest.raises(Stopping):
        debag.unpack(bag_zip, into=tmp_path / "out", pulse=stop, durable=False)
    assert [path.name for path in tmp_path.iterdir()] == [bag_zip.name]
    assert debag.unpack(bag_zip, into=tmp_path / "out", durable=False).files == len(SMALL_WORK)


ALTERED = "W1.bag/data/altered.jpg"
DOUBTFUL = {
    "a member twice": ([Member(IMAGE, b"again")], (Kind.DUPLICATE_MEMBER, IMAGE)),
    "a bomb": (
        [Member("W1.bag/data/bomb", b"", DEFLATED, packed=deflated(bytes(40 << 20)), central={"size": 40 << 20})],
        (Kind.RATIO_TOO_HIGH, "W1.bag/data/bomb"),
    ),
    "members that share bytes": (
        [Member("W1.bag/data/a", b"shared"), Member("W1.bag/data/b", b"shared", central={"offset": 0})],
        (Kind.MEMBERS_OVERLAP, "W1.bag/bagit.txt"),
    ),
    "a tag file twice": ([Member("W1.bag/bag-info.txt", b"x: y\n")], (Kind.DUPLICATE_MEMBER, "W1.bag/bag-info.txt")),
}


@pytest.mark.parametrize("doubt", DOUBTFUL)
def test_members_that_may_not_be_read_hide_no_altered_file_beside_them(tmp_path: Path, doubt: str) -> None:
    more, fault = DOUBTFUL[doubt]
    members = members_of(bag_with(files={**SMALL_WORK, "altered.jpg": b"as it was"}))
    altered = [replace(m, content=b"otherwise") if m.name == ALTERED else m for m in members]
    faults = named(refused(tmp_path, zip_bytes([*altered, *more])).faults)
    assert fault in faults
    assert (Kind.DIGEST_DIFFERS, ALTERED) in faults
