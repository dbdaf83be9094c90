"""`deploy`: the folder that docker compose runs in, made once, brought up to date again and again."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.world.stack import ROOT, RUN_PIPELINE, lines, tree

CREDENTIALS = """\
[default]
aws_access_key_id = Plant3dSecret0
[ap_northeast]
aws_access_key_id = Plant3dSecret1
[another]
aws_access_key_id = Plant3dSecret2
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An operator's home folder."""
    (tmp_path / "home" / ".aws").mkdir(parents=True)
    (tmp_path / "home" / ".aws" / "credentials").write_text(CREDENTIALS)
    bdrc = tmp_path / "home" / ".config" / "bdrc"
    (bdrc / "docker").mkdir(parents=True)
    (bdrc / "auditTool").mkdir()
    (bdrc / "docker" / "db_apps.config").write_text("[prod]\nserver = drs\n")
    (bdrc / "auditTool" / "user.properties").write_text("a = b\n")
    return tmp_path / "home"


def command(*arguments: str | Path) -> list[str]:
    # Root gives what it makes to others; here both are the same, or the tests could not tidy up as another user.
    own = [] if os.geteuid() or "--uid" in arguments else ["--uid", "5000"]
    return [str(ROOT / "deploy"), *map(str, arguments), *own]


def deploy(home: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TZ": "Etc/UTC"}
    return subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, check=False, timeout=60)


def variables(dest: Path) -> dict[str, str]:
    pairs = [line.partition("=") for line in (dest / ".env").read_text().splitlines() if line[:1].isalpha()]
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("profile", ["dev", "prod"])
def test_it_makes_all_that_the_compose_file_asks_for(home: Path, tmp_path: Path, profile: str) -> None:
    dest = tmp_path / "to be deployed"

    made = deploy(home, "--dest", dest, f"--{profile}")

    assert made.returncode == 0, made.stderr
    compose = yaml.safe_load((dest / "docker-compose.yaml").read_text())
    for name, secret in compose["secrets"].items():
        if name.startswith("proxy") and shutil.which("openssl") is None:
            continue  # the operator is told to make these
        assert (dest / ".docker-secrets" / secret["file"].rpartition("/")[2]).is_file(), name
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and volume.startswith("./"):
                assert (dest / volume.split(":")[0]).is_dir(), volume
    assert variables(dest)["PIPELINE_ENV"] == profile
    assert (dest / variables(dest)["ARCH_ROOT"]).is_dir()
    assert (dest / ".config" / "bdrc" / "auditTool" / "user.properties").read_text() == "a = b\n"


def test_every_variable_of_the_compose_file_is_explained_in_env(home: Path, tmp_path: Path) -> None:
    deploy(home, "--dest", tmp_path / "d", "--dev")

    used = {
        part.split("}")[0].split(":")[0].split("-")[0]
        for part in (ROOT / "docker-compose.yml").read_text().split("${")[1:]
    }
    rare = {"MOTO_IMAGE", "DEMO_BAGS", "DEMO_SIZE", "DATABASE_PASSWORD_FILE", "VARIABLE"}
    assert used - rare <= set(variables(tmp_path / "d"))


def test_its_settings_are_read_by_the_pipeline(home: Path, tmp_path: Path) -> None:
    deploy(home, "--dest", tmp_path / "d", "--dev")

    checked = subprocess.run(
        [sys.executable, str(RUN_PIPELINE), "check", "--json"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LUIGI_CONFIG_PATH": str(tmp_path / "d" / ".config" / "pipeline" / "luigi.cfg"),
            "PIPELINE_SECRETS": str(tmp_path / "d" / ".docker-secrets"),
            "PIPELINE_DATABASE_URL": f"sqlite:///{tmp_path}/d.db",
            "PIPELINE_PIPELINE_STAGING": str(tmp_path / "staging"),
            "PIPELINE_PIPELINE_QUARANTINE": str(tmp_path / "quarantine"),
            "PIPELINE_PIPELINE_LOGS": str(tmp_path / "logs"),
            "PIPELINE_SOURCE_DEMO_ENDPOINT_URL": "http://127.0.0.1:1",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    rows = {row["what"]: row for row in json.loads(checked.stdout)["checks"]}
    assert rows["settings"]["verdict"] == "ok"
    assert "queue DemoReadyToIntake" in rows


def test_secrets_are_for_the_workers_alone_and_hold_the_needed_sections_alone(home: Path, tmp_path: Path) -> None:
    dest = tmp_path / "d"

    made = deploy(home, "--dest", dest, "--prod")

    secrets = dest / ".docker-secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o400}
    owners = {path.stat().st_uid for path in (*secrets.iterdir(), dest / "data", dest / "logs")}
    assert owners == {os.geteuid() or 5000}
    aws = (secrets / "aws").read_text()
    assert "Plant3dSecret0" in aws
    assert "Plant3dSecret1" in aws
    assert "another" not in aws
    assert "demo" not in aws
    assert "Plant3dSecret" not in made.stdout + made.stderr
    everywhere = [path for path in dest.rglob("*") if path.is_file() and b"Plant3dSecret" in path.read_bytes()]
    assert everywhere == [secrets / "aws"]


def test_a_second_run_changes_nothing_and_says_so(home: Path, tmp_path: Path) -> None:
    dest = tmp_path / "d"
    deploy(home, "--dest", dest, "--dev")
    before, times = tree(dest), {path: path.stat().st_mtime_ns for path in dest.rglob("*")}

    again = deploy(home, "--dest", dest, "--dev")

    assert lines(again.stdout, "nothing had to be changed")
    assert tree(dest) == before
    # A file that is written beside and thrown away touches its folder, and nothing else.
    assert {path for path in times if path.is_file() and path.stat().st_mtime_ns != times[path]} == set()


def test_what_an_operator_set_stays_and_a_change_of_profile_keeps_the_old(home: Path, tmp_path: Path) -> None:
    dest = tmp_path / "d"
    deploy(home, "--dest", dest, "--dev")
    edited = (dest / ".env").read_text().replace("LANES=2", "LANES=4") + "MINE=1\n"
    (dest / ".env").write_text(edited)
    settings = dest / ".config" / "pipeline" / "luigi.cfg"
    settings.write_text("# mine\n")
    password = (dest / ".docker-secrets" / "db_password").read_text()

    same = deploy(home, "--dest", dest, "--dev")
    assert lines(same.stdout, "nothing had to be changed")
    assert variables(dest)["LANES"] == "4"
    assert variables(dest)["MINE"] == "1"
    assert settings.read_text() == "# mine\n"

    other = deploy(home, "--dest", dest, "--prod")
    assert variables(dest)["PIPELINE_ENV"] == "prod"
    assert lines(other.stdout, ".env; the old one is kept as")
    assert [file.read_text() for file in dest.glob(".env.*")] == [edited]
    assert [file.read_text() for file in settings.parent.glob("luigi.cfg.*")] == ["# mine\n"]
    assert (dest / ".docker-secrets" / "db_password").read_text() == password


def test_a_new_release_brings_its_variables_and_files_and_keeps_what_was_edited(home: Path, tmp_path: Path) -> None:
    dest = tmp_path / "d"
    deploy(home, "--dest", dest, "--prod")
    old = "".join(
        line
        for line in (dest / ".env").read_text().splitlines(keepends=True)
        if not line.startswith(("METRICS_PORT", "SMTP_", "MAIL_"))
    ).replace("WORKERS=1", "WORKERS=3")
    (dest / ".env").write_text(old)
    (dest / ".docker-secrets" / "webhook").unlink()
    compose = dest / "docker-compose.yaml"
    compose.write_text(compose.read_text() + "# mine\n")
    (dest / ".docker-secrets" / "smtp_password").chmod(0o600)
    (dest / ".docker-secrets" / "smtp_password").write_text("mine\n")

    newer = deploy(home, "--dest", dest, "--prod")

    assert "nothing had to be changed" not in newer.stdout
    assert lines(newer.stdout, "go on with", "docker compose run --rm migrate && docker compose up -d --no-deps worker")
    assert variables(dest)["METRICS_PORT"] == "9108"
    assert variables(dest)["WORKERS"] == "3"
    assert [file.read_text() for file in dest.glob(".env.*")] == [old]
    assert [file.read_text()[-7:] for file in dest.glob("docker-compose.yaml.*")] == ["# mine\n"]
    assert compose.read_text() == (ROOT / "docker-compose.yml").read_text()
    assert (dest / ".docker-secrets" / "webhook").exists()
    assert (dest / ".docker-secrets" / "smtp_password").read_text() == "mine\n"
    assert stat.S_IMODE((dest / ".docker-secrets" / "smtp_password").stat().st_mode) == 0o400
    for name in (".env", "docker-compose.yaml", "webhook"):
        assert lines(newer.stdout, f"/{name}"), name
    assert lines(deploy(home, "--dest", dest, "--prod").stdout, "nothing had to be changed")


def test_killed_at_any_instant_and_run_again_it_makes_the_same(home: Path, tmp_path: Path) -> None:
    whole, dest = tmp_path / "whole", tmp_path / "d"
    began = time.monotonic()
    deploy(home, "--dest", whole, "--dev")
    seconds = time.monotonic() - began

    for part in range(1, 8):
        process = subprocess.Popen(
            command("--dest", dest, "--dev"),
            env={"HOME": str(home), "PATH": os.environ["PATH"], "TZ": "Etc/UTC"},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds * part / 8)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = deploy(home, "--dest", dest, "--dev")

    assert last.returncode == 0, last.stderr

    def made(folder: Path) -> set[str]:
        return {name for name in tree(folder) if not name.startswith(".env.")}

    assert made(dest) == made(whole)
    assert variables(dest) == variables(whole)
    assert len((dest / ".docker-secrets" / "db_password").read_text()) > 30


def test_a_key_that_a_killed_run_left_behind_goes(home: Path, tmp_path: Path) -> None:
    deploy(home, "--dest", tmp_path / "d", "--dev")
    secrets = tmp_path / "d" / ".docker-secrets"
    before = {name for name in tree(tmp_path / "d") if not name.startswith(".env.")}
    for name in (".key", ".crt"):
        (secrets / name).write_text("made, and not put in its place yet")

    deploy(home, "--dest", tmp_path / "d", "--dev")

    assert {name for name in tree(tmp_path / "d") if not name.startswith(".env.")} == before


def test_an_empty_archive_tree_for_trials(home: Path, tmp_path: Path) -> None:
    made = deploy(home, "--init-env", tmp_path / "trial")

    assert made.returncode == 0, made.stderr
    assert len(list((tmp_path / "trial").glob("Archive[0-3]/[0-9][0-9]"))) == 100
    assert (tmp_path / "trial" / "Archive3" / "99").is_dir()
    assert (tmp_path / "trial" / "sync-transfer").is_dir()

    deploy(home, "--dest", tmp_path / "d", "--dev", "--init-env", tmp_path / "trial")
    assert variables(tmp_path / "d")["ARCH_ROOT"] == str(tmp_path / "trial")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--dest says where"),
        (("--dest", "d"), "--dev or --prod"),
        (("--dest", "d", "--dev", "--prod"), "not both"),
        (("--dest", "d", "--dev", "--source", "/proc"), "holds no docker-compose.yml"),
        (("--dest",), "needs a value"),
        (("--nonsense",), "no option"),
    ],
)
def test_wrong_usage_is_named(home: Path, arguments: tuple[str, ...], told: str) -> None:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    refused = subprocess.run(
        [str(ROOT / "deploy"), *arguments], env=environment, capture_output=True, text=True, check=False, cwd=home
    )

    assert refused.returncode == 2
    assert told in refused.stderr
    assert not (home / "d").exists()


def test_the_workers_are_never_root(home: Path, tmp_path: Path) -> None:
    refused = deploy(home, "--uid", "0", "--dest", tmp_path / "d", "--dev") if os.geteuid() else subprocess.run(
        [str(ROOT / "deploy"), "--uid", "0", "--dest", str(tmp_path / "d"), "--dev"],
        env={"HOME": str(home), "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert refused.returncode == 2
    assert not (tmp_path / "d").exists()


def test_a_credentials_file_that_is_named_and_not_there_is_wrong_usage(home: Path, tmp_path: Path) -> None:
    ended = deploy(home, "--dest", tmp_path / "d", "--prod", "--credentials", tmp_path / "nowhere")

    assert ended.returncode == 2
    assert "--credentials" in ended.stderr
    assert not (tmp_path / "d").exists()
