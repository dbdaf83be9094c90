"""Zips that are odd and yet right: unpacked, byte for byte, with a warning where one is due and only there."""

import struct
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline import debag
from pipeline.debag import FaultKind as Kind
from pipeline.debag import Policy
from tests.world.awkward import (
    DEFLATED,
    DESCRIPTOR,
    TOO_BIG_32,
    Member,
    bag_with,
    changed,
    good_members,
    members_of,
    write,
    zip64_extra,
    zip_bytes,
)
from tests.world.bags import SMALL_WORK, bag_members
from tests.world.verdicts import Case, accepted, assert_named, assert_unpacked, each

BAG = "W1.bag"
IMAGE = "images/I1/I10001.jpg"


def odd(about: str, content: bytes, *found: tuple[Kind, str], also: Collection[Kind] = ()) -> Case:
    """A zip of the small work that is right, with the warnings that it is due; paths are relative to the bag."""
    return Case(about, lambda: content, [(kind, f"{BAG}/{path}" if path else BAG) for kind, path in found], also)


def one(name: str, about: str, **changes: object) -> Case:
    """The small work with one member changed."""
    return odd(about, zip_bytes(changed(good_members(), f"{BAG}/{name}", **changes)))


def every(**changes: object) -> bytes:
    """The small work with all of its members changed in the same way."""
    return zip_bytes([replace(m, **changes) for m in good_members()])  # type: ignore[arg-type]  # one kind an attribute


def sized(fields: Mapping[str, int | bytes]) -> Mapping[str, int | bytes]:
    return {"size": TOO_BIG_32, "packed_size": TOO_BIG_32, **fields}


ITS_SIZE = len(SMALL_WORK[IMAGE])
FOLDERS = [Member(f"{BAG}/{path}", mode=0o40755) for path in ("", "data/", "data/images/", "data/images/I1/")]
GOOD = zip_bytes(good_members())
EVERY_64 = [
    Member(
        m.name,
        m.content,
        local=sized({"extra": zip64_extra(len(m.content), len(m.content))}),
        central=sized({"extra": zip64_extra(len(m.content), len(m.content))}),
    )
    for m in good_members()
]
# a deflate stream may hold blocks that are not packed at all
NOT_PACKED = b"\x01" + struct.pack("<2H", ITS_SIZE, ITS_SIZE ^ 0xFFFF) + SMALL_WORK[IMAGE]

ZIPS = [
    odd("no folder entries", GOOD),
    odd("folder entries", zip_bytes([*FOLDERS, *good_members()])),
    odd("folder entries after their files", zip_bytes([*good_members(), *reversed(FOLDERS)])),
    odd("all deflated", zip_bytes(good_members(method=DEFLATED))),
    odd("members in reverse", zip_bytes(reversed(good_members()))),
    odd("data descriptors", every(descriptor=True)),
    odd(
        "deflated with data descriptors",
        every(method=DEFLATED, descriptor=True),
    ),
    odd(
        "a descriptor that is promised and not there",
        zip_bytes(
            changed(
                good_members(),
                f"{BAG}/data/{IMAGE}",
                flags=DESCRIPTOR,
                local={"crc": 0, "size": 0, "packed_size": 0},
            )
        ),
    ),
    odd("a long comment", zip_bytes(good_members(), comment=b"c" * 65535)),
    odd("a comment that holds an end record", zip_bytes(good_members(), comment=b"PK\x05\x06" + bytes(30))),
    odd("a zip64 end record without need", zip_bytes(good_members(), zip64={})),
    odd("zip64 sizes without need", zip_bytes(EVERY_64, zip64={})),
    odd("modes of nothing", every(mode=0)),
    odd("set-user-id modes", every(mode=0o106777)),
    odd("files that nobody may read", every(mode=0o100000)),
    odd("made by MS-DOS", every(central={"made_by": 20, "attributes": 32})),
    odd("a time that no clock shows", every(central={"time": 0xFFFF, "date": 0}, local={"time": 0xFFFF, "date": 0})),
    odd("extra fields of other tools", every(local={"extra": b"zz\x02\0ab"}, central={"extra": b"qq\x01\0c"})),
    one(f"data/{IMAGE}", "a deflate stream of stored blocks", method=DEFLATED, packed=NOT_PACKED),
    one(f"data/{IMAGE}", "a version needed that is higher", central={"version": 45}),
    Case("bytes before the first member", lambda: b"#!/bin/sh\n" * 9 + GOOD, [(Kind.PREPENDED_BYTES, "")]),
    Case("bytes after the end", lambda: GOOD + b"\0" * 100, [(Kind.APPENDED_BYTES, "")]),
    Case(
        "bytes between members",
        lambda: zip_bytes(changed(good_members(), f"{BAG}/data/{IMAGE}", gap=b"hidden")),
        [(Kind.HIDDEN_BYTES, "")],
    ),
    odd(
        "a wrong CRC in the directory where the manifest is right",
        zip_bytes(changed(good_members(), f"{BAG}/data/{IMAGE}", central={"crc": 1})),
        (Kind.CRC_DIFFERS, f"data/{IMAGE}"),
    ),
    odd(  # nobody computes a CRC where a digest is checked, so nobody can see that both headers are wrong
        "a wrong CRC in both headers where the manifest is right",
        zip_bytes(changed(good_members(), f"{BAG}/data/{IMAGE}", central={"crc": 1}, local={"crc": 1})),
        also=(Kind.CRC_DIFFERS,),
    ),
]


@each(ZIPS)
def test_a_zip_is_unpacked_that_has(tmp_path: Path, case: Case) -> None:
    result = accepted(tmp_path, case.content())
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert_named(case, result.warnings)


def test_several_bags_become_several_works(tmp_path: Path) -> None:
    contents = {**bag_members("W1"), **bag_members("W2", files={"x": b"2"}), **bag_members("W3", files={"y": b"3"})}
    result = accepted(tmp_path, zip_bytes(members_of(contents)))
    assert_unpacked(result, {"W1": SMALL_WORK, "W2": {"x": b"2"}, "W3": {"y": b"3"}})
    assert not result.warnings


def test_a_bag_one_level_down_is_found(tmp_path: Path) -> None:
    contents = {f"bags/{name}": content for name, content in bag_members().items()}
    assert_unpacked(accepted(tmp_path, zip_bytes(members_of(contents))), {"W1": SMALL_WORK})


def test_a_bag_that_is_the_root_of_the_zip_takes_its_name_from_the_work_expected(tmp_path: Path) -> None:
    contents = {name.removeprefix(f"{BAG}/"): content for name, content in bag_members().items()}
    assert_unpacked(accepted(tmp_path, zip_bytes(members_of(contents)), work_rid="W1"), {"W1": SMALL_WORK})


def test_what_operating_systems_leave_beside_a_bag_is_not_unpacked(tmp_path: Path) -> None:
    litter = {"__MACOSX/W1.bag/._data": b"mac", ".DS_Store": b"store"}
    result = accepted(tmp_path, zip_bytes(members_of({**bag_members(), **litter})))
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert {warning.kind for warning in result.warnings} == {Kind.LITTER}


def test_a_work_without_a_bag_is_unpacked_where_that_is_allowed_and_said_to_be_unverified(tmp_path: Path) -> None:
    content = zip_bytes(members_of({f"W1/{path}": content for path, content in SMALL_WORK.items()}))
    result = accepted(tmp_path, content, policy=Policy(allow_unbagged=True))
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert [warning.kind for warning in result.warnings] == [Kind.UNBAGGED]


def test_seventy_thousand_members_are_unpacked(tmp_path: Path) -> None:
    files = {f"{number // 500}/{number}": b"%d" % number for number in range(70_000)}
    bag_zip = write(tmp_path / "W1.bag.zip", zip_bytes(members_of(bag_with(files=files)), zip64={}))
    result = debag.unpack(bag_zip, into=tmp_path / "out", durable=False)
    assert (result.works[0].files, result.warnings) == (70_000, ())
    assert (result.works[0].path / "139" / "69999").read_bytes() == b"69999"


def test_a_zip_that_python_streamed_without_knowing_sizes_is_unpacked(tmp_path: Path) -> None:
    bag_zip = tmp_path / "streamed.zip"
    with bag_zip.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zip_file:
        for name, content in bag_members().items():
            with zip_file.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert_unpacked(accepted(tmp_path / "there", bag_zip.read_bytes()), {"W1": SMALL_WORK})


def test_the_same_zip_gives_the_same_result_with_any_number_of_threads(tmp_path: Path) -> None:
    content = zip_bytes(good_members(method=DEFLATED))
    results = [accepted(tmp_path / str(threads), content, threads=threads) for threads in (0, 1, 2, 7)]
    assert len({result.works[0].digests.read_bytes() for result in results}) == 1
    assert {result.files for result in results} == {len(SMALL_WORK)}
