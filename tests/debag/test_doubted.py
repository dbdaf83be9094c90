"""Wrong bytes in a zip, as a bad download leaves them: never published unasked, never refused unasked."""

import random
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.debag import Policy
from pipeline.foundation.errors import InvalidBag, NoRoom
from tests.world.bags import bag_members, make_bag_zip, write_zip

DAMAGES = 120
"""So many of a zip's bytes are damaged in the suite; at a fifth of all places a bit was, when this was written."""
EXTRA_TIME = struct.pack("<HHBl", 0x5455, 5, 1, 1_712_404_800)
SMALL = {"a/1.jpg": b"first" * 9, "a/2.jpg": b"second" * 9}


def zip_of(folder: Path, members: Mapping[str, bytes], *, compression: int, extra: bytes) -> Path:
    """A bag zip with entries for its folders, one of them empty, and times of its own for each member."""
    path = folder / "W1.bag.zip"
    with zipfile.ZipFile(path, "w") as made:
        names = ["W1.bag/", "W1.bag/data/", "W1.bag/data/empty/", *members]
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(name, (2024, 4, 6, 12, 2 * number, 0))
            info.extra = extra
            made.writestr(info, members.get(name, b""), compression if name in members else zipfile.ZIP_STORED)
    return path


def found_in(folder: Path) -> dict[str, tuple[float, bytes]]:
    """Everything that was published of the work, with the times that the zip has; others are of now."""
    untold = {"W1/a", "W1/W1.bag"}
    return {
        (name := str(path.relative_to(folder))): (
            0.0 if name in untold else path.stat().st_mtime,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted((folder / "W1").rglob("*"))
    }


def unpacked(bag_zip: Path, into: Path) -> tuple[str, list[str]]:
    """How it ended, and why the zip was to be proved."""
    asked: list[str] = []
    try:
        debag.unpack(bag_zip, into=into, work_rid="W1", threads=1, prove=asked.append, durable=False)
    except InvalidBag:
        return "refused", asked
    return "published", asked


@pytest.mark.parametrize(
    ("compression", "extra"),
    [(zipfile.ZIP_STORED, b""), (zipfile.ZIP_DEFLATED, b""), (zipfile.ZIP_STORED, EXTRA_TIME)],
    ids=["stored", "deflated", "times in UTC"],
)
def test_a_flipped_bit_anywhere_changes_nothing_of_what_is_published_or_the_zip_is_to_be_proved(
    tmp_path: Path, compression: int, extra: bytes
) -> None:
    bag_zip = zip_of(tmp_path, bag_members(files=SMALL), compression=compression, extra=extra)
    assert unpacked(bag_zip, tmp_path / "right") == ("published", [])
    right, content = found_in(tmp_path / "right"), bag_zip.read_bytes()
    dice, undetected = random.Random(len(content)), []
    for place in dice.sample(range(8 * len(content)), DAMAGES):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        bag_zip.write_bytes(damaged)
        into = tmp_path / f"{place}"
        how, asked = unpacked(bag_zip, into)
        if not asked and (how == "refused" or found_in(into) != right):
            undetected.append((place // 8, place % 8, how))
    assert undetected == []


@pytest.mark.parametrize(
    ("left_out", "added", "why"),
    [
        ("tagmanifest-sha512.txt", {}, "files that no manifest lists"),
        ("", {"W1.bag/notes.txt": b"by hand"}, "files that no manifest lists"),
        ("", {}, ""),
    ],
    ids=["no tag manifest", "a tag file that is in none", "everything is listed"],
)
def test_what_no_manifest_lists_is_published_only_after_the_zip_was_proved(
    tmp_path: Path, left_out: str, added: Mapping[str, bytes], why: str
) -> None:
    members = {name: content for name, content in bag_members().items() if name != f"W1.bag/{left_out}"}
    bag_zip = write_zip(tmp_path / "W1.bag.zip", {**members, **added})

    assert unpacked(bag_zip, tmp_path / "out") == ("published", [why] if why else [])


def test_a_plain_zip_is_published_only_after_it_was_proved(tmp_path: Path) -> None:
    bag_zip = write_zip(tmp_path / "W1.zip", {"W1/images/1.jpg": b"image"})
    asked: list[str] = []

    debag.unpack(bag_zip, into=tmp_path / "out", work_rid="W1", policy=Policy(allow_unbagged=True), prove=asked.append)

    assert asked == ["files that no manifest lists"]


class CameWrongError(Exception):
    """What whoever proves it raises."""


@pytest.mark.parametrize("corrupt", ["images/I1/I10001.jpg", ""], ids=["refused", "published"])
def test_what_is_raised_while_it_is_proved_leaves_neither_a_refusal_nor_a_work(tmp_path: Path, corrupt: str) -> None:
    bag_zip = make_bag_zip(tmp_path, corrupt=corrupt)
    if not corrupt:
        members = bag_members()
        del members["W1.bag/tagmanifest-sha512.txt"]
        write_zip(bag_zip, members)

    def prove(_why: str) -> None:
        assert not (tmp_path / "out").exists()
        raise CameWrongError

    with pytest.raises(CameWrongError):
        debag.unpack(bag_zip, into=tmp_path / "out", work_rid="W1", prove=prove)

    assert [path.name for path in tmp_path.iterdir()] == ["W1.bag.zip"]


@pytest.mark.parametrize(("compression", "asked"), [(zipfile.ZIP_STORED, 0), (zipfile.ZIP_DEFLATED, 1)])
def test_a_full_disk_is_no_reason_to_doubt_a_zip_unless_the_zip_alone_says_how_much_is_needed(
    tmp_path: Path, compression: int, asked: int
) -> None:
    files = {"a/1.jpg": bytes(100_000)}
    bag_zip = write_zip(tmp_path / "W1.bag.zip", bag_members(files=files), compression=compression)
    why: list[str] = []

    with pytest.raises(NoRoom):
        debag.unpack(
            bag_zip, into=tmp_path / "out", work_rid="W1", policy=Policy(reserve_bytes=1 << 60), prove=why.append
        )

    assert len(why) == asked
