"""Where a group may write: a drop folder may be shared, what decides about our own folders is not."""

import grp
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import intake
from pipeline.foundation import guarded, owners
from tests.world.attacker import NOBODY
from tests.world.bags import make_bag_zip
from tests.world.folders import drop
from tests.world.stack import Site, lines


@contextmanager
def as_user(number: int) -> Iterator[None]:
    """What is done in this block is done by that user, whose own group has the same number."""
    os.setegid(number)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


ALONE = 54_321  # a user, and a group, that this host has no name for
SYSTEMS = (
    grp.getgrnam("staff").gr_gid if Path("/etc/debian_version").exists() else 0
)  # the system's: no person is in it
SHARED = [
    # who owns it, its group, its mode, whether a folder in it is safe, whether it is safe itself
    (0, 0, 0o775, True, True),
    (0, NOBODY, 0o775, False, False),
    (0, NOBODY, 0o2775, False, False),
    (0, NOBODY, 0o1775, True, False),  # sticky: nobody there renames what is another's
    (0, NOBODY, 0o755, True, True),
    (0, 0, 0o777, False, False),
    (0, 0, 0o1777, True, False),
    (0, ALONE, 0o775, False, False),
    (0, SYSTEMS, 0o775, True, True),  # as /var/local on Debian, /var/log on Ubuntu
]


@pytest.mark.parametrize(("owner", "group", "mode", "above", "itself"), SHARED)
def test_a_folder_is_ours_alone_where_no_group_that_others_are_in_decides(
    place: Path, owner: int, group: int, mode: int, *, above: bool, itself: bool
) -> None:
    (place / "shared").mkdir()
    os.chown(place / "shared", owner, group)
    (place / "shared").chmod(mode)
    for folder, safe in ((place / "shared/staging", above), (place / "shared", itself)):
        if safe:
            guarded.see_nobody_can_swap(folder)
        else:
            with pytest.raises(
                owners.NotOurs, match=rf"{place}/shared may be written to by .*: chmod (go-w|o-w|\+t) {place}"
            ):
                guarded.see_nobody_can_swap(folder)


def test_a_group_that_only_its_user_is_in_changes_nothing(place: Path) -> None:
    (place / "home").mkdir()
    os.chown(place / "home", ALONE, ALONE)
    (place / "home").chmod(0o775)
    with as_user(ALONE):
        guarded.make_ours_alone(place / "home" / "staging")
        guarded.see_nobody_can_swap(place / "home")
    with pytest.raises(owners.NotOurs, match=f"staging belongs to user {ALONE}"):
        guarded.see_nobody_can_swap(place / "home" / "staging")


def test_no_work_is_begun_below_a_folder_that_a_group_may_write_to_and_check_says_so(site: Site, place: Path) -> None:
    (place / "shared").mkdir()
    os.chown(place / "shared", 0, NOBODY)
    (place / "shared").chmod(0o775)
    chosen = {"PIPELINE_PIPELINE_STAGING": str(place / "shared" / "staging")}
    refused, checked = site.call("run", "--lanes", "1", **chosen), site.call("check", **chosen)
    assert refused.returncode == 2
    assert lines(refused.stderr, "[pipeline] staging", f"{place}/shared may be written to by group ", "chmod +t")
    assert lines(checked.stdout, "staging", "wrong", f"{place}/shared may be written to by group ")
    assert list((place / "shared").iterdir()) == []


def test_a_drop_folder_that_a_group_shares_is_one(place: Path, tmp_path: Path) -> None:
    for name in ("", "refused"):
        (place / "inbox" / name).mkdir()
        os.chown(place / "inbox" / name, 0, NOBODY)
        (place / "inbox" / name).chmod(0o2775)
    inbox = place / "inbox"
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    intake.see_ours(inbox, [inbox / "refused"])
    moved = intake.move_out(
        intake.look(inbox).zips[0], inbox / "refused" / "W1-0", root=inbox / "refused", report=b"why"
    )
    assert moved == inbox / "refused/W1-0/W1.bag.zip"
