"""What a terminal is sent, and what whoever reads the output through a pipe."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.world.bags import make_bag_zip
from tests.world.stack import Site

COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
VERBS = [
    "status",
    "status W2",
    "explain W2",
    "log W1",
    "check",
    "verify W1",
    "quarantine list",
    "quarantine show W2",
    "dead-letters list",
    "dead-letters show W2",
    "db status",
    "report --csv",
    "pause",
    "resume",
    "retry W3",
]


@pytest.fixture(scope="module")
def used(moto_url: str, luigid_url: str, database: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with a work that is home, one that was refused, and another one, which a test hands back."""
    folder = tmp_path_factory.mktemp("used")
    site = Site.make(folder / "site", moto_url, luigid_url, database=database)
    site.announce(make_bag_zip(folder, "W1"))
    for rid in ("W2", "W3"):
        site.announce(make_bag_zip(folder, rid, corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")
    return site


def on_a_terminal(site: Site, *arguments: str, **settings: str) -> bytes:
    """All that a terminal is sent."""
    terminal, theirs = pty.openpty()
    environment = {**site.environment, "TERM": "xterm-256color", "COLUMNS": "120", **settings}
    with subprocess.Popen(site.command(*arguments), env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        told = b""
        try:
            while chunk := os.read(terminal, 65536):
                told += chunk
        except OSError:  # how Linux says that the other end of a terminal is closed
            assert told
        finally:
            os.close(terminal)
    return told


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_sends_a_pipe_what_only_a_terminal_understands(used: Site, verb: str) -> None:
    ended = used.call(*verb.split(), TERM="xterm-256color")

    assert ended.returncode in {0, 1}, ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    assert ended.stdout


@pytest.mark.parametrize("verb", ["status", "check", "verify W1", "quarantine list"])
def test_a_terminal_gets_colours_and_none_with_no_color(used: Site, verb: str) -> None:
    coloured, plain = on_a_terminal(used, *verb.split()), on_a_terminal(used, *verb.split(), NO_COLOR="1")

    assert COLOUR.search(coloured)
    assert not COLOUR.search(plain)
