"""A local user decides nothing of what services are started from, and of whom a password is kept."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import settings
from pipeline.embedded import daemon
from pipeline.embedded.services import postgresql
from pipeline.foundation import owners
from tests.world import servers
from tests.world.attacker import KEPT, NOBODY, attack
from tests.world.stack import ROOT, Site, lines


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ('mkdir home; chmod 755 home; ln -s "$1" home/lock', "home belongs to"),
        ('mkdir home; chmod 777 home; ln -s "$1" home/lock', "home belongs to"),
        ('ln -s "$2" home', "home is a link"),
        ('mkdir above; chmod 755 above; ln -s "$2" above/home; ln -s above/home home', "home is a link"),
    ],
)
def test_services_are_kept_in_no_folder_that_somebody_else_made(
    site: Site, place: Path, victim: Path, made: str, says: str
) -> None:
    attack(made, victim, victim.parent, folder=place)
    before = sorted(path.name for path in victim.parent.iterdir())
    for verb in ("status", "down"):
        command = [sys.executable, str(ROOT / "local-services"), verb, "--home", str(place / "home")]
        ended = subprocess.run(command, env=site.environment, capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 3
        assert lines(ended.stderr, "local-services:", says, "--home DIR")
    assert victim.read_bytes() == KEPT
    assert sorted(path.name for path in victim.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["lock", "x.pid", "x.log"])
def test_no_file_of_a_service_is_written_through_a_link(tmp_path: Path, victim: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / name).symlink_to(victim)
    with pytest.raises((OSError, daemon.ServiceFailed)), daemon.only_one(home):
        daemon.Daemon("x", home, ("true",)).start(lambda: True)
    assert victim.read_bytes() == KEPT


def test_a_demo_is_made_in_no_folder_that_somebody_else_made(site: Site, place: Path, victim: Path) -> None:
    attack('mkdir home; chmod 777 home; ln -s "$1" home/luigi.cfg', victim, folder=place)
    ended = site.call("demo", "--home", str(place / "home"))
    assert ended.returncode == 1
    assert lines(ended.stderr, f"{place}/home cannot be used", "belongs to", "--home DIR")
    assert victim.read_bytes() == KEPT


@pytest.mark.skipif(servers.program("initdb", "/usr/lib/postgresql/*/bin") is None, reason="needs PostgreSQL")
def test_the_data_of_postgresql_is_made_behind_no_link_and_no_folder_is_given_away(
    site: Site, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "elsewhere").mkdir()
    (place / "home").mkdir()
    (place / "home" / "postgresql").symlink_to(tmp_path / "elsewhere")
    chosen = replace(settings.load(), database_url="postgresql+psycopg://u:p@127.0.0.1:1/d")
    with pytest.raises(owners.NotOurs, match="postgresql is a link"):
        postgresql(chosen, place / "home").before()
    assert (tmp_path / "elsewhere").stat().st_uid == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("made", "owner", "mode", "says"),
    [
        ("", 0, 0o600, ""),
        ("", 0, 0o400, ""),
        ("", 0, 0o640, ""),  # for a group that an operator chose
        ("", 0, 0o644, "others: chmod 600"),
        ("", 0, 0o660, "others: chmod 600"),
        ("", NOBODY, 0o600, "belongs to"),
        ("mkfifo password", None, 0, "is no file"),
        ('ln -s "$1" password', None, 0, "is a link of"),
        ('ln -s "$1/new" password', None, 0, "is a link of"),
        ("mkdir above; chmod 755 above", None, 0, "above belongs to"),
    ],
)
def test_a_password_that_others_may_read_or_decide_about_is_none(
    place: Path, tmp_path: Path, made: str, owner: int | None, mode: int, says: str
) -> None:
    file = place / ("above" if "above" in made else "") / "password"
    attack(made, tmp_path, folder=place)
    if owner is not None:
        file.write_text("chosenPassword\n")
        file.chmod(mode)
        os.chown(file, owner, 0)
    command = [sys.executable, "-m", "pipeline.operations.door", "--make-password", "--password-file", str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == (2 if says else 0), ended.stderr
    assert lines(ended.stderr, "scheduler: ", says) if says else ended.stderr == ""
    assert "chosenPassword" not in ended.stderr
    assert not (tmp_path / "new").exists()
