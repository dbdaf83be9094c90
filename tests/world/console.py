"""Documents whose console blocks are a session: read them, and compare what they show with what a command really says.

In a block, `# ...` is what happens in the world, `$ ...` is what a person types, and all else is what she sees. In what
she sees, `…` stands for anything within a line, and a line of `…` alone for any number of lines; how many blanks there
are between two words does not matter.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

ANYTHING = "…"
_STATUS = "echo $?"


@dataclass
class Step:
    """Something that happens in the world (`#`), or that a person types (`$`) and what she sees then."""

    kind: str
    text: str
    line: int
    shown: list[str] = field(default_factory=list)
    status: int = 0


@dataclass(frozen=True)
class Chapter:
    """A chapter of the document that has console blocks."""

    title: str
    steps: Sequence[Step]


def chapters(document: Path) -> list[Chapter]:
    """The chapters (`## ...`) that have console blocks, in order."""
    found: dict[str, list[Step]] = {}
    title, inside = "", False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside:
            _add(found.setdefault(title, []), line, number)
        elif line.startswith("## "):
            title = line.removeprefix("## ")
    return [Chapter(title, _with_status(steps)) for title, steps in found.items()]


def _add(steps: list[Step], line: str, number: int) -> None:
    kind, text = line[:1], line[2:]
    if line[:2] in {"# ", "$ "}:
        if kind == "#" and text.startswith(" "):
            steps[-1].text += f" {text.strip()}"  # a long sentence goes on in the next line
        else:
            steps.append(Step(kind, text, number))
    else:
        steps[-1].shown.append(line)


def _with_status(steps: Sequence[Step]) -> list[Step]:
    """A command ends with exit status 0, unless `echo $?` says otherwise after it."""
    for step, after in pairwise(steps):
        if after.text == _STATUS:
            step.status = int(after.shown[0])
    return [step for step in steps if step.text != _STATUS]


def says(shown: Sequence[str], really: str) -> bool:
    """Whether a command really says what a document shows."""
    return re.fullmatch("".join(map(_pattern, shown)), _plain(really)) is not None


def _pattern(line: str) -> str:
    if line == ANYTHING:
        return r"(?:[^\n]*\n)*?"
    return r"[^\n]*".join(map(re.escape, _plain(line).rstrip("\n").split(ANYTHING))) + r"\n"


def _plain(text: str) -> str:
    return "".join(f"{' '.join(line.split())}\n" for line in text.splitlines())


def commands(text: str) -> Iterator[str]:
    """The commands of the pipeline that a text tells a person to type, up to the words that go on after them."""
    for found in re.finditer(r"run_pipeline\.py (?P<words>[a-z-]+\b[^\n;,()`…]*)", text):
        yield found["words"].strip().rstrip(".:")
