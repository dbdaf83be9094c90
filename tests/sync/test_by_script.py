import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.foundation.errors import (
    ArchiveConflict,
    ArchiveMissing,
    InvalidRid,
    ReadBackFailed,
    StagingDamaged,
    SyncFailed,
)
from pipeline.sync import archive
from tests.world.bags import SMALL_WORK
from tests.world.works import AWKWARD_NAMES, AWKWARD_WORK, COPIERS, Home, contents, put

IMAGE = "images/I1/I10001.jpg"
COPIES = (
    'prefix=$2 work=${!#} && mkdir -p "${prefix}0/00" && cp -a -- "$work" "${prefix}0/00/" && copy=${prefix}0/00/W1\n'
)


@pytest.fixture(params=COPIERS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Either copier: what follows holds for both."""
    return Home(tmp_path, copier=request.param)


@pytest.fixture(params=COPIERS[:2])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Where works are unpacked beside the archive and not in it."""
    return Home(tmp_path, copier=request.param)


@pytest.fixture
def scripted(tmp_path: Path) -> Home:
    """For what only a script can do."""
    return Home(tmp_path)


def test_a_work_comes_home_whole_with_names_modes_and_times(home: Home) -> None:
    work = home.stage("W1FPL2251", algorithms=("md5", "sha512"))
    (work / IMAGE).chmod(0o640)
    synced = home.archive("W1FPL2251")
    assert synced.path == home.root / "Archive2" / "51" / "W1FPL2251"
    assert contents(synced.path) == SMALL_WORK
    copied = (synced.path / IMAGE).stat()
    assert (stat.S_IMODE(copied.st_mode), copied.st_mtime_ns) == (0o640, 1_500_000_000_123_456_789)
    assert (synced.files, synced.bytes) == (3, sum(map(len, SMALL_WORK.values())))
    assert (synced.written, synced.added, synced.extra) == (True, 3, ())
    assert synced.algorithms == ("md5", "sha512")


def test_nothing_is_left_over_after_a_work_has_come_home(scripted: Home) -> None:
    scripted.stage()
    synced = scripted.archive()
    assert [path.name for path in synced.path.parent.iterdir()] == ["W1"]
    assert sorted(path.name for path in scripted.staging.iterdir()) == [".W1.sync-journal", "W1", "W1.digests.json"]
    assert synced.log is not None
    assert sorted(path.suffix for path in synced.log.parent.iterdir()) == [".log", ".txt"]


@pytest.mark.parametrize("left", [".W1.part/images", ".W1.probe"])
def test_what_a_killed_copier_of_another_host_left_goes_though_nothing_is_missing(copied: Home, left: str) -> None:
    copied.stage()
    copied.archive()
    if left.endswith(".probe"):
        put(copied.root / "Archive0/00", {left: b""})
    else:
        (copied.root / "Archive0/00" / left).mkdir(parents=True)
    copied.archive()
    assert copied.shelf() == ["W1"]


def test_a_second_run_writes_nothing_and_does_not_run_the_script(copied: Home) -> None:
    copied.stage()
    first = copied.archive()
    before = {path: path.stat().st_ctime_ns for path in first.path.rglob("*")}
    second = copied.archive(site=copied.site(script="exit 1"))
    assert (second.written, second.added, second.log) == (False, 0, None)
    assert before == {path: path.stat().st_ctime_ns for path in first.path.rglob("*")}


def test_what_is_missing_in_the_archive_is_added_and_what_is_there_stays(home: Home) -> None:
    home.stage()
    kept = put(home.root / "Archive0/00/W1", {IMAGE: SMALL_WORK[IMAGE], "notes.txt": b"of the archivist"}) / IMAGE
    inode = kept.stat().st_ino
    synced = home.archive()
    assert (synced.written, synced.added, synced.extra) == (True, 2, ("notes.txt",))
    assert contents(synced.path) == {**SMALL_WORK, "notes.txt": b"of the archivist"}
    assert kept.stat().st_ino == inode


def test_other_content_in_the_archive_is_a_conflict_that_lists_all_and_writes_nothing(home: Home) -> None:
    home.stage()
    flipped = b"F" + SMALL_WORK[IMAGE][1:]
    there = {IMAGE: flipped, "images/I1/I10002.jpg": b"short"}
    copy = put(home.root / "Archive0/00/W1", there)
    with pytest.raises(ArchiveConflict) as caught:
        home.archive()
    assert caught.value.facts["differences"] == [
        {"path": IMAGE, "detail": "other sha512"},
        {"path": "images/I1/I10002.jpg", "detail": "5 bytes instead of 1,080"},
    ]
    assert contents(copy) == there
    assert "nothing was written" in str(caught.value)
    assert str(home.staging / "W1") in str(caught.value)
    assert "run_pipeline.py work W1" in str(caught.value)
    json.dumps(caught.value.facts)


@pytest.mark.parametrize("leads_to", ["outside", "archive/Archive0/00/W10"])
def test_an_archive_folder_that_is_a_link_is_refused(home: Home, leads_to: str) -> None:
    home.stage()
    aim = home.folder / leads_to
    aim.mkdir(parents=True)
    (home.root / "Archive0/00").mkdir(parents=True, exist_ok=True)
    (home.root / "Archive0/00/W1").symlink_to(aim)
    with pytest.raises(ArchiveConflict, match="a link leads to"):
        home.archive()
    assert list(aim.iterdir()) == []


def test_a_shelf_that_is_a_link_out_of_the_tree_is_refused(copied: Home) -> None:
    copied.stage()
    (copied.folder / "outside").mkdir()
    (copied.root / "Archive0").mkdir()
    (copied.root / "Archive0/00").symlink_to(copied.folder / "outside")
    with pytest.raises(ArchiveConflict, match="a link leads to"):
        copied.archive()
    assert list((copied.folder / "outside").iterdir()) == []


def test_a_share_point_may_be_a_link_as_mounts_are_arranged(copied: Home) -> None:
    copied.stage()
    (copied.folder / "mounted").mkdir()
    (copied.root / "Archive0").symlink_to(copied.folder / "mounted")
    copied.archive()
    assert contents(copied.folder / "mounted/00/W1") == SMALL_WORK


def test_works_named_as_prefixes_of_one_another_do_not_mix(home: Home) -> None:
    rids = ["W1", "W1-I1", "W1 1", "W"]
    files = {rid: {**SMALL_WORK, "who": rid.encode()} for rid in rids}
    for rid in rids:
        home.stage(rid, files=files[rid])
    for rid in rids:
        assert contents(home.archive(rid).path) == files[rid]
    assert home.shelf() == sorted(rids)


def test_awkward_names_come_home_and_no_shell_reads_them(home: Home) -> None:
    home.stage(files=AWKWARD_WORK)
    synced = home.archive()
    assert contents(synced.path) == AWKWARD_WORK
    assert {path.name for path in synced.path.iterdir()} == {*(name.split("/")[0] for name in AWKWARD_NAMES), "W1.bag"}
    assert list(home.folder.rglob("pwned")) == []
    assert not Path("pwned").exists()


def test_a_damaged_staging_is_named_in_full_before_anything_is_written(copied: Home) -> None:
    work = copied.stage()
    (work / IMAGE).write_bytes(b"cut")
    (work / "archive/I1/I10001.tif").unlink()
    (work / "stray").write_bytes(b"that no digest vouches for")
    (work / "way out").symlink_to("/etc/passwd")
    with pytest.raises(StagingDamaged) as caught:
        copied.archive()
    assert caught.value.facts["problems"] == [
        "archive/I1/I10001.tif is missing",
        f"{IMAGE} has 3 bytes instead of 1,100",
        "stray has no digest",
        "way out is a link",
    ]
    assert "run_pipeline.py work W1 --from debag" in str(caught.value)
    assert list(copied.root.iterdir()) == []


def test_a_work_folder_that_is_a_link_is_refused(home: Home) -> None:
    home.stage("W2")
    home.stage("W1")
    (home.staging / "W1").rename(home.staging / "aside")
    (home.staging / "W1").symlink_to(home.staging / "W2")
    with pytest.raises(StagingDamaged, match="is a link"):
        home.archive("W1")


def test_the_folder_and_the_digests_of_another_work_are_refused(home: Home) -> None:
    home.stage("W1")
    home.stage("W10")
    for work, digests in (("W10", "W1"), ("W1", "W10")):
        with pytest.raises(StagingDamaged, match="W10"):
            archive(home.staging / work, home.staging / f"{digests}.digests.json", work_rid="W1", site=home.site())
    with pytest.raises(InvalidRid):
        archive(home.staging / "..", home.staging / "W1.digests.json", work_rid="..", site=home.site())


def test_an_archive_that_is_not_there_may_be_unmounted_and_is_not_made(copied: Home) -> None:
    copied.stage()
    copied.root.rmdir()
    with pytest.raises(ArchiveMissing, match="may be unmounted"):
        copied.archive()
    assert not copied.root.exists()


def test_a_byte_flipped_after_the_copy_is_caught(scripted: Home) -> None:
    scripted.stage()
    script = COPIES + f'printf F | dd of="$copy/{IMAGE}" conv=notrunc bs=1 seek=7 status=none'
    with pytest.raises(ReadBackFailed) as caught:
        scripted.archive(site=scripted.site(script=script))
    assert caught.value.facts["differences"] == [{"path": IMAGE, "detail": "other sha512"}]
    assert "2 of its files matched" in str(caught.value)
    assert contents(scripted.staging / "W1") == SMALL_WORK


def test_a_file_lost_after_the_copy_is_caught(scripted: Home) -> None:
    scripted.stage()
    with pytest.raises(ReadBackFailed) as caught:
        scripted.archive(site=scripted.site(script=COPIES + f'rm "$copy/{IMAGE}"'))
    assert caught.value.facts["missing"] == [IMAGE]


def test_a_script_that_exits_0_without_copying_is_caught(scripted: Home) -> None:
    scripted.stage()
    with pytest.raises(ReadBackFailed) as caught:
        scripted.archive(site=scripted.site(script="exit 0"))
    assert caught.value.facts["missing"] == sorted(SMALL_WORK)
    assert scripted.archive().written


def test_a_failing_script_is_told_with_all_that_an_operator_needs(scripted: Home) -> None:
    scripted.stage()
    with pytest.raises(SyncFailed) as caught:
        scripted.archive(site=scripted.site(script="echo copying; echo 'rsync: broken pipe' >&2; exit 12"))
    told, facts = str(caught.value), caught.value.facts
    assert told.startswith("W1: the sync script exited 12; it ended with: copying / rsync: broken pipe; its log is ")
    assert f"staging kept at {scripted.staging / 'W1'}" in told
    assert "the archive copy may be partial at" in told
    assert told.endswith("go on with: run_pipeline.py work W1")
    assert facts["exit_status"] == 12
    assert "rsync: broken pipe\n" in Path(str(facts["log"])).read_text()


def test_a_script_that_failed_after_copying_is_run_again_and_does_not_pass_unseen(scripted: Home) -> None:
    scripted.stage()
    audit_fails = scripted.site(script=COPIES + "exit 1")
    for _ in range(2):
        with pytest.raises(SyncFailed):
            scripted.archive(site=audit_fails)
    synced = scripted.archive()
    assert (synced.written, synced.added) == (False, 0)
    assert synced.log is not None  # the script was run, and this time it was content
    assert scripted.archive().log is None


def test_a_script_that_is_not_there_is_told(scripted: Home) -> None:
    scripted.stage()
    with pytest.raises(SyncFailed, match=r"exited 127.*gone\.sh: No such file"):
        scripted.archive(site=replace(scripted.site(), script=scripted.folder / "gone.sh"))
