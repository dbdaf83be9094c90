"""The line where bags are unpacked in the archive: nothing else lies there at the end, and no step is done twice."""

import os
import signal
from pathlib import Path

import pytest

from tests.lanes.test_whose_zip import MORE, TWO_BAGS
from tests.line.test_killed import BAD_IMAGE, BUILTIN, IN_ONE_PROCESS, run_until_empty
from tests.world.bags import SMALL_WORK, make_bag_zip, write_zip
from tests.world.stack import SHORT_LEASE, Site, lines, tree, wait_until

QUICK = BUILTIN | {"PIPELINE_QUEUE_BACKOFF_SECONDS": "0"}


def steps(site: Site) -> list[tuple[str, str]]:
    return [(event["step"], event["outcome"]) for event in site.rows("events")]


def hidden(site: Site) -> list[Path]:
    return list((site.home / "archive").rglob(".*"))


def unpacked_and_killed(site: Site, tmp_path: Path) -> Path:
    """A lane was killed when debag had unpacked W1 in the archive; the folder in which it did."""
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT="debag published, not recorded", **SHORT_LEASE, **BUILTIN)
    (place,) = hidden(site)
    return place


def test_what_came_back_from_the_archive_s_disk_as_something_else_is_unpacked_again_from_the_zip(
    site: Site, tmp_path: Path
) -> None:
    place = unpacked_and_killed(site, tmp_path)
    (local,) = (site.home / "staging").glob("W1-*")
    assert os.listdir(local) == ["download"]
    assert place.stat().st_mode & 0o777 == 0o700
    image = place / "debag/W1" / BAD_IMAGE
    image.write_bytes(b"F" + image.read_bytes()[1:])

    run_until_empty(site, settings=QUICK)

    assert site.archived("W1") == SMALL_WORK
    (failed,) = [event for event in site.rows("events") if event["outcome"] == "failed"]
    assert "read-back-failed" in str(failed)
    assert "the zip is kept" in str(failed)
    assert steps(site).count(("debag", "done")) == 2
    assert (hidden(site), site.staged()) == ([], [])


def test_who_lets_a_script_copy_from_now_on_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    unpacked_and_killed(site, tmp_path)

    run_until_empty(site)

    assert site.archived("W1") == SMALL_WORK
    assert (hidden(site), site.staged()) == ([], [])


def test_a_refused_bag_leaves_no_file_in_the_archive(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1", corrupt=BAD_IMAGE))

    site.call(*IN_ONE_PROCESS, **BUILTIN)

    assert site.works()["W1"].stage == "refused"
    assert tree(site.home / "archive") == {}
    assert hidden(site) == []


def test_what_somebody_else_put_in_the_hidden_folder_s_place_is_neither_believed_nor_followed(
    site: Site, tmp_path: Path
) -> None:
    place = unpacked_and_killed(site, tmp_path)
    theirs = tmp_path / "theirs"
    place.rename(theirs)
    (theirs / "debag/W1/images/I1/I10002.jpg").write_bytes(b"of an attacker")
    place.symlink_to(theirs)
    before = tree(theirs)

    run_until_empty(site, settings=BUILTIN)

    assert site.archived("W1") == SMALL_WORK
    assert tree(theirs) == before
    assert (hidden(site), site.staged()) == ([], [])


@pytest.mark.parametrize("instant", ["after rename 3", "sync copied, not committed"])
def test_a_zip_of_two_works_that_is_killed_after_one_of_them_has_its_name_is_not_unpacked_twice(
    site: Site, tmp_path: Path, instant: str
) -> None:
    work = ("work", str(write_zip(tmp_path / "batch.zip", TWO_BAGS)))
    killed = site.call(*work, PIPELINE_TEST_KILL_AT=instant, **SHORT_LEASE, **BUILTIN)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert site.archived("W1")

    wait_until(lambda: not site.held())
    again = site.call(*work, **SHORT_LEASE, **BUILTIN)

    assert again.returncode == 0, again.stderr
    assert (site.archived("W1"), site.archived("W2")) == (SMALL_WORK, MORE)
    assert sorted(row["work_rid"] for row in site.rows("syncs")) == ["W1", "W2"]
    assert steps(site).count(("debag", "done")) == 1
    assert (hidden(site), site.staged()) == ([], [])


def test_explain_and_check_tell_where_bags_are_unpacked(site: Site, tmp_path: Path) -> None:
    place = unpacked_and_killed(site, tmp_path)

    assert str(place / "debag") in site.call("explain", "W1", **BUILTIN).stdout.replace("\n", "")
    assert lines(site.call("check", **BUILTIN).stdout, "unpacking", "ok", "in the archive")
    local = site.call("check", PIPELINE_SYNC_STAGING="local", **BUILTIN)
    assert lines(local.stdout, "unpacking", "ok", "on the staging disk")
