"""A name is bytes: it comes home, and is told, whatever the locale of the machine says."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip
from tests.world.stack import ROOT, Site, lines
from tests.world.works import COREUTILS, Script

RID, IMAGE = "བོད་12", "images/I1/དཀར་ཆག.jpg"
# As nobody sets it, but it stands for every locale of an ASCII that Python would not turn into UTF-8 by itself.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def latin(folder: Path) -> dict[str, str]:
    """The locale of an old installation, made for the test: nothing of the machine is changed."""
    if not shutil.which("localedef") or not Path("/usr/share/i18n/charmaps/ISO-8859-1.gz").exists():
        pytest.skip("the package locales is not installed; .ci/run installs it")
    subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")], check=True)
    return {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1"}


def ascii_only(_folder: Path) -> dict[str, str]:
    return ASCII


@pytest.mark.parametrize("locale", [latin, ascii_only])
def test_a_work_whose_names_are_tibetan_comes_home_in_any_locale(
    site: Site, tmp_path: Path, locale: Callable[[Path], dict[str, str]]
) -> None:
    variables = locale(tmp_path)
    site.announce(make_bag_zip(tmp_path, RID, files={**SMALL_WORK, IMAGE: b"t"}))

    ended = site.call_anew("run", "--lanes", "1", **variables)
    told = site.call_anew("explain", RID, **variables)

    assert ended.returncode == 0, ended.stderr
    assert site.archived(RID) == {**SMALL_WORK, IMAGE: b"t"}
    assert lines(told.stdout, f"{RID}: done")


@pytest.mark.parametrize("form", ["--json", ""])
def test_what_is_wrong_with_a_tibetan_name_is_told_in_any_locale(tmp_path: Path, form: str) -> None:
    members = {**bag_members(files={**SMALL_WORK, IMAGE: b"t"}), "W1.bag/data/images/ཀ.jpg": b"unlisted"}
    bag_zip = write_zip(tmp_path / "W1.bag.zip", members)

    ended = subprocess.run(
        [sys.executable, str(ROOT / "run_pipeline.py"), "debag", str(bag_zip), "--into", str(tmp_path), *form.split()],
        env={**os.environ, **ASCII, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    if form:
        assert ended.stdout.isascii()
        assert "data/images/ཀ.jpg" in [fault["path"] for fault in json.loads(ended.stdout)["faults"]]
    else:
        assert lines((ended.stdout + ended.stderr).decode(), "data/images/ཀ.jpg")


def test_children_find_utf8_in_their_environment() -> None:
    code = "from pipeline.foundation import start as b; b.use_utf8(); import os; os.execvp('env', ['env'])"

    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **ASCII}, capture_output=True, text=True, check=True
    )

    assert {"LC_ALL=C.UTF-8", "PYTHONUTF8=1"} <= set(told.stdout.splitlines())


def test_the_audit_tool_is_given_a_locale_in_which_it_can_open_any_name(tmp_path: Path) -> None:
    script = Script(tmp_path, (*COREUTILS, "locale"))
    script.tool("audit-tool", f"locale charmap >>'{tmp_path}/charmap'")

    script.run("-a", script.archive, script.work(), LC_ALL="C")

    assert (tmp_path / "charmap").read_text() == "UTF-8\n" * 2
