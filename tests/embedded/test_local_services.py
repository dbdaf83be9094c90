"""`local-services`: one command that starts, tells of, stops and resets what runs on this machine without Docker."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from pipeline.embedded import stack
from tests.world import servers
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, Site, wait_until


class Local:
    """A machine's services, in a folder of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.luigid_port, self.moto_port = servers.free_port(), servers.free_port()
        self.moto_url = f"http://127.0.0.1:{self.moto_port}"
        self.site = Site(
            home, self.moto_url, f"http://127.0.0.1:{self.luigid_port}", s3=None, sqs=None,  # type: ignore[arg-type]  # moto does not run yet
            bucket="bucket-local", queue="queue-local", queue_url="", dead_url="",
        )  # fmt: skip
        self.site.database_url = f"sqlite:///{home}/pipeline.db"
        self.site.write_settings()
        self.password_file = home / "scheduler.password"
        self.site.settings = {"PIPELINE_PIPELINE_SCHEDULER_PASSWORD_FILE": str(self.password_file)}
        (home / "archive").mkdir()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "local-services"), *arguments, "--home", str(self.home / "services")]

    def call(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            env={**self.site.environment, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def processes(self) -> list[psutil.Process]:
        """Everything that was started from here: each holds its pid file open."""
        found = []
        for process in psutil.process_iter():
            try:
                open_files = os.listdir(f"/proc/{process.pid}/fd")
                paths = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in open_files]
            except OSError:
                continue
            if any(path.startswith(f"{self.home}/services/") and path.endswith(".pid") for path in paths):
                found.append(process)
        return found


@pytest.fixture
def local() -> Iterator[Local]:
    with servers.folder() as home:
        made = Local(home)
        try:
            yield made
        finally:
            made.call("down")
            assert made.processes() == []


def test_what_up_starts_brings_a_bag_home_and_down_ends_it_all(local: Local, tmp_path: Path) -> None:
    up = local.call("up")
    assert up.returncode == 0, up.stderr
    local.site.s3, local.site.sqs = stack.clients(local.moto_url)
    local.site.queue_url = local.site.sqs.get_queue_url(QueueName="queue-local")["QueueUrl"]
    local.site.announce(make_bag_zip(tmp_path, "W1"))

    run = local.site.call("run", "--lanes", "1")
    again, status = local.call("up"), local.call("status")
    nobody = requests.get(f"{local.site.luigid_url}/api/is_paused", timeout=10).status_code
    down = local.call("down")

    assert run.returncode == 0, run.stderr
    assert local.site.archived("W1") == SMALL_WORK
    assert again.returncode == status.returncode == 0
    assert again.stdout == status.stdout == up.stdout
    assert stat.S_IMODE(local.password_file.stat().st_mode) == 0o600
    assert str(local.password_file) in up.stdout
    assert nobody == 401
    assert down.returncode == 0
    assert local.processes() == []
    assert local.call("status").returncode == 3


def test_a_starter_that_is_killed_leaves_nothing_that_down_does_not_find(local: Local) -> None:
    starter = subprocess.Popen(local.command("up"), env=local.site.environment, stdout=subprocess.DEVNULL)
    wait_until(lambda: (local.home / "services" / "luigid.pid").exists() and local.processes(), every=0.01)
    starter.send_signal(signal.SIGKILL)
    starter.wait()

    assert local.call("up").returncode == 0
    assert len(local.processes()) == 2
    # Settings that cannot be read any more do not keep anything running.
    assert local.call("down", PIPELINE_ENV="nonsense").returncode == 0
    assert local.processes() == []


def test_a_pid_file_that_outlived_its_process_ends_nobody(local: Local) -> None:
    bystander = subprocess.Popen(["sleep", "100"])
    try:
        (local.home / "services").mkdir()
        (local.home / "services" / "luigid.pid").write_text(str(bystander.pid))

        assert local.call("status").returncode == 3
        assert local.call("down").returncode == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("verb", ["up", "down", "status"])
def test_a_folder_that_cannot_be_made_is_told_in_a_line(verb: str) -> None:
    command = [sys.executable, str(ROOT / "local-services"), verb, "--home", "/proc/services"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 3
    assert ended.stderr.startswith("local-services: /proc/services cannot be used: ")
    assert ended.stderr.count("\n") == 1


def test_a_luigi_cfg_that_cannot_be_parsed_is_told_in_a_line(local: Local) -> None:
    (local.home / "luigi.cfg").write_text("lanes = 2\n", encoding="utf-8")
    told = local.call("status")
    local.site.write_settings()

    assert told.returncode == 2
    assert told.stderr.startswith("local-services: luigi.cfg is not understood: ")
    assert told.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_named_and_what_was_started_before_is_stopped(local: Local) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", local.moto_port))
        other.listen()

        up = local.call("up")

    assert up.returncode == 3
    assert f"port {local.moto_port}" in up.stderr
    assert local.processes() == []


def test_postgresql_is_made_started_and_reset_and_its_password_is_shown_nowhere(local: Local) -> None:
    if servers.program("initdb", "/usr/lib/postgresql/*/bin") is None:
        pytest.skip("PostgreSQL is not installed; .ci/run installs it")
    local.site.database_url = f"postgresql+psycopg://pipe:qx7Plant3d@127.0.0.1:{servers.free_port()}/works"
    local.site.write_settings()

    up = local.call("up")
    assert up.returncode == 0, up.stderr
    assert local.site.rows("bags") == []
    assert local.site.call("db", "status").returncode == 0
    unasked = local.call("reset")
    reset = local.call("reset", "--yes")

    assert unasked.returncode == 2
    assert "nothing was done" in unasked.stderr
    assert reset.returncode == 0, reset.stderr
    assert not (local.home / "services" / "postgresql").exists()
    assert "qx7Plant3d" not in f"{up.stdout}{up.stderr}{unasked.stderr}{reset.stdout}"
    assert not [path for path in (local.home / "services").rglob("*") if b"qx7Plant3d" in path.read_bytes()]


@pytest.mark.skipif(servers.program("initdb", "/usr/lib/postgresql/*/bin") is None, reason="needs PostgreSQL")
@pytest.mark.parametrize("trusting_before", [False, True])
def test_postgresql_asks_every_user_of_the_host_for_a_password_that_nobody_had_to_make(
    local: Local, *, trusting_before: bool
) -> None:
    port, password_file = servers.free_port(), local.home / "database.password"
    local.site.database_url = f"postgresql+psycopg://pipe@127.0.0.1:{port}/works"
    local.site.write_settings()
    local.site.settings["PIPELINE_DATABASE_PASSWORD_FILE"] = str(password_file)
    if trusting_before:  # as a release before this one made it
        assert local.call("up").returncode == 0
        assert local.call("down").returncode == 0
        rules = local.home / "services" / "postgresql" / "pg_hba.conf"
        theirs = local.home / "rules"  # the server's user puts a link there, to have root write through it
        theirs.write_text(rules.read_text().replace("scram-sha-256", "trust"))
        rules.unlink()
        rules.symlink_to(theirs)
        password_file.unlink()

    up = local.call("up")

    assert up.returncode == 0, up.stderr
    assert not trusting_before or "trust\n" in (local.home / "rules").read_text()
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    sockets = local.home / "services" / "postgresql.socket"
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert local.site.call("db", "status").returncode == 0
    for where in ("127.0.0.1", str(sockets)):
        for known, password in ((True, password_file.read_text().strip()), (False, ""), (False, "wrong")):
            told = psql(where, port, password)
            assert (told.returncode == 0) is known, (where, password, told.stderr)
    assert password_file.read_text().strip() not in f"{up.stdout}{up.stderr}"


def psql(host: str, port: int, password: str) -> "subprocess.CompletedProcess[str]":
    program = servers.program("psql", "/usr/lib/postgresql/*/bin")
    assert program is not None
    return subprocess.run(
        [str(program), "-w", "-h", host, "-p", str(port), "-U", "pipe", "-d", "works", "-Atc", "SELECT 1"],
        env={**os.environ, "PGPASSWORD": password, "PGPASSFILE": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_production_is_never_reset(local: Local) -> None:
    assert local.call("reset", "--yes", PIPELINE_ENV="prod").returncode == 2
