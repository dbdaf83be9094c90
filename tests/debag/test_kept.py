"""The proof that comes home with every work: its bag's tag files, or, where there was no bag, a set made for it."""

import hashlib
import shutil
from pathlib import Path

import bagit
import pytest

from pipeline import debag
from pipeline.debag import DebaggedWork, Policy
from pipeline.foundation import fixity
from pipeline.foundation.errors import InvalidBag
from tests.debag.test_good_bags import below
from tests.world.bags import SMALL_WORK, bag_members, write_zip

ODD = {"images/new\nline%25.jpg": b"n", "images/ཀ་ཁ.jpg": b"t", "images/e\u0301.jpg": b"d", "empty": b""}


def unbagged(folder: Path, files: dict[str, bytes], *, rid: str = "W9") -> DebaggedWork:
    folder.mkdir(parents=True, exist_ok=True)
    bag_zip = write_zip(folder / f"{rid}.zip", {f"{rid}/{name}": content for name, content in files.items()})
    (work,) = debag.unpack(bag_zip, into=folder / "out", policy=Policy(allow_unbagged=True)).works
    return work


def bag_again(work: DebaggedWork, folder: Path, kept: str = "") -> Path:
    """The bag that a work's kept tag files describe."""
    kept = kept or f"{work.rid}.bag"
    shutil.copytree(work.path / kept, folder)
    shutil.copytree(work.path, folder / "data", ignore=lambda where, _: [kept] if Path(where) == work.path else [])
    return folder


def test_a_work_without_a_bag_gets_tag_files_that_make_a_valid_bag_of_it(tmp_path: Path) -> None:
    work = unbagged(tmp_path / "in", {**SMALL_WORK, **ODD})
    bag = bagit.Bag(str(bag_again(work, tmp_path / "bag")))
    bag.validate()
    assert bag.info["BDRC-RID"] == "W9"
    assert bag.info["Payload-Oxum"] == f"{sum(map(len, [*SMALL_WORK.values(), *ODD.values()]))}.7"
    assert "no bag" in bag.info["Internal-Sender-Description"]
    assert work.verified == "none"
    assert fixity.load(work.digests).verified == "none"


def test_they_are_accepted_by_debag_and_a_flipped_byte_is_not(tmp_path: Path) -> None:
    work = unbagged(tmp_path / "in", {**SMALL_WORK, **ODD})
    members = below(bag_again(work, tmp_path / "W9.bag"))
    bag_zip = write_zip(tmp_path / "W9.bag.zip", {f"W9.bag/{name}": content for name, content in members.items()})
    (again,) = debag.unpack(bag_zip, into=tmp_path / "again").works
    assert again.verified == "manifest"
    members["data/empty"] = b"x"
    bag_zip = write_zip(tmp_path / "bad.bag.zip", {f"W9.bag/{name}": content for name, content in members.items()})
    with pytest.raises(InvalidBag):
        debag.unpack(bag_zip, into=tmp_path / "bad")


def test_the_same_zip_gives_the_same_tag_files(tmp_path: Path) -> None:
    first, second = unbagged(tmp_path / "1", dict(SMALL_WORK)), unbagged(tmp_path / "2", dict(SMALL_WORK))
    assert below(first.path) == below(second.path)
    assert first.digests.read_bytes() == second.digests.read_bytes()


def test_the_digests_and_the_marker_cover_them(tmp_path: Path) -> None:
    work = unbagged(tmp_path, dict(SMALL_WORK))
    told = {name: file.digests["sha512"] for name, file in fixity.load(work.digests).files.items()}
    assert told == {name: hashlib.sha512(content).hexdigest() for name, content in below(work.path).items()}
    assert (work.files, len(told)) == (3, 7)
    assert debag.load_marker(tmp_path / "out").works == (work,)


def test_a_work_that_was_archived_before_keeps_its_old_tag_files_beside_the_new(tmp_path: Path) -> None:
    old = {"W9.bag/bagit.txt": b"old", "W9.bag/W9.digests.json": b"old"}
    bag_zip = write_zip(tmp_path / "W9.bag.zip", bag_members("W9", files={**SMALL_WORK, **old}))
    (work,) = debag.unpack(bag_zip, into=tmp_path / "out").works
    assert {name: below(work.path)[name] for name in old} == old
    bagit.Bag(str(bag_again(work, tmp_path / "bag", "W9.bag.2"))).validate()


def test_each_work_of_a_zip_keeps_tag_files_that_make_a_valid_bag_of_it_alone(tmp_path: Path) -> None:
    members = {**bag_members("W1"), **bag_members("W2", files={"images/x.jpg": b"x"})}
    for work in debag.unpack(write_zip(tmp_path / "two.zip", members), into=tmp_path / "out").works:
        bagit.Bag(str(bag_again(work, tmp_path / work.rid))).validate()
