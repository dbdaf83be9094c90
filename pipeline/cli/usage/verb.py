"""What is told of a verb, once: its `--help`, the completion of shells and its page in docs/verbs are made of it."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.foundation.arguments import PROGRAM, positive

EXITS = {
    0: "all done, or nothing to do",
    1: "some work failed",
    2: "wrong usage or settings",
    3: "something it depends on is out of reach",
}
# Words of `reads` that many verbs share.
DATABASE = "`[database]`: the record"
SOURCES = "`[source NAME]`: queues, buckets, folders"

Subparsers = argparse._SubParsersAction  # noqa: SLF001  # argparse has no public name for it
Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*names: str, **how: Any) -> Option:
    """An option or argument of a verb, as argparse's `add_argument` takes it."""
    return names, how


RID = option("rid", metavar="RID", help="the work")
JSON = option("--json", action="store_true", help="one JSON document")
YES = option("--yes", action="store_true", help="without asking")
THREADS = option("--threads", type=positive, default=0, metavar="N", help="default: the CPUs available")


@dataclass(frozen=True)
class Verb:
    """A verb, or an action of one.

    Attributes:
        name: as it is typed.
        help: what it does, in a line.
        about: what a person should know besides; paragraphs, between blank lines.
        examples: calls that the command line takes, without the program's name.
        options: its options and arguments.
        actions: what it does by name, as in `quarantine list`.
        exits: what an exit status means where it is not `EXITS`; an empty text: it never ends so.
        reads: settings and files that it goes by.
        see: documents beside docs/verbs that tell more.
    """

    name: str
    help: str
    examples: tuple[str, ...]
    about: str = ""
    options: tuple[Option, ...] = ()
    actions: tuple["Verb", ...] = ()
    exits: Mapping[int, str] = field(default_factory=dict)
    reads: tuple[str, ...] = (DATABASE,)
    see: tuple[str, ...] = ()

    def add_to(self, verbs: "Subparsers[argparse.ArgumentParser]") -> None:
        """Add the verb, with its actions, to a command line."""
        lines = "\n".join(f"  {PROGRAM} {example}" for example in self.examples)
        parser = verbs.add_parser(
            self.name,
            help=self.help,
            description="\n\n".join(filter(None, [sentence(self.help), self.about])),
            epilog=f"examples:\n{lines}",
            formatter_class=Paragraphs,
        )
        for names, how in self.options:
            parser.add_argument(*names, **how)
        if self.actions:
            actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
            for action in self.actions:
                action.add_to(actions)

    def ends(self) -> dict[int, str]:
        """What each exit status means."""
        return {status: text for status, text in {**EXITS, **self.exits}.items() if text}


class Paragraphs(argparse.HelpFormatter):
    """Keeps blank lines between paragraphs, and the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        told = [
            part if "\n  " in part else super(Paragraphs, self)._fill_text(part, width, indent)
            for part in text.split("\n\n")
        ]
        return "\n\n".join(told)


def sentence(text: str) -> str:
    """A line of help as a sentence: argparse shows it without, a description with its capital and full stop."""
    return text[:1].upper() + text[1:] + "."
