"""Killed anywhere, or the plug pulled: nothing or a complete work, the zip as it was, and a rerun that succeeds."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.operations.debag_zips import debag_zips
from tests.debag.test_good_bags import below, without_kept
from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip

ROOT = Path(__file__).parents[2]
CHANGES = "mkdir,mkdirat,write,fallocate,utimensat,fchmod,rename,renameat,renameat2,unlink,unlinkat,rmdir,syncfs,fsync"
UNPACK = """
import sys
from pathlib import Path
from pipeline import debag
debag.unpack(Path(sys.argv[1]), into=Path(sys.argv[2]), threads=2)
"""
CLI = """
import sys
from pathlib import Path
from pipeline.operations.debag_zips import debag_zips
sys.exit(debag_zips([Path(sys.argv[1])], Path(sys.argv[2]).parent, threads=2).exit_status)
"""


def child(code: str, bag_zip: Path, into: Path, *before: str) -> subprocess.Popen[bytes]:
    command = [*before, sys.executable, "-B", "-c", code, str(bag_zip), str(into)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def strace(*options: str) -> list[str]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed, so nothing can be killed on entry of a system call")
    return ["strace", "-f", "-qq", "-o", "/dev/null", *options]


def is_complete(work: Path) -> bool:
    return without_kept(below(work)) == dict(SMALL_WORK) and len(below(work / "W1.bag")) == 4


def check_nothing_or_all(bag_zip: Path, content: bytes, into: Path) -> bool:
    """Whether a complete work is to be seen; anything between that and nothing fails."""
    assert bag_zip.read_bytes() == content
    visible = [name for name in os.listdir(into.parent) if not name.startswith(".")]
    if not visible:
        return False
    assert visible == [into.name]
    assert is_complete(into / "W1" if (into / "debag.json").exists() else into)
    return True


def points(code: str, bag_zip: Path, scratch: Path) -> list[tuple[str, int]]:
    """Every system call that changes something, by name and number, that any one thread makes."""
    log = scratch / "trace"
    command = strace("-e", f"trace={CHANGES},openat")
    command[command.index("/dev/null")] = str(log)
    (scratch / "look").mkdir()
    assert child(code, bag_zip, scratch / "look" / "W1", *command).wait(120) == 0
    counts: dict[tuple[str, str], int] = {}
    wanted: set[tuple[str, int]] = set()
    for line in log.read_text().splitlines():
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match is None:
            continue
        thread, name = match.groups()
        counts[thread, name] = counts.get((thread, name), 0) + 1
        if name != "openat" or "O_CREAT" in line:
            wanted.add((name, counts[thread, name]))
    return sorted(wanted)


@pytest.mark.parametrize(
    ("code", "run_again"),
    [
        (UNPACK, lambda bag_zip, into: debag.unpack(bag_zip, into=into)),
        (CLI, lambda bag_zip, into: debag_zips([bag_zip], into.parent)),
    ],
    ids=["the step", "the verb"],
)
@pytest.mark.timeout(600)
def test_killed_on_entry_of_any_call_that_changes_something_it_leaves_nothing_or_a_complete_work(
    tmp_path: Path, code: str, run_again: Callable[[Path, Path], object]
) -> None:
    bag_zip = make_bag_zip(tmp_path)
    content = bag_zip.read_bytes()
    calls = points(code, bag_zip, tmp_path)
    assert len(calls) > 30
    seen = []
    for number, (name, when) in enumerate(calls):
        into = tmp_path / str(number) / "W1"
        into.parent.mkdir()
        kill = strace("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={when}")
        process = child(code, bag_zip, into, *kill)
        process.wait(60)
        seen.append(check_nothing_or_all(bag_zip, content, into))
        run_again(bag_zip, into)
        assert check_nothing_or_all(bag_zip, content, into)
        assert os.listdir(into.parent) == ["W1"]
        shutil.rmtree(into.parent)
    assert seen.count(False) > len(calls) // 2


def test_killed_at_random_instants_it_leaves_nothing_or_a_complete_work(tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path)
    content = bag_zip.read_bytes()
    started = time.monotonic()
    assert child(UNPACK, bag_zip, tmp_path / "first" / "W1").wait(60) == 0
    whole = time.monotonic() - started
    chance = random.Random(6)  # the same instants each time, as far as a clock allows
    for number in range(12):
        into = tmp_path / str(number) / "W1"
        into.parent.mkdir()
        process = child(UNPACK, bag_zip, into)
        time.sleep(whole * chance.uniform(0.3, 1.1))
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        check_nothing_or_all(bag_zip, content, into)
        assert debag.unpack(bag_zip, into=into).works
        assert check_nothing_or_all(bag_zip, content, into)


class Disk:
    """An ext4 of its own in a file; its plug can be pulled."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.mounted = folder / "disk"
        self.folder = folder
        self.mounted.mkdir()

    def make(self) -> bool:
        with self.image.open("wb") as file:
            file.truncate(96 << 20)
        for command in (["mkfs.ext4", "-q", "-F", str(self.image)], self._mount(self.image, self.mounted)):
            if shutil.which(command[0]) is None or subprocess.run(command, check=False, capture_output=True).returncode:
                return False
        return True

    @staticmethod
    def _mount(image: Path, where: Path) -> list[str]:
        return ["mount", "-o", "loop", str(image), str(where)]

    def after_a_power_cut(self, name: str) -> Path:
        """What the disk has if the plug is pulled now, mounted elsewhere: its journal is replayed."""
        copy, where = self.folder / f"{name}.img", self.folder / name
        changed = 0
        while changed != (changed := self.image.stat().st_mtime_ns):  # else it would be of more than one instant
            shutil.copyfile(self.image, copy)
        where.mkdir()
        subprocess.run(self._mount(copy, where), check=True)
        return where

    def unmount(self, where: Path) -> None:
        subprocess.run(["umount", str(where)], check=False, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path)
    if os.geteuid() != 0 or not made.make():
        pytest.skip("only root may mount a file system over a loop device, and mkfs.ext4 has to be there")
    yield made
    for where in (made.mounted, *(path for path in tmp_path.iterdir() if path.is_dir())):
        made.unmount(where)


def test_what_was_said_to_be_done_survives_a_power_cut(tmp_path: Path, disk: Disk) -> None:
    bag_zip = make_bag_zip(tmp_path / "zips")
    result = debag.unpack(bag_zip, into=disk.mounted / "out")
    copy = disk.after_a_power_cut("afterwards")
    assert is_complete(copy / "out" / "W1")
    assert debag.load_marker(copy / "out").works[0].files == result.works[0].files


def test_a_power_cut_at_any_instant_leaves_nothing_or_a_complete_work(tmp_path: Path, disk: Disk) -> None:
    files = {f"images/{number}.jpg": os.urandom(40_000) for number in range(200)}
    bag_zip = write_zip(tmp_path / "zips" / "W1.bag.zip", bag_members(files=files))
    chance = random.Random(3)
    for number in range(5):
        process = child(UNPACK, bag_zip, disk.mounted / str(number))
        time.sleep(chance.uniform(0.05, 0.5))
        process.send_signal(signal.SIGSTOP)  # no power cut lasts as long as the disk is copied
        copy = disk.after_a_power_cut(f"cut-{number}")
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 0
        if (copy / str(number)).exists():
            assert without_kept(below(copy / str(number) / "W1")) == files
            assert debag.load_marker(copy / str(number)).files == len(files)
        disk.unmount(copy)
        shutil.rmtree(disk.mounted / str(number))
