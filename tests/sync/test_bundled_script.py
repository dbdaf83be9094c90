"""bin/syncOneWork.sh by itself, as a person calls it: with nothing but bash and coreutils, and with rsync."""

import os
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest

from tests.world.bags import SMALL_WORK
from tests.world.works import AWKWARD_WORK, COREUTILS, Script, contents, put

IMAGE = "images/I1/I10001.jpg"
OTHER = "images/I1/I10002.jpg"


@pytest.fixture(params=["cp", "rsync"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Script:
    """The script with either copier: all that follows holds for both."""
    if request.param == "rsync" and shutil.which("rsync") is None:
        pytest.skip("rsync is not installed here; the script takes cp, as in the other half of these tests")
    return Script(tmp_path, (*COREUTILS, "rsync") if request.param == "rsync" else COREUTILS)


@pytest.fixture
def bare(tmp_path: Path) -> Script:
    """The script with bash and coreutils only."""
    return Script(tmp_path, COREUTILS)


def test_a_work_is_added_whole_with_modes_and_times_and_no_litter(script: Script) -> None:
    work = script.work("W1FPL2251")
    (work / IMAGE).chmod(0o640)
    script.run("-a", script.archive, work)
    copy = script.folder / "mnt/Archive2/51/W1FPL2251"
    assert contents(copy) == SMALL_WORK
    copied = (copy / IMAGE).stat()
    assert (stat.S_IMODE(copied.st_mode), copied.st_mtime_ns) == (0o640, 1_500_000_000_123_456_789)
    assert os.listdir(copy.parent) == ["W1FPL2251"]


def test_awkward_names_and_empty_folders_arrive_as_they_are(script: Script) -> None:
    work = script.work(files=AWKWARD_WORK)
    (work / "-an empty folder $(touch pwned)").mkdir()
    script.run("-a", script.archive, work)
    assert contents(script.copy) == AWKWARD_WORK
    assert (script.copy / "-an empty folder $(touch pwned)").is_dir()
    assert not list(script.folder.rglob("pwned"))


def test_awkward_names_are_added_to_a_copy_that_has_some_of_them(script: Script) -> None:
    half = dict(list(AWKWARD_WORK.items())[::2])
    put(script.copy, half)
    said, _ = script.run("-a", script.archive, script.work(files=AWKWARD_WORK))
    assert contents(script.copy) == AWKWARD_WORK
    assert f"{len(AWKWARD_WORK) - len(half)} files added" in said
    assert f"{len(half)} were there" in said


def test_a_second_run_writes_nothing(script: Script) -> None:
    work = script.work()
    script.run("-a", script.archive, work)
    before = {path: path.stat().st_ctime_ns for path in script.copy.rglob("*")}
    said, _ = script.run("-a", script.archive, work)
    assert "0 files added" in said
    assert before == {path: path.stat().st_ctime_ns for path in script.copy.rglob("*")}


def test_adding_deletes_nothing_and_leaves_equal_files_of_another_date_alone(script: Script) -> None:
    put(script.copy, {IMAGE: SMALL_WORK[IMAGE], "notes.txt": b"of the archivist"})
    os.utime(script.copy / IMAGE, (1, 1))
    script.run("-a", script.archive, script.work())
    assert contents(script.copy) == {**SMALL_WORK, "notes.txt": b"of the archivist"}
    assert (script.copy / IMAGE).stat().st_mtime == 1


@pytest.mark.parametrize("there", [{IMAGE: b"short"}, {IMAGE: b"F" + SMALL_WORK[IMAGE][1:]}, {"images": b"no folder"}])
def test_other_content_stops_it_before_anything_is_written(script: Script, there: dict[str, bytes]) -> None:
    put(script.copy, there)
    for path in script.copy.rglob("*"):
        os.utime(path, (1, 1))
    _, complained = script.run("-a", script.archive, script.work(), status=1)
    assert next(iter(there)) in complained
    assert "nothing was written" in complained
    assert contents(script.copy) == there


def test_replacing_makes_the_copy_exactly_the_work(script: Script) -> None:
    put(
        script.copy,
        {IMAGE: b"other", "gone/deep/x": b"x", "archive": b"a file, not a folder", OTHER: SMALL_WORK[OTHER]},
    )
    script.run("-A", "-a", script.archive, script.work())
    assert contents(script.copy) == SMALL_WORK
    assert not (script.copy / "gone").exists()
    assert os.listdir(script.copy.parent) == ["W1"]


def test_replacing_a_copy_that_only_has_too_much_takes_that_away(script: Script) -> None:
    put(script.copy, {**SMALL_WORK, "extra": b"x"})
    script.run("-A", "-a", script.archive, script.work())
    assert contents(script.copy) == SMALL_WORK


def same(path: Path, other: Path) -> bool:
    return other.exists() and path.read_bytes() == other.read_bytes()


def test_no_file_has_its_name_before_it_is_complete_and_a_killed_run_goes_on(script: Script) -> None:
    work = script.work(files={f"images/{number:03}": os.urandom(4_000_000) for number in range(30)})
    part = script.copy.parent / ".W1.part"
    process = script.start("-a", script.archive, work)
    until = time.monotonic() + 20
    while len(list(part.rglob("*"))) < 4 and time.monotonic() < until:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not script.copy.exists()
    done = {
        path.name: path.stat().st_ino for path in (part / "images").iterdir() if same(path, work / "images" / path.name)
    }
    assert 0 < len(done) < 30
    put(part, {"litter": b"of an older run", "images/.029.Xy12Zz": b"half"})
    said, _ = script.run("-a", script.archive, work)
    assert "going on" in said
    assert contents(script.copy) == contents(work)
    assert os.listdir(script.copy.parent) == ["W1"]
    kept = {path.name: path.stat().st_ino for path in (script.copy / "images").iterdir()}
    assert len([name for name in done if kept[name] == done[name]]) >= len(done) - 1  # one may have lacked its date


def test_what_a_killed_run_left_is_not_trusted_for_its_size_and_date(script: Script) -> None:
    put(script.copy.parent / ".W1.part", {IMAGE: b"F" + SMALL_WORK[IMAGE][1:]})
    script.run("-a", script.archive, script.work())
    assert contents(script.copy) == SMALL_WORK


def test_what_a_killed_run_left_is_swept_when_nothing_is_missing_any_more(script: Script) -> None:
    put(script.copy, SMALL_WORK)
    put(script.copy.parent / ".W1.part", {IMAGE: b"half"})
    script.run("-a", script.archive, script.work())
    assert os.listdir(script.copy.parent) == ["W1"]
    assert contents(script.copy) == SMALL_WORK


def test_thousands_of_files_cost_a_handful_of_processes(script: Script) -> None:
    work = script.work(files={f"images/I{number % 7}/{number:05}": b"%d" % number for number in range(3000)})
    put(script.copy, {"images/I0/00000": b"0"})
    calls = script.folder / "calls"
    for link in list(script.tools.iterdir()):
        program = link.readlink()
        link.unlink()
        script.tool(link.name, f'echo {link.name} >> "{calls}"; exec {program} "$@"')
    script.run("-a", script.archive, work)
    assert contents(script.copy) == contents(work)
    assert len(calls.read_text().splitlines()) < 40


def test_a_copier_that_fails_is_told_and_leaves_no_name_in_the_archive(script: Script) -> None:
    broken = "rsync" if (script.tools / "rsync").exists() else "cp"
    (script.tools / broken).unlink()
    script.tool(broken, "exit 23")
    script.copy.mkdir(parents=True)  # a first copy is always cp's
    _, complained = script.run("-a", script.archive, script.work(), status=1)
    assert f"{broken}" in complained
    assert list(script.copy.iterdir()) == []


def test_links_in_the_work_and_on_the_way_to_its_copy_are_refused(bare: Script) -> None:
    work = bare.work()
    (work / "way out").symlink_to("/etc/passwd")
    assert "is a link" in bare.run("-a", bare.archive, work, status=1)[1]
    (work / "way out").unlink()
    bare.copy.parent.mkdir(parents=True)
    bare.copy.symlink_to(bare.folder)
    assert "is a link" in bare.run("-a", bare.archive, work, status=1)[1]
    (bare.folder / "works" / "W2").symlink_to(work)
    assert "is no folder" in bare.run("-a", bare.archive, bare.folder / "works" / "W2", status=2)[1]


def test_an_archive_that_is_not_there_may_be_unmounted_and_is_not_made(bare: Script) -> None:
    (bare.folder / "mnt").rmdir()
    assert "may be unmounted" in bare.run("-a", bare.archive, bare.work(), status=1)[1]
    assert not (bare.folder / "mnt").exists()
