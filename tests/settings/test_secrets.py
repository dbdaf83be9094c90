"""Secrets are found in files, checked, and never shown: not in a log, not by luigid, not in an error."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import servers
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, RUN_PIPELINE, Site, lines

PLANTED = "Plant3dSecret"
AWS_FILE = f"""\
[default]
aws_access_key_id = A{PLANTED}0
aws_secret_access_key = a/{PLANTED}+1
[ap_northeast]
aws_access_key_id = A{PLANTED}2
aws_secret_access_key = a/{PLANTED}+3
"""
# What BDRC has: aliases in one file, which points to an option file of MySQL.
DB_APPS = """\
[mysql]
mySqlCnfPath = {folder}/drs_cnf
[prod]
server = drs_production
[qa]
server = drs_trial
"""
DRS_CNF = f"""\
[drs_production]
user = pipeline
password = "m{PLANTED}%4"
host = 127.0.0.1
port = 1
database = drs
[drs_trial]
user = pipeline
host = 127.0.0.1
"""


@pytest.fixture
def secrets(site: Site) -> Path:
    """The site's secrets, where a container would have them under /run/secrets."""
    folder = site.home / "secrets"
    folder.mkdir()
    (folder / "aws").write_text(AWS_FILE)
    (folder / "db_apps").write_text(DB_APPS.format(folder=folder))
    (folder / "drs_cnf").write_text(DRS_CNF)
    (folder / "db_password").write_text(f"d{PLANTED}@/5\n")
    site.settings = {"PIPELINE_SECRETS": str(folder)}
    return folder


def without_keys(site: Site) -> None:
    """The site's AWS keys come from the file alone."""
    site.settings |= {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "PIPELINE_SOURCE_TEST_PROFILE": "ap_northeast",
    }


def told_by_luigid(site: Site) -> Iterator[str]:
    for status in ("FAILED", "DONE", "PENDING", "RUNNING", "DISABLED", "UPSTREAM_FAILED"):
        tasks = site.ask_luigid("task_list", status=status, upstream_status="")
        yield json.dumps(tasks)
        for task in tasks if isinstance(tasks, dict) else {}:
            yield json.dumps(
                [
                    site.ask_luigid(name, task_id=task)
                    for name in ("fetch_error", "dep_graph", "get_task_status_message")
                ]
            )
    yield json.dumps([site.ask_luigid("worker_list"), site.ask_luigid("resource_list"), site.ask_luigid("graph")])


@pytest.mark.usefixtures("secrets")
def test_no_secret_is_in_logs_in_the_database_in_luigid_or_in_any_output(site: Site, tmp_path: Path) -> None:
    without_keys(site)
    script = tmp_path / "fails.sh"
    script.write_text("env; echo failing >&2; exit 12\n")
    site.announce(make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))

    said = [
        site.call("run", "--verbose", PIPELINE_SYNC_SCRIPT=str(script)),
        site.call("status"),
        site.call("status", "W1"),
        site.call("check"),
        site.call("run", "--verbose", PIPELINE_SCHEDULER_URL=f"http://me:{PLANTED}6@127.0.0.1:1"),
        site.call("work", "W1", PIPELINE_SCHEDULER_URL=f"http://me:{PLANTED}6@127.0.0.1:1"),
    ]

    shown = [f"{one.stdout}\n{one.stderr}" for one in said]
    luigid = list(told_by_luigid(site))
    written = [path.read_text(errors="replace") for path in (site.home / "logs").rglob("*") if path.is_file()]
    rows = [str(site.rows(table)) for table in ("bags", "events", "glacier_sync_progress", "leases", "syncs")]
    assert lines(shown[0], "sync-failed") or "exited 12" in shown[0]
    assert "W1" in "".join(luigid)
    assert written
    for text in [*shown, *luigid, *written, *rows]:
        assert PLANTED not in text
    for folder in ("staging", "quarantine"):
        for path in (site.home / folder).rglob("*.*"):
            assert not path.is_file() or PLANTED.encode() not in path.read_bytes()


@pytest.mark.usefixtures("secrets")
def test_the_keys_in_the_secrets_bring_a_bag_home(site: Site, tmp_path: Path) -> None:
    without_keys(site)
    site.announce(make_bag_zip(tmp_path, "W1"))

    run = site.call("run")

    assert run.returncode == 0, run.stderr
    assert site.archived("W1") == SMALL_WORK


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"PIPELINE_SOURCE_TEST_PROFILE": "us_west"}, "profile 'us_west' is no section of"),
        ({"PIPELINE_DATABASE_DB_CONFIG": "prod"}, "not of the form level:file"),
        ({"PIPELINE_DATABASE_DB_CONFIG": "dev:{folder}/db_apps"}, "no section [dev]; there: mysql, prod, qa"),
        ({"PIPELINE_DATABASE_DB_CONFIG": "qa:{folder}/db_apps"}, "section [drs_trial] has no password, database"),
        ({"PIPELINE_DATABASE_DB_CONFIG": "qa:{folder}/none"}, "cannot be read: No such file"),
        ({"PIPELINE_DATABASE_DB_CONFIG": "qa:{folder}/db_password"}, "is no ini file: see its line 1"),
        ({"PIPELINE_DATABASE_URL_FILE": "{folder}/db_password"}, "not an SQLAlchemy URL"),
        ({"PIPELINE_DATABASE_PASSWORD_FILE": "{folder}/none"}, "password_file cannot be read"),
        ({"PIPELINE_DATABASE_URL": f"nonsense:{PLANTED}"}, "[database] url is not"),
        ({"PIPELINE_DATABASE_DB_CONFIG": "prod:{folder}/db_apps"}, "does not answer"),
        (
            {
                "PIPELINE_DATABASE_URL": "postgresql+psycopg://u@127.0.0.1:1/d",
                "PIPELINE_DATABASE_PASSWORD_FILE": "{folder}/db_password",
            },
            "does not answer",
        ),
    ],
)
def test_what_is_wrong_with_a_secret_is_told_without_showing_it(
    site: Site, secrets: Path, settings: dict[str, str], told: str
) -> None:
    refused = site.call("status", **{name: value.format(folder=secrets) for name, value in settings.items()})

    assert refused.returncode in {2, 3}
    assert told in refused.stderr
    assert PLANTED not in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        (
            "NOTIFY_WEBHOOK_URL_FILE",
            f"https://hooks.example.org/{PLANTED}\nits second line",
            "holds more than one line",
        ),
        ("NOTIFY_WEBHOOK_URL_FILE", f"https://hooks.example.org/{PLANTED} and a blank", "holds a blank"),
        ("NOTIFY_WEBHOOK_URL_FILE", f"https://[{PLANTED}", "is not http(s)://host"),
        ("NOTIFY_WEBHOOK_URL_FILE", f"https://me:{PLANTED}", "is not http(s)://host"),
        ("DATABASE_PASSWORD_FILE", f"{PLANTED}\n{PLANTED}", "holds more than one line"),
        ("SOURCE_TEST_ENDPOINT_URL", f"http://me:{PLANTED}@127.0.0.1:1", "endpoint_url holds a user or a password"),
        ("SOURCE_TEST_QUEUE", f"https://me:{PLANTED}@sqs.example.org/1/q", "queue holds a user or a password"),
        ("SOURCE_TEST_QUEUE", f"https://sqs.example.org:{PLANTED}/1/q", "queue is not http(s)://host"),
        ("SCHEDULER_URL", f"http://me:{PLANTED}/word@127.0.0.1:1", "default_scheduler_url is not http(s)://host"),
        ("SCHEDULER_URL", f"ftp://me:{PLANTED}@127.0.0.1:1", "default_scheduler_url is not http(s)://host"),
    ],
)
def test_an_address_that_is_wrong_is_told_without_showing_it(
    site: Site, tmp_path: Path, setting: str, value: str, told: str
) -> None:
    if setting.endswith("_FILE"):
        (tmp_path / "secret").write_text(value)
        value = str(tmp_path / "secret")

    for verb in ("check", "notify"):
        refused = site.call(verb, **{f"PIPELINE_{setting}": value})

        assert refused.returncode == 2
        assert lines(refused.stdout + refused.stderr, told)
        assert PLANTED not in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.usefixtures("secrets")
def test_a_profile_may_stand_in_boto3_s_own_configuration(site: Site) -> None:
    config = site.home / "aws-config"
    config.write_text("[profile by_role]\nregion = us-east-1\n")
    told = site.call("status", PIPELINE_SOURCE_TEST_PROFILE="by_role", AWS_CONFIG_FILE=str(config))

    assert told.returncode == 0, told.stderr


def test_a_broken_line_in_the_settings_is_told_without_showing_it(site: Site) -> None:
    site.database_url = f"postgresql+psycopg://u:{PLANTED}@127.0.0.1:1/d"
    site.write_settings()
    file = site.home / "luigi.cfg"
    file.write_text(file.read_text().replace(PLANTED, f"{PLANTED}%zz"))

    refused = site.call("status")

    assert refused.returncode == 2
    assert "a % has to be written %%" in refused.stderr
    assert PLANTED not in refused.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in a folder of its own, where a test may write its `.env`."""
    folder = tmp_path_factory.mktemp("program")
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(RUN_PIPELINE, folder)
    return folder / RUN_PIPELINE.name


def begun(site: Site, program: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in site.environment.items() if name != "PYTHON_DOTENV_DISABLED"}
    command = [sys.executable, str(program), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("line", "mode", "told"),
    [
        (f"DATABASE_URL=postgresql+psycopg://pipeline:{PLANTED}@db.example.org/d", 0o644, True),
        (f"DATABASE_URL=postgresql+psycopg://pipeline:{PLANTED}@db.example.org/d", 0o640, False),
        (f"export SMTP_PASSWORD='{PLANTED}'", 0o604, True),
        ("DATABASE_URL=postgresql+psycopg://pipeline@db.example.org/d", 0o644, False),
        ("DATABASE_URL=postgresql+psycopg://pipeline:${DB_PASSWORD}@db.example.org/d", 0o644, False),
        ("PIPELINE_DATABASE_PASSWORD_FILE=var/database.password\nPIPELINE_SECRETS=secrets", 0o644, False),
    ],
)
def test_a_password_in_env_that_every_user_may_read_is_told_with_the_command_and_refused_in_production(
    site: Site, program: Path, line: str, mode: int, *, told: bool
) -> None:
    file = program.with_name(".env")
    file.write_text(f"{line}\n")
    file.chmod(mode)
    warned = begun(site, program, "--help")
    file.write_text(f"{line}\nPIPELINE_ENV=prod\n")
    refused = begun(site, program, "status")
    assert warned.returncode == 0
    assert warned.stderr.count("\n") == told
    for ended in (warned, refused):
        assert len(lines(ended.stderr, f"{file} holds a password", f"chmod 600 {file}")) == told
        assert PLANTED not in ended.stderr
    assert refused.returncode == 2


def test_a_password_in_luigi_cfg_that_every_user_may_read_is_told(site: Site) -> None:
    site.database_url = f"mysql+pymysql://u:{PLANTED}@127.0.0.1:1/d"
    site.write_settings()
    (site.home / "luigi.cfg").chmod(0o644)
    warned = site.call("--help")
    (site.home / "luigi.cfg").chmod(0o600)
    assert lines(warned.stderr, "run_pipeline.py: ", f"chmod 600 {site.home}/luigi.cfg")
    assert site.call("--help").stderr == ""


def test_a_secret_that_may_not_be_read_is_named(site: Site, secrets: Path) -> None:
    if os.geteuid() == 0:
        # root reads everything: a folder in the file's place is what it cannot read.
        (secrets / "aws").unlink()
        (secrets / "aws").mkdir()
    else:
        (secrets / "aws").chmod(0)

    refused = site.call("status")

    assert refused.returncode == 2
    assert lines(refused.stderr, f"{secrets}/aws cannot be read")


def test_the_password_of_a_real_server_comes_from_a_file(site: Site, secrets: Path, postgresql_url: str | None) -> None:
    if postgresql_url is None:
        pytest.skip("PostgreSQL is not installed; .ci/run installs it")
    with servers.empty_database(postgresql_url) as url:
        answered = site.call(
            "db", "upgrade", PIPELINE_DATABASE_URL=url, PIPELINE_DATABASE_PASSWORD_FILE=f"{secrets}/db_password"
        )

    assert answered.returncode == 0, answered.stderr  # the server trusts loopback: only that the URL still works
