"""Completion of the command line in bash, zsh and fish: scripts that shtab makes of the parser.

What an argument stands for is told by its metavar, so that `--help`, the pages and the completion cannot differ. Works
are completed by asking this program, which prints nothing when the record is away (see `pipeline.verbs.completion`).
"""

import argparse
import re
import shlex
from collections.abc import Iterator

import shtab

from pipeline import usage

SHELLS = ("bash", "zsh", "fish")
# Of a person's patience with a database that does not answer, or with a busy host; her environment may say otherwise.
_SECONDS = "RUN_PIPELINE_TAB_SECONDS"
_DEFAULT_SECONDS = 3

_RIDS = {"bash": "_run_pipeline_rids", "zsh": "_run_pipeline_rids", "fish": "(_run_pipeline_rids)"}
_TARGETS = {
    "bash": "_run_pipeline_files_and_works",
    "zsh": "_run_pipeline_files_and_works",
    "fish": "(_run_pipeline_files_and_works)",
}
FILLED = {
    "RID": _RIDS,
    "MESSAGE": _RIDS,
    "TARGET": _TARGETS,
    "ZIP": {**shtab.glob("*.zip"), "zsh": r"_files -g \"*.zip\""},  # as shtab writes it zsh finds none
    "FILE": shtab.FILE,
    "DIR": shtab.DIRECTORY,
    "WORKDIR": shtab.DIRECTORY,
}
# A person's own words and numbers: nothing can be offered.
FREE = frozenset({"N", "BYTES", "SECONDS", "HOURS", "SIZE", "KIND", "TEXT", "WHEN", "REVISION", "[HOST:]PORT"})


def script(shell: str, *, command: list[str]) -> str:
    """The script for one of `SHELLS`.

    Args:
        shell: which.
        command: how this program is called, without options.
    """
    parser = usage.parser()
    for argument in arguments(parser):
        filled = FILLED.get(str(argument.metavar))
        if filled is not None:
            argument.complete = filled  # type: ignore[attr-defined]  # where shtab looks for it
    made = str(shtab.complete(parser, shell, preamble=_functions(shell, command)))
    if shell == "zsh":
        # shtab describes the first of several arguments only; zsh wants to be told that the others are like it.
        made = re.sub(r'^  "\(\*\)::?', '  "*:', made, flags=re.MULTILINE)
    return made


def arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a command line and of its verbs that takes a value which is not one of some choices."""
    for action in parser._actions:  # noqa: SLF001  # argparse tells them nowhere else; shtab reads them so, too
        if isinstance(action.choices, dict):
            for verb in action.choices.values():
                yield from arguments(verb)
        elif action.choices is None and action.nargs != 0:
            yield action


def _functions(shell: str, command: list[str]) -> str:
    """What the script calls for works.

    The words that this program prints are RIDs and nothing else, so no shell finds anything in them to obey.
    """
    words = shlex.join([*command, "completion", shell, "--works-like"])
    ask = f'timeout "${{{_SECONDS}:-{_DEFAULT_SECONDS}}}" {words}'
    if shell == "bash":
        return f"""
_run_pipeline_rids() {{
  compgen -W "$({ask} "$1" 2>/dev/null </dev/null)" -- "$1"
}}
_run_pipeline_files_and_works() {{  # shtab lets bash treat what a function of such a name offers as names of files
  [[ $1 == */* ]] || _run_pipeline_rids "$1"
  compgen -f -X '!*.zip' -- "$1"
  compgen -d -- "$1"
}}"""
    if shell == "zsh":
        return f"""
_run_pipeline_rids() {{
  compadd -- ${{(f)"$({ask} "$PREFIX" 2>/dev/null </dev/null)"}}
}}
_run_pipeline_files_and_works() {{
  _alternative 'works:work:_run_pipeline_rids' 'zips:zip:_files -g "*.zip"'
}}"""
    return f"""
function _run_pipeline_rids
  set -q {_SECONDS}; or set -l {_SECONDS} {_DEFAULT_SECONDS}
  timeout ${_SECONDS} {words} (commandline -ct) 2>/dev/null </dev/null
end
function _run_pipeline_files_and_works
  _run_pipeline_rids
  __fish_complete_suffix .zip
end"""
