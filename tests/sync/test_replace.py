"""Other content in the archive gives way only to an operator's word, is then kept, and never by a killed half."""

import os
import re
from pathlib import Path

import pytest

from pipeline.foundation.errors import ArchiveConflict, ArchiveMissing, ReadBackFailed
from tests.sync.test_copier import lane
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site as Stack
from tests.world.works import COPIERS, Home, contents, put

IMAGE = "images/I1/I10001.jpg"
OTHER = "images/I1/I10002.jpg"
THERE = {IMAGE: b"an older scan", "notes.txt": b"of the archivist", "archive": b"a file where the bag has a folder"}
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\dZ(-\d+)?")
COPIES_WRONGLY = (
    'prefix=$2 work=${!#} && mkdir -p "${prefix}0/00" && cp -a -- "$work" "${prefix}0/00/" && '
    f'printf F | dd of="${{prefix}}0/00/W1/{IMAGE}" conv=notrunc bs=1 seek=7 status=none'
)


@pytest.fixture(params=COPIERS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return Home(tmp_path, copier=request.param)


def kept(home: Home) -> dict[str, dict[str, bytes]]:
    """What was moved aside, by the folder that it is in."""
    aside = home.root / "Archive0/.replaced/W1"
    return {path.name: contents(path) for path in aside.iterdir()} if aside.exists() else {}


def test_with_the_operator_s_word_other_content_is_moved_aside_and_kept(home: Home) -> None:
    home.stage()
    put(home.root / "Archive0/00/W1", THERE)
    synced = home.archive(replace=True)
    assert contents(synced.path) == {**SMALL_WORK, "notes.txt": b"of the archivist"}
    ((stamp, files),) = kept(home).items()
    assert STAMP.fullmatch(stamp)
    assert files == {IMAGE: THERE[IMAGE], "archive": THERE["archive"]}
    assert (synced.replaced, synced.replaced_to) == (
        ("archive", IMAGE),
        str(home.root / "Archive0/.replaced/W1" / stamp),
    )
    assert home.shelf() == ["W1"]


def test_a_folder_and_a_link_under_a_file_s_name_are_moved_aside_as_they_are(home: Home) -> None:
    home.stage()
    copy = put(home.root / "Archive0/00/W1", {f"{IMAGE}/deep/x": b"x"})
    (copy / OTHER).symlink_to("/etc/passwd")
    home.archive(replace=True)
    (stamp,) = (home.root / "Archive0/.replaced/W1").iterdir()
    assert (stamp / IMAGE / "deep/x").read_bytes() == b"x"
    assert os.readlink(stamp / OTHER) == "/etc/passwd"
    assert contents(copy) == SMALL_WORK


def test_the_word_holds_for_one_call(home: Home) -> None:
    home.stage()
    copy = put(home.root / "Archive0/00/W1", {IMAGE: b"an older scan"})
    home.archive(replace=True)
    (copy / OTHER).write_bytes(b"changed by somebody since")
    (home.staging / ".W1.sync-journal").unlink()  # as when the row is committed: it goes with the staging folder
    with pytest.raises(ArchiveConflict, match=r"go on with: .*run_pipeline\.py work W1 --replace"):
        home.archive()
    assert (copy / OTHER).read_bytes() == b"changed by somebody since"


def test_without_it_nothing_moves(home: Home) -> None:
    home.stage()
    copy = put(home.root / "Archive0/00/W1", THERE)
    with pytest.raises(ArchiveConflict) as caught:
        home.archive()
    assert caught.value.facts["differences"] == [
        {"path": "archive", "detail": "is a file where the bag has a folder"},
        {"path": IMAGE, "detail": "13 bytes instead of 1,100"},
    ]
    assert contents(copy) == THERE
    assert kept(home) == {}


@pytest.mark.parametrize(
    "instant", [f"{when} rename {number}" for number in (1, 2, 3, 4) for when in ("before", "after")]
)
def test_a_replacement_killed_at_any_instant_is_finished_by_the_next_run(tmp_path: Path, instant: str) -> None:
    """The word was given: the next run finishes what is in the journal; if it is not there yet, nothing has moved."""
    home = Home(tmp_path, copier="builtin")
    home.stage()
    copy = put(home.root / "Archive0/00/W1", THERE)
    process = lane(home, "--replace", PIPELINE_TEST_KILL_AT=instant)
    process.communicate()
    assert process.returncode == -9
    if instant == "before rename 1":  # the journal's own
        assert contents(copy) == THERE
        home.archive(replace=True)
    else:
        home.archive()
    assert contents(copy) == {**SMALL_WORK, "notes.txt": b"of the archivist"}
    assert list(kept(home).values()) == [{IMAGE: THERE[IMAGE], "archive": THERE["archive"]}]


def test_a_wrong_copy_of_ours_is_set_aside_by_the_next_try_and_needs_no_operator(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.stage()
    for _ in range(2):  # however often: one wrong copy is kept, not one a try
        with pytest.raises(ReadBackFailed, match=IMAGE):
            home.archive(site=home.site(script=COPIES_WRONGLY))
    assert contents(home.archive().path) == SMALL_WORK
    ((name, files),) = kept(home).items()
    assert (name, set(files)) == ("proved-wrong", {IMAGE})


def test_a_half_file_that_a_killed_script_left_under_its_name_is_ours(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.stage()
    half = (
        'prefix=$2; mkdir -p "${prefix}0/00/W1/images/I1"; printf half > "${prefix}0/00/W1/' + IMAGE + '"; kill -9 $$'
    )
    with pytest.raises(Exception, match="signal 9"):
        home.archive(site=home.site(script=half))
    assert contents(home.archive().path) == SMALL_WORK


def test_what_was_there_before_us_is_not_ours_though_our_try_failed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.stage()
    copy = put(home.root / "Archive0/00/W1", {OTHER: SMALL_WORK[OTHER]})
    with pytest.raises(ReadBackFailed):
        home.archive(site=home.site(script="exit 0"))
    (copy / OTHER).write_bytes(b"changed by somebody since")
    with pytest.raises(ArchiveConflict):
        home.archive()
    assert (copy / OTHER).read_bytes() == b"changed by somebody since"


def test_an_unmounted_archive_is_known_by_its_missing_marker_and_not_filled(home: Home) -> None:
    home.stage()
    (home.root / "Archive0").mkdir(exist_ok=True)  # the empty folder that is left where a share was mounted
    before = set(home.root.rglob("*"))
    site = home.site(mount_marker=".mounted")
    with pytest.raises(ArchiveMissing, match=r"Archive0 has no \.mounted; it may be unmounted"):
        home.archive(site=site)
    assert set(home.root.rglob("*")) == before
    (home.root / "Archive0/.mounted").touch()
    assert contents(home.archive(site=site).path) == SMALL_WORK


def test_the_operator_says_work_rid_replace_and_the_record_says_where_the_old_files_are(
    site: Stack, tmp_path: Path
) -> None:
    old = put(site.home / "archive/Archive0/00/W1", {IMAGE: b"an older scan"})
    site.announce(make_bag_zip(tmp_path, "W1"))

    stopped = site.call("run", "--lanes", "1")

    assert stopped.returncode == 1
    assert site.works()["W1"].error_kind == "archive-conflict"
    assert contents(old) == {IMAGE: b"an older scan"}
    refused = site.call("work", "W1")
    assert "run_pipeline.py work W1 --replace" in refused.stderr
    assert contents(old) == {IMAGE: b"an older scan"}

    replaced = site.call("work", "W1", "--replace")

    assert replaced.returncode == 0, replaced.stderr
    assert site.archived("W1") == SMALL_WORK
    (aside,) = (site.home / "archive/Archive0/.replaced/W1").iterdir()
    assert contents(aside) == {IMAGE: b"an older scan"}
    assert str(aside) in str(site.rows("events"))


def test_the_line_brings_works_home_with_the_built_in_copier_and_check_says_so(site: Stack, tmp_path: Path) -> None:
    builtin = {"PIPELINE_SYNC_COPIER": "builtin", "PIPELINE_SYNC_MOUNT_MARKER": ".mounted"}
    site.announce(make_bag_zip(tmp_path, "W1"))

    unmounted = site.call("run", "--lanes", "1", PIPELINE_QUEUE_BACKOFF_SECONDS="0", **builtin)
    assert site.works()["W1"].error_kind == "archive-missing"
    assert "no .mounted in Archive0, Archive1, Archive2, Archive3" in site.call("check", **builtin).stdout.replace(
        "\n", " "
    )
    for number in range(4):
        put(site.home / f"archive/Archive{number}", {".mounted": b""})
    home = site.call("run", "--lanes", "1", **builtin)

    assert (unmounted.returncode, home.returncode) == (1, 0), home.stderr
    assert site.archived("W1") == SMALL_WORK
    wrong = site.call("check", PIPELINE_SYNC_WEB_PARENT="s3://web", **builtin)
    assert wrong.returncode == 2
    assert "web_parent" in wrong.stdout
