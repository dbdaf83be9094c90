"""Reading a file of sync options: a small YAML document of two sections, of which nothing is passed over in silence."""

import os
import stat
from pathlib import Path
from typing import Any

LIMIT_BYTES = 16 * 1024  # PyYAML takes seconds for 64 KiB of commas
_SECTIONS = {"audit": ("pre", "post"), "sync": ("archive", "web", "replace", "update_web")}

Asked = dict[str, tuple[str, ...] | bool]
"""What a file asks for, by `section.key`; keys that it does not have are absent."""


class Unreadable(Exception):
    """The file cannot be read as options; `problems` names everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


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
    # Few sites and works have such a file, and only they are to import PyYAML.
    from pipeline.sync.plain_yaml import NotPlain, parsed  # noqa: PLC0415  # as above

    try:
        return _checked(parsed(content))
    except NotPlain as error:
        raise Unreadable([str(error)]) from error


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
