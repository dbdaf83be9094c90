"""What a zip tells of a member beside its header: sizes told later, true names, times in UTC, folders, hosts."""

import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.debag import FaultKind as Kind
from tests.world.awkward import (
    DEFLATED,
    DESCRIPTOR,
    STORED,
    TOO_BIG_32,
    Member,
    bag_with,
    changed,
    descriptor_of,
    extra_field,
    good_members,
    members_of,
    zip_bytes,
)
from tests.world.bags import SMALL_WORK
from tests.world.verdicts import accepted, assert_unpacked, named, refused

IMAGE = "W1.bag/data/images/I1/I10001.jpg"
CONTENT = SMALL_WORK["images/I1/I10001.jpg"]
NOTHING: Mapping[str, tuple[int, ...]] = {"crc": (0,), "packed_size": (0, TOO_BIG_32), "size": (0, TOO_BIG_32)}


def streamed(method: int, *, local: Mapping[str, int | bytes], after: bytes | None = None) -> bytes:
    """A good bag whose members were streamed, with other fields in the local header and a descriptor."""
    members = []
    for member in good_members(method=method):
        own = descriptor_of(member.content, len(member.raw_packed)) if after is None else after
        members.append(replace(member, flags=DESCRIPTOR, local=local, after=own))
    return zip_bytes(members)


@pytest.mark.parametrize("method", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_crc_and_sizes_of_a_streamed_member_may_each_be_told_later(tmp_path: Path, method: int) -> None:
    cases = [{name: value} for name, values in NOTHING.items() for value in values]
    cases += [{"crc": 0, "packed_size": 0}, {"crc": 0, "size": TOO_BIG_32}, {"packed_size": 0, "size": TOO_BIG_32}]
    for number, local in enumerate(cases):
        result = accepted(tmp_path / str(number), streamed(method, local=local))
        assert_unpacked(result, {"W1": SMALL_WORK})
        assert not result.warnings, local


@pytest.mark.parametrize("field", NOTHING)
def test_of_a_member_that_was_not_streamed_nothing_is_told_later(tmp_path: Path, field: str) -> None:
    members = changed(good_members(method=DEFLATED), IMAGE, local={field: 0})
    if field == "crc":  # the digest proves the bytes
        assert [w.kind for w in accepted(tmp_path, zip_bytes(members)).warnings] == [Kind.CRC_DIFFERS]
    else:
        assert (Kind.LOCAL_HEADER_DIFFERS, IMAGE) in named(refused(tmp_path, zip_bytes(members)).faults)


@pytest.mark.parametrize("field", ["packed_size", "size"])
def test_a_streamed_member_with_another_size_is_refused_though_its_other_size_comes_later(
    tmp_path: Path, field: str
) -> None:
    local: dict[str, int | bytes] = {"crc": 0, "packed_size": 0, "size": 0, field: 7}
    members = changed(good_members(method=DEFLATED), IMAGE, local=local, descriptor=True)
    assert named(refused(tmp_path, zip_bytes(members)).faults) == [(Kind.LOCAL_HEADER_DIFFERS, IMAGE)]


FORMS = [(marked, wide) for marked in (True, False) for wide in (True, False)]


@pytest.mark.parametrize(("marked", "wide"), FORMS)
def test_a_data_descriptor_is_read_in_all_its_forms(tmp_path: Path, *, marked: bool, wide: bool) -> None:
    at = good_members()
    members = [replace(m, after=descriptor_of(m.content, len(m.content), marked=marked, wide=wide)) for m in at]
    nothing = {"crc": 0, "packed_size": 0, "size": 0}
    result = accepted(tmp_path, zip_bytes([replace(m, flags=DESCRIPTOR, local=nothing) for m in members]))
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert not result.warnings


@pytest.mark.parametrize(("marked", "wide"), FORMS)
def test_a_data_descriptor_that_contradicts_the_directory_refuses_the_zip(
    tmp_path: Path, *, marked: bool, wide: bool
) -> None:
    other = descriptor_of(CONTENT, len(CONTENT) + 1, marked=marked, wide=wide)
    members = changed(good_members(), IMAGE, flags=DESCRIPTOR, after=other)
    assert named(refused(tmp_path, zip_bytes(members)).faults) == [(Kind.LOCAL_HEADER_DIFFERS, IMAGE)]


@pytest.mark.parametrize(("marked", "wide"), FORMS)
def test_another_crc_in_a_data_descriptor_is_a_fault_unless_a_digest_proves_the_bytes(
    tmp_path: Path, *, marked: bool, wide: bool
) -> None:
    def with_other_crc(name: str) -> bytes:
        content = next(m.content for m in good_members() if m.name == name)
        own = descriptor_of(content, len(content), marked=marked, wide=wide)
        at = 4 if marked else 0
        other = own[:at] + bytes(4) + own[at + 4 :]
        return zip_bytes(changed(good_members(), name, flags=DESCRIPTOR, after=other))

    proved = accepted(tmp_path / "proved", with_other_crc(IMAGE))
    assert [warning.kind for warning in proved.warnings] == [Kind.CRC_DIFFERS]
    bare = "W1.bag/tagmanifest-sha512.txt"
    assert named(refused(tmp_path / "bare", with_other_crc(bare)).faults) == [(Kind.CRC_DIFFERS, bare)]


def test_other_bytes_after_a_streamed_member_are_only_odd(tmp_path: Path) -> None:
    members = changed(good_members(), IMAGE, flags=DESCRIPTOR, after=b"hidden")
    assert [warning.kind for warning in accepted(tmp_path, zip_bytes(members)).warnings] == [Kind.HIDDEN_BYTES]


def test_a_flag_for_utf8_that_only_one_header_has_says_nothing_of_a_name_in_ascii(tmp_path: Path) -> None:
    members = changed(good_members(), IMAGE, local={"flags": 0x800})
    assert not accepted(tmp_path, zip_bytes(members)).warnings


# Names: the Unicode path field (APPNOTE 4.6.9)
TRUE = "images/I1/頁一.jpg"
RAW = f"W1.bag/data/{TRUE}".encode("gbk")
PAGE = {**SMALL_WORK, TRUE: b"a page"}


def unicode_path(name: str, *, crc: int | None = None, version: int = 1) -> bytes:
    raw_crc = zlib.crc32(RAW) if crc is None else crc
    return extra_field(0x7075, struct.pack("<BI", version, raw_crc) + name.encode())


def with_page(extra: bytes, *, raw: bytes = RAW, flags: int = 0) -> bytes:
    """A bag with a page whose name is in a Chinese code page, and its true one perhaps in a field."""
    members = members_of(bag_with(files=PAGE))
    headers: dict[str, int | bytes] = {"name": raw, "extra": extra, "flags": flags}
    return zip_bytes(changed(members, f"W1.bag/data/{TRUE}", local=headers, central=headers))


def test_a_name_in_a_code_page_is_read_from_the_unicode_path_field(tmp_path: Path) -> None:
    result = accepted(tmp_path, with_page(extra_field(0x9999, b"other") + unicode_path(f"W1.bag/data/{TRUE}")))
    assert_unpacked(result, {"W1": PAGE})
    assert not result.warnings


@pytest.mark.parametrize(
    "extra",
    [
        unicode_path(f"W1.bag/data/{TRUE}", crc=1),
        unicode_path(f"W1.bag/data/{TRUE}", version=2),
        unicode_path(f"W1.bag/data/{TRUE}")[:-1],
        extra_field(0x7075, struct.pack("<BI", 1, zlib.crc32(RAW)) + b"\xff\xff"),
        b"",
    ],
    ids=["of another name", "of another version", "cut off", "not UTF-8", "none"],
)
def test_a_unicode_path_field_counts_for_nothing_that_is(tmp_path: Path, extra: bytes) -> None:
    kinds = {kind for kind, _ in named(refused(tmp_path, with_page(extra)).faults)}
    assert kinds == {Kind.FILE_MISSING, Kind.FILE_UNLISTED}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../escaped", Kind.NAME_TRAVERSAL),
        ("/escaped", Kind.NAME_ABSOLUTE),
        ("W1.bag\\data\\x", Kind.NAME_BACKSLASH),
        ("W1.bag/bagit.txt", Kind.DUPLICATE_MEMBER),
        (f"W1.bag/data/{'頁' * 86}", Kind.NAME_TOO_LONG),
        (f"W1.bag/{'頁' * 86}.txt", Kind.NAME_TOO_LONG),
    ],
)
def test_a_unicode_path_field_is_trusted_no_more_than_any_name(tmp_path: Path, name: str, kind: Kind) -> None:
    assert kind in {found for found, _ in named(refused(tmp_path, with_page(unicode_path(name))).faults)}


def test_a_name_that_the_header_says_is_utf8_is_the_name(tmp_path: Path) -> None:
    raw = f"W1.bag/data/{TRUE}".encode()
    other = extra_field(0x7075, struct.pack("<BI", 1, zlib.crc32(raw)) + b"W1.bag/data/other")
    assert_unpacked(accepted(tmp_path, with_page(other, raw=raw, flags=0x800)), {"W1": PAGE})


# Times: fields in UTC, else MS-DOS' in the time of nowhere
WHEN = 1686830463
UT = extra_field(0x5455, struct.pack("<Bi", 1, WHEN))
NTFS = extra_field(
    0x000A, bytes(4) + extra_field(1, struct.pack("<3Q", (WHEN + 11_644_473_600) * 10**7 + 5000000, 1, 1))
)
UNIX = extra_field(0x5855, struct.pack("<2i", 1, WHEN))
PKWARE = extra_field(0x000D, struct.pack("<2i2H", 1, WHEN, 0, 0))
LOCAL_TIME = (2024, 4, 6, 12, 0, 0)  # what `awkward` puts into every header
TIMES: Mapping[str, tuple[bytes, float | None]] = {
    "extended timestamp": (UT, WHEN),
    "of before 1970": (extra_field(0x5455, struct.pack("<Bi", 1, -86_399)), -86_399),
    "NTFS": (NTFS, WHEN + 0.5),
    "Unix of old": (UNIX, WHEN),
    "Unix of PKWARE": (PKWARE, WHEN),
    "all, of which the extended timestamp counts": (UNIX + NTFS + UT, WHEN),
    "extended timestamp of another time": (extra_field(0x5455, struct.pack("<Bi", 2, WHEN)), None),
    "extended timestamp cut off": (UT[:-1], None),
    "NTFS of the year 60000": (extra_field(0x000A, bytes(4) + extra_field(1, b"\xff" * 24)), None),
    "none": (b"", None),
}


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("about", TIMES)
def test_files_and_folders_get_the_time_in_utc_that_a_field_tells(tmp_path: Path, about: str) -> None:
    extra, told = TIMES[about]
    folder = Member("W1.bag/data/images/", mode=0o40755)
    members = [replace(m, central={"extra": extra}) for m in (*good_members(), folder)]
    work = accepted(tmp_path, zip_bytes(members)).works[0].path
    expected = time.mktime((*LOCAL_TIME, 0, 0, -1)) if told is None else told
    assert {path.stat().st_mtime for path in (work / "images", work / "images/I1/I10001.jpg")} == {expected}


# Folders: an entry that ends in a slash and holds nothing
FOLDERS = ("W1.bag/", "W1.bag/data/", "W1.bag/data/images/")


def entries(**central: int) -> list[Member]:
    return [Member(name, central=dict(central)) for name in FOLDERS]


@pytest.mark.parametrize(
    "folders",
    [
        entries() * 2,
        entries(attributes=0xFFFF0010),
        entries(attributes=0o100644 << 16),
        entries(attributes=0xA1ED0010, made_by=0x0014),
        entries(attributes=0o120777 << 16),
        [Member(name, method=DEFLATED, packed=b"\x03\x00") for name in FOLDERS],
    ],
    ids=["twice", "full attributes", "a file's mode", "a link's mode of MS-DOS", "a link's mode", "deflated"],
)
def test_folder_entries_that_hold_nothing_are_folders(tmp_path: Path, folders: list[Member]) -> None:
    result = accepted(tmp_path, zip_bytes([*folders[:3], *good_members(), *folders[3:]]))
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert not result.warnings


def test_the_upper_half_of_attributes_is_no_mode_of_a_file_that_ms_dos_made(tmp_path: Path) -> None:
    members = changed(good_members(), IMAGE, central={"attributes": 0xA1ED0020, "made_by": 0x0014})
    result = accepted(tmp_path, zip_bytes(members))
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert not (result.works[0].path / "images/I1/I10001.jpg").is_symlink()


@pytest.mark.parametrize("host", [3, 19], ids=["Unix", "macOS"])
def test_a_link_is_refused_whichever_host_with_modes_made_it(tmp_path: Path, host: int) -> None:
    members = changed(good_members(), IMAGE, mode=0o120777, central={"made_by": host << 8 | 20})
    assert (Kind.LINK, IMAGE) in named(refused(tmp_path, zip_bytes(members)).faults)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (Member("W1.bag/data/folder/", b"content", mode=0o40755), Kind.FOLDER_WITH_CONTENT),
        (Member("W1.bag/data/folder/", b"/etc", mode=0o120777), Kind.LINK),
        (Member("W1.bag/data/folder", mode=0o40755), Kind.SPECIAL_FILE),
        (Member(IMAGE, mode=0o40755), Kind.DUPLICATE_MEMBER),
    ],
    ids=["content", "a link's content", "no slash", "a file's name"],
)
def test_a_folder_entry_is_refused_that_has(tmp_path: Path, entry: Member, kind: Kind) -> None:
    assert (kind, str(entry.name)) in named(refused(tmp_path, zip_bytes([*good_members(), entry])).faults)
