"""What the command line tells of itself: `--help` with examples."""

import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from pipeline.cli import usage
from pipeline.cli.main import SHARED
from pipeline.cli.usage.verb import PROGRAM, Verb
from tests.world.stack import ROOT, RUN_PIPELINE

ONE_VERB = {f"{verb.name} {action.name}": action for verb in usage.VERBS for action in verb.actions}
EVERY_VERB = {verb.name: verb for verb in usage.VERBS} | ONE_VERB
EXAMPLES = [(words, example) for words, verb in EVERY_VERB.items() for example in verb.examples]


def help_of(words: str) -> str:
    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit) as ended:
        usage.parser().parse_args([*words.split(), "--help"])
    assert ended.value.code == 0
    return told.getvalue()


@pytest.mark.parametrize(("words", "verb"), list(EVERY_VERB.items()), ids=list(EVERY_VERB))
def test_the_help_of_every_verb_and_action_shows_examples(words: str, verb: Verb) -> None:
    shown = help_of(words)

    assert verb.examples
    assert all(f"\n  {PROGRAM} {example}\n" in shown for example in verb.examples)


@pytest.mark.parametrize(("words", "example"), EXAMPLES)
def test_every_example_is_one_that_the_command_line_takes(words: str, example: str) -> None:
    taken = usage.parser().parse_args(shlex.split(re.split(r" [|>] ", example)[0]))

    assert taken.verb == words.split(maxsplit=1)[0]


@pytest.mark.parametrize("verb", usage.VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_its_module_and_its_documents(verb: Verb) -> None:
    name = SHARED.get(verb.name, verb.name).replace("-", "_")
    assert callable(importlib.import_module(f"pipeline.cli.verbs.{name}").main)
    assert [name for name in verb.see if not (ROOT / "docs" / name).is_file()] == []


def test_no_module_of_a_verb_is_left_out() -> None:
    modules = {path.stem.replace("_", "-") for path in (ROOT / "pipeline" / "cli" / "verbs").glob("[!_]*.py")}

    assert modules == {SHARED.get(verb.name, verb.name) for verb in usage.VERBS}


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [("run_pipeline.py", ["debag", "--help"], "--into DIR"), ("local-services", ["--help"], "reset")],
)
def test_a_script_finds_the_python_of_make_venv_by_itself(
    tmp_path: Path, script: str, arguments: list[str], said: str
) -> None:
    """Also through a link somewhere on the PATH; and where a part of what is needed is there for another program."""
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("there is no .venv here: the tests run in another environment")
    link = tmp_path / "bin" / script
    link.parent.mkdir()
    link.symlink_to(ROOT / script)
    (tmp_path / "dotenv.py").write_text("load_dotenv = dotenv_values = print\n")
    bare = [str(Path(sys.base_prefix) / "bin" / "python3"), "-S", str(link), *arguments]

    ended = subprocess.run(
        bare, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )

    assert ended.returncode == 0, ended.stderr
    assert said in ended.stdout


def test_a_python_that_lacks_what_is_needed_says_so_and_what_to_do(tmp_path: Path) -> None:
    shutil.copy(RUN_PIPELINE, tmp_path)  # away from any .venv
    (tmp_path / "pipeline" / "foundation").mkdir(parents=True)
    for name in (
        "__init__.py",
        "foundation/__init__.py",
        "foundation/start.py",
    ):  # it imports nothing else before it knows
        shutil.copy(RUN_PIPELINE.parent / "pipeline" / name, tmp_path / "pipeline" / name)
    bare = [str(Path(sys.base_prefix) / "bin" / "python3"), "-I", "-S", str(tmp_path / "run_pipeline.py"), "status"]

    ended = subprocess.run(bare, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert ended.returncode == 1
    assert "no luigi" in ended.stderr
    assert "make venv" in ended.stderr
    assert "Traceback" not in ended.stderr
