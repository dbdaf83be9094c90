"""Reading a file of sync options: a small YAML document of two sections, of which nothing is passed over in silence.

The file may lie in a payload, and so be anyone's: it is of bounded size and depth, without aliases (a few lines of them
unfold to gigabytes), without tags of its own, and no key stands twice.
"""

import os
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

LIMIT_BYTES = 16 * 1024  # PyYAML takes seconds for 64 KiB of commas
_LIMIT_DEPTH = 16
_LIMIT_WORD = 1000
_SECTIONS = {"audit": ("pre", "post"), "sync": ("archive", "web", "replace", "update_web")}

Asked = dict[str, tuple[str, ...] | bool]
"""What a file asks for, by `section.key`; keys that it does not have are absent."""


class Unreadable(Exception):
    """The file cannot be read as options; `problems` names everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


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


def read(path: Path) -> Asked | None:
    """What the file asks for; None where there is no file.

    Raises:
        Unreadable: it is no small YAML file of the sections and keys that are known, with values of their types.
        OSError: the disk failed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable(["is no file"])
        content = file.read(LIMIT_BYTES + 1)
    if len(content) > LIMIT_BYTES:
        raise Unreadable([f"has more than {LIMIT_BYTES:,} bytes"])
    return _checked(_parsed(content))


def _parsed(content: bytes) -> Any:
    try:
        return yaml.load(content, Loader=_Plain)  # noqa: S506  # a safe loader, made stricter
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise Unreadable([f"{where}{error.problem}"]) from error
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        # ValueError: bytes that are not UTF-8, or a date that there is not; TypeError: a key that is a list;
        # the others: what PyYAML takes for a number or a date, and cannot make one of.
        raise Unreadable([f"is no YAML: {' '.join(str(error).splitlines()[:1])[:200]}"]) from error


def _checked(document: Any) -> Asked:
    """The document's options, flat.

    Raises:
        Unreadable: unknown names and wrong types, all of them.
    """
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Unreadable(["is no mapping of the sections audit and sync"])
    problems: list[str] = []
    asked: Asked = {}
    for section, values in document.items():
        if section not in _SECTIONS:
            problems.append(f"{_shown(section)} is unknown; sections are {', '.join(_SECTIONS)}")
        elif values is not None and not isinstance(values, dict):
            problems.append(f"{section} is {_shown(values)}, not a mapping")
        else:
            for key, value in (values or {}).items():
                if key not in _SECTIONS[section]:
                    problems.append(
                        f"{section}.{_shown(key)} is unknown; {section} has {', '.join(_SECTIONS[section])}"
                    )
                elif (found := _switch(value) if section == "sync" else _words(value)) is None:
                    wanted = "true or false" if section == "sync" else "a list of texts"
                    problems.append(f"{section}.{key} is {_shown(value)}, not {wanted}")
                else:
                    asked[f"{section}.{key}"] = found
    if problems:
        raise Unreadable(problems)
    return asked


def _switch(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _words(value: Any) -> tuple[str, ...] | None:
    """The words of a list of texts; lists in it are taken for their elements, as in the system replaced."""
    if not isinstance(value, list):
        return None
    found: list[str] = []
    for item in value:
        words = tuple(item.split()) if isinstance(item, str) and item.isprintable() else _words(item)
        if words is None:
            return None
        found += words
    return tuple(found)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
