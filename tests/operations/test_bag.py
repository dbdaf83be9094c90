"""Making a bag zip: what debag and the bagit package accept, and what cannot be bagged."""

import os
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import bagit
import pytest

from pipeline import debag
from pipeline.foundation.errors import InvalidBag, InvalidRid, StagingDamaged, TransientError
from pipeline.operations import bag
from tests.debag.test_good_bags import below, without_kept
from tests.world.bags import SMALL_WORK

ODD_NAMES = {"images/ཀ་ཁ.jpg": b"1", "images/a\nb\rc.jpg": b"2", "images/100% 'x' \"y\".jpg": b"3", "images/..x": b"4"}


def make_work(folder: Path, rid: str = "W1", files: dict[str, bytes] | None = None) -> Path:
    for path, content in (dict(SMALL_WORK) if files is None else files).items():
        target = folder / rid / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder / rid


@pytest.mark.parametrize(
    "files", [dict(SMALL_WORK), ODD_NAMES, {"images/empty.jpg": b""}], ids=["small", "odd", "empty"]
)
def test_a_bag_that_is_made_is_accepted_by_debag_and_by_the_bagit_package(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    work = make_work(tmp_path, files=files)
    (work / "no files here").mkdir()
    made = bag.make([work], into=tmp_path / "zips")
    assert [(one.rid, one.files, one.bytes) for one in made] == [("W1", len(files), sum(map(len, files.values())))]
    result = debag.unpack(made[0].path, into=tmp_path / "out")
    assert without_kept(below(tmp_path / "out" / "W1")) == files
    assert (tmp_path / "out/W1/no files here").is_dir()
    assert {warning.kind for warning in result.warnings} <= {"name-odd-characters"}
    with zipfile.ZipFile(made[0].path) as zip_file:
        assert zip_file.testzip() is None
        zip_file.extractall(tmp_path / "by zipfile")
        assert {info.compress_type for info in zip_file.infolist()} == {zipfile.ZIP_STORED}
    found = bagit.Bag(str(tmp_path / "by zipfile/W1.bag"))
    found.validate()
    assert found.info["BDRC-RID"] == "W1"
    assert timedelta() <= datetime.now(UTC).date() - date.fromisoformat(found.info["Bagging-Date"]) <= timedelta(days=1)
    assert found.version_info == (0, 97)


def test_times_go_there_and_back(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    os.utime(work / "images/I1/I10001.jpg", (1_500_000_000, 1_500_000_000))
    os.utime(work / "images/I1", (1_400_000_000, 1_400_000_000))
    debag.unpack(bag.make([work], into=tmp_path / "zips")[0].path, into=tmp_path / "out")
    assert (tmp_path / "out/W1/images/I1/I10001.jpg").stat().st_mtime == 1_500_000_000
    assert (tmp_path / "out/W1/images/I1").stat().st_mtime == 1_400_000_000


def test_several_works_become_a_zip_each(tmp_path: Path) -> None:
    beats: list[tuple[int, int]] = []
    works = [make_work(tmp_path, "W1"), make_work(tmp_path, "W2")]
    bag.make(works, into=tmp_path / "zips", pulse=lambda done, total: beats.append((done, total)))
    assert sorted(os.listdir(tmp_path / "zips")) == ["W1.bag.zip", "W2.bag.zip"]
    assert beats[-1][0] == beats[-1][1] == 2 * sum(map(len, SMALL_WORK.values()))


def test_links_special_files_and_names_that_no_bag_can_carry_are_all_named(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    (work / "link").symlink_to("/etc/passwd")
    os.mkfifo(work / "pipe")
    (work / "back\\slash").write_bytes(b"x")
    (work / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"x")
    with pytest.raises(InvalidBag) as refusal:
        bag.make([work], into=tmp_path / "zips")
    assert sorted(fault.kind for fault in refusal.value.faults) == [
        "link",
        "name-backslash",
        "name-undecodable",
        "special-file",
    ]
    assert {fault.kind for fault in refusal.value.faults} <= set(debag.FaultKind)
    assert not (tmp_path / "zips").exists()


def test_a_folder_that_is_not_named_after_a_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRid):
        bag.make([make_work(tmp_path, "not.a.work")], into=tmp_path / "zips")


def test_a_zip_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    bag.make([work], into=tmp_path)
    before = (tmp_path / "W1.bag.zip").read_bytes()
    with pytest.raises(InvalidBag, match="destination-exists"):
        bag.make([work], into=tmp_path)
    assert (tmp_path / "W1.bag.zip").read_bytes() == before


def test_a_run_that_is_stopped_leaves_no_half_zip(tmp_path: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise StagingDamaged("stop here")

    with pytest.raises(StagingDamaged):
        bag.make([make_work(tmp_path)], into=tmp_path / "zips", pulse=stop)
    assert os.listdir(tmp_path / "zips") == []


def test_a_file_that_changes_while_it_is_bagged_is_noticed(tmp_path: Path) -> None:
    work = make_work(tmp_path, files={"a.jpg": b"a", "b.jpg": b"b"})

    def meddle(_done: int, _total: int) -> None:
        (work / "b.jpg").write_bytes(b"longer than it was")

    with pytest.raises(TransientError, match=r"b\.jpg changed"):
        bag.make([work], into=tmp_path / "zips", pulse=meddle)
    assert os.listdir(tmp_path / "zips") == []
