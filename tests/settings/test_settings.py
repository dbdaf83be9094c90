"""What is wrong in the settings is told at once, each with where it stands; what nobody would read is wrong too."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.stack import RUN_PIPELINE, Site, lines

WRONG = """
[soruce b]
queue = never read
[source]
path = /nowhere
[debagg]
max_ratio = 3
[Sync]
copier = builtin
[wroker]
keep_alive = true
[source boxes]
kind = folder
path = /nowhere
Settle_Seconds = 0
queue = of the other kind
[source shelf]
kind = folder
path = ${NOWHERE}
[download]
bogus = ${NOWHERE}
"""
LUIGIS = """
[resources]
archive = 1
[retcode]
task_failed = 5
[task_history]
db_connection = sqlite://
"""


def test_what_nobody_would_read_is_told_with_the_nearest_right_name(site: Site) -> None:
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write(WRONG)
    variables = {
        "PIPELINE_SYNC_SCRPT": "PIPELINE_SYNC_SCRIPT",
        "PIPELINE_LANES": "PIPELINE_PIPELINE_LANES",
        "PIPELINE_SOURCE_TSET_QUEUE": "PIPELINE_SOURCE_TEST_QUEUE",
        "PIPELINE_SOURCE_BOXES_DONEPATH": "PIPELINE_SOURCE_BOXES_DONE_PATH",
    }

    told = site.call("run", **dict.fromkeys(variables, "x"), PIPELINE_ENV="${NOWHERE}", PIPELINE_QUEUE_WAIT_SECONDS="x")

    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert site.depth() == 0
    config_file = f"({site.home}/luigi.cfg)"
    for words in (
        ("[soruce b] is no section", "the nearest is [source b]", config_file),
        ("[source] has no name", "[source NAME]", config_file),
        ("[debagg]", "the nearest is [debag]", config_file),
        ("[Sync]", "the nearest is [sync]", config_file),
        ("[wroker]", "the nearest is [worker]", config_file),
        ("[source boxes] has no setting 'Settle_Seconds'", "settle_seconds", config_file),
        ("[source boxes] has no setting 'queue'", config_file),
        ("[source shelf] path: ", "NOWHERE", config_file),
        ("[download] bogus: ", "NOWHERE", config_file),
        ("[download] has no setting 'bogus'", config_file),
        ("[pipeline] environment: ", "(PIPELINE_ENV in the environment)"),
        ("[queue] wait_seconds: ", "(PIPELINE_QUEUE_WAIT_SECONDS in the environment)"),
        *(
            (f"{wrong} is no setting", f"; the nearest is {right} (", "environment")
            for wrong, right in variables.items()
        ),
    ):
        assert len(lines(told.stderr, *words)) == 1, f"{words} is not told once: {told.stderr}"
    assert not lines(told.stderr, "path is missing")  # it is not missing, it cannot be read


def test_luigi_s_own_sections_and_the_variables_of_compose_and_tests_are_none_of_ours(site: Site) -> None:
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write(LUIGIS)
    variables = {"PIPELINE_SOURCE": "/src", "PIPELINE_IMAGE": "bag-pipeline", "PIPELINE_HOST": "line1"}

    told = site.call("check", **variables, PIPELINE_TEST_ANYTHING="1", PIPELINE_SOURCE_TEST_KIND="queue")

    assert lines(told.stdout, "settings", "ok")


def test_of_two_files_the_one_is_named_in_which_a_setting_stands(site: Site, tmp_path: Path) -> None:
    base = tmp_path / "base.cfg"
    base.write_text("[debag]\nthreads = many\nmax_ration = 3\n[queue]\nlease_seconds = soon\n", encoding="utf-8")
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write("[debag]\nthreads = few\n")

    told = site.call("run", PIPELINE_BASE_CONFIG=str(base))

    assert told.returncode == 2
    assert lines(told.stderr, "[debag] threads", "few", f"({site.home}/luigi.cfg)")
    assert lines(told.stderr, "[debag] has no setting 'max_ration'", f"({base})")
    assert lines(told.stderr, "[queue] lease_seconds", f"({base})")


def test_two_files_that_cannot_be_read_are_both_told(site: Site, tmp_path: Path) -> None:
    (tmp_path / "base.cfg").write_text("lanes = 2\n", encoding="utf-8")

    told = site.call("run", PIPELINE_BASE_CONFIG=str(tmp_path / "base.cfg"), LUIGI_CONFIG_PATH="/nowhere/luigi.cfg")

    assert told.returncode == 2
    assert lines(told.stderr, "PIPELINE_BASE_CONFIG names", "not understood")
    assert lines(told.stderr, "LUIGI_CONFIG_PATH names /nowhere/luigi.cfg")


@pytest.mark.parametrize("value", ["50%", "${NOWHERE}"])
def test_no_value_of_the_switch_ends_in_a_traceback(site: Site, value: str) -> None:
    told = site.call("run", PIPELINE_ENV=value)

    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert lines(told.stderr, "[pipeline] environment", "PIPELINE_ENV")


def test_what_stands_in_dot_env_is_told_to_stand_there(tmp_path: Path) -> None:
    for folder in ("pipeline", "bin"):
        source = RUN_PIPELINE.parent / folder
        shutil.copytree(source, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(RUN_PIPELINE, tmp_path)
    (tmp_path / "luigi.cfg").touch()
    (tmp_path / ".env").write_text("PIPELINE_SYNC_SCRPT=x\nPIPELINE_QUEUE_LEASE_SECONDS=soon\n", encoding="utf-8")

    told = subprocess.run(
        [sys.executable, str(tmp_path / "run_pipeline.py"), "run"],
        env={"PATH": "/usr/bin:/bin", "PIPELINE_PIPELINE_LANES": "0", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert told.returncode == 2
    assert lines(told.stderr, "PIPELINE_SYNC_SCRPT", f"(in {tmp_path}/.env)")
    assert lines(told.stderr, "[queue] lease_seconds", f"(PIPELINE_QUEUE_LEASE_SECONDS in {tmp_path}/.env)")
    assert lines(told.stderr, "[pipeline] lanes is 0", "(PIPELINE_PIPELINE_LANES in the environment)")


@pytest.mark.parametrize("value", ["x://u:hunter2@${NOWHERE}/x", "x://u:hunter2@%(hunter2)s/x", "x://u:hunter2%@h/x"])
def test_a_value_that_cannot_be_read_is_not_shown_as_it_may_hold_a_password(site: Site, value: str) -> None:
    config = site.home / "luigi.cfg"
    config.write_text(config.read_text().replace(site.database_url, value), encoding="utf-8")

    told = site.call("run")

    assert told.returncode == 2
    assert lines(told.stderr, "[database] url: ", f"({site.home}/luigi.cfg)")
    assert "hunter2" not in told.stderr
