"""`python -m pipeline.manual DIR`: a page for each verb, made of what the command line is made of.

argparse's own texts are not used: they differ between releases of Python and widths of terminals.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import usage
from pipeline.usage import PROGRAM, Verb

_MADE = "<!-- Made by `make docs` from pipeline/usage: change it there. -->"
_MANY = {"+": "{0}…", "*": "[{0}…]", "?": "[{0}]"}


def pages() -> dict[str, str]:
    """Every page, by the name of its file; `README.md` is the index."""
    parsers = _verbs_of(usage.parser())
    made = {f"{verb.name}.md": _page(verb, parsers[verb.name]) for verb in usage.VERBS}
    rows = (f"| [{verb.name}]({verb.name}.md) | {_cell(verb.help)} |" for verb in usage.VERBS)
    made["README.md"] = "\n".join([_MADE, "# The verbs", "", "| verb | does |", "|---|---|", *rows]) + "\n"
    return made


def write(folder: Path) -> None:
    """Write all pages; pages of verbs that are no more are deleted.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for stale in {path.name for path in folder.glob("*.md")} - made.keys():
        (folder / stale).unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


def _verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser's verbs or actions with their own parsers."""
    found = (action.choices for action in _arguments(parser) if isinstance(action.choices, dict))
    return dict(next(found, {}))


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions  # noqa: SLF001  # argparse tells them nowhere else
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]


def _page(verb: Verb, parser: argparse.ArgumentParser) -> str:
    called = f"{PROGRAM} {verb.name}"
    actions = _verbs_of(parser)
    calls = [_call(f"{called} {name}", of) for name, of in actions.items()] or [_call(called, parser)]
    blocks = [
        f"{_MADE}\n# {called}",
        usage.sentence(verb.help),
        verb.about,
        _code("Synopsis", calls),
        *(_action(action, actions[action.name]) for action in verb.actions),
        _options("Options", parser) if not verb.actions else "",
        _table("Exit status", ((f"`{status}`", text) for status, text in verb.ends().items())),
        _code("Examples", (f"{PROGRAM} {example}" for example in _examples(verb))),
        "\n".join(["## Reads", *(f"- {thing}" for thing in verb.reads)]),
        "\n".join(["## See also", *(f"- [docs/{name}](../{name})" for name in verb.see)]) if verb.see else "",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _examples(verb: Verb) -> list[str]:
    return list(dict.fromkeys(example for one in (*verb.actions, verb) for example in one.examples))


def _action(action: Verb, parser: argparse.ArgumentParser) -> str:
    return _options(f"{action.name}: {action.help}", parser)


def _call(called: str, parser: argparse.ArgumentParser) -> str:
    """How it is called, in a line."""
    known = _arguments(parser)
    names = [_value(one) for one in known if not one.option_strings]
    flags = [one for one in known if one.option_strings]
    told = [f"{one.option_strings[-1]} {_value(one)}".rstrip() for one in flags]
    return " ".join(
        [called, *names, *(text if one.required else f"[{text}]" for one, text in zip(flags, told, strict=True))]
    )


def _value(argument: argparse.Action) -> str:
    """What stands for an argument's value; empty for an option without one."""
    if argument.nargs == 0:
        return ""
    name = "|".join(map(str, argument.choices)) if argument.choices else str(argument.metavar)
    return _MANY.get(str(argument.nargs), "{0}").format(name)


def _options(title: str, parser: argparse.ArgumentParser) -> str:
    rows = (
        (f"`{' '.join(filter(None, [', '.join(one.option_strings), _value(one)]))}`", str(one.help))
        for one in _arguments(parser)
    )
    return _table(title, rows)


def _table(title: str, rows: Iterator[tuple[str, str]]) -> str:
    told = [f"| {_cell(name)} | {_cell(text)} |" for name, text in rows]
    return "\n".join([f"## {title}", *(["| | |", "|---|---|", *told] if told else ["None."])])


def _code(title: str, lines: Iterator[str] | Sequence[str]) -> str:
    return "\n".join([f"## {title}", "```", *lines, "```"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
