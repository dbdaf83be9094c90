"""`run_pipeline.py completion bash|zsh|fish`: a script that completes verbs, options, choices and files."""

import argparse
import re
import sys

import shtab

from pipeline.cli import usage

_FILES = frozenset({"DIR", "FILE", "TARGET", "WORKDIR", "ZIP"})


def main(options: argparse.Namespace) -> int:
    """Print it."""
    parser = usage.parser()
    _offer_files(parser)
    made = str(shtab.complete(parser, options.shell))
    if options.shell == "zsh":
        # shtab describes the first of several arguments only; zsh wants to be told that the others are like it.
        made = re.sub(r'^  "\(\*\)::?', '  "*:', made, flags=re.MULTILINE)
    sys.stdout.write(made)
    return 0


def _offer_files(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments are files; what an argument is tells its metavar."""
    for action in parser._actions:  # noqa: SLF001  # argparse tells them nowhere else; shtab reads them so, too
        if isinstance(action.choices, dict):
            for verb in action.choices.values():
                _offer_files(verb)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
