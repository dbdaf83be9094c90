"""The verified digests that stay with an archived work."""

import hashlib
from pathlib import Path

import pytest

from pipeline import fixity
from pipeline.errors import SyncFailed
from tests.bags import SMALL_WORK
from tests.works import Home, fixity_of, put

NAME = "W1.bag/W1.digests.json"
KEPT = {"W1.bag/manifest-sha512.txt": b"the bag's own"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_ctime_ns for path in (folder, *folder.rglob("*"))}


def test_the_verified_digests_stay_with_the_work_in_the_archive(home: Home) -> None:
    home.stage(files={**SMALL_WORK, **KEPT}, algorithms=("md5", "sha512"))
    synced = home.archive()
    assert fixity.load(synced.path / NAME) == fixity_of({**SMALL_WORK, **KEPT}, algorithms=("md5", "sha512"))
    assert synced.proof.name == NAME
    assert synced.proof.sha512 == hashlib.sha512((synced.path / NAME).read_bytes()).hexdigest()
    assert [path.name for path in (synced.path / "W1.bag").iterdir() if path.name.startswith(".")] == []


def test_a_second_sync_writes_nothing_and_takes_the_proof_for_nothing_extra(home: Home) -> None:
    home.stage(files={**SMALL_WORK, **KEPT})
    first = home.archive()
    before = times(first.path)
    second = home.archive()
    assert times(first.path) == before
    assert (second.written, second.extra, second.proof) == (False, (), first.proof)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"files": 3}'])
def test_a_proof_that_was_damaged_is_made_again(home: Home, damage: bytes) -> None:
    home.stage()
    first = home.archive()
    (first.path / NAME).write_bytes(damage)
    assert home.archive().proof == first.proof
    assert fixity.load(first.path / NAME) == fixity_of(SMALL_WORK)


def test_what_an_earlier_bag_brought_stays_proved(home: Home) -> None:
    earlier = {"images/I0/old.jpg": b"old", "images/I0/gone.jpg": b"gone"}
    home.stage(files=earlier)
    path = home.archive().path
    (path / "images/I0/gone.jpg").unlink()
    home.stage(files=SMALL_WORK)
    for name in earlier:
        (home.staging / "W1" / name).unlink()
    (home.staging / "W1/images/I0").rmdir()
    assert home.archive().extra == ("images/I0/old.jpg",)
    assert fixity.load(path / NAME) == fixity_of({**SMALL_WORK, "images/I0/old.jpg": b"old"})


@pytest.mark.parametrize(
    ("own", "number"),
    [({NAME: b"of an earlier life in the archive"}, 2), ({"W1.bag": b"a file"}, 2), ({"W1.bag/bagit.txt": b"b"}, 1)],
)
def test_a_work_that_brings_such_names_itself_keeps_them(home: Home, own: dict[str, bytes], number: int) -> None:
    home.stage(files={**SMALL_WORK, **own})
    synced = home.archive()
    assert synced.proof.name == ("W1.bag" if number == 1 else f"W1.bag.{number}") + "/W1.digests.json"
    assert {name: (synced.path / name).read_bytes() for name in own} == own


def test_the_folders_keep_their_times(home: Home) -> None:
    work = home.stage(files={**SMALL_WORK, **KEPT})
    before = {name: (work / name).stat().st_mtime_ns for name in (".", "W1.bag")}
    path = home.archive().path
    assert {name: (path / name).stat().st_mtime_ns for name in before} == before


def test_nothing_is_written_through_a_link(home: Home) -> None:
    home.stage()
    copy = put(home.root / "Archive0/00/W1", SMALL_WORK)
    (home.folder / "outside").mkdir()
    (copy / "W1.bag").symlink_to(home.folder / "outside")
    with pytest.raises(SyncFailed, match="is a link"):
        home.archive()
    assert list((home.folder / "outside").iterdir()) == []
