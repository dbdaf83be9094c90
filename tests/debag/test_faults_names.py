"""Zips whose members have names or kinds that nothing may follow: refused before a byte is written."""

import stat
from pathlib import Path

import pytest

from pipeline.debag import FaultKind as Kind
from pipeline.debag import Policy
from tests.world.awkward import DEFLATED, ENCRYPTED, UTF8, Member, bag_with, good_members, members_of, zip_bytes
from tests.world.bags import SMALL_WORK
from tests.world.verdicts import Case, assert_named, each, named, refused

# A member that no manifest names is unlisted, and the payload no longer what its Oxum says; or it is in no bag.
UNLISTED = (Kind.FILE_UNLISTED, Kind.OXUM_DIFFERS, Kind.OUTSIDE_BAG, Kind.MANIFEST_PATH_UNSAFE, Kind.NAME_EMPTY_PART)
E_ACUTE_NFC, E_ACUTE_NFD = "\u00e9.txt", "e\u0301.txt"


def with_member(kind: Kind, name: str | bytes, about: str, **attributes: object) -> Case:
    """A valid bag with one more member, which is refused for `kind`."""
    member = Member(name, b"content", **attributes)  # type: ignore[arg-type]  # one kind an attribute
    path = name if isinstance(name, str) else name.decode("utf-8", "replace")
    return Case(about, lambda: zip_bytes([*good_members(), member]), [(kind, path)], UNLISTED)


NAMES = [
    with_member(Kind.NAME_TRAVERSAL, "../escaped", "out of the folder"),
    with_member(Kind.NAME_TRAVERSAL, "W1.bag/data/../../../escaped", "out of the folder by way of the payload"),
    with_member(Kind.NAME_TRAVERSAL, "W1.bag/data/a/../b.jpg", "up and down within the payload"),
    with_member(Kind.NAME_TRAVERSAL, "W1.bag/data/images/..", "ending in two dots"),
    with_member(Kind.NAME_ABSOLUTE, "/escaped-absolute.txt", "from the root"),
    with_member(Kind.NAME_ABSOLUTE, "//host/share/x.txt", "of a network share"),
    with_member(Kind.NAME_DRIVE_LETTER, "C:/escaped.txt", "on a drive"),
    with_member(Kind.NAME_DRIVE_LETTER, "c:escaped.txt", "relative to a drive"),
    with_member(Kind.NAME_BACKSLASH, "W1.bag\\data\\x.jpg", "parted by backslashes"),
    with_member(Kind.NAME_BACKSLASH, "W1.bag/data/..\\..\\escaped", "upwards by backslashes"),
    with_member(Kind.NAME_DOT_PART, "W1.bag/data/./x.jpg", "with a dot as a part"),
    with_member(Kind.NAME_EMPTY_PART, "W1.bag//data/x.jpg", "with an empty part"),
    with_member(Kind.NAME_TOO_LONG, f"W1.bag/data/{'x' * 256}", "of 256 bytes"),
    with_member(Kind.NAME_TOO_LONG, f"W1.bag/data/{'ཀ' * 86}", "of 86 letters that take 258 bytes"),
    with_member(Kind.NAME_TOO_LONG, f"W1.bag/data/{'abcdefg/' * 600}x", "of a path of 4800 bytes"),
    with_member(Kind.NAME_TOO_LONG, f"W1.bag/data/{'x' * 300}/y.jpg", "in a folder of 300 bytes"),
    with_member(Kind.NAME_TOO_LONG, f"W1.bag/data/{'a/' * 99}x", "in more folders than a program may walk"),
]
# Where a name is so odd that nobody can tell what it belongs to, more may follow, and its path may be shortened.
MISLEADING_NAMES = [
    with_member(Kind.NAME_DOT_PART, "./W1.bag/data/x.jpg", "beginning with a dot"),
    with_member(Kind.NAME_EMPTY_PART, "W1.bag/data/x//", "ending in two slashes"),
    with_member(Kind.NAME_EMPTY_PART, "/", "of a slash alone"),
    with_member(Kind.NAME_TRAVERSAL, "..", "of two dots alone"),
]
UNREADABLE_NAMES = [
    with_member(Kind.NAME_NUL, b"W1.bag/data/x.jpg\0.exe", "with a NUL"),
    with_member(Kind.NAME_NUL, b"W1.bag/data/x.jpg\0", "ending in a NUL"),
    with_member(Kind.NAME_EMPTY, b"", "empty"),
    with_member(Kind.NAME_UNDECODABLE, b"W1.bag/data/\xff\xfe.jpg", "said to be UTF-8 and not", flags=UTF8),
    with_member(Kind.NAME_UNDECODABLE, b"W1.bag/data/\xed\xa0\x80.jpg", "with half a surrogate pair", flags=UTF8),
    with_member(Kind.NAME_UNDECODABLE, b"W1.bag/data/\xc0\xae\xc0\xae/x", "with dots in overlong UTF-8", flags=UTF8),
]


@each(NAMES)
def test_a_zip_with_a_member_whose_name_is_refused(tmp_path: Path, case: Case) -> None:
    assert_named(case, refused(tmp_path, case.content()).faults)


@each(MISLEADING_NAMES)
def test_a_zip_with_a_member_whose_name_misleads_is_refused(tmp_path: Path, case: Case) -> None:
    names = {str(kind) for kind, _ in named(refused(tmp_path, case.content()).faults)}
    assert {name for name in names if name.startswith("name-")}


@each(UNREADABLE_NAMES)
def test_a_zip_with_a_member_whose_name_cannot_even_be_shown_is_refused(tmp_path: Path, case: Case) -> None:
    kinds = [kind for kind, _ in named(refused(tmp_path, case.content()).faults)]
    assert kinds.count(next(iter(case.found))[0]) == 1
    assert set(kinds) <= {next(iter(case.found))[0], *UNLISTED}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
def test_an_absolute_name_is_refused_and_its_file_never_made(tmp_path: Path, *, listed: bool) -> None:
    victim = tmp_path / "escaped.txt"
    contents = bag_with(files={**SMALL_WORK, str(victim): b"x"} if listed else SMALL_WORK)
    members = members_of({name: content for name, content in contents.items() if "escaped" not in name})
    faults = refused(tmp_path, zip_bytes([*members, Member(str(victim), b"x")])).faults
    assert (Kind.NAME_ABSOLUTE, str(victim)) in named(faults)


TWICE_NAME = "W1.bag/data/images/I1/I10001.jpg"
TWICE = Member(TWICE_NAME, SMALL_WORK["images/I1/I10001.jpg"])
KINDS = [
    Case(
        "a member twice with the same bytes",
        lambda: zip_bytes([*good_members(), TWICE]),
        [(Kind.DUPLICATE_MEMBER, TWICE_NAME)],
        UNLISTED,
    ),
    Case(
        "a member twice with other bytes first",
        lambda: zip_bytes([Member(TWICE_NAME, b"other"), *good_members()]),
        [(Kind.DUPLICATE_MEMBER, TWICE_NAME)],
        (*UNLISTED, Kind.DIGEST_DIFFERS),
    ),
    Case(
        "a tag file twice",
        lambda: zip_bytes([*good_members(), Member("W1.bag/bagit.txt", b"BagIt-Version: 0.97\n")]),
        [(Kind.DUPLICATE_MEMBER, "W1.bag/bagit.txt")],
    ),
    Case(
        "a manifest twice and the first one wrong",
        lambda: zip_bytes([Member("W1.bag/manifest-sha512.txt", b""), *good_members()]),
        [(Kind.DUPLICATE_MEMBER, "W1.bag/manifest-sha512.txt")],
        UNLISTED,
    ),
    Case(
        "a file that is also a folder",
        lambda: zip_bytes(
            [*good_members(), Member("W1.bag/data/images/I1", b"file"), Member("W1.bag/data/images/I1/x", b"in it")]
        ),
        [(Kind.FILE_AND_FOLDER, "W1.bag/data/images/I1")],
        UNLISTED,
    ),
    Case(
        "a file where an empty folder is",
        lambda: zip_bytes([*good_members(), Member("W1.bag/data/a", b"file"), Member("W1.bag/data/a/", mode=0o40755)]),
        [(Kind.FILE_AND_FOLDER, "W1.bag/data/a")],
        UNLISTED,
    ),
    Case(
        "a file in place of the payload folder",
        lambda: zip_bytes([*good_members(), Member("W1.bag/data", b"file")]),
        [(Kind.FILE_AND_FOLDER, "W1.bag/data")],
        UNLISTED,
    ),
    with_member(Kind.LINK, "W1.bag/data/link", "a symbolic link", mode=stat.S_IFLNK | 0o777),
    with_member(Kind.LINK, "W1.bag/bag-info-2.txt", "a tag file that is a link", mode=stat.S_IFLNK | 0o777),
    with_member(Kind.SPECIAL_FILE, "W1.bag/data/pipe", "a pipe", mode=stat.S_IFIFO | 0o644),
    with_member(Kind.SPECIAL_FILE, "W1.bag/data/disk", "a block device", mode=stat.S_IFBLK | 0o644),
    with_member(Kind.SPECIAL_FILE, "W1.bag/data/tty", "a character device", mode=stat.S_IFCHR | 0o644),
    with_member(Kind.SPECIAL_FILE, "W1.bag/data/socket", "a socket", mode=stat.S_IFSOCK | 0o644),
    with_member(Kind.FOLDER_WITH_CONTENT, "W1.bag/data/folder/", "a folder with content", mode=0o40755),
    with_member(Kind.MEMBER_ENCRYPTED, "W1.bag/data/secret", "an encrypted member", flags=ENCRYPTED),
    with_member(Kind.MEMBER_ENCRYPTED, "W1.bag/data/strong", "a strongly encrypted member", flags=ENCRYPTED | 0x40),
    with_member(Kind.METHOD_UNSUPPORTED, "W1.bag/data/x.bz2", "a member packed by bzip2", method=12),
    with_member(Kind.METHOD_UNSUPPORTED, "W1.bag/data/x.lzma", "a member packed by LZMA", method=14),
    with_member(Kind.METHOD_UNSUPPORTED, "W1.bag/data/x.64", "a member packed by deflate64", method=9),
    with_member(Kind.METHOD_UNSUPPORTED, "W1.bag/data/x.1", "a member packed as in 1989", method=1),
    with_member(Kind.METHOD_UNSUPPORTED, "W1.bag/data/x.zst", "a member packed by zstandard", method=93),
]


@each(KINDS)
def test_a_zip_is_refused_that_has(tmp_path: Path, case: Case) -> None:
    assert_named(case, refused(tmp_path, case.content()).faults)


def test_of_names_that_are_equal_in_nfc_the_one_that_no_manifest_names_is_refused(tmp_path: Path) -> None:
    contents = bag_with(files={E_ACUTE_NFC: b"one"})
    content = zip_bytes(members_of({**contents, f"W1.bag/data/{E_ACUTE_NFD}": b"two"}))
    kinds = {kind for kind, _ in named(refused(tmp_path, content).faults)}
    assert kinds & {Kind.NAMES_COLLIDE, Kind.FILE_UNLISTED}


def test_names_that_are_equal_in_nfc_are_refused_where_the_manifest_names_neither_exactly(tmp_path: Path) -> None:
    files = {"\u1e69.txt": b"one"}  # s with two dots: composed in the manifest, in two other orders in the zip
    twins = {"W1.bag/data/s\u0323\u0307.txt": b"one", "W1.bag/data/s\u0307\u0323.txt": b"one"}
    contents = {name: content for name, content in bag_with(files=files).items() if "\u1e69" not in name}
    faults = named(refused(tmp_path, zip_bytes(members_of({**contents, **twins}))).faults)
    assert Kind.NAMES_COLLIDE in {kind for kind, _ in faults}


@pytest.mark.parametrize("method", [0, DEFLATED], ids=["stored", "deflated"])
def test_more_members_than_the_policy_allows_are_refused_at_once(tmp_path: Path, method: int) -> None:
    contents = bag_with(files={f"{number}.txt": b"x" for number in range(50)})
    members = members_of(contents, method=method)
    faults = named(refused(tmp_path, zip_bytes(members), policy=Policy(max_members=len(members) - 1)).faults)
    assert [kind for kind, _ in faults] == [Kind.TOO_MANY_MEMBERS]
