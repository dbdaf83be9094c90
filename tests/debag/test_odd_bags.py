"""Bags that are odd and yet right: unpacked, byte for byte, with a warning where one is due and only there."""

import hashlib
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from pipeline.debag import FaultKind as Kind
from pipeline.debag import Policy
from tests.world.awkward import (
    DEFLATED,
    STORED,
    Member,
    bag_with,
    good_members,
    members_of,
    payload_manifest,
    zip_bytes,
)
from tests.world.bags import SMALL_WORK, manifest
from tests.world.verdicts import Case, accepted, assert_named, assert_unpacked, each, named

BAG = "W1.bag"
SHA512 = "manifest-sha512.txt"
IMAGE = "images/I1/I10001.jpg"
SIZE, COUNT = sum(map(len, SMALL_WORK.values())), len(SMALL_WORK)
GOOD = zip_bytes(good_members())
FULL = payload_manifest()


def odd(
    about: str,
    *found: tuple[Kind, str],
    also: Collection[Kind] = (),
    replaced: Mapping[str, bytes | None] | None = None,
    algorithms: Collection[str] = ("sha512",),
    version: str = "0.97",
) -> Case:
    """A bag of the small work that is right, with the warnings that it is due; paths are relative to the bag."""
    contents = bag_with(replaced=replaced, algorithms=list(algorithms), version=version)
    where = [(kind, f"{BAG}/{path}" if path else BAG) for kind, path in found]
    return Case(about, lambda: zip_bytes(members_of(contents)), where, also)


def tag(about: str, path: str, content: bytes | None, *found: tuple[Kind, str]) -> Case:
    """A bag with another tag file."""
    return odd(about, *found, replaced={path: content})


PREFIXED = [(Kind.MD5SUM_PREFIX, SHA512)]
INFO = f"BDRC-RID: W1\nPayload-Oxum: {SIZE}.{COUNT}\n".encode()
DECLARATION = b"BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n"
SHOUTED = b"".join(line[:128].upper() + line[128:] for line in FULL.splitlines(keepends=True))
FETCH = b"https://example.org/x - data/" + IMAGE.encode() + b"\n"
BAGS = [
    *(odd(f"version {version}", version=version) for version in ("0.93", "0.94", "0.95", "0.96", "0.97", "1.0")),
    *(odd(f"{name} alone", algorithms=(name,)) for name in ("sha256", "sha384", "sha224", "sha3_256", "blake2b")),
    odd("three algorithms", algorithms=("sha256", "md5", "sha512")),
    odd("md5 alone", (Kind.ALGORITHM_WEAK, ""), algorithms=("md5",)),
    odd("sha1 and md5 alone", (Kind.ALGORITHM_WEAK, ""), algorithms=("sha1", "md5")),
    tag(
        "an unknown algorithm beside",
        "manifest-sha9000.txt",
        FULL,
        (Kind.ALGORITHM_UNKNOWN, "manifest-sha9000.txt"),
    ),
    tag("a manifest with CRLF", SHA512, FULL.replace(b"\n", b"\r\n")),
    tag("a manifest with CR alone", SHA512, FULL.replace(b"\n", b"\r")),
    tag("a manifest without a last line end", SHA512, FULL[:-1]),
    tag("a manifest in which tabs part", SHA512, FULL.replace(b"  ", b"\t")),
    tag("a manifest in which one blank parts", SHA512, FULL.replace(b"  ", b" ")),
    tag("digests in upper case", SHA512, SHOUTED),
    tag("names with an asterisk", SHA512, FULL.replace(b"  ", b" *"), *PREFIXED),
    tag("names with a dot and slash", SHA512, FULL.replace(b"  ", b"  ./"), *PREFIXED),
    tag("a declaration with CRLF", "bagit.txt", DECLARATION.replace(b"\n", b"\r\n")),
    tag("a declaration without a last line end", "bagit.txt", DECLARATION[:-1]),
    tag("no bag-info", "bag-info.txt", None),
    tag("a bag-info with continuation lines", "bag-info.txt", INFO + b"Note: long\n  and longer\n\tand more\n"),
    tag("an Oxum with its label in lower case", "bag-info.txt", INFO.replace(b"Payload-Oxum", b"payload-oxum")),
    tag("labels that come again", "bag-info.txt", INFO + b"Contact: a\nContact: b\n"),
    tag("a tag file in a folder", "notes/deep/about.txt", b"about"),
    tag("no tag manifest", "tagmanifest-sha512.txt", None, (Kind.TAG_MANIFEST_MISSING, "")),
    # 2.2.1: it must list every payload manifest, and only should list the other tag files
    tag(
        "a tag manifest that does not list the declaration",
        "tagmanifest-sha512.txt",
        manifest({"bag-info.txt": INFO, SHA512: FULL}, "sha512"),
        (Kind.TAG_FILE_UNLISTED, "bagit.txt"),
    ),
    tag("a complete fetch.txt", "fetch.txt", FETCH, (Kind.FETCH_COMPLETE, "fetch.txt")),
    odd(
        "a file in only one of two manifests before 1.0",
        algorithms=("sha512", "sha256"),
        replaced={"manifest-sha256.txt": payload_manifest({IMAGE: SMALL_WORK[IMAGE]}, "sha256")},
    ),
    tag(
        "a file listed twice alike before 1.0",
        SHA512,
        FULL + FULL.splitlines(keepends=True)[0],
        (Kind.LISTED_TWICE, f"data/{IMAGE}"),
    ),
]


@each(BAGS)
def test_a_bag_is_unpacked_that_has(tmp_path: Path, case: Case) -> None:
    result = accepted(tmp_path, case.content())
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert_named(case, result.warnings)


def test_another_rid_in_bag_info_is_a_warning_where_that_is_set(tmp_path: Path) -> None:
    contents = bag_with(replaced={"bag-info.txt": INFO.replace(b"W1", b"W2")})
    result = accepted(tmp_path, zip_bytes(members_of(contents)), policy=Policy(rid_mismatch="warn"))
    assert_unpacked(result, {"W1": SMALL_WORK})
    assert [kind for kind, _ in named(result.warnings)] == [Kind.RID_MISMATCH]


NAMES = {
    "an empty file": {"empty": b""},
    "names of tag files": {"bagit.txt": b"b", "manifest-md5.txt": b"m", "tagmanifest-md5.txt": b"t", "data/x": b"d"},
    "nested zips and bags": {"W9.bag.zip": GOOD, "W9.bag/data/x": b"x", "W9.bag/bagit.txt": b"BagIt-Version: 7\n"},
    "names that begin with dashes and dots": {"-rf": b"a", ".hidden": b"b", "...x": b"c", "..a/b": b"d", "~": b"e"},
    "names with blanks": {"a b/c d.jpg": b"1", "two  blanks": b"2"},
    "names that a shell would read": {"$(id).jpg": b"1", "`id`;|&>": b"2", "*?[a]{b}": b"3", "'\"": b"4"},
    "names in Tibetan and Chinese": {"དཀར་ཆག/ཤོག་ངོས་༡.jpg": b"1", "目錄/第一.jpg": b"2"},
    "names outside the first plane": {"𠀀/😀.jpg": b"1"},
    "a name of 255 bytes": {"x" * 255: b"1", "ཀ" * 85: b"2"},
    "forty folders deep": {"/".join(["deep"] * 40) + "/x": b"1"},
    "percent signs that are no encoding": {"100%.jpg": b"1", "%zz": b"2", "50% off%": b"3"},
}


@pytest.mark.parametrize("method", [STORED, DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("about", NAMES)
def test_a_payload_is_unpacked_that_has(tmp_path: Path, about: str, method: int) -> None:
    contents = bag_with(files=NAMES[about])
    result = accepted(tmp_path, zip_bytes(members_of(contents, method=method)))
    assert_unpacked(result, {"W1": NAMES[about]})
    assert not result.warnings


ODD_NAMES = {
    "case twins": ({"Page.jpg": b"1", "page.jpg": b"2"}, {Kind.CASE_TWINS}),
    "control characters": ({"bell\x07.jpg": b"1"}, {Kind.NAME_ODD_CHARACTERS}),
    "a character that turns the reading": ({"gpj.\u202eexe": b"1"}, {Kind.NAME_ODD_CHARACTERS}),
    "a trailing dot": ({"dot.": b"1", "folder./x": b"2"}, {Kind.NAME_TRAILING_DOT}),
    "a trailing blank": ({"folder /x": b"2"}, {Kind.NAME_TRAILING_DOT}),
}


@pytest.mark.parametrize("about", ODD_NAMES)
def test_a_payload_is_unpacked_with_a_warning_that_has(tmp_path: Path, about: str) -> None:
    files, kinds = ODD_NAMES[about]
    result = accepted(tmp_path, zip_bytes(members_of(bag_with(files=files))))
    assert_unpacked(result, {"W1": files})
    assert {warning.kind for warning in result.warnings} == kinds


SPELLED = {
    "LF as %0A": ("new\nline.jpg", "new%0Aline.jpg", "0.97"),
    "CR as %0D": ("carriage\rreturn.jpg", "carriage%0Dreturn.jpg", "0.97"),
    "LF as %0a": ("new\nline.jpg", "new%0aline.jpg", "1.0"),
    "many line ends": ("a\nb\nc\r\nd\n.jpg", "a%0Ab%0Ac%0D%0Ad%0A.jpg", "1.0"),
    "percent as %25 in 1.0": ("100%.jpg", "100%25.jpg", "1.0"),
    "an encoded name that is literal": ("a%0Ab.jpg", "a%250Ab.jpg", "1.0"),
    "the other normal form": (unicodedata.normalize("NFD", "é.jpg"), "é.jpg", "0.97"),
    "the other normal form the other way": ("é.jpg", unicodedata.normalize("NFD", "é.jpg"), "0.97"),
}


@pytest.mark.parametrize("about", SPELLED)
def test_a_name_is_found_that_the_manifest_spells_with(tmp_path: Path, about: str) -> None:
    name, spelled, version = SPELLED[about]
    lines = hashlib.sha512(b"content").hexdigest().encode() + b"  data/" + spelled.encode() + b"\n"
    contents = bag_with(files={name: b"content"}, version=version, replaced={SHA512: lines})
    result = accepted(tmp_path, zip_bytes(members_of(contents)))
    assert_unpacked(result, {"W1": {unicodedata.normalize("NFC", name): b"content"}})
    assert {warning.kind for warning in result.warnings} <= {Kind.NAME_RESOLVED, Kind.NAME_ODD_CHARACTERS}
    assert Kind.NAME_RESOLVED in {warning.kind for warning in result.warnings} or "%" in spelled


def test_two_files_whose_names_differ_only_in_normal_form_are_kept_apart_where_the_manifest_does(
    tmp_path: Path,
) -> None:
    files = {"\u00e9.jpg": b"composed", "e\u0301.jpg": b"taken apart"}
    result = accepted(tmp_path, zip_bytes(members_of(bag_with(files=files))))
    assert {path.name: path.read_bytes() for path in result.works[0].path.iterdir() if path.is_file()} == files


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "ISO-8859-1", "windows-1252"])
def test_tag_files_are_read_in_the_encoding_that_the_bag_declares(tmp_path: Path, encoding: str) -> None:
    files = {"é.jpg": b"content"}
    text = {SHA512: payload_manifest(files).decode(), "bag-info.txt": "BDRC-RID: W1\nContact: é\n"}
    declaration = f"BagIt-Version: 0.97\nTag-File-Character-Encoding: {encoding}\n".encode()
    tags = {"bagit.txt": declaration, **{name: content.encode(encoding) for name, content in text.items()}}
    seal = manifest(tags, "sha512").decode().encode(encoding)
    contents = bag_with(files=files, replaced={**tags, "tagmanifest-sha512.txt": seal})
    result = accepted(tmp_path, zip_bytes(members_of(contents)))
    assert_unpacked(result, {"W1": files})
    assert not result.warnings


@pytest.mark.parametrize("letters", [1, 80])
def test_a_name_that_was_not_marked_as_utf8_is_known_by_the_manifest(tmp_path: Path, letters: int) -> None:
    files = {f"{'ཀ' * letters}.jpg": b"content"}
    members = [Member(str(m.name).encode(), m.content) for m in members_of(bag_with(files=files))]
    result = accepted(tmp_path, zip_bytes(members))
    assert_unpacked(result, {"W1": files})
    assert [warning.kind for warning in result.warnings] == [Kind.NAME_CP437]


def test_a_payload_with_a_folder_where_the_tag_files_would_be_kept_is_whole_and_so_are_they(tmp_path: Path) -> None:
    files = {**SMALL_WORK, "W1.bag/bagit.txt": b"an older bag's", "W1.bag/deep/x": b"x", "W1.bag.2": b"a file"}
    contents = bag_with(files=files)
    result = accepted(tmp_path, zip_bytes(members_of(contents)))
    work = result.works[0].path
    assert {path: (work / path).read_bytes() for path in files} == files
    everything = {path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert {content for name, content in contents.items() if "/data/" not in name} <= everything
    assert [kind for kind, _ in named(result.warnings)] == [Kind.KEPT_NAME_TAKEN]
    assert result.works[0].files == len(files)
