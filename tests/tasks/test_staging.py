"""Where a bag's files lie: nothing outside its own folder is ever touched."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.foundation import removal
from pipeline.foundation.work import Bag
from pipeline.sync import SyncSettings
from pipeline.tasks import staging
from pipeline.tasks.staging import Place
from tests.world.stack import tree


def place_of(tmp_path: Path, bag: Bag) -> Place:
    site = SyncSettings(tmp_path / "archive", tmp_path / "sync.sh", tmp_path / "logs")
    return Place.of(
        bag.work_rid, bag.bag_id, staging=tmp_path / "staging", quarantine=tmp_path / "quarantine", site=site
    )


def place(tmp_path: Path, rid: str = "W1") -> tuple[Bag, Place]:
    bag = Bag(rid, "bucket", f"a/{rid}.bag.zip", etag="e")
    found = place_of(tmp_path, bag)
    found.download.mkdir(parents=True)
    found.bag_zip.write_bytes(b"zip of " + rid.encode())
    return bag, found


def test_works_whose_names_begin_alike_are_cleared_apart(tmp_path: Path) -> None:
    _, first = place(tmp_path, "W1")
    _, second = place(tmp_path, "W1-2")
    _, third = place(tmp_path, "W12")

    staging.clear(first)

    assert not first.staging.exists()
    assert second.bag_zip.exists()
    assert third.bag_zip.exists()


def test_a_link_in_place_of_a_staging_folder_is_removed_not_followed(tmp_path: Path) -> None:
    _, found = place(tmp_path)
    outside = tmp_path / "outside"
    os.rename(found.staging, outside)
    found.staging.symlink_to(outside)

    staging.clear(found)

    assert not found.staging.is_symlink()
    assert tree(outside) == {"download/W1.bag.zip": b"zip of W1"}


def test_a_removal_cut_short_is_finished_at_the_next_sweep(tmp_path: Path) -> None:
    bag, found = place(tmp_path)
    os.rename(found.staging, found.staging.with_name(f".{found.staging.name}.removed"))

    assert staging.residue(tmp_path / "staging") == []
    assert list((tmp_path / "staging").iterdir()) == []
    place(tmp_path)
    assert staging.residue(tmp_path / "staging") == [(bag.bag_id, found.staging)]


def test_a_refused_zip_is_kept_with_its_reports_and_can_be_taken_back(tmp_path: Path) -> None:
    bag, found = place(tmp_path)

    staging.keep(found, bag, report={"faults": []}, text="why\n")

    kept = staging.kept_zip(found, bag)
    assert kept.read_bytes() == b"zip of W1"
    assert sorted(path.name for path in kept.parent.iterdir()) == ["W1.bag.zip", "report.json", "report.txt"]
    assert not found.staging.exists()
    assert staging.take_back(found)
    assert found.bag_zip.read_bytes() == b"zip of W1"
    assert not staging.take_back(found)


def test_a_refused_local_zip_stays_where_its_owner_put_it(tmp_path: Path) -> None:
    theirs = tmp_path / "W1.bag.zip"
    theirs.write_bytes(b"theirs")
    bag = Bag("W1", "", str(theirs), etag="e")
    found = place_of(tmp_path, bag)

    staging.keep(found, bag, report={}, text="why\n")

    assert staging.kept_zip(found, bag) == theirs
    assert theirs.read_bytes() == b"theirs"
    assert (found.quarantine / "report.txt").read_text(encoding="utf-8") == "why\n"


def test_a_file_moves_between_file_systems_without_being_half_there(tmp_path: Path) -> None:
    other = Path("/dev/shm")  # another file system than the temporary folder's, where there is one
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    source, target = other / f"pipeline-test-{os.getpid()}", tmp_path / "moved"
    source.write_bytes(b"x" * 100_000)

    staging.move(source, target)

    assert target.read_bytes() == b"x" * 100_000
    assert not source.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


def test_what_is_a_thousand_folders_deep_is_removed_and_measured_like_anything_else(tmp_path: Path) -> None:
    bag, found = place(tmp_path)
    deep = found.staging / "debag"
    deep.mkdir()
    descriptor = os.open(deep, os.O_RDONLY)
    for _ in range(1400):
        os.mkdir("a", dir_fd=descriptor)
        below = os.open("a", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)

    assert staging.used_bytes(found.staging) > 0
    staging.clear(found)

    assert staging.residue(tmp_path / "staging") == []
    assert bag.work_rid == "W1"


def test_workers_that_share_a_disk_may_finish_the_same_removal_at_the_same_time(tmp_path: Path) -> None:
    for number in range(20):
        doomed = tmp_path / f".W{number}-b.removed"
        for file in range(100):
            path = doomed / f"{file % 10}" / f"{file % 3}" / f"{file}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    together = threading.Barrier(4)

    def finish() -> None:
        together.wait()
        staging.residue(tmp_path)

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(finish) for _ in range(4)]:
            one.result()

    assert list(tmp_path.iterdir()) == []
    removal.remove_tree(tmp_path / "nothing")
