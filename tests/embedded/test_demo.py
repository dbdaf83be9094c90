"""The demo: what a newcomer sees first, and all that it claims."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.world.bags import make_bag_zip
from tests.world.stack import RUN_PIPELINE, lines, wait_until


def start(home: Path, *arguments: str, program: Path = RUN_PIPELINE) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(program), "demo", "--home", str(home), "--bags", "3", "--size", "200k", *arguments],
        cwd=program.parent,
        env={name: value for name, value in os.environ.items() if name != "PYTHON_DOTENV_DISABLED"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def typed(lines_of_a_shell: str) -> "subprocess.CompletedProcess[str]":
    """What a person types after the demo, in a shell that knows nothing of it."""
    typing = f"shopt -s expand_aliases\n{lines_of_a_shell}"
    return subprocess.run(["bash", "-c", typing], capture_output=True, text=True, check=True, cwd="/", timeout=60)


def test_the_demo_brings_its_bags_home_and_a_second_one_finds_nothing_to_do_and_stays_until_ctrl_c(
    tmp_path: Path,
) -> None:
    home = tmp_path / "demo home"  # with a blank, as people have them

    first = start(home)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert lines(out, "W1DEMO27", "done", str(home / "archive"))
    assert lines(out, "W0DEMO00", "refused", "digest-differs")
    assert lines(out, "2 works came home")
    for name in ("archive", "database", "logs", "visualiser"):
        assert lines(out, name)
    assert len(list((home / "archive").glob("Archive*/*/W*/images/*/*.jpg"))) == 2 * 16

    look_around = out[out.index("look around") :].removeprefix("look around")
    told = typed(look_around)
    assert lines(told.stdout, "W0DEMO00: refused")
    next_told = typed(f"{look_around}\nrun_pipeline.py quarantine show W0DEMO00").stdout.removeprefix(told.stdout)
    assert lines(next_told, str(home / "quarantine"))

    second = start(home, "--keep")
    try:
        assert second.stdout is not None
        seen = "".join(iter_until(second.stdout, "Ctrl-C"))
        assert lines(seen, "Nothing was left to do")
        see_its_page(seen)
    finally:
        os.kill(second.pid, signal.SIGINT)
        second.communicate(timeout=60)
    assert second.returncode == 0


def iter_until(stream: Iterable[str], word: str) -> Iterator[str]:
    """The lines up to that which holds the word."""
    for line in stream:
        yield line
        if word in line:
            return


def see_its_page(told: str) -> None:
    """The visualiser's page is there, for who has the password."""
    page = re.search(r"http://127\.0\.0\.1:\d+/static/visualiser/index\.html", told)
    assert page, told
    password_file = re.search(r"password in (.*)\)", told)
    assert password_file, told
    password = Path(password_file[1]).read_text(encoding="ascii").strip()
    page_alone, with_password = (
        requests.get(page[0], auth=auth, timeout=10) for auth in (None, ("pipeline", password))
    )
    assert (page_alone.status_code, with_password.status_code) == (401, 200)
    assert password not in told


def test_a_campaign_is_wanted_at_once_and_comes_home_four_works_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "home"

    campaign = start(home, "--campaign", "--bags", "5")
    out, err = campaign.communicate(timeout=120)

    assert campaign.returncode == 0, err
    asked = [
        line for line in (home / "logs" / "moto.log").read_text(encoding="utf-8").splitlines() if "?restore" in line
    ]
    assert len(asked) == 5
    assert [line for line in out.splitlines() if line.startswith("S3 was asked for")] == [
        "S3 was asked for 4 so far; 0 of 5 are home",
        "S3 was asked for 5 so far; 4 of 5 are home",
        "S3 was asked for 5 so far; 5 of 5 are home",
        "S3 was asked for each of them once; after no run it had more than 4 in hand.",
    ]
    assert lines(out, "5 works came home")
    assert len(list((home / "archive").glob("Archive*/*/W*DEMO*"))) == 5
    listed = typed(out[out.index("look around") :].removeprefix("look around")).stdout
    assert len(lines(listed, "home", "bag.zip")) == 5


def test_the_demo_leaves_alone_what_the_project_s_own_settings_name(tmp_path: Path) -> None:
    project, inbox, archive = tmp_path / "project", tmp_path / "inbox", tmp_path / "archive"
    for folder in ("pipeline", "bin"):
        shutil.copytree(RUN_PIPELINE.parent / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(RUN_PIPELINE, project)
    (project / "luigi.cfg").write_text(f"[source real]\nkind = folder\npath = {inbox}\nsettle_seconds = 0\n")
    (project / ".env").write_text(
        f"PIPELINE_PIPELINE_ARCHIVE_ROOT={archive}\nPIPELINE_DATABASE_URL=sqlite:///{tmp_path}/real.db\n"
    )
    archive.mkdir()
    bag_zip = make_bag_zip(inbox, "W1")

    demo = start(tmp_path / "home", program=project / "run_pipeline.py")
    _, err = demo.communicate(timeout=120)

    assert demo.returncode == 0, err
    assert bag_zip.exists()
    assert list(archive.iterdir()) == []
    assert not (tmp_path / "real.db").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_every_child_ends_with_the_demo_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    demo = start(tmp_path / "home", "--keep")
    try:
        children: list[psutil.Process] = []

        def running() -> bool:
            children[:] = psutil.Process(demo.pid).children(recursive=True)
            return len(children) >= 2

        wait_until(running, seconds=60)
        os.kill(demo.pid, number)
        demo.communicate(timeout=60)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.communicate()
