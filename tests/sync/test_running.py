"""How the site's script is run: its environment, what it prints, and that no process of it is ever left."""

import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pipeline.foundation.errors import Stopping, SyncFailed
from pipeline.sync import SyncSettings
from tests.world.works import Home, contents

# A script that hangs, with a child and a grandchild that do not care for TERM; all numbers go to a file.
HANGS = """
trap '' TERM
echo $$ >> "{pids}"
( trap '' TERM; echo $BASHPID >> "{pids}"; ( echo $BASHPID >> "{pids}"; while :; do sleep 0.05; done ) & wait ) &
while :; do sleep 0.05; done
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def eventually(happens: Callable[[], bool], *, within_seconds: float = 30) -> bool:
    until = time.monotonic() + within_seconds
    while not happens():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def dumped(home: Home, **values: object) -> dict[str, str]:
    """The environment that a script finds, without what bash itself adds."""
    home.stage()
    site = home.site(script=f'env -0 > "{home.folder}/environment"; exit 3', **values)
    with pytest.raises(SyncFailed):
        home.archive(site=site)
    entries = (home.folder / "environment").read_text().rstrip("\0").split("\0")
    return {
        name: value
        for name, _, value in (entry.partition("=") for entry in entries)
        if name not in ("_", "PWD", "OLDPWD", "SHLVL")
    }


def test_the_environment_is_the_documented_one_to_the_letter(home: Home) -> None:
    credentials = home.folder / "aws"
    credentials.touch()
    found = dumped(
        home,
        db_config="prod:/run/secrets/db_apps",
        debug=True,
        aws_credentials=credentials,
        host_name="ark",
        user_name="service",
        log_dip_version="1.2",
        audit_tool_version="3.4",
        path="/usr/bin:/bin",
    )
    tag = found["jobDateTime"]
    date, time_of_day = tag.split("_")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d\.\d\d\.\d\d", tag)
    assert abs(datetime.strptime(tag, "%Y-%m-%d_%H.%M.%S").astimezone() - datetime.now().astimezone()) < timedelta(
        minutes=1
    )
    logs = home.logs / "sync-logs" / date / tag
    assert found == {
        "DEBUG_SYNC": "true",
        "DB_CONFIG": "prod:/run/secrets/db_apps",
        "hostName": "ark",
        "userName": "service",
        "logDipVersion": "1.2",
        "auditToolVersion": "3.4",
        "jobDateTime": tag,
        "jobDate": date,
        "jobTime": time_of_day,
        "auditToolLogDateTimeDir": str(home.logs / "audit-test-logs" / date / tag),
        "syncLogDateTimeDir": str(logs),
        "syncLogDateTimeFile": str(logs / f"sync-{tag}.log"),
        "syncLogTempDir": str(logs / "tempFiles"),
        "PATH": f"{home.folder}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
    }


def test_credentials_are_named_only_where_the_file_exists(home: Home) -> None:
    assert "AWS_SHARED_CREDENTIALS_FILE" not in dumped(home, aws_credentials=home.folder / "none")


def test_nothing_is_inherited(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-lane")
    monkeypatch.setenv("BASH_ENV", "/nowhere/to-be-sourced")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:the-secret-of-the-lane@db/x")
    assert "the-secret-of-the-lane" not in str(dumped(home))
    assert not any("the-secret" in path.read_text() for path in home.logs.rglob("*.log"))


def arguments(home: Home, **values: object) -> list[str]:
    home.stage()
    with pytest.raises(SyncFailed):
        home.archive(site=home.site(script=f'printf "%s\\0" "$@" > "{home.folder}/arguments"; exit 3', **values))
    return (home.folder / "arguments").read_text().split("\0")[:-1]


def test_the_arguments_are_those_of_the_interface(home: Home) -> None:
    given = arguments(home)
    assert given[:3] == ["-a", f"{home.root}/Archive", "-s"]
    assert Path(given[3]).is_relative_to(home.logs)
    assert given[4:] == [str(home.staging / "W1")]


def test_w_is_given_only_with_a_web_parent_and_no_shell_reads_it(home: Home) -> None:
    given = arguments(home, web_parent="s3://web/$(id) 'x'")
    assert given[2:5] == ["-w", "s3://web/$(id) 'x'", "-s"]


def test_two_calls_in_one_second_share_no_log(home: Home) -> None:
    for rid in ("W1", "W2", "W3"):
        home.stage(rid)
    logs = {home.archive(rid).log for rid in ("W1", "W2", "W3")}
    assert len(logs) == 3
    assert all(log is not None and log.name == f"sync-{log.parent.name}.log" for log in logs)


def test_what_it_prints_goes_to_the_log_and_to_its_file(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.stage()
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SyncFailed) as caught:
        home.archive(site=home.site(script="printf 'one\\nt\\303\\266o \\033[2J\\n'; printf 'no newline' >&2; exit 1"))
    assert "\none\nt\u00f6o \x1b[2J\nno newline" in Path(str(caught.value.facts["log"])).read_text()
    assert [line for line in caplog.messages if "sync script" in line] == [
        "W1: sync script: one",
        "W1: sync script: t\u00f6o \ufffd[2J",
        "W1: sync script: no newline",
    ]
    assert caught.value.facts["last_lines"] == ["one", "t\u00f6o \ufffd[2J", "no newline"]


def test_a_flood_of_output_needs_no_memory_and_its_beginning_and_end_are_kept(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.stage()
    caplog.set_level(logging.DEBUG)
    flood = "echo first; yes 'one of very many lines' | head -c 300M; head -c 20M /dev/zero; echo; echo last; exit 1"
    before = peak_memory()
    with pytest.raises(SyncFailed) as caught:
        home.archive(site=home.site(script=flood, log_limit_bytes=1_000_000))
    log = Path(str(caught.value.facts["log"]))
    assert peak_memory() - before < 30_000_000
    assert log.stat().st_size < 1_050_000
    assert "\nfirst\n" in log.read_text()
    assert "more bytes were printed; the last lines]" in log.read_text()
    assert log.read_text().endswith("\nlast\n")
    assert str(caught.value.facts["last_lines"]).endswith("'last']")
    assert len(caplog.messages) < 300


def peak_memory() -> int:
    """Bytes of resident memory at the highest so far."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def test_a_script_that_hangs_is_ended_with_its_children_when_its_time_is_up(home: Home) -> None:
    home.stage()
    file = home.folder / "pids"
    site = home.site(script=HANGS.format(pids=file), time_limit_seconds=3, grace_seconds=0.2)
    with pytest.raises(SyncFailed, match=r"was stopped after its time limit of 3 s"):
        home.archive(site=site)
    assert len(pids(file)) == 3
    assert eventually(lambda: not any(map(alive, pids(file))))


def test_a_pulse_that_raises_ends_the_script_and_its_children(home: Home) -> None:
    home.stage()
    file = home.folder / "pids"

    def stop(_done: int, _total: int) -> None:
        if len(pids(file)) == 3:
            raise Stopping("asked to")

    with pytest.raises(Stopping):
        home.archive(site=home.site(script=HANGS.format(pids=file), grace_seconds=0.2), pulse=stop)
    assert eventually(lambda: not any(map(alive, pids(file))))


def test_a_script_may_tidy_up_when_it_is_stopped(home: Home) -> None:
    home.stage()
    script = (
        f"trap 'sleep 0.3; echo tidy > \"{home.folder}/tidied\"; exit 1' TERM; echo ready; while :; do sleep 0.05; done"
    )
    with pytest.raises(SyncFailed):
        home.archive(site=home.site(script=script, time_limit_seconds=2))
    assert (home.folder / "tidied").read_text() == "tidy\n"


def test_the_pulse_is_called_several_times_a_second_also_under_a_flood_of_output(home: Home) -> None:
    for rid, script in (
        ("W1", "sleep 1; exit 1"),
        ("W2", "timeout 1 yes; exit 1"),
        ("W3", "exec >&- 2>&-; sleep 1; exit 1"),
    ):
        home.stage(rid)
        times: list[float] = []
        with pytest.raises(SyncFailed):
            home.archive(
                rid,
                site=home.site(script=script, log_limit_bytes=1000),
                pulse=lambda _done, _total, times=times: times.append(time.monotonic()),
            )
        assert len(times) > 3, script
        assert max(b - a for a, b in itertools.pairwise(times)) < 3, script


def test_a_child_left_in_the_background_does_not_outlive_the_script_nor_hold_up_the_work(home: Home) -> None:
    home.stage()
    file = home.folder / "pids"
    started = time.monotonic()
    with pytest.raises(SyncFailed):
        home.archive(site=home.site(script=f'sleep 60 & echo $! > "{file}"; exit 1'))
    assert time.monotonic() - started < 30
    assert eventually(lambda: not any(map(alive, pids(file))))


def lane_with_a_work(home: Home, site: SyncSettings) -> subprocess.Popen[bytes]:
    """Another process that brings W1 home."""
    program = (
        "import sys; from pathlib import Path; from pipeline.sync import SyncSettings, archive; "
        "root, script, logs, work, digests = map(Path, sys.argv[1:]); "
        "archive(work, digests, work_rid='W1', site=SyncSettings(root, script, logs))"
    )
    paths = [home.root, site.script, home.logs, home.staging / "W1", home.staging / "W1.digests.json"]
    return subprocess.Popen([sys.executable, "-c", program, *paths], env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_when_the_lane_itself_is_killed_its_script_and_all_its_children_die_too(home: Home) -> None:
    home.stage()
    file = home.folder / "pids"
    site = home.site(script=HANGS.format(pids=file))
    lane = lane_with_a_work(home, site)
    assert eventually(lambda: len(pids(file)) == 3)
    lane.send_signal(signal.SIGKILL)
    lane.wait()
    assert eventually(lambda: not any(map(alive, pids(file))))


def test_a_lane_killed_while_the_work_is_copied_leaves_no_half_file_and_the_next_run_ends_as_if_nothing_was(
    home: Home,
) -> None:
    files = {f"images/{number:03}": os.urandom(3_000_000) for number in range(30)}
    home.stage(files=files)
    shelf = home.root / "Archive0" / "00"
    lane = lane_with_a_work(home, home.site())
    assert eventually(lambda: len(list((shelf / ".W1.part").rglob("*"))) > 4)
    lane.kill()
    lane.wait()
    assert not (shelf / "W1").exists()
    synced = home.archive()
    assert contents(synced.path) == files
    assert os.listdir(shelf) == ["W1"]
