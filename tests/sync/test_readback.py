import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.foundation.errors import Stopping
from pipeline.sync.readback import Brake, compare
from tests.world.bags import SMALL_WORK
from tests.world.works import AWKWARD_WORK, fixity_of, put

IMAGE = "images/I1/I10001.jpg"


def test_a_copy_that_holds_every_file_is_whole(tmp_path: Path) -> None:
    found = compare(put(tmp_path, SMALL_WORK), fixity_of(SMALL_WORK))
    assert found.whole
    assert found.matched == len(SMALL_WORK)
    assert found.algorithms == ("sha512",)


def test_every_algorithm_is_compared_and_the_one_that_disagrees_is_named(tmp_path: Path) -> None:
    known = fixity_of(SMALL_WORK, algorithms=("md5", "sha256", "sha512"))
    broken = fixity_of({**SMALL_WORK, IMAGE: b"x" * len(SMALL_WORK[IMAGE])}, algorithms=("sha256",)).files[IMAGE]
    mixed = {**known.files[IMAGE].digests, "sha256": broken.digests["sha256"]}
    known.files[IMAGE].digests.update(mixed)  # type: ignore[attr-defined]  # a dict, as the builder makes it
    (difference,) = compare(put(tmp_path, SMALL_WORK), known).differing
    assert (difference.path, difference.detail) == (IMAGE, "other sha256")


def test_one_flipped_bit_in_one_of_many_files_is_found(tmp_path: Path) -> None:
    files = {f"images/{number:04}.jpg": os.urandom(900) for number in range(400)}
    put(tmp_path, files)
    content = bytearray(files["images/0217.jpg"])
    content[450] ^= 1
    (tmp_path / "images/0217.jpg").write_bytes(content)
    found = compare(tmp_path, fixity_of(files), threads=4)
    assert [difference.path for difference in found.differing] == ["images/0217.jpg"]
    assert found.matched == 399


def test_a_flip_beyond_the_first_block_is_found(tmp_path: Path) -> None:
    content = os.urandom(1_000_003)
    put(tmp_path, {"big": content[:-1] + bytes([content[-1] ^ 1])})
    assert not compare(tmp_path, fixity_of({"big": content})).whole


def test_missing_extra_and_differing_names_are_all_listed(tmp_path: Path) -> None:
    put(tmp_path, {IMAGE: b"short", "notes.txt": b"of the archivist"})
    found = compare(tmp_path, fixity_of(SMALL_WORK))
    assert found.missing == ("archive/I1/I10001.tif", "images/I1/I10002.jpg")
    assert [(item.path, item.detail) for item in found.differing] == [(IMAGE, "5 bytes instead of 1,100")]
    assert found.extra == ("notes.txt",)
    assert [item.path for item in found.wrong] == ["archive/I1/I10001.tif", IMAGE, "images/I1/I10002.jpg"]


def test_awkward_names_are_read_as_they_are(tmp_path: Path) -> None:
    found = compare(put(tmp_path, AWKWARD_WORK), fixity_of(AWKWARD_WORK))
    assert found.whole
    assert found.matched == len(AWKWARD_WORK)
    assert found.extra == ()


def test_nfc_and_nfd_are_different_names(tmp_path: Path) -> None:
    found = compare(put(tmp_path, {"cafe\u0301": b"x"}), fixity_of({"caf\u00e9": b"x"}))
    assert found.missing == ("caf\u00e9",)
    assert found.extra == ("cafe\u0301",)


def test_a_name_that_is_not_utf_8_is_told_in_escapes(tmp_path: Path) -> None:
    put(tmp_path, SMALL_WORK)
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    assert compare(tmp_path, fixity_of(SMALL_WORK)).extra == ("caf\\xe9",)


def test_a_link_to_the_right_bytes_is_no_copy(tmp_path: Path) -> None:
    copy = put(tmp_path / "copy", SMALL_WORK)
    put(tmp_path / "elsewhere", {"x": SMALL_WORK[IMAGE]})
    (copy / IMAGE).unlink()
    (copy / IMAGE).symlink_to(tmp_path / "elsewhere" / "x")
    (difference,) = compare(copy, fixity_of(SMALL_WORK)).differing
    assert (difference.path, difference.detail) == (IMAGE, "is a link")


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", SMALL_WORK)
    copy = put(tmp_path / "copy", {"archive/I1/I10001.tif": SMALL_WORK["archive/I1/I10001.tif"]})
    (copy / "images").symlink_to(elsewhere / "images")
    found = compare(copy, fixity_of(SMALL_WORK))
    assert [(item.path, item.detail) for item in found.differing] == [("images", "is a link")]
    assert len(found.missing) == 2


@pytest.mark.parametrize(
    ("there", "detail"), [("a/b", "is a file where the bag has a folder"), ("a/b/c/d", "is a folder")]
)
def test_a_file_in_a_folders_place_and_a_folder_in_a_files_place_differ(
    tmp_path: Path, there: str, detail: str
) -> None:
    (difference,) = compare(put(tmp_path, {there: b"x"}), fixity_of({"a/b/c": b"x"})).differing
    assert difference.detail == detail


def test_the_bytes_read_are_told_up_to_the_last(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    compare(put(tmp_path, SMALL_WORK), fixity_of(SMALL_WORK), pulse=lambda done, total: told.append((done, total)))
    size = sum(map(len, SMALL_WORK.values()))
    assert told[-1] == (size, size)


def test_a_pulse_that_raises_stops_the_reading(tmp_path: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise Stopping("asked to")

    with pytest.raises(Stopping):
        compare(put(tmp_path, SMALL_WORK), fixity_of(SMALL_WORK), pulse=stop)


def file_system(folder: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", folder], check=True, capture_output=True, text=True).stdout.strip()


def test_a_copy_on_a_disk_is_read_from_the_disk_and_not_from_memory(tmp_path: Path) -> None:
    if file_system(tmp_path) not in ("ext2/ext3", "xfs", "btrfs"):
        pytest.skip(f"the test's folder is on {file_system(tmp_path)}, which may not drop its pages")
    copy = put(tmp_path, SMALL_WORK)
    os.sync()
    assert compare(copy, fixity_of(SMALL_WORK)).cache_dropped


def test_who_reads_slowly_leaves_nothing_in_memory(tmp_path: Path) -> None:
    if file_system(tmp_path) not in ("ext2/ext3", "xfs", "btrfs") or shutil.which("fincore") is None:
        pytest.skip(f"the test's folder is on {file_system(tmp_path)}, or fincore is not installed")
    copy = put(tmp_path, {"a": b"x" * 500_000})
    os.sync()
    assert compare(copy, fixity_of({"a": b"x" * 500_000}), brake=Brake(1e12)).whole
    told = subprocess.run(["fincore", "-nbo", "RES", copy / "a"], check=True, capture_output=True, text=True)
    assert int(told.stdout) == 0


def test_where_the_pages_cannot_be_dropped_the_comparison_says_so() -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or file_system(memory) != "tmpfs":
        pytest.skip("no tmpfs here")
    copy = put(memory / f"readback-{os.getpid()}", {"x": b"y" * 5000})
    try:
        found = compare(copy, fixity_of({"x": b"y" * 5000}))
    finally:
        (copy / "x").unlink()
        copy.rmdir()
    assert found.whole
    assert not found.cache_dropped
