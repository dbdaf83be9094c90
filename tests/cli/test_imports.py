"""What a command imports is what it needs: each library takes a tenth of a second or more."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.stack import ROOT, RUN_PIPELINE

HEAVY = {"alembic", "boto3", "botocore.session", "requests", "rich", "sqlalchemy", "tornado", "urllib3", "yaml"}
HEAVY |= {"luigi.interface", "luigi.rpc", "luigi.task", "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql"}
STEPS = {"pipeline.debag.unpack", "pipeline.download.fetch", "pipeline.sync.archive", "pipeline.tasks.graph"}


def imported_by(words: str, home: Path) -> set[str]:
    """Every module that a process of its own imports, on a site without queues."""
    (home / "luigi.cfg").touch()
    folders = {f"PIPELINE_PIPELINE_{name}": str(home / name) for name in ("STAGING", "QUARANTINE", "LOGS")}
    own = {**folders, "PIPELINE_DATABASE_URL": f"sqlite:///{home}/record.db", "LUIGI_CONFIG_PATH": f"{home}/luigi.cfg"}
    others = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", RUN_PIPELINE, *words.split()],
        env={**others, **own, "PYTHON_DOTENV_DISABLED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


@pytest.mark.parametrize(
    ("words", "needed"),
    [("--help", set()), ("status", {"sqlalchemy"}), ("status --json", {"sqlalchemy"}), ("debag --help", set())],
)
def test_who_only_looks_imports_neither_clients_nor_luigi_nor_a_step(
    words: str, needed: set[str], tmp_path: Path
) -> None:
    if needed:
        imported_by("db upgrade", tmp_path)

    imported = imported_by(words, tmp_path)

    assert "pipeline.cli.main" in imported
    assert imported & (HEAVY | STEPS) == needed


def test_the_face_of_a_room_gives_what_its_modules_hold() -> None:
    """Three modules have the name of a function: whoever imports one by itself would find the module in its place."""
    rooms = "from pipeline import debag, download, sync; "
    asked = "print(*(callable(one) for one in (debag.unpack, download.fetch, sync.archive)), hasattr(sync, 'nothing'))"

    told = subprocess.run([sys.executable, "-c", rooms + asked], cwd=ROOT, capture_output=True, text=True, check=True)

    assert told.stdout.split() == ["True", "True", "True", "False"]
