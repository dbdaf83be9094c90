"""The verified digests that stay with an archived work."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.foundation import fixity
from pipeline.foundation.errors import ArchiveConflict, SyncFailed
from pipeline.foundation.fixity import FileFixity, Fixity
from tests.world.bags import SMALL_WORK
from tests.world.works import COPIERS, Home, contents, fixity_of, put

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


# Two files of one MD5, by Wang and Yu (2005).
_COLLISION = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
)
_OTHER = bytes(byte ^ (0x80 if at in {19, 45, 59, 83, 109, 123} else 0) for at, byte in enumerate(_COLLISION))
IMAGE = next(iter(SMALL_WORK))


def another_bag(home: Home, files: Mapping[str, bytes], *algorithms: str) -> None:
    """A later bag of the work: its staging is its own, and knows nothing of what an earlier one brought."""
    shutil.rmtree(home.staging)
    home.staging.mkdir()
    home.stage(files=files, algorithms=algorithms)


SIGNED = {**SMALL_WORK, IMAGE: _COLLISION}
FORGED = {**SMALL_WORK, IMAGE: _OTHER}


@pytest.mark.parametrize("copier", COPIERS)
def test_what_was_proved_once_stays_proved_when_a_bag_with_weaker_digests_comes(tmp_path: Path, copier: str) -> None:
    home = Home(tmp_path, copier=copier)
    another_bag(home, SIGNED, "sha512")
    home.archive()
    another_bag(home, {**SIGNED, "images/new.jpg": b"new"}, "md5")
    synced = home.archive()
    kept = fixity.load(synced.path / NAME).files
    assert {tuple(kept[name].digests) for name in SIGNED} == {("md5", "sha512")}
    assert kept[IMAGE].digests["sha512"] == hashlib.sha512(_COLLISION).hexdigest()
    assert tuple(kept["images/new.jpg"].digests) == ("md5",)
    assert synced.algorithms == ("md5", "sha512")


@pytest.mark.parametrize("copier", COPIERS)
@pytest.mark.parametrize("archived", ["lost", "forged", "as it was"])
def test_a_forged_file_of_the_same_md5_takes_no_proved_file_s_place(tmp_path: Path, copier: str, archived: str) -> None:
    assert hashlib.md5(_COLLISION).digest() == hashlib.md5(_OTHER).digest()
    home = Home(tmp_path, copier=copier)
    another_bag(home, SIGNED, "sha512")
    path = home.archive().path
    proof = (path / NAME).read_bytes()
    if archived == "lost":
        (path / IMAGE).unlink()
    elif archived == "forged":
        (path / IMAGE).write_bytes(_OTHER)
    another_bag(home, FORGED, "md5")
    if archived == "as it was":  # nothing of the forged file is taken: the archive's own has that MD5
        home.archive()
        assert (path / IMAGE).read_bytes() == _COLLISION
        assert "sha512" in fixity.load(path / NAME).files[IMAGE].digests
        return
    with pytest.raises(ArchiveConflict, match=f"{IMAGE} .other sha512"):
        home.archive()
    assert (path / NAME).read_bytes() == proof
    replaced = home.archive(replace=True)
    assert tuple(fixity.load(replaced.path / NAME).files[IMAGE].digests) == ("md5",)


def test_a_proof_that_a_bag_brings_along_hides_none_that_is_kept(home: Home) -> None:
    another_bag(home, SIGNED, "sha512")
    path = home.archive().path
    another_bag(home, {**SIGNED, NAME: (path / NAME).read_bytes()}, "md5")
    synced = home.archive()
    assert synced.proof.name == "W1.bag.2/W1.digests.json"
    assert "sha512" in fixity.load(path / synced.proof.name).files[IMAGE].digests


@pytest.mark.parametrize("files", [{}, {IMAGE: FileFixity(len(_COLLISION), {})}])
def test_a_later_proof_that_an_earlier_bag_brought_takes_nothing_away(home: Home, files: dict[str, FileFixity]) -> None:
    another_bag(home, SIGNED, "sha512")
    path = home.archive().path
    forged = fixity.dumps(Fixity("W1", "manifest", files))
    another_bag(home, {**SIGNED, "W1.bag.2/W1.digests.json": forged}, "md5")
    home.archive()
    another_bag(home, SIGNED, "md5")
    synced = home.archive()
    assert (
        fixity.load(path / synced.proof.name).files[IMAGE].digests["sha512"] == hashlib.sha512(_COLLISION).hexdigest()
    )


def test_a_bag_that_contradicts_what_was_proved_needs_an_operator_s_word(home: Home) -> None:
    another_bag(home, SIGNED, "sha512")
    path = home.archive().path
    (path / IMAGE).write_bytes(b"changed by hand")
    another_bag(home, {**SIGNED, IMAGE: b"changed by hand"}, "sha512")
    with pytest.raises(ArchiveConflict, match="than was proved of it earlier"):
        home.archive()
    home.archive(replace=True)
    assert contents(path) == {**SIGNED, IMAGE: b"changed by hand"}
    assert home.archive().written is False
