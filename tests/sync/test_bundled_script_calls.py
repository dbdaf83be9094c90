"""bin/syncOneWork.sh by itself: how it is called, and what it does besides copying."""

from pathlib import Path

import pytest

from tests.world.bags import SMALL_WORK
from tests.world.works import COREUTILS, Script, contents, put

IMAGE = "images/I1/I10001.jpg"


@pytest.fixture
def bare(tmp_path: Path) -> Script:
    """The script with bash and coreutils only."""
    return Script(tmp_path, COREUTILS)


def test_relative_paths_and_trailing_slashes_are_understood(bare: Script) -> None:
    bare.work("-W1")
    bare.work()
    bare.run("-a", "mnt/Archive", "-s", "done", "works/W1/")
    assert contents(bare.copy) == SMALL_WORK
    assert (bare.folder / "done").read_text() == "W1\n"
    assert "no work identifier" in bare.run("-a", "mnt/Archive", "works/-W1", status=2)[1]


def test_the_success_list_grows_by_the_works_that_succeeded_only(bare: Script) -> None:
    (bare.folder / "list").write_text("W0\n")
    bare.run("-a", bare.archive, "-s", bare.folder / "list", bare.work())
    put(bare.copy, {IMAGE: b"other"})
    bare.run("-a", bare.archive, "-s", bare.folder / "list", bare.work(), status=1)
    assert (bare.folder / "list").read_text() == "W0\nW1\n"


def test_help_goes_to_stdout(bare: Script) -> None:
    said, complained = bare.run("-h")
    assert said.startswith(
        "Usage: syncOneWork.sh [-h] [-A] [-W] [-a archiveParent] [-w webParent] [-s successWorkList]"
    )
    assert complained == ""


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("a", "b"),
        ("-x", "."),
        ("-a",),
        ("-A", "."),
        ("-W", "."),
        ("-w", "s3://x", "."),
        ("gone",),
        (".",),
        ("..",),
        ("/",),
    ],
)
def test_wrong_usage_exits_2_and_says_why(bare: Script, wrong: tuple[str, ...]) -> None:
    said, complained = bare.run(*wrong, status=2)
    assert said == ""
    assert "syncOneWork.sh -h" in complained


RECORDS = 'printf "%s\\n" "$#" "$@" >> "{file}"'


def test_the_audit_tool_runs_before_and_after_each_with_its_options(bare: Script) -> None:
    bare.tool("audit-tool", RECORDS.format(file=bare.folder / "calls"))
    logs = str(bare.folder / "audit logs")
    work = bare.work()
    bare.run(
        *("-a", bare.archive, work),
        auditToolLogDateTimeDir=logs,
        LOCAL_AUDIT_OPTIONS="-T NoFilesInFolder  *",
        REPO_AUDIT_OPTIONS="-D a=$(id)",
    )
    before = ["6", "-l", logs, "-T", "NoFilesInFolder", "*", str(work)]
    after = ["5", "-l", logs, "-D", "a=$(id)", str(bare.copy)]
    assert (bare.folder / "calls").read_text().splitlines() == before + after


def test_without_a_and_w_only_the_audit_is_done(bare: Script) -> None:
    work = bare.work()
    bare.tool("audit-tool", RECORDS.format(file=bare.folder / "calls"))
    bare.run(work)
    assert (bare.folder / "calls").read_text().splitlines() == ["1", str(work)]
    assert list((bare.folder / "mnt").iterdir()) == []


def test_a_failed_audit_stops_it_before_the_archive_is_touched(bare: Script) -> None:
    bare.tool("audit-tool", "exit 1")
    _, complained = bare.run("-a", bare.archive, bare.work(), status=1)
    assert "audit-tool exited 1" in complained
    assert not bare.copy.exists()


def test_an_absent_audit_tool_is_told_and_not_missed(bare: Script) -> None:
    assert "audit-tool is not installed" in bare.run(bare.work())[0]


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("", "pre passed\npost passed\n"),
        ("exit 1", "pre failed\n"),
        ("exit 2", "pre broke off: exit status 2\n"),
        (None, "pre not run: audit-tool is not installed\npost not run: audit-tool is not installed\n"),
    ],
)
def test_what_became_of_the_audits_is_told_where_there_is_a_place_for_it(
    bare: Script, tool: str | None, told: str
) -> None:
    if tool is not None:
        bare.tool("audit-tool", tool)
    status = int("broke" in told or "failed" in told)
    bare.run("-a", bare.archive, bare.work(), status=status, syncLogDateTimeDir=str(bare.folder))
    assert (bare.folder / "audits.txt").read_text() == told


def test_images_go_to_s3_and_are_deleted_there_only_when_replacing(bare: Script) -> None:
    bare.tool("aws", RECORDS.format(file=bare.folder / "calls"))
    work, done = bare.work(), bare.folder / "done"
    common = ["s3", "sync", "--only-show-errors", "--no-follow-symlinks"]
    places = [f"{work}/images", "s3://web/Works/W1/images"]
    bare.run("-w", "s3://web/Works/", "-s", done, work)
    bare.run("-W", "-w", "s3://web/Works", "-s", done, work)
    bare.run("-w", "s3://web/Works", "-s", done, work, NO_REFRESH_WEB="Yes")
    assert (bare.folder / "calls").read_text().splitlines() == [
        "6",
        *common,
        *places,
        "7",
        *common,
        "--delete",
        *places,
    ]
    assert done.read_text() == "W1\n" * 3


def test_without_the_aws_cli_no_web_copy_is_promised(bare: Script) -> None:
    _, complained = bare.run("-a", bare.archive, "-w", "s3://web", "-s", bare.folder / "done", bare.work(), status=1)
    assert "the aws CLI is not installed" in complained
    assert not bare.copy.exists()
    assert not (bare.folder / "done").exists()
