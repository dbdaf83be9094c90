"""A zip touches the work that it is named for, and others only where its source may bring several in one."""

import shlex
import subprocess
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.foundation.errors import InvalidBag
from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip
from tests.world.folders import add_folder, drop, lying_in
from tests.world.stack import Site, lines

MORE = {"images/I1/I19999.jpg": b"added by another's zip"}
TWO_BAGS = {**bag_members("W1"), **bag_members("W2", files=MORE)}
ONE_BAG = bag_members(
    "W1",
    files={**{f"W1/{path}": one for path, one in SMALL_WORK.items()}, **{f"W2/{path}": MORE[path] for path in MORE}},
)


@pytest.mark.parametrize("members", [TWO_BAGS, ONE_BAG], ids=["two bags", "one bag of two works"])
def test_a_zip_named_for_one_work_adds_nothing_to_another(
    site: Site, tmp_path: Path, members: dict[str, bytes]
) -> None:
    site.announce(make_bag_zip(tmp_path, "W2"))
    assert site.call("run", "--lanes", "1").returncode == 0
    site.announce(write_zip(tmp_path / "W1.bag.zip", members))

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    assert lines(ended.stderr, "W1: the bag is refused", "foreign-work")
    assert site.archived("W2") == SMALL_WORK
    assert site.archived("W1") == {}
    assert site.rows("leases") == []
    assert [letter["MessageAttributes"]["ErrorKind"]["StringValue"] for letter in site.dead_letters()] == [
        "invalid-bag"
    ]


def test_a_zip_of_strangers_dates_nothing_of_theirs(site: Site, tmp_path: Path) -> None:
    batch = write_zip(tmp_path / "batch.bag.zip", TWO_BAGS)
    site.announce(batch)

    site.call("run", "--lanes", "1")

    assert {row["object_name"] for row in site.rows("glacier_sync_progress")} == {"batch"}


@pytest.mark.parametrize(("setting", "home"), [("", True), ("false", False)])
def test_a_folder_may_bring_several_works_in_a_zip_unless_it_is_told_not_to(
    site: Site, tmp_path: Path, setting: str, *, home: bool
) -> None:
    inbox = add_folder(site, **({"several_works": setting} if setting else {}))
    drop(write_zip(tmp_path / "batch.zip", TWO_BAGS), inbox)

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == (0 if home else 1), ended.stderr
    assert site.archived("W2") == (MORE if home else {})


def test_a_zip_that_a_person_names_may_hold_several_works(site: Site, tmp_path: Path) -> None:
    ended = site.call("work", str(write_zip(tmp_path / "batch.zip", TWO_BAGS)))

    assert ended.returncode == 0, ended.stderr
    assert (site.archived("W1"), site.archived("W2")) == (SMALL_WORK, MORE)


def test_the_other_works_of_a_zip_that_fails_are_given_back_at_once(site: Site, tmp_path: Path) -> None:
    site.settings["PIPELINE_SOURCE_TEST_SEVERAL_WORKS"] = "true"
    site.announce(make_bag_zip(tmp_path, "W2", files=dict.fromkeys(MORE, b"other content")))
    assert site.call("run", "--lanes", "1").returncode == 0
    site.announce(write_zip(tmp_path / "W1.bag.zip", TWO_BAGS))

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    assert lines(ended.stderr, "other content than the bag")
    assert site.rows("leases") == []


def go_on(text: str) -> str:
    """The command to go on with, as an operator would copy it."""
    (told,) = {line.partition("go on with: ")[2] for line in lines(text, "is named wrongly", "go on with: ")}
    return told


def typed(site: Site, command: str) -> "subprocess.CompletedProcess[str]":
    run = shlex.join(site.command())
    return subprocess.run(
        ["bash", "-c", command.replace("run_pipeline.py", run)],
        env=site.environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("done", ["move", "keep"])
def test_a_dropped_zip_with_a_wrong_name_is_renamed_by_the_command_that_is_told(
    site: Site, tmp_path: Path, done: str
) -> None:
    inbox = add_folder(site, done=done)
    drop(make_bag_zip(tmp_path, "W2"), inbox, "W 1.bag.zip")

    refused = site.call("run", "--lanes", "1")
    renamed = typed(site, go_on(refused.stderr))

    assert (refused.returncode, renamed.returncode) == (1, 0), refused.stderr + renamed.stderr
    assert "mended" not in refused.stderr
    assert site.archived("W2") == SMALL_WORK
    assert lines(site.call("status").stdout, "all is well")
    assert lying_in(inbox) == ["done/W2.bag.zip" if done == "move" else "W2.bag.zip"]


def test_a_zip_of_a_person_with_a_wrong_name_is_renamed_by_the_command_that_is_told(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W2").rename(tmp_path / "W1.zip")

    refused = site.call("work", str(bag_zip))
    renamed = typed(site, go_on(refused.stderr))

    assert (refused.returncode, renamed.returncode) == (1, 0), refused.stderr + renamed.stderr
    assert site.archived("W2") == SMALL_WORK
    assert lines(site.call("status").stdout, "all is well")


def test_an_object_with_a_wrong_name_is_renamed_by_the_commands_that_are_told(site: Site, tmp_path: Path) -> None:
    members = {name.removeprefix("W2.bag/"): content for name, content in bag_members("W2").items()}
    site.announce(write_zip(tmp_path / "W1.bag.zip", members))

    refused = site.call("run", "--lanes", "1")

    move, _, then = go_on(refused.stderr).partition(" && ")
    program, old, new = shlex.split(move)[:3], *shlex.split(move)[3:]
    assert program == ["aws", "s3", "mv"]
    assert old == f"s3://{site.bucket}/Archive0/00/W1/W1.bag.zip"
    bucket, _, key = new.removeprefix("s3://").partition("/")
    site.s3.copy_object(Bucket=bucket, Key=key, CopySource=old.removeprefix("s3://"))
    assert typed(site, then).returncode == 0
    assert site.archived("W2") == SMALL_WORK


@pytest.mark.parametrize(
    ("folder", "told", "spoilt", "misnamed"),
    [
        ("W2.bag/", "W2", False, "W2"),
        ("W2.bag/", "", False, "W2"),
        ("", "W2", False, "W2"),
        ("W2.bag/", "W1", False, ""),
        ("W2.bag/", "W3", False, ""),
        ("W1.bag/", "W2", False, ""),
        ("", "../W2", False, ""),
        ("W2.bag/", "W2", True, ""),
    ],
)
def test_only_where_the_zip_s_own_name_is_all_that_is_wrong_it_is_to_be_renamed(
    tmp_path: Path, folder: str, told: str, *, spoilt: bool, misnamed: str
) -> None:
    members = bag_members("W1", bag_info={"BDRC-RID": told} if told else {"Note": "no name"})
    members = {f"{folder}{name.removeprefix('W1.bag/')}": content for name, content in members.items()}
    if spoilt:
        members[f"{folder}data/images/more.jpg"] = b"unlisted"

    with pytest.raises(InvalidBag) as refused:
        debag.unpack(write_zip(tmp_path / "W1.bag.zip", members), into=tmp_path / "out", work_rid="W1")

    assert refused.value.misnamed == misnamed
    assert "rid-mismatch" in {fault.kind for fault in refused.value.faults}
