"""Periodic use: the units of systemd are well-formed, and runs that overlap are harmless."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, Site

UNITS = sorted((ROOT / "systemd").iterdir())


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed here")
    for unit in UNITS:
        # It looks whether the programs are there: those of this checkout stand for those of an installation.
        text = re.sub(r"/opt/bag-pipeline/\.venv/bin/\w+", sys.executable, unit.read_text())
        (tmp_path / unit.name).write_text(text.replace("/opt/bag-pipeline", str(ROOT)).replace("User=pipeline\n", ""))

    verdict = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    told = [line for line in verdict.stderr.splitlines() if "bag-pipeline" in line]
    assert told == []


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: str(unit.stem))
def test_each_unit_starts_a_program_of_this_project_and_no_shell(unit: Path) -> None:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.read(unit)

    program, *arguments = parsed["Service"]["ExecStart"].split()
    assert program.startswith("/opt/bag-pipeline/.venv/bin/")
    assert parsed["Service"]["User"] == "pipeline"
    if arguments[:1] == ["-m"]:
        arguments = [f"{arguments[1].replace('.', '/')}.py"]
    assert not arguments or arguments[0].startswith("--") or (ROOT / arguments[0]).exists()


def test_runs_that_overlap_bring_each_bag_home_once(site: Site, tmp_path: Path) -> None:
    for number in range(1, 7):
        site.announce(make_bag_zip(tmp_path, f"W{number}"))

    runs = [site.start("run", "--lanes", "2") for _ in range(3)]
    ended = [(run.communicate(timeout=120)[1], run.returncode) for run in runs]

    assert [code for _, code in ended] == [0, 0, 0], ended
    for number in range(1, 7):
        assert site.archived(f"W{number}") == SMALL_WORK
    assert sorted(row["work_rid"] for row in site.rows("syncs")) == [f"W{number}" for number in range(1, 7)]
    assert site.depth() == 0
    assert sum(stderr.count(": synced to ") for stderr, _ in ended) == 6
