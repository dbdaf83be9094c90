"""One copy less: what debag unpacked in the archive gets its name there once it is proved, only where that is safe."""

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.foundation.errors import ArchiveConflict, AuditFailed, ReadBackFailed, StagingDamaged
from pipeline.foundation.owners import NotOurs
from pipeline.sync import SyncSettings, is_ours, make_place, unpacking_place, why_not
from tests.sync.test_copier import lane
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.disks import mounted
from tests.world.refusing import MODES, TIMES, refusing
from tests.world.works import ONE_COPY, Home, contents, put

IMAGE = "images/I1/I10001.jpg"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, copier=ONE_COPY)


def inodes(folder: Path) -> dict[str, int]:
    """Of what is in a folder, but the proof, which is written last."""
    found = {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*")}
    return {name: inode for name, inode in found.items() if ".bag" not in name}


def test_a_work_that_was_unpacked_in_the_archive_is_not_copied_but_renamed(home: Home) -> None:
    work = home.stage()
    before = inodes(work)
    put(home.root / "Archive0/00/.W1.part", {"of a killed copier": b"of no use"})

    synced = home.archive()

    assert (contents(synced.path), inodes(synced.path)) == (SMALL_WORK, before)
    assert (synced.written, synced.added, synced.not_kept) == (True, 3, ())
    assert not work.exists()
    assert sorted(os.listdir(synced.path.parent)) == [".W1-0.staging", "W1"]


def test_what_was_unpacked_and_comes_back_as_something_else_gets_no_name(home: Home) -> None:
    work = home.stage()
    (work / IMAGE).write_bytes(b"F" + SMALL_WORK[IMAGE][1:])  # the same size: only the bytes tell

    with pytest.raises(ReadBackFailed, match="nothing of it was published") as caught:
        home.archive()

    assert caught.value.facts["differences"] == [{"path": IMAGE, "detail": "other sha512"}]
    assert not (home.root / "Archive0/00/W1").exists()


def test_what_appears_beside_the_work_while_it_is_proved_does_not_come_home_with_it(home: Home) -> None:
    work = home.stage()

    with pytest.raises(StagingDamaged, match="foreign has no digest"):
        home.archive(pulse=lambda _done, _total: put(work, {"foreign": b"of nobody"}) and None)

    assert not (home.root / "Archive0/00/W1").exists()


def test_a_share_point_may_be_a_link_as_mounts_are_arranged(home: Home) -> None:
    before = inodes(home.stage())
    (home.root / "Archive0").rename(home.folder / "mounted")
    (home.root / "Archive0").symlink_to(home.folder / "mounted")

    home.archive()

    assert inodes(home.folder / "mounted/00/W1") == before


def test_a_work_for_another_disk_is_copied(home: Home) -> None:
    with mounted(home.root / "Archive2", "tmpfs"):
        work = home.stage("W1FPL2251")
        assert contents(home.archive("W1FPL2251").path) == SMALL_WORK
        assert contents(work) == SMALL_WORK


@pytest.mark.parametrize("instant", ["after rename 2", "after rename 3"])  # the work's; the proof's
def test_killed_after_the_work_has_its_name_the_next_run_finds_it_home(home: Home, instant: str) -> None:
    home.stage()
    process = lane(home, PIPELINE_TEST_KILL_AT=instant)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (home.staging / "W1").exists()

    synced = home.archive()

    assert (contents(synced.path), synced.written) == (SMALL_WORK, False)


def test_a_work_that_has_its_name_and_is_not_whole_is_unpacked_again(home: Home) -> None:
    """Killed after the rename; then the disk lost one file, and spoiled another."""
    home.stage()
    lane(home, PIPELINE_TEST_KILL_AT="after rename 2").communicate()
    copy = home.root / "Archive0/00/W1"
    (copy / "images/I1/I10002.jpg").unlink()
    (copy / IMAGE).write_bytes(b"spoiled")

    with pytest.raises(StagingDamaged, match=r"I10001\.jpg is missing, .*I10002\.jpg is missing"):
        home.archive()
    home.stage()

    assert contents(home.archive().path) == SMALL_WORK
    assert contents(home.root / "Archive0/.replaced/W1/proved-wrong") == {IMAGE: b"spoiled"}


def test_an_audit_that_fails_when_the_work_has_its_name_is_not_forgotten_and_the_one_before_not_done_again(
    home: Home,
) -> None:
    home.stage()
    tools = home.folder / "tools"
    tools.mkdir()
    tool, said = tools / "audit-tool", home.folder / "said"
    tool.write_text(f'#!/bin/bash\necho "${{!#}}" >> {said}; [[ "${{!#}}" != */Archive0/00/W1 ]]\n')
    tool.chmod(0o755)
    site = home.site(path=f"{tools}:/usr/bin:/bin")
    for _ in range(2):
        with pytest.raises(AuditFailed) as caught:
            home.archive(site=site)
        assert caught.value.facts["audits"] == {"pre": "passed", "post": "failed"}
    tool.write_text("#!/bin/bash\nexit 0\n")

    assert home.archive(site=site).audits == {"pre": "passed", "post": "passed"}
    assert said.read_text().split() == [str(home.staging / "W1"), *[str(home.root / "Archive0/00/W1")] * 2]


def test_somebody_else_s_work_under_the_name_is_not_taken_for_ours(home: Home) -> None:
    work = home.stage()
    there = put(home.root / "Archive0/00/W1", {IMAGE: b"of somebody else"})
    for path in work.rglob("*.*"):
        path.unlink()
    for folder in sorted((path for path in work.rglob("*")), reverse=True):
        folder.rmdir()
    work.rmdir()

    with pytest.raises(ArchiveConflict):
        home.archive()

    assert contents(there) == {IMAGE: b"of somebody else"}


@pytest.fixture
def site(tmp_path: Path) -> SyncSettings:
    (tmp_path / "archive/Archive0/00").mkdir(parents=True)
    return SyncSettings(tmp_path / "archive", tmp_path / "sync.sh", tmp_path / "logs", copier="builtin")


def why(site: SyncSettings) -> str:
    return why_not(site, unpacking_place(site.archive_root, "W1", "0"))


def test_bags_are_unpacked_in_the_archive_where_settings_and_its_disk_allow_it(site: SyncSettings) -> None:
    assert why(site) == ""
    assert why(replace(site, copier="script")) == why(replace(site, staging="local")) == "the settings say so"
    assert "has no .mounted" in why(replace(site, mount_marker=".mounted"))


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (TIMES, "does not keep times"),
        (MODES, "does not keep modes"),
        ({"flock": errno.EBADF}, "cannot lock a folder"),
        ({"renameat2": errno.EINVAL}, "renames without replacing only in two steps"),
    ],
    ids=["times", "modes", "locks", "renames"],
)
def test_a_share_that_refuses_anything_gets_copies(site: SyncSettings, refused: dict[str, int], told: str) -> None:
    assert told in refusing(refused, lambda: why(site))


def test_a_share_that_one_syncfs_does_not_surely_sync_gets_copies(site: SyncSettings) -> None:
    with mounted(site.archive_root / "Archive0", "ramfs"):
        assert "is not surely synced" in why(site)


def linked(shelf: Path) -> None:
    shelf.rmdir()
    shelf.symlink_to(shelf.parent.parent)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda shelf: shelf.chmod(0o777), "may be written to by every user"),
        (lambda shelf: (shelf / ".W1-0.staging").symlink_to("/etc"), "is a link"),
        (lambda shelf: (shelf / ".W1-0.staging").write_bytes(b""), "is no folder"),
        (lambda shelf: (shelf / ".W1-0.staging").mkdir() or (shelf / ".W1-0.staging").chmod(0o777), "every user"),
        (linked, "00 is a link"),
    ],
    ids=["shelf of all", "link", "file", "open to all", "shelf elsewhere"],
)
def test_nothing_is_unpacked_where_others_may_write_nor_believed_there(
    site: SyncSettings, spoil: Callable[[Path], object], told: str
) -> None:
    shelf = site.archive_root / "Archive0/00"
    place = unpacking_place(site.archive_root, "W1", "0")
    spoil(shelf)

    assert told in why(site)
    if spoil is not linked:
        assert not is_ours(place)
        with pytest.raises(NotOurs):
            make_place(place)


def test_the_marker_of_debag_vouches_for_works_that_are_home_under_their_names(tmp_path: Path) -> None:
    made = debag.unpack(make_bag_zip(tmp_path, "W1"), into=tmp_path / "debag").works[0]
    made.path.rename(tmp_path / "home")

    assert debag.load_marker(tmp_path / "debag", home=lambda _rid: tmp_path / "home").works == (made,)
    for elsewhere in (None, lambda _rid: tmp_path / "nowhere"):
        with pytest.raises(StagingDamaged):
            debag.load_marker(tmp_path / "debag", home=elsewhere)
