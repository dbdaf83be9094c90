"""Completion in the real shells: what they offer when somebody types so far and presses TAB."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli import usage
from tests.world.stack import RUN_PIPELINE

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
"$(complete -p run_pipeline.py | sed -E 's/.*-F ([^ ]+) .*/\\1/')" run_pipeline.py
printf '%s\\n' "${COMPREPLY[@]}"
"""

# A terminal of its own, in which TAB completes and then keeps what stands on the line.
ZSH = """
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner 'autoload -U compinit; compinit -u -D; eval "$(<'$1')"
  finish() { zle complete-word; print -r -- "$BUFFER" > line.part; mv line.part line }
  zle -N finish; bindkey "^I" finish; touch ready'
until [[ -e ready ]]; do sleep 0.1; done
zpty -w -n inner "$2"$'\\t'
until [[ -e line ]]; do sleep 0.1; done
cat line
zpty -d inner
"""


@dataclass
class Desk:
    """Where somebody types: a folder with zips."""

    folder: Path

    def script(self, shell: str) -> Path:
        file = self.folder / f"completion.{shell}"
        if not file.exists():
            file.write_text(self.run([sys.executable, str(RUN_PIPELINE), "completion", shell]), encoding="utf-8")
        return file

    def run(self, command: Sequence[str]) -> str:
        environment = os.environ | {"HOME": str(self.folder), "TERM": "dumb", "COLUMNS": "200"}
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=environment, timeout=60
        )
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def bash(self, *words: str) -> list[str]:
        """What bash offers for the last of these words."""
        command = ["bash", "--norc", "-c", BASH, "bash", str(self.script("bash")), "run_pipeline.py", *words]
        return [line for line in self.run(command).splitlines() if line]

    def fish(self, *words: str) -> list[str]:
        line = " ".join(["run_pipeline.py", *words])
        told = self.run(["fish", "--no-config", "-c", f"source {self.script('fish')}; complete -C '{line}'"])
        return [offer.split("\t")[0] for offer in told.splitlines()]

    def zsh(self, typed: str) -> str:
        """What stands on zsh's line after TAB."""
        return self.run(["zsh", "-f", "-c", ZSH, "zsh", str(self.script("zsh")), f"run_pipeline.py {typed}"]).strip()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "zips").mkdir()
    for name in ("W1FPL2251.bag.zip", "notes.txt"):
        (tmp_path / "zips" / name).write_bytes(b"")
    return Desk(tmp_path)


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed; .ci/run installs it")


def test_bash_offers_verbs_actions_options_choices_and_files(desk: Desk) -> None:
    assert desk.bash("") == [verb.name for verb in usage.VERBS]
    assert desk.bash("st") == ["status"]
    assert desk.bash("quarantine", "") == ["list", "show", "release", "drop"]
    assert desk.bash("quarantine", "drop", "--") == ["--help", "--yes", "--only-copy"]
    assert desk.bash("work", "W1", "--from", "") == ["download", "debag", "sync"]
    assert desk.bash("db", "up") == ["upgrade"]
    assert desk.bash("completion", "") == ["bash", "zsh", "fish"]
    assert desk.bash("bag", "zi") == ["zips"]
    assert desk.bash("report", "--html", "zips/n") == ["zips/notes.txt"]
    assert desk.bash("debag", "zips/W1FPL2251.bag.zip", "zips/W") == ["zips/W1FPL2251.bag.zip"]
    assert desk.bash("work", "W1", "zips/W") == ["zips/W1FPL2251.bag.zip"]


def test_fish_offers_the_same(desk: Desk) -> None:
    needs("fish")

    assert desk.fish("st") == ["status"]
    assert sorted(desk.fish("quarantine", "")) == ["drop", "list", "release", "show"]
    assert desk.fish("work", "W1", "--from", "s") == ["sync"]
    assert desk.fish("debag", "zips/W") == ["zips/W1FPL2251.bag.zip"]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("stat", "status"),
        ("quarantine dr", "quarantine drop"),
        ("work W1 --from s", "work W1 --from sync"),
        ("debag zips/W1FPL2251.bag.zip zips/W", "debag zips/W1FPL2251.bag.zip zips/W1FPL2251.bag.zip"),
    ],
)
def test_zsh_completes(desk: Desk, typed: str, completed: str) -> None:
    needs("zsh")

    assert desk.zsh(typed) == f"run_pipeline.py {completed}"
