"""What the command line tells of itself: `--help` with examples."""

import ast
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from pipeline.cli import usage
from pipeline.cli.main import SHARED
from pipeline.cli.usage.verb import Verb
from pipeline.foundation.arguments import PROGRAM
from tests.world.stack import ROOT, RUN_PIPELINE
from tests.world.ways_on import see_typed

PARSER = usage.parser()
ONE_VERB = {f"{verb.name} {action.name}": action for verb in usage.VERBS for action in verb.actions}
EVERY_VERB = {verb.name: verb for verb in usage.VERBS} | ONE_VERB
EXAMPLES = [(words, example) for words, verb in EVERY_VERB.items() for example in verb.examples]


def help_of(words: str) -> str:
    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit) as ended:
        PARSER.parse_args([*words.split(), "--help"])
    assert ended.value.code == 0
    return told.getvalue()


@pytest.mark.parametrize(("words", "verb"), list(EVERY_VERB.items()), ids=list(EVERY_VERB))
def test_the_help_of_every_verb_and_action_shows_examples(words: str, verb: Verb) -> None:
    shown = help_of(words)

    assert verb.examples
    assert all(f"\n  {PROGRAM} {example}\n" in shown for example in verb.examples)


@pytest.mark.parametrize(("words", "example"), EXAMPLES)
def test_every_example_is_one_that_the_command_line_takes(words: str, example: str) -> None:
    taken = PARSER.parse_args(shlex.split(re.split(r" [|>] ", example)[0]))

    assert taken.verb == words.split(maxsplit=1)[0]


def written_calls() -> Iterator[tuple[str, list[ast.expr]]]:
    """Every call of the program that its own code tells people to type: where it is written, and its words."""
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            if isinstance(node.func, ast.Name) and node.func.id == "command":
                yield where, node.args
            for keyword in node.keywords:
                if keyword.arg == "go_on":
                    yield from ((where, one.elts) for one in ast.walk(keyword.value) if isinstance(one, ast.Tuple))


def test_every_call_that_the_program_tells_people_to_type_is_one_that_the_command_line_takes() -> None:
    """What is put into it when it is told stands here as `W1`."""
    told = {
        f"{where}: {' '.join(words)}": words
        for where, elements in written_calls()
        if (words := [str(one.value) if isinstance(one, ast.Constant) else "W1" for one in elements]) != ["W1"]
    }
    assert len(told) > 40
    for where, words in told.items():
        see_typed(shlex.join((PROGRAM, *words)), where)


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
