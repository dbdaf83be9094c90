"""`python -m tests.manual docs`: what the code knows, as documents: each verb, setting and kind of failure.

A verb's page is made whole. Elsewhere a person wrote the page, and what is made stands between two marks in it.
argparse's own texts are not used: they differ between releases of Python and widths of terminals.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import settings
from pipeline.cli import usage
from pipeline.cli.usage.verb import Verb, sentence
from pipeline.debag.faults import FaultKind
from pipeline.debag.rules import RULES
from pipeline.foundation import errors
from pipeline.foundation.arguments import PROGRAM
from pipeline.foundation.declared import Setting, settings_of
from pipeline.foundation.work import human_bytes
from pipeline.settings import prices, rights, sections

_MADE = "<!-- Made by `make docs` from pipeline/cli/usage: change it there. -->"
_READS = "What a verb reads is named by its section: [where settings stand](../settings.md)."
_PART = re.compile(r"(<!-- Made by `make docs`: (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
_MANY = {"+": "{0}…", "*": "[{0}…]", "?": "[{0}]"}


def pages(docs: Path) -> dict[str, str]:
    """Every page that is made, by its path below `docs`; `verbs/README.md` is the index of verbs.

    Args:
        docs: where the pages are in which only a part is made.

    Raises:
        OSError: such a page cannot be read.
    """
    parsers = _verbs_of(usage.parser())
    made = {f"verbs/{verb.name}.md": _page(verb, parsers[verb.name]) for verb in usage.VERBS}
    rows = (f"| [{verb.name}]({verb.name}.md) | {_cell(verb.help)} |" for verb in usage.VERBS)
    made["verbs/README.md"] = (
        "\n".join([_MADE, "# The verbs", _READS, "", "| verb | does |", "|---|---|", *rows]) + "\n"
    )
    parts = {
        "settings": _settings(),
        "transient": _failures(errors.TransientError),
        "permanent": _failures(errors.PermanentError),
        "rights": _rights(),
        "rules": "\n".join(f"- {inspect.getdoc(rule)}" for rule in RULES),
        "faults": _columns(
            "", ("it says", "it means, and what to do"), [(f"`{kind}`", kind.meaning) for kind in FaultKind]
        ),
    }
    for name in ("settings.md", "failures.md", "bags.md", "rights.md"):
        text = (docs / name).read_text(encoding="utf-8")
        made[name] = _PART.sub(lambda part: f"{part[1]}{parts[part[2]]}{part[3]}", text)
    return made


def write(docs: Path) -> None:
    """Write all pages; pages of verbs that are no more are deleted.

    Raises:
        OSError: the folder cannot be read or written to.
    """
    made = pages(docs)
    for stale in {f"verbs/{path.name}" for path in docs.glob("verbs/*.md")} - made.keys():
        (docs / stale).unlink()
    for name, text in made.items():
        (docs / name).write_text(text, encoding="utf-8")


def _settings() -> str:
    named = [((inspect.getdoc(one) or "").partition("\n")[0], one) for one in sections.SECTIONS.values()]
    named += [(f"`[source NAME]`, `kind = {kind}`", one) for kind, one in sections.KINDS.items()]
    named.append(("`[prices REGION]`", prices.Prices))
    named.append(("`[replica NAME]`", settings.Replica))
    named.append(("`[callback NAME]`", settings.Callback))
    return "\n\n".join(
        _columns(
            title,
            ("setting", "default", "meaning"),
            [_setting(name, told) for name, (told, _) in settings_of(section).items()],
        )
        for title, section in named
    )


def _setting(name: str, told: Setting) -> tuple[str, str, str]:
    value, other = _default(name, told.text), told.production
    value += "" if other is None else f"; in production {_default(name, other)}"
    return f"`{name}`", value, told.meaning + (f" ({', '.join(sorted(told.choices))})" if told.choices else "")


def _default(name: str, text: str) -> str:
    size = f" ({human_bytes(int(text))})" if name.endswith("_bytes") else ""
    return f"`{text}`{size}" if text else "none"


def _failures(branch: type[errors.PipelineError]) -> str:
    """The kinds of a branch, by name: their docstrings say what one means, `Left:` and `Go on:`."""
    rows = []
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, branch) and one is not branch:
            told = " ".join(" ".join((inspect.getdoc(one) or "").split("\n\n")[:2]).split())
            kind = one.__new__(one).kind  # its class decides, and no argument
            rows.append((f"`{kind}`", *(part.strip(" .") for part in re.split("Left: |Go on: ", told))))
    return _columns("", ("it says", "it means", "what is left", "go on with"), sorted(rows))


def _rights() -> str:
    """What each role may do, and the worker's policy as `setup-aws --policy` prints it."""
    named = sections.Source("", "REGION", "BUCKET", "QUEUE")
    document = rights.policy("worker", [rights.Arns(named, "ACCOUNT", "DEAD-LETTERS")])
    tables = [
        _columns(
            f"The {role}",
            ("on", "rights", "for"),
            [(rights.ON[one.on], ", ".join(f"`{action}`" for action in one.actions), one.why) for one in needs],
        )
        for role, needs in rights.ROLES.items()
    ]
    return "\n\n".join([*tables, "### The worker's policy", f"```json\n{json.dumps(document, indent=1)}\n```"])


def _columns(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([*([f"### {title}", ""] if title else []), *lines])


def _verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser's verbs or actions with their own parsers."""
    found = (action.choices for action in _arguments(parser) if isinstance(action.choices, dict))
    return dict(next(found, {}))


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions  # argparse tells them nowhere else
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]


def _page(verb: Verb, parser: argparse.ArgumentParser) -> str:
    called = f"{PROGRAM} {verb.name}"
    actions = _verbs_of(parser)
    calls = [_call(f"{called} {name}", of) for name, of in actions.items()] or [_call(called, parser)]
    blocks = [
        f"{_MADE}\n# {called}",
        sentence(verb.help),
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
