"""YAML as it is taken from anyone: of bounded depth, without aliases (a few lines of them unfold to gigabytes), without
tags of its own, and no key stands twice.
"""

from collections.abc import Hashable
from typing import Any

import yaml

_LIMIT_DEPTH = 16
_LIMIT_WORD = 1000


class NotPlain(Exception):
    """It is no such document; its text says why."""


class _Plain(yaml.SafeLoader):
    """PyYAML's safe loader, and stricter: no aliases, no tags, no depth, no long words, no key twice."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; those below it are composed by recursion."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent):
            raise _refused("an alias is not wanted here", event)
        if self.depth == _LIMIT_DEPTH:
            raise _refused("is nested too deeply", event)
        if getattr(event, "tag", None) not in {None, "!"}:
            raise _refused("a tag is not wanted here", event)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LIMIT_WORD:
            raise _refused(f"a word of {len(event.value)} letters is not wanted here", event)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  # PyYAML's
        """A mapping, every key of it once."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise _refused(f"{key.value!r} stands twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refused(problem: str, where: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)  # type: ignore[arg-type]  # one of two Mark


def parsed(content: bytes) -> Any:
    """The document.

    Raises:
        NotPlain: it is none, or not a plain one; the first thing that is wrong.
    """
    try:
        return yaml.load(content, Loader=_Plain)  # noqa: S506  # a safe loader, made stricter
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise NotPlain(f"{where}{error.problem}") from error
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        # ValueError: bytes that are not UTF-8, or a date that there is not; TypeError: a key that is a list;
        # the others: what PyYAML takes for a number or a date, and cannot make one of.
        raise NotPlain(f"is no YAML: {' '.join(str(error).splitlines()[:1])[:200]}") from error
