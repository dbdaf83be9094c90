"""The built-in copier: proved before published, killed anywhere it goes on, faults of the disk are named."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.foundation.errors import ArchiveMissing, NoRoom, ReadBackFailed, StagingDamaged, Stopping, SyncFailed
from tests.world.bags import SMALL_WORK
from tests.world.disks import mounted
from tests.world.works import AWKWARD_WORK, Home, contents, put

IMAGE = "images/I1/I10001.jpg"
MANY = {f"images/{number:03}": bytes([number]) * 700_000 for number in range(60)}

# Another process that brings W1 home; what it has to do is in the environment's PIPELINE_TEST_….
PROGRAM = """
import sys; from pathlib import Path; from pipeline.sync import SyncSettings, archive
root, logs, work, digests = map(Path, sys.argv[1:5])
site = SyncSettings(root, Path("none.sh"), logs, copier="builtin")
archive(work, digests, work_rid="W1", site=site, replace="--replace" in sys.argv)
"""


SPOILER = """
import sys
while True:
    try:
        with open(sys.argv[1], "r+b") as file:
            file.seek(7)
            file.write(b"F")
    except FileNotFoundError:
        pass
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, copier="builtin")


def lane(home: Home, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    paths = [home.root, home.logs, home.staging / "W1", home.staging / "W1.digests.json"]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *paths, *arguments],
        env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_nothing_is_left_over_and_folders_keep_modes_and_times_also_empty_ones(home: Home) -> None:
    work = home.stage()
    (work / "empty").mkdir()
    (work / "images").chmod(0o750)
    os.utime(work / "images", ns=(1_400_000_000_000_000_001, 1_400_000_000_000_000_001))
    synced = home.archive()
    assert os.listdir(home.root / "Archive0/00") == ["W1"]
    assert (synced.path / "empty").is_dir()
    folder = (synced.path / "images").stat()
    assert (stat.S_IMODE(folder.st_mode), folder.st_mtime_ns) == (0o750, 1_400_000_000_000_000_001)
    assert synced.log is None


def test_thousands_of_files_of_all_sizes_in_several_algorithms_come_home(home: Home) -> None:
    sizes = (0, 1, 262_143, 262_144, 262_145)
    files = {f"images/{number % 7}/{number:05}": os.urandom(number % 50) for number in range(2500)}
    files |= {f"sizes/{size}": os.urandom(size) for size in sizes} | {"large/one": os.urandom(33 << 20)}
    home.stage(files=files, algorithms=("md5", "sha256", "sha512"))
    synced = home.archive()
    assert contents(synced.path) == files
    assert (synced.added, synced.algorithms) == (len(files), ("md5", "sha256", "sha512"))


def test_what_a_killed_run_left_is_not_trusted_for_its_size(home: Home) -> None:
    home.stage()
    part = home.root / "Archive0/00/.W1.part"
    put(part, {IMAGE: b"F" + SMALL_WORK[IMAGE][1:]})
    synced = home.archive()
    assert contents(synced.path) == SMALL_WORK


def test_a_disk_that_returns_other_bytes_is_named_and_the_next_try_writes_them_again(home: Home) -> None:
    """Whatever is written to one file is changed at once, by a process that watches it."""
    home.stage(files=MANY)
    victim = home.root / "Archive0/00/.W1.part/images/059"
    spoiler = subprocess.Popen([sys.executable, "-c", SPOILER, str(victim)])
    try:
        with pytest.raises(ReadBackFailed) as caught:
            home.archive(threads=1)
    finally:
        spoiler.kill()
        spoiler.wait()
    assert caught.value.facts["differences"] == [{"path": "images/059", "detail": "other sha512"}]
    assert "nothing of it was published; it is in" in str(caught.value)
    assert not (home.root / "Archive0/00/W1").exists()
    synced = home.archive()
    assert contents(synced.path) == MANY


@pytest.mark.parametrize(
    ("rotten", "told"),
    [(b"F" + SMALL_WORK[IMAGE][1:], r"\(other sha512\)"), (b"cut", r"\(3 bytes instead of 1,100\)")],
    ids=["bytes", "size"],
)
def test_a_staging_that_rots_while_it_waits_is_told_from_a_bad_archive(home: Home, rotten: bytes, told: str) -> None:
    work = home.stage()
    (work / IMAGE).write_bytes(rotten)
    with pytest.raises(StagingDamaged, match=rf"I10001\.jpg {told}"):
        home.archive()
    assert not (home.root / "Archive0/00/W1").exists()


def test_a_copy_that_was_stopped_goes_on_without_writing_again_what_is_complete(home: Home) -> None:
    home.stage(files=MANY)
    part = home.root / "Archive0/00/.W1.part"

    def stop(done: int, _total: int) -> None:
        if done > 20 * 700_000:
            raise Stopping("asked to")

    with pytest.raises(Stopping):
        home.archive(pulse=stop, threads=1)
    put(part, {"litter": b"of nobody", "gone/deep/x": b"x"})
    (part / "a link").symlink_to("/etc")
    complete = {path.name: path.stat().st_ino for path in (part / "images").iterdir() if path.stat().st_size == 700_000}
    assert complete
    synced = home.archive()
    assert contents(synced.path) == MANY
    kept = {path.name: path.stat().st_ino for path in (synced.path / "images").iterdir()}
    assert {name: kept[name] for name in complete} == complete
    assert os.listdir(synced.path.parent) == ["W1"]


@pytest.mark.parametrize("there", [{}, {"images/007": MANY["images/007"], "notes": b"of the archivist"}])
def test_killed_while_it_copies_it_leaves_no_half_file_and_the_next_run_ends_as_if_nothing_was(
    home: Home, there: dict[str, bytes]
) -> None:
    home.stage(files=MANY)
    put(home.root / "Archive0/00/W1", there)
    process = lane(home)
    part = home.root / "Archive0/00/.W1.part/images"
    while process.poll() is None and len(list(part.glob("*"))) < 10:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert contents(home.root / "Archive0/00/W1") == there
    synced = home.archive()
    assert contents(synced.path) == {**MANY, **there}
    assert os.listdir(synced.path.parent) == ["W1"]


# What is renamed: the journal, the copy (one folder, or each file that is added), the proof.
@pytest.mark.parametrize("instant", ["before rename 1", "before rename 2", "after rename 2", "after rename 3"])
@pytest.mark.parametrize("there", [{}, {IMAGE: SMALL_WORK[IMAGE]}])
def test_killed_right_before_or_after_anything_gets_its_name_and_run_again_the_result_is_the_same(
    home: Home, instant: str, there: dict[str, bytes]
) -> None:
    home.stage()
    if there:
        put(home.root / "Archive0/00/W1", there)
    process = lane(home, PIPELINE_TEST_KILL_AT=instant)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    synced = home.archive()
    assert contents(synced.path) == SMALL_WORK
    assert os.listdir(synced.path.parent) == ["W1"]


def test_an_archive_that_vanishes_while_it_is_written_is_told_and_not_made_anew(home: Home) -> None:
    home.stage(files=MANY)
    away = home.folder / "unmounted"

    def unmount(_done: int, _total: int) -> None:
        if (home.root / "Archive0").exists():
            home.root.rename(away)

    with pytest.raises(ArchiveMissing, match="may be unmounted"):
        home.archive(pulse=unmount)
    assert not home.root.exists()
    away.rename(home.root)
    assert contents(home.archive().path) == MANY


def test_a_script_under_whose_hands_the_archive_vanishes_does_not_fill_the_place_where_it_was(home: Home) -> None:
    home.stage()
    site = home.site(script=f'mv "{home.root}" "{home.folder}/unmounted"; exit 0')
    with pytest.raises(ArchiveMissing, match="may be unmounted"):
        home.archive(site=site)
    assert not home.root.exists()


def test_on_a_file_system_without_a_sure_syncfs_each_file_is_synced_by_itself(home: Home) -> None:
    with mounted(home.root, "ramfs"):
        home.stage(files=AWKWARD_WORK)
        assert contents(home.archive().path) == AWKWARD_WORK
        assert home.archive().written is False


def test_a_full_archive_is_told_before_a_byte_is_written(home: Home) -> None:
    with mounted(home.root, "tmpfs", "size=10m"):
        home.stage(files=MANY)
        with pytest.raises(NoRoom, match="nothing was written"):
            home.archive()
        assert list(home.root.rglob("images/*")) == []


def test_an_archive_that_fills_up_on_the_way_is_told_and_the_copy_goes_on_when_there_is_room(home: Home) -> None:
    with mounted(home.root, "tmpfs", "size=50m") as root:
        home.stage(files=MANY)
        ballast = root / "ballast"

        def fill(_done: int, _total: int) -> None:
            if not ballast.exists():
                with ballast.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, 45 << 20)

        part = root / "Archive0/00/.W1.part"
        part.mkdir(parents=True)
        with pytest.raises(NoRoom, match="No space left"):
            home.archive(pulse=fill)
        assert not (root / "Archive0/00/W1").exists()
        ballast.unlink()
        assert contents(home.archive().path) == MANY


@pytest.mark.parametrize("copier", ["script", "builtin"])
def test_a_read_only_archive_is_told(home: Home, copier: str) -> None:
    home.copier = copier
    with mounted(home.root, "tmpfs", "ro"):
        home.stage()
        with pytest.raises(SyncFailed, match="Read-only file system"):
            home.archive()
