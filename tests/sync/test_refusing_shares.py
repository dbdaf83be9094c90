"""Shares that refuse times, modes, or to sync: what was proved is home, and what it lacks is told."""

import errno
import os
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.foundation import abilities, durable
from pipeline.sync import trees
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.refusing import MODES, TIMES, refusing
from tests.world.stack import Site, lines
from tests.world.works import Home, contents

TIMES_LOST, MODES_LOST = "times of 3 of 3 files", "modes of 3 of 3 files"
NO_SYNC = {"syncfs": errno.ENOSYS}
NO_NEW_NAMES = {"renameat2": errno.EINVAL}


@pytest.fixture(params=["script", "builtin"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Either copier: what follows holds for both."""
    return Home(tmp_path, copier=request.param)


def staged(home: Home) -> None:
    """A work whose files have times and modes that no new file has by itself."""
    for path in home.stage().rglob("*.*"):
        if path.is_file():
            path.chmod(0o604)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (TIMES, [TIMES_LOST]),
        (MODES, [MODES_LOST]),
        (TIMES | MODES, [TIMES_LOST, MODES_LOST]),
        (NO_SYNC, []),
        ({}, []),
    ],
    ids=["times", "modes", "times and modes", "syncfs", "nothing"],
)
def test_a_work_is_home_on_a_share_that_refuses(home: Home, refused: dict[str, int], told: list[str]) -> None:
    staged(home)
    old = os.umask(0o077)  # so that no mode is right by chance
    try:
        synced = refusing(refused, home.archive)
    finally:
        os.umask(old)
    assert contents(synced.path) == SMALL_WORK
    # cp makes files with their modes at once, whatever the umask: it needs no chmod.
    assert list(synced.not_kept) == [what for what in told if home.copier == "builtin" or what != MODES_LOST]
    assert [path.name for path in synced.path.parent.iterdir()] == ["W1"]
    assert refusing(refused, home.archive).not_kept == ()  # told once, where the files were written


def test_what_is_added_to_a_work_comes_home_on_a_share_that_refuses(home: Home) -> None:
    staged(home)
    some = next(iter(SMALL_WORK))
    (home.root / "Archive0/00/W1" / some).parent.mkdir(parents=True)
    (home.root / "Archive0/00/W1" / some).write_bytes(SMALL_WORK[some])
    synced = refusing(TIMES | MODES | NO_SYNC | NO_NEW_NAMES, home.archive)
    assert contents(synced.path) == SMALL_WORK
    assert synced.not_kept[0] == "times of 2 of 2 files"


def test_of_many_files_all_are_counted_where_one_that_is_looked_at_lacks_something(tmp_path: Path) -> None:
    names = [f"{number:04}.jpg" for number in range(2500)]
    for folder in ("work", "copy"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    assert trees.not_kept(tmp_path / "work", tmp_path / "copy", names) == ()
    for name in names[100:2400]:
        os.utime(tmp_path / "copy" / name, (1, 1))
    assert trees.not_kept(tmp_path / "work", tmp_path / "copy", names) == ("times of 2,300 of 2,500 files",)


def test_a_bag_is_unpacked_on_a_disk_that_refuses(tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    refused = TIMES | MODES | NO_SYNC | NO_NEW_NAMES
    refusing(refused, lambda: debag.unpack(bag_zip, into=tmp_path / "out" / "debag"))
    assert debag.load_marker(tmp_path / "out" / "debag").works[0].rid == "W1"


def test_a_folder_whose_names_cannot_be_synced_counts_as_durable_and_a_failing_disk_does_not(tmp_path: Path) -> None:
    durable.fsync_folder(Path("/proc"))  # answers EINVAL
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        refusing({"fsync": errno.EIO}, lambda: durable.fsync_folder(tmp_path))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        refusing({"syncfs": errno.EIO}, lambda: durable.sync_file_system(tmp_path))


def test_a_disk_that_does_not_tell_how_much_is_free_is_not_full(tmp_path: Path) -> None:
    assert durable.free_bytes(Path("/proc")) is None  # 0 of 0 blocks
    assert durable.free_bytes(tmp_path)


@pytest.mark.parametrize(
    ("refused", "lacks"),
    [
        ({}, []),
        (TIMES, ["does not keep times"]),
        (MODES, ["does not keep modes"]),
        (NO_NEW_NAMES, ["renames without replacing only in two steps"]),
        ({"fsync": errno.EINVAL}, ["has no fsync of folders: names last as its server says"]),
        ({"flock": errno.EBADF}, ["cannot lock a folder (flock)"]),
    ],
    ids=["nothing", "times", "modes", "renames", "fsync", "flock"],
)
def test_a_probe_tells_what_a_file_system_refuses_and_leaves_nothing(
    tmp_path: Path, refused: dict[str, int], lacks: list[str]
) -> None:
    assert refusing(refused, lambda: abilities.probe(tmp_path)).lacking == lacks
    assert os.listdir(tmp_path) == []


def test_check_says_what_staging_and_the_shares_can_do(site: Site) -> None:
    (site.home / "archive/Archive0").mkdir()
    ended = refusing(TIMES, lambda: site.call_anew("check"))

    assert ended.returncode == 0, ended.stdout
    assert lines(ended.stdout, "staging's disk", "limited", "does not keep times")
    assert lines(ended.stdout, "archive's disk", "limited", "Archive0: does not keep times")
    assert os.listdir(site.home / "archive/Archive0") == []
    assert lines(site.call("check").stdout, "archive's disk", " ok ")
