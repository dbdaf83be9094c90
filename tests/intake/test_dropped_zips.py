"""What counts as a dropped zip, as a whole one, and as the same one; and how it leaves its folder."""

import os
import zipfile
from pathlib import Path

import pytest

from pipeline import intake
from pipeline.foundation.errors import FolderUnreachable
from tests.world.bags import bag_members, make_bag_zip, write_zip


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_ends_as_one_only_when_its_last_byte_is_written(tmp_path: Path, compression: int) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"a": b"b"}).read_bytes()
    members = {**bag_members("W1", files={"images/1.jpg": b"x"}), "W1.bag/data/archive/inner.zip": inner}
    whole = write_zip(tmp_path / "W1.zip", members, compression=compression)
    content = whole.read_bytes()
    cut = tmp_path / "cut.zip"

    assert intake.ends_as_a_zip(whole)
    cut.write_bytes(content)
    for length in range(len(content) - 1, -1, -1):
        os.truncate(cut, length)
        assert not intake.ends_as_a_zip(cut), f"cut to {length} of {len(content)} bytes"
    os.truncate(cut, len(content))  # made in full size, and still zeros
    assert not intake.ends_as_a_zip(cut)


def test_a_zip_with_a_comment_and_a_zip64_end_as_zips(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "comment.zip", "w") as zip_file:
        zip_file.writestr("a", b"b")
        zip_file.comment = b"PK\5\6 is how an end record begins"
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as zip_file:
        for number in range(0x10000):
            zip_file.writestr(zipfile.ZipInfo(f"{number:x}"), b"")

    assert intake.ends_as_a_zip(tmp_path / "comment.zip")
    assert intake.ends_as_a_zip(tmp_path / "many.zip")


def test_a_replaced_file_is_another_also_with_the_same_size_and_date(tmp_path: Path) -> None:
    path = make_bag_zip(tmp_path, "W1")
    (before,) = intake.look(tmp_path).zips
    status = path.stat()

    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (after,) = intake.look(tmp_path).zips

    assert before.size_bytes == after.size_bytes
    assert before.stamp != after.stamp


def test_a_file_that_was_replaced_is_neither_moved_nor_removed_in_the_other_s_stead(tmp_path: Path) -> None:
    path = make_bag_zip(tmp_path, "W1")
    (before,) = intake.look(tmp_path).zips
    path.write_bytes(b"another")

    assert intake.move_out(before, tmp_path / "done", root=tmp_path / "done") is None
    assert not intake.remove(before)
    assert path.read_bytes() == b"another"
    assert not (tmp_path / "done").exists()


def test_a_zip_that_cannot_be_moved_on_is_put_back(tmp_path: Path) -> None:
    path = make_bag_zip(tmp_path, "W1")
    (dropped,) = intake.look(tmp_path).zips
    (tmp_path / "done").write_bytes(b"a file where the folder should be")

    with pytest.raises(FolderUnreachable, match="done"):
        intake.move_out(dropped, tmp_path / "done", root=tmp_path / "done")

    assert path.is_file()
    assert list(intake.left_aside(tmp_path)) == []


def test_a_zip_left_aside_is_put_back_once_its_name_is_free(tmp_path: Path) -> None:
    aside = tmp_path / ".settling" / "0123abcd-W1.bag.zip"
    make_bag_zip(aside.parent, "W1").rename(aside)
    taken = tmp_path / "W1.bag.zip"
    taken.write_bytes(b"dropped meanwhile")

    (left,) = intake.left_aside(tmp_path)
    at_first = intake.put_back(left)
    content = taken.read_bytes()
    taken.unlink()

    assert (at_first, content, left.claim) == (False, b"dropped meanwhile", "W1")
    assert intake.put_back(left)
    assert intake.ends_as_a_zip(taken)
    assert not intake.put_back(left)
