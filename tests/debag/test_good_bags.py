"""What debag makes of good bags, whatever their shape, and how it behaves when it cannot go on."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.debag import Policy
from pipeline.debag.result import staging_path
from pipeline.foundation import fixity
from pipeline.foundation.errors import InvalidBag, NoRoom, StagingDamaged, WorkBusy
from pipeline.foundation.machine import available_cpus
from pipeline.foundation.work import json_bytes
from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip
from tests.world.disks import mounted

ROOT = Path(__file__).parents[2]
MEBIBYTE = 1 << 20


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_kept(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if ".bag/" not in path}


def test_a_bag_becomes_its_work_with_the_tag_files_kept_inside(tmp_path: Path) -> None:
    result = debag.unpack(make_bag_zip(tmp_path), into=tmp_path / "made" / "out")
    work = result.works[0]
    assert (work.rid, work.files, work.bytes) == ("W1", 3, sum(map(len, SMALL_WORK.values())))
    assert without_kept(below(work.path)) == dict(SMALL_WORK)
    kept = {name.removeprefix("W1.bag/"): content for name, content in bag_members().items() if "/data/" not in name}
    assert below(work.path / "W1.bag") == kept
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["out"]
    assert debag.load_marker(tmp_path / "made" / "out") == result


@pytest.mark.parametrize("base", ["shelf/", "", "W1/"], ids=["one level down", "as the root", "in a plain folder"])
def test_a_bag_is_found_wherever_it_lies(tmp_path: Path, base: str) -> None:
    keep = "W1.bag/" if base == "shelf/" else ""
    members = {base + keep + name.removeprefix("W1.bag/"): content for name, content in bag_members().items()}
    result = debag.unpack(write_zip(tmp_path / "any.zip", members), into=tmp_path / "out")
    assert [work.rid for work in result.works] == ["W1"]
    assert without_kept(below(tmp_path / "out" / "W1")) == dict(SMALL_WORK)


def test_several_works_of_one_zip_are_published_together_each_with_its_own_tag_files(tmp_path: Path) -> None:
    members = {**bag_members("W1"), **bag_members("W2", files={"images/x.jpg": b"x"})}
    result = debag.unpack(write_zip(tmp_path / "two.zip", members), into=tmp_path / "out")
    assert [work.rid for work in result.works] == ["W1", "W2"]
    assert without_kept(below(tmp_path / "out" / "W2")) == {"images/x.jpg": b"x"}
    assert without_kept(below(tmp_path / "out" / "W1")) == dict(SMALL_WORK)
    for rid in ("W1", "W2"):
        kept = {name.removeprefix(f"{rid}.bag/"): content for name, content in members.items() if f"{rid}.bag/" in name}
        kept = {name: content for name, content in kept.items() if not name.startswith("data/")}
        assert below(tmp_path / "out" / rid / f"{rid}.bag") == kept


def test_one_bad_work_refuses_the_whole_zip_and_is_named(tmp_path: Path) -> None:
    members = {**bag_members("W1"), **bag_members("W2", files={"images/x.jpg": b"x"})}
    members["W2.bag/data/images/x.jpg"] = b"y"
    with pytest.raises(InvalidBag) as refusal:
        debag.unpack(write_zip(tmp_path / "two.zip", members), into=tmp_path / "out")
    assert {fault.bag for fault in refusal.value.faults} == {"W2.bag"}
    assert not (tmp_path / "out").exists()


def test_a_work_without_a_bag_gets_the_digests_that_no_manifest_had(tmp_path: Path) -> None:
    members = {f"W9/{path}": content for path, content in SMALL_WORK.items()}
    bag_zip = write_zip(tmp_path / "W9.zip", members)
    with pytest.raises(InvalidBag):
        debag.unpack(bag_zip, into=tmp_path / "out")
    work = debag.unpack(bag_zip, into=tmp_path / "out", policy=Policy(allow_unbagged=True)).works[0]
    found = fixity.load(work.digests)
    assert (work.verified, found.verified) == ("none", "none")
    told = {path: file.digests["sha512"] for path, file in found.files.items() if ".bag/" not in path}
    assert told == {path: hashlib.sha512(content).hexdigest() for path, content in SMALL_WORK.items()}


def test_the_digests_file_is_what_fixity_writes_byte_for_byte(tmp_path: Path) -> None:
    files = {**SMALL_WORK, 'a "quoted"\\\n\x7fname': b"1", "ཀ་ཁ.jpg": b"2"}
    members = bag_members(files=files, algorithms=("sha512", "md5", "sha256"))
    members = {
        name: content.replace(b'data/a "quoted"\\\n', b'data/a "quoted"\\%0A') if "manifest-" in name else content
        for name, content in members.items()
        if "tagmanifest" not in name
    }
    members = {name.replace("\\", ""): content.replace(b"\\", b"") for name, content in members.items()}
    work = debag.unpack(write_zip(tmp_path / "W1.bag.zip", members), into=tmp_path / "out").works[0]
    told = work.digests.read_bytes()
    assert fixity.dumps(fixity.load(work.digests)) == told
    assert json_bytes(json.loads(told), indent=0) == told
    assert len(fixity.load(work.digests).files) == len(files) + 5


def test_times_of_files_and_folders_are_the_zips_local_times(tmp_path: Path) -> None:
    members = {"W1.bag/": b"", "W1.bag/data/": b"", "W1.bag/data/images/": b"", "W1.bag/data/empty/": b""}
    bag_zip = write_zip(tmp_path / "W1.bag.zip", {**members, **bag_members()})
    work = debag.unpack(bag_zip, into=tmp_path / "out").works[0].path
    expected = time.mktime((2024, 4, 6, 12, 0, 0, 0, 0, -1))
    places = [work, work / "images", work / "empty", work / "images/I1/I10001.jpg", work / "W1.bag/bagit.txt"]
    assert {place.stat().st_mtime for place in places} == {expected}


@pytest.mark.parametrize(("many", "algorithms"), [(1, ("sha512", "md5")), (4, ("sha512",))], ids=["one", "four"])
def test_files_of_many_buffers_are_hashed_beside_the_writing_and_right(
    tmp_path: Path, many: int, algorithms: tuple[str, ...]
) -> None:
    content = os.urandom(MEBIBYTE) * (72 // many)
    files = {f"images/huge{number}.tif": content[number:] for number in range(many)}
    members = bag_members(files=files, algorithms=algorithms)
    result = debag.unpack(write_zip(tmp_path / "W1.bag.zip", members), into=tmp_path / "out", threads=2, durable=False)
    assert {name: (result.works[0].path / name).read_bytes() for name in files} == files
    members["W1.bag/data/images/huge0.tif"] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(InvalidBag) as refusal:
        debag.unpack(write_zip(tmp_path / "W1.bag.zip", members), into=tmp_path / "bad", threads=2, durable=False)
    assert [(fault.kind, fault.path) for fault in refusal.value.faults] == [("digest-differs", "data/images/huge0.tif")]


def test_everything_is_on_disk_before_the_one_rename_that_publishes(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed, so system calls cannot be seen")
    code = "import sys, pathlib; from pipeline import debag; debag.unpack(*[pathlib.Path(sys.argv[1])], "
    code += "into=pathlib.Path(sys.argv[2]))"
    command = ["strace", "-f", "-qq", "-o", str(tmp_path / "log"), "-e"]
    command += ["trace=syncfs,fsync,fdatasync,rename,renameat,renameat2,openat,write,mkdirat"]
    command += [sys.executable, "-B", "-c", code, str(make_bag_zip(tmp_path)), str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)
    calls = [line.split(None, 1)[1] for line in (tmp_path / "log").read_text().splitlines() if " " in line]
    names = [call.split("(")[0] for call in calls]
    renames = [index for index, name in enumerate(names) if name.startswith("rename")]
    assert len(renames) == 1
    assert names.count("syncfs") == 1
    assert names.index("syncfs") < renames[0] < len(names) - 1 - names[::-1].index("fsync")
    assert not [
        call for call in calls[names.index("syncfs") :] if call.startswith(("write", "mkdirat")) and '"' in call
    ]
    marker = next(index for index, call in enumerate(calls) if "debag.json" in call and "O_CREAT" in call)
    assert marker < names.index("syncfs")


@pytest.mark.parametrize("corrupt", ["", "images/I1/I10001.jpg"], ids=["good", "bad"])
def test_the_zip_is_only_read(tmp_path: Path, corrupt: str) -> None:
    bag_zip = make_bag_zip(tmp_path, corrupt=corrupt)
    bag_zip.chmod(0o400)
    before = (bag_zip.read_bytes(), bag_zip.stat().st_mtime_ns, bag_zip.stat().st_ino)
    if corrupt:
        with pytest.raises(InvalidBag):
            debag.unpack(bag_zip, into=tmp_path / "out")
    else:
        debag.unpack(bag_zip, into=tmp_path / "out")
    assert (bag_zip.read_bytes(), bag_zip.stat().st_mtime_ns, bag_zip.stat().st_ino) == before


def test_a_pulse_that_raises_stops_everything_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    bag_zip = write_zip(tmp_path / "W1.bag.zip", bag_members(files={"huge.tif": bytes(MEBIBYTE) * 64}))

    def stop(_done: int, _total: int) -> None:
        raise StagingDamaged("stop here")

    threads = threading.active_count()
    with pytest.raises(StagingDamaged, match="stop here"):
        debag.unpack(bag_zip, into=tmp_path / "out", pulse=stop)
    assert os.listdir(tmp_path) == ["W1.bag.zip"]
    assert threading.active_count() == threads


def test_the_pulse_tells_what_is_done_of_all(tmp_path: Path) -> None:
    beats: list[tuple[int, int]] = []
    debag.unpack(make_bag_zip(tmp_path), into=tmp_path / "out", pulse=lambda done, total: beats.append((done, total)))
    size = sum(map(len, SMALL_WORK.values()))
    assert beats[0][0] == 0
    assert size <= beats[-1][0] <= beats[-1][1]


def test_two_processes_cannot_make_the_same_result(tmp_path: Path) -> None:
    held = staging_path(tmp_path / "out")
    held.mkdir()
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(WorkBusy):
        debag.unpack(make_bag_zip(tmp_path), into=tmp_path / "out")
    os.close(descriptor)
    assert debag.unpack(make_bag_zip(tmp_path), into=tmp_path / "out").works


def test_a_disk_that_would_be_too_full_is_known_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match="bytes are needed"):
        debag.unpack(make_bag_zip(tmp_path), into=tmp_path / "out", policy=Policy(reserve_bytes=1 << 60))
    assert os.listdir(tmp_path) == ["W1.bag.zip"]


def test_a_disk_that_fills_up_meanwhile_is_no_fault_of_the_bag(tmp_path: Path) -> None:
    bag_zip = write_zip(
        tmp_path / "W1.bag.zip", bag_members(files={f"{n}.jpg": bytes(MEBIBYTE // 2) for n in range(5)})
    )

    with mounted(tmp_path / "disk", "tmpfs", "size=3m") as disk:
        (disk / "other").write_bytes(bytes(MEBIBYTE))
        with pytest.raises(NoRoom):
            debag.unpack(bag_zip, into=disk / "out", policy=Policy(reserve_bytes=-(1 << 30)))
        assert os.listdir(disk) == ["other"]


def test_a_result_that_does_not_hold_is_said_and_can_be_discarded(tmp_path: Path) -> None:
    bag_zip, into = make_bag_zip(tmp_path), tmp_path / "out"
    work = debag.unpack(bag_zip, into=into).works[0]
    (work.path / "images/I1/I10001.jpg").unlink()
    with pytest.raises(StagingDamaged):
        debag.unpack(bag_zip, into=into)
    debag.discard(into)
    assert os.listdir(tmp_path) == ["W1.bag.zip"]
    assert debag.unpack(bag_zip, into=into).works


def test_cpus_are_those_that_the_process_may_use() -> None:
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))
