"""The site's sync options, from its file to the script and the record, as an operator meets them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.world import warm
from tests.world.bags import SMALL_WORK, make_bag_zip


class Host:
    """A host of its own: home folder, settings, archive; no queue, no scheduler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = folder / "home/.config/bdrc/site-sync.yml"
        self.options.parent.mkdir(parents=True)
        (folder / "archive").mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "AWS_"))}
        self.environment = {
            **inherited,
            "HOME": str(folder / "home"),
            "PIPELINE_PIPELINE_STAGING": str(folder / "staging"),
            "PIPELINE_PIPELINE_QUARANTINE": str(folder / "quarantine"),
            "PIPELINE_PIPELINE_LOGS": str(folder / "logs"),
            "PIPELINE_PIPELINE_ARCHIVE_ROOT": str(folder / "archive"),
            "PIPELINE_DATABASE_URL": f"sqlite:///{folder}/pipeline.db",
        }

    def call(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return warm.ended(warm.start(arguments, environment={**self.environment, **settings}))

    def checks(self, **settings: str) -> dict[str, str]:
        """What `check` says of things, by their names."""
        rows = json.loads(self.call("check", "--json", **settings).stdout)["checks"]
        return {row["what"]: f"{row['verdict']}: {row['detail']}" for row in rows}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_check_tells_the_options_and_where_they_come_from(host: Host) -> None:
    assert host.checks()["sync options"].startswith("ok: built in: no web copy; audits: before the copy all tests")
    host.options.write_text("audit: {post: ['-T', 'A,B']}\nsync: {update_web: false}\n")
    found = host.checks(PIPELINE_SYNC_WEB_PARENT="s3://web/Works", PIPELINE_SYNC_WORK_OPTIONS="ignore")
    told = found["sync options"]
    assert f"{host.options}: web copy to s3://web/Works, one that is there is left as it is" in told
    assert "after it -T A,B" in told
    assert told.endswith("a work's own config/sync.yml is ignored")
    assert found["audit tool"].startswith(("ok: ", "limited: not on the PATH of syncs"))


def test_a_wrong_file_of_options_is_a_wrong_setting_and_nothing_starts(host: Host, tmp_path: Path) -> None:
    host.options.write_text("sync: {webb: false, web: maybe, replace: false}\n")
    settings = host.checks()["settings"]
    assert "sync.'webb' is unknown" in settings
    assert "sync.web is 'maybe', not true or false" in settings
    ended = host.call("work", str(make_bag_zip(tmp_path, "W1")), "--local-scheduler")
    assert ended.returncode == 2
    assert str(host.options) in ended.stderr


def test_a_file_that_was_set_has_to_be_there(host: Host) -> None:
    nowhere = str(host.folder / "nowhere.yml")
    assert f"options_file: {nowhere} is not there" in host.checks(PIPELINE_SYNC_OPTIONS_FILE=nowhere)["settings"]


def test_the_options_reach_the_script_and_the_record(host: Host, tmp_path: Path) -> None:
    elsewhere = host.folder / "elsewhere.yml"
    elsewhere.write_text("audit: {pre: ['-T', 'A,B']}\nsync: {update_web: false}\n")
    script = host.folder / "sync.sh"
    script.write_text(
        f'exec 3> "{host.folder}/told"\n'
        'printf "%s\\n" "$LOCAL_AUDIT_OPTIONS" "$NO_REFRESH_WEB" "$AUDIT_TIME_LIMIT_SECONDS" "$*" >&3\n'
        'mkdir -p "${2}0/00" && cp -R "${!#}" "${2}0/00/"\n'
    )
    files = {**SMALL_WORK, "config/sync.yml": b"audit: {pre: ['-T', 'B']}\nsync: {web: false}\n"}
    ended = host.call(
        *("work", str(make_bag_zip(tmp_path, "W1", files=files)), "--local-scheduler"),
        PIPELINE_SYNC_OPTIONS_FILE=str(elsewhere),
        PIPELINE_SYNC_SCRIPT=str(script),
        PIPELINE_SYNC_WEB_PARENT="s3://web/Works",
        PIPELINE_SYNC_AUDIT_LIMIT_SECONDS="77",
    )
    assert ended.returncode == 0, ended.stderr
    *told, arguments = (host.folder / "told").read_text().splitlines()
    assert told == ["-T B", "Yes", "77"]
    assert "-w" not in arguments.split()
    history = json.loads(host.call("status", "W1", "--json").stdout)["history"]
    (facts,) = (event["detail"] for event in history if (event["step"], event["outcome"]) == ("sync", "done"))
    assert facts["options"] == {
        "from": f"{elsewhere}, narrowed by config/sync.yml",
        "audit": {"pre": ["-T", "B"], "post": []},
        "sync": {"archive": True, "web": False, "replace": False, "update_web": False},
        "not_granted": [],
    }
    assert set(facts["audits"].values()) <= {"left to the script", "not run: audit-tool is not installed"}


def program(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)


def test_from_sync_runs_the_script_again_though_the_archive_is_equal_and_it_finds_what_lies_beside_it(
    host: Host, tmp_path: Path
) -> None:
    program(host.folder / "site/beside", f'echo "$1" >> "{host.folder}/told"')
    program(host.folder / "tools/elsewhere", 'exec beside "$1"')
    program(
        host.folder / "site/sync.sh",
        'set -e; copy=${2}0/00/W1; elsewhere "$(test -d "$copy" && echo there || echo new)"\n'
        'mkdir -p "${2}0/00"; test -d "$copy" || cp -R "${!#}" "${2}0/00/"',
    )
    settings = {
        "PIPELINE_SYNC_SCRIPT": str(host.folder / "site/sync.sh"),
        "PIPELINE_SYNC_PATH": f"{host.folder}/nowhere:{host.folder}/tools",
    }
    bag_zip = str(make_bag_zip(tmp_path, "W1"))
    for arguments in ([], [], ["--from", "sync"]):
        ended = host.call("work", bag_zip, "--local-scheduler", *arguments, **settings)
        assert ended.returncode == 0, ended.stderr
    assert (host.folder / "told").read_text().split() == ["new", "there"]
    assert not list((host.folder / "staging").glob("W1*"))


def test_check_says_which_tools_the_sync_would_look_for_in_vain(host: Host) -> None:
    web = {"PIPELINE_SYNC_WEB_PARENT": "s3://web/Works"}
    program(host.folder / "site/sync.sh", "exec make-the-web-copy")
    program(host.folder / "tools/aws", "")
    assert "aws command" not in host.checks()
    own = host.checks(**web, PIPELINE_SYNC_SCRIPT=str(host.folder / "site/sync.sh"))
    assert own["aws command"].startswith(("limited: not on the PATH of syncs", "ok: /usr"))
    found = host.checks(**web, PIPELINE_SYNC_PATH=f"{host.folder}/tools")
    assert found["aws command"] == f"ok: {host.folder}/tools/aws"
