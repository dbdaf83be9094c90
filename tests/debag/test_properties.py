"""What must be true of any bag and of any damage, tried on bags and bytes that nobody thought of.

`DEBAG_EXAMPLES=2000 pytest tests/debag/test_properties.py` tries that many of each instead of a few.
"""

import logging
import os
import random
import re
import resource
import tempfile
import time
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import bagit
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline import debag
from pipeline.debag import FaultKind as Kind
from pipeline.foundation.errors import InvalidBag
from tests.world.awkward import DEFLATED, STORED, bag_with, good_members, members_of, payload_manifest, zip_bytes
from tests.world.bags import SMALL_WORK, bag_members, write_zip
from tests.world.verdicts import payload_of

_EXAMPLES = int(os.environ.get("DEBAG_EXAMPLES", "0"))
_SECONDS, _GROWTH_BYTES = 5, 150 << 20


def some(examples: int) -> settings:
    """So many examples in the suite, or as many as the environment asks for."""
    return settings(
        max_examples=_EXAMPLES or examples,
        deadline=None,
        derandomize=not _EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one example."""
    with tempfile.TemporaryDirectory(prefix="debag-any-") as folder:
        yield Path(folder)


def outcome(folder: Path, content: bytes) -> debag.Debagged | InvalidBag:
    """What debag makes of a zip: unpacked or refused with faults, and within bounds; nothing else may come of it."""
    bag_zip, into = folder / "W1.bag.zip", folder / "out"
    bag_zip.write_bytes(content)
    started, resident = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        result: debag.Debagged | InvalidBag = debag.unpack(bag_zip, into=into, threads=2, durable=False)
    except InvalidBag as refusal:
        result = refusal
    assert time.process_time() - started < _SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) * 1024 < _GROWTH_BYTES
    assert bag_zip.read_bytes() == content
    assert isinstance(result, debag.Debagged) or (result.faults and str(result))
    left = {path.name for path in folder.iterdir()} - {"W1.bag.zip", "bag"}
    assert left == ({"out"} if isinstance(result, debag.Debagged) else set())
    return result


def _fits(name: str) -> bool:
    return name not in {".", ".."} and "\\" not in name and len(unicodedata.normalize("NFD", name).encode()) <= 200


# Anything that ext4 takes and that debag does not refuse as unsafe: no NUL, slash, backslash; no drive letters.
ANY_CHARACTER = st.characters(exclude_characters="\0/\\", exclude_categories=["Cs"])
NAMES = st.one_of(
    st.text(ANY_CHARACTER, min_size=1, max_size=12),
    st.text(st.sampled_from("ab %25AaDd0\r\n.é*~"), min_size=1, max_size=10),
    st.sampled_from(["%0A", "%0d", "%25", "%", "a%0Ab%0Ac", "*x", "manifest-md5.txt", "tagmanifest-x.txt", " ", "..."]),
).filter(_fits)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def _can_stand_together(paths: Mapping[str, bytes]) -> bool:
    # A manifest before 1.0 writes a line end as %0A and leaves a percent sign as it is: it cannot tell these two apart.
    decoded = [re.sub("%(0a|0d|25)", lambda code: chr(int(code[1], 16)), path, flags=re.IGNORECASE) for path in paths]
    folded = [unicodedata.normalize("NFC", path) for path in decoded]
    folders = {path.rsplit("/", up)[0] for path in folded for up in range(1, path.count("/") + 1)}
    return len(set(folded)) == len(folded) and not folders & set(folded)


PAYLOADS = st.dictionaries(PATHS, st.binary(max_size=300), min_size=1, max_size=5).filter(_can_stand_together)
DRIVE_LETTER = tuple(f"{letter}:" for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def bagged(folder: Path, payload: Mapping[str, bytes], algorithms: list[str]) -> Path:
    """A bag of the payload as the bagit package makes it."""
    bag = folder / "bag" / "W1.bag"
    for path, content in payload.items():
        (bag / path).parent.mkdir(parents=True, exist_ok=True)
        (bag / path).write_bytes(content)
    logging.getLogger("bagit").setLevel(logging.CRITICAL)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The bag is whole when it opens it again; it then breaks lines at U+001E or U+2028 too, and cannot.
        with suppress(bagit.BagError):
            bagit.make_bag(str(bag), checksums=algorithms)  # changes the working folder, even where it fails
    finally:
        os.fchdir(here)
        os.close(here)
    return bag


def zipped(bag: Path, method: int) -> bytes:
    """A bag folder as a zip."""
    target = bag.parent / "zipped.zip"
    names = sorted(path for path in bag.rglob("*") if path.is_file())
    write_zip(target, {str(path.relative_to(bag.parent)): path.read_bytes() for path in names}, compression=method)
    return target.read_bytes()


@some(60)
@given(
    payload=PAYLOADS,
    algorithms=st.lists(st.sampled_from(["md5", "sha1", "sha256", "sha512", "sha3_256"]), min_size=1, unique=True),
    method=st.sampled_from([STORED, DEFLATED]),
)
@example(payload={"100%25.jpg": b"x"}, algorithms=["sha512"], method=STORED)
@example(payload={"a%0Ab\n%0D\r": b"x"}, algorithms=["sha512"], method=STORED)
@example(payload={"\x1e/ /0": b"x", "a\u2028b\x85c": b"y"}, algorithms=["md5"], method=STORED)
@example(payload={" leading": b"x", "trailing ": b"y", "\u2028": b"z"}, algorithms=["sha512"], method=STORED)
def test_any_bag_that_the_bagit_package_makes_is_accepted_and_its_payload_the_same(
    payload: dict[str, bytes], algorithms: list[str], method: int
) -> None:
    with scratch() as folder:
        bag = bagged(folder, payload, algorithms)
        result = outcome(folder, zipped(bag, method))
        assert isinstance(result, debag.Debagged), result.faults
        wanted = {unicodedata.normalize("NFC", path): content for path, content in payload.items()}
        assert payload_of(result.works[0]) == wanted


BASE = {
    "stored": zip_bytes(good_members()),
    "deflated": zip_bytes(good_members(method=DEFLATED)),
    "two manifests": zip_bytes(members_of(bag_with(algorithms=("sha512", "md5"), version="1.0"))),
}
LISTED_TAGS = {
    base: {
        path.removeprefix("W1.bag/"): content
        for path, content in bag_with(
            algorithms=("sha512", "md5") if base == "two manifests" else ("sha512",),
            version="1.0" if base == "two manifests" else "0.97",
        ).items()
        if "/data/" not in path and "/tagmanifest" not in path
    }
    for base in BASE
}


def assert_harmless(folder: Path, base: str, damaged: bytes) -> None:
    """Refused, or every payload byte and every listed tag byte is what it was, under its own name."""
    result = outcome(folder, damaged)
    if isinstance(result, InvalidBag):
        return
    (work,) = result.works
    assert work.rid == "W1"
    assert payload_of(work) == SMALL_WORK
    kept = work.path / "W1.bag"
    assert {path: (kept / path).read_bytes() for path in LISTED_TAGS[base]} == LISTED_TAGS[base]


@pytest.mark.parametrize("base", BASE)
@some(200)
@given(data=st.data())
def test_any_single_byte_changed_in_the_zip_is_refused_or_does_no_harm(base: str, data: st.DataObject) -> None:
    content = bytearray(BASE[base])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with scratch() as folder:
        assert_harmless(folder, base, bytes(content))


@pytest.mark.parametrize("base", BASE)
def test_any_single_byte_changed_in_the_directory_is_refused_or_does_no_harm(base: str) -> None:
    whole = BASE[base]
    dice = random.Random(base)
    start = whole.index(b"PK\x01\x02")
    places = range(start, len(whole), 1 if _EXAMPLES else 4)
    with scratch() as folder:
        for number, at in enumerate(places):
            content = bytearray(whole)
            content[at] ^= dice.choice([1, 8, 32, 128, 255])
            (folder / str(number)).mkdir()
            assert_harmless(folder / str(number), base, bytes(content))


@some(120)
@given(data=st.data())
def test_a_zip_from_which_a_stretch_was_cut_doubled_or_swapped_is_refused_or_does_no_harm(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(sorted(BASE)))
    whole = BASE[base]
    at = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(1, 600))
    stretch = whole[at : at + length]
    other = data.draw(st.sampled_from([b"", stretch * 2, bytes(len(stretch)), b"\xff" * len(stretch), stretch[::-1]]))
    with scratch() as folder:
        assert_harmless(folder, base, whole[:at] + other + whole[at + length :])


SCRAPS = st.sampled_from(
    [
        b"PK\x01\x02",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"PK\x06\x06",
        b"PK\x06\x07",
        b"PK\x07\x08",
        b"W1.bag/data/",
        bytes(22),
    ]
)


@some(150)
@given(parts=st.lists(st.one_of(SCRAPS, st.binary(max_size=60)), max_size=12), tail=st.booleans())
def test_the_zip_reader_answers_any_bytes_with_a_named_refusal(parts: list[bytes], *, tail: bool) -> None:
    with scratch() as folder:
        result = outcome(folder, b"".join(parts) + (BASE["stored"][-22:] if tail else b""))
        assert isinstance(result, InvalidBag)
        assert {fault.kind for fault in result.faults} <= {kind.value for kind in Kind}


TAG_NAMES = ("bagit.txt", "bag-info.txt", "manifest-sha512.txt", "tagmanifest-sha512.txt", "fetch.txt")
LINES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(payload_manifest().splitlines()),
    st.sampled_from(
        [b"", b"BagIt-Version: 1.0", b"Tag-File-Character-Encoding: UTF-16", b"Payload-Oxum: 1.", b" x", b":"]
    ),
    st.binary(max_size=20).map(lambda path: b"0" * 128 + b"  data/" + path),
)


@some(200)
@given(
    name=st.sampled_from(TAG_NAMES),
    lines=st.lists(LINES, max_size=8),
    end=st.sampled_from([b"\n", b"\r\n", b"\r", b""]),
)
def test_the_tag_file_readers_answer_any_bytes_with_a_verdict(name: str, lines: list[bytes], end: bytes) -> None:
    with scratch() as folder:
        result = outcome(folder, zip_bytes(members_of(bag_with(replaced={name: end.join(lines)}))))
        if isinstance(result, debag.Debagged):
            assert payload_of(result.works[0]) == SMALL_WORK


@pytest.mark.parametrize(
    "text",
    [
        b"x" * (20 << 20),
        b"a:" * (5 << 20),
        b" " * (20 << 20),
        b"\n" * (20 << 20),
        b"a: b\n" * (2 << 20),
        b"\xe2\x80\xa8" * (3 << 20),
    ],
    ids=["one long line", "colons", "blanks", "line ends", "two million lines", "separators"],
)
@pytest.mark.parametrize("name", TAG_NAMES)
def test_a_tag_file_of_twenty_megabytes_is_judged_in_bounded_time(tmp_path: Path, name: str, text: bytes) -> None:
    bag_zip = tmp_path / "W1.bag.zip"
    bag_zip.write_bytes(zip_bytes(members_of(bag_with(replaced={name: text}))))
    started = time.process_time()
    with suppress(InvalidBag):
        debag.unpack(bag_zip, into=tmp_path / "out", durable=False)
    assert time.process_time() - started < 20


DAMAGE = st.sampled_from(["nothing", "alter", "remove", "add", "unlist", "shorten", "oxum", "twice", "tag"])


@some(60)
@given(damage=DAMAGE, version=st.sampled_from(["0.97", "1.0"]), which=st.integers(0, 2))
def test_debag_agrees_with_the_bagit_package_on_plain_damage(damage: str, version: str, which: int) -> None:
    path = "W1.bag/data/" + sorted(SMALL_WORK)[which]
    contents = bag_members(version=version)
    manifest = contents["W1.bag/manifest-sha512.txt"].splitlines(keepends=True)
    if damage == "remove":
        del contents[path]
    replaced = {
        "alter": {path: contents.get(path, b"")[:-1] + b"\xff"},
        "shorten": {path: contents.get(path, b"")[:-1]},
        "add": {f"{path}.extra": b"x"},
        "unlist": {"W1.bag/manifest-sha512.txt": b"".join(manifest[:which] + manifest[which + 1 :])},
        "twice": {"W1.bag/manifest-sha512.txt": b"".join([*manifest, b"0" * 128 + manifest[which][128:]])},
        "oxum": {"W1.bag/bag-info.txt": b"Payload-Oxum: 1.1\n"},
        "tag": {"W1.bag/bag-info.txt": b"BDRC-RID: W1\n"},
    }
    contents |= replaced.get(damage, {})
    with scratch() as folder:
        ours = outcome(folder, zip_bytes(members_of(contents)))
        assert isinstance(ours, debag.Debagged) == _bagit_accepts(folder / "bag", contents) == (damage == "nothing")


def _bagit_accepts(folder: Path, contents: Mapping[str, bytes]) -> bool:
    with zipfile.ZipFile(write_zip(folder / "x.zip", contents)) as zip_file:
        zip_file.extractall(folder)
    try:
        return bool(bagit.Bag(str(folder / "W1.bag")).validate())
    except bagit.BagError:
        return False
