"""Completion in the real shells: what they offer when somebody types so far and presses TAB."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import completion, usage
from pipeline.steps import record
from pipeline.steps.record import Record
from pipeline.work import Bag
from tests.stack import RUN_PIPELINE

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
    """Where somebody types: a folder, a database with works, and the environment."""

    folder: Path
    environment: dict[str, str]

    def script(self, shell: str) -> Path:
        file = self.folder / f"completion.{shell}"
        if not file.exists():
            made = self.run([sys.executable, str(RUN_PIPELINE), "completion", shell])
            file.write_text(made, encoding="utf-8")
        return file

    def run(self, command: Sequence[str]) -> str:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=self.environment, timeout=60
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
    (tmp_path / "luigi.cfg").write_text("")
    database = f"sqlite:///{tmp_path}/pipeline.db"
    engine = record.connect(database)
    record.prepare(engine)
    kept = Record(engine, agent="test/1/0", host="test")
    for rid in ("W1", "W1FPL2251", "W1NLM4700", "W2", "W3 with blanks"):
        kept.see(Bag(work_rid=rid, bucket="b", key=f"{rid}.zip", size_bytes=1, etag=rid))
    engine.dispose()
    (tmp_path / "zips").mkdir()
    for name in ("W1FPL2251.bag.zip", "notes.txt"):
        (tmp_path / "zips" / name).write_bytes(b"")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "AWS_"))}
    own = {"PIPELINE_DATABASE_URL": database, "LUIGI_CONFIG_PATH": str(tmp_path / "luigi.cfg"), "HOME": str(tmp_path)}
    return Desk(tmp_path, {**inherited, **own, "TERM": "dumb", "COLUMNS": "200", "RUN_PIPELINE_TAB_SECONDS": "60"})


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed; .ci/run installs it")


def test_bash_offers_verbs_actions_options_and_choices(desk: Desk) -> None:
    assert desk.bash("") == [verb.name for verb in usage.VERBS]
    assert desk.bash("st") == ["status"]
    assert desk.bash("quarantine", "") == ["list", "show", "release", "drop"]
    assert desk.bash("quarantine", "drop", "--") == ["--help", "--yes", "--only-copy"]
    assert desk.bash("work", "W1", "--from", "") == ["download", "debag", "sync"]
    assert desk.bash("db", "up") == ["upgrade"]
    assert desk.bash("completion", "") == list(completion.SHELLS)


def test_bash_offers_the_works_that_the_record_knows_wherever_one_is_meant(desk: Desk) -> None:
    assert desk.bash("status", "--json", "W1N") == ["W1NLM4700"]
    assert desk.bash("explain", "W") == ["W1", "W1FPL2251", "W1NLM4700", "W2"]
    assert desk.bash("retry", "W2", "W1F") == ["W1FPL2251"]
    assert desk.bash("dead-letters", "resend", "W1F") == ["W1FPL2251"]
    assert desk.bash("quarantine", "drop", "W2") == ["W2"]


def test_bash_offers_files_where_a_file_is_meant(desk: Desk) -> None:
    assert desk.bash("debag", "zips/") == ["zips/W1FPL2251.bag.zip"]
    assert desk.bash("bag", "zi") == ["zips"]
    assert desk.bash("report", "--html", "zips/n") == ["zips/notes.txt"]
    assert sorted(desk.bash("work", "W1FPL2251", "zips/")) == ["zips/W1FPL2251.bag.zip"]
    assert desk.bash("work", "W2") == ["W2"]


def test_fish_offers_the_same(desk: Desk) -> None:
    needs("fish")

    assert desk.fish("st") == ["status"]
    assert sorted(desk.fish("quarantine", "")) == ["drop", "list", "release", "show"]
    assert desk.fish("work", "W1", "--from", "s") == ["sync"]
    assert desk.fish("retry", "W2", "W1F") == ["W1FPL2251"]
    assert desk.fish("debag", "zips/W") == ["zips/W1FPL2251.bag.zip"]
    assert desk.fish("work", "W1N") == ["W1NLM4700"]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("stat", "status"),
        ("quarantine dr", "quarantine drop"),
        ("work W1 --from s", "work W1 --from sync"),
        ("retry W2 W1F", "retry W2 W1FPL2251"),
        ("debag zips/W", "debag zips/W1FPL2251.bag.zip"),
        ("debag zips/W1FPL2251.bag.zip zips/W", "debag zips/W1FPL2251.bag.zip zips/W1FPL2251.bag.zip"),
    ],
)
def test_zsh_completes(desk: Desk, typed: str, completed: str) -> None:
    needs("zsh")

    assert desk.zsh(typed) == f"run_pipeline.py {completed}"


def test_a_record_that_is_away_is_silent_and_holds_nobody_up(desk: Desk) -> None:
    desk.script("bash")
    away = "postgresql+psycopg://nobody@192.0.2.1:5432/none"  # TEST-NET-1: packets to it are lost
    desk.environment |= {"PIPELINE_DATABASE_URL": away, "RUN_PIPELINE_TAB_SECONDS": "2"}
    began = time.monotonic()

    assert desk.bash("status", "W") == []
    assert time.monotonic() - began < 20


def test_completing_makes_no_database(desk: Desk) -> None:
    desk.environment["PIPELINE_DATABASE_URL"] = f"sqlite:///{desk.folder}/none/other.db"

    assert desk.bash("status", "W") == []
    assert not (desk.folder / "none").exists()


def test_works_are_offered_all_or_not_at_all(desk: Desk) -> None:
    """A shell takes what all offers have in common: some of them would make it type what is not meant."""
    engine = record.connect(desk.environment["PIPELINE_DATABASE_URL"])
    kept = Record(engine, agent="test/1/0", host="test")
    for number in range(1001):
        kept.see(Bag(work_rid=f"W7{number:04}", bucket="b", key=f"{number}.zip", size_bytes=1, etag=f"{number}"))
    engine.dispose()

    assert desk.bash("status", "W7") == []
    assert len(desk.bash("status", "W70")) == 1000


def test_every_argument_is_completed_or_known_to_be_free() -> None:
    kinds = {str(one.metavar) for one in completion.arguments(usage.parser())}

    assert kinds - completion.FREE == set(completion.FILLED)
