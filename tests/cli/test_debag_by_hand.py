"""Debagging zips by hand: works in place, nothing else there, nothing of others touched."""

import os
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.debag import Policy
from pipeline.foundation.errors import StagingDamaged
from pipeline.operations.debag_zips import debag_zips
from tests.debag.test_good_bags import below, without_kept
from tests.world.awkward import tree
from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip


def two_works(folder: Path) -> Path:
    return write_zip(folder / "two.zip", {**bag_members("W1"), **bag_members("W2", files={"images/x.jpg": b"x"})})


def test_works_lie_in_the_destination_and_nothing_else_does(tmp_path: Path) -> None:
    outcome = debag_zips([make_bag_zip(tmp_path), make_bag_zip(tmp_path, "W2")], tmp_path / "works")
    assert sorted(os.listdir(tmp_path / "works")) == ["W1", "W2"]
    assert without_kept(below(tmp_path / "works/W1")) == dict(SMALL_WORK)
    size = sum(map(len, SMALL_WORK.values()))
    assert outcome.as_dict() == {
        "works": [
            {"rid": rid, "path": str(tmp_path / "works" / rid), "files": 3, "bytes": size} for rid in ("W1", "W2")
        ],
        "faults": [],
        "warnings": [],
    }
    assert outcome.exit_status == 0


def test_a_work_that_is_there_and_the_same_is_success_without_a_change(tmp_path: Path) -> None:
    bag_zip, works = make_bag_zip(tmp_path), tmp_path / "works"
    debag_zips([bag_zip], works)
    before = tree(works)
    outcome = debag_zips([bag_zip], works)
    assert (outcome.exit_status, outcome.already_there) == (0, ("W1",))
    assert tree(works) == before


@pytest.mark.parametrize("change", ["altered", "more", "less", "a link", "a file", "empty"])
def test_a_work_that_is_there_and_differs_is_a_fault_and_stays_as_it_is(tmp_path: Path, change: str) -> None:
    works = tmp_path / "works"
    debag_zips([make_bag_zip(tmp_path)], works)
    image = works / "W1/images/I1/I10001.jpg"
    if change == "altered":
        image.write_bytes(image.read_bytes()[:-1] + b"!")
    elif change == "more":
        (works / "W1/more.txt").write_bytes(b"")
    elif change in {"less", "a link"}:
        image.unlink()
        if change == "a link":
            image.symlink_to(works / "W1/images/I1/I10002.jpg")
    else:
        os.rename(works / "W1", tmp_path / "aside")
        (works / "W1").mkdir() if change == "empty" else (works / "W1").write_bytes(b"file")
    before = tree(works)
    outcome = debag_zips([two_works(tmp_path)], works)
    assert [fault.kind for fault in outcome.faults] == ["destination-exists"]
    assert (outcome.exit_status, outcome.works) == (1, ())
    assert tree(works) == before


def test_bad_zips_are_faults_and_good_ones_beside_them_are_unpacked(tmp_path: Path) -> None:
    bad = make_bag_zip(tmp_path, "W3", corrupt="images/I1/I10001.jpg")
    zips = [tmp_path / "missing.zip", bad, make_bag_zip(tmp_path), tmp_path]
    outcome = debag_zips(zips, tmp_path / "works")
    assert [work.rid for work in outcome.works] == ["W1"]
    assert [fault.kind for fault in outcome.faults] == ["not-a-zip", "digest-differs", "not-a-zip"]
    assert outcome.faults[1].detail.startswith("W3.bag.zip: sha512: ")
    assert os.listdir(tmp_path / "works") == ["W1"]
    assert bad.exists()


def test_a_link_to_a_zip_is_followed_when_a_person_names_it(tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to(make_bag_zip(tmp_path / "elsewhere"))
    assert [work.rid for work in debag_zips([tmp_path / "link.zip"], tmp_path / "works").works] == ["W1"]


def test_the_policy_is_the_callers(tmp_path: Path) -> None:
    bag_zip = write_zip(tmp_path / "W1.bag.zip", bag_members(algorithms=("md5",)))
    assert debag_zips([bag_zip], tmp_path / "a", policy=Policy(allow_weak_digests=False)).exit_status == 1
    assert [warning.kind for warning in debag_zips([bag_zip], tmp_path / "b").warnings] == ["algorithm-weak"]


@pytest.mark.parametrize("published", [(), ("W1",), ("W1", "W2")])
def test_a_run_that_was_killed_between_the_renames_is_completed_by_the_next(
    tmp_path: Path, published: tuple[str, ...]
) -> None:
    bag_zip, works = two_works(tmp_path), tmp_path / "works"
    works.mkdir()
    debag_zips([bag_zip], tmp_path / "other")
    expected = tree(tmp_path / "other")
    hidden = works / _hidden_name(bag_zip, tmp_path)
    debag.unpack(bag_zip, into=hidden)
    for rid in published:
        os.rename(hidden / rid, works / rid)
    outcome = debag_zips([bag_zip], works)
    assert [work.rid for work in outcome.works] == ["W1", "W2"]
    assert tree(works) == expected


def _hidden_name(bag_zip: Path, scratch: Path) -> str:
    """The name of the hidden folder, as a run that is stopped between unpacking and renaming leaves it."""
    seen: list[str] = []

    def look(_done: int, _total: int) -> None:
        seen.extend(name.removesuffix(".staging") for name in os.listdir(scratch / "look") if name.startswith("."))

    debag_zips([bag_zip], scratch / "look", pulse=look)
    return seen[0].removeprefix(".")


def test_a_hidden_folder_that_was_tampered_with_is_removed_and_said(tmp_path: Path) -> None:
    bag_zip, works = make_bag_zip(tmp_path), tmp_path / "works"
    hidden = works / _hidden_name(bag_zip, tmp_path)
    hidden.mkdir(parents=True)
    with pytest.raises(StagingDamaged, match="it was removed"):
        debag_zips([bag_zip], works)
    assert debag_zips([bag_zip], works).exit_status == 0
    assert os.listdir(works) == ["W1"]
