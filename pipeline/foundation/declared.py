"""How a setting is declared: once, at the field of the value that uses it, with its default, meaning and check.

`pipeline.settings` reads every such field from luigi.cfg; docs/settings.md is made of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

Check = Callable[[Any, Any], str]
"""What is wrong with a value (the first argument) in its section (the second), as the end of a sentence; or nothing."""


@dataclass(frozen=True)
class Setting:
    """What is declared of a setting.

    Attributes:
        meaning: what it is for, in a line.
        check: what it has to hold.
        text: its default, as it would be written in luigi.cfg.
        name: its name there, where that is not the field's.
        production: its default in production, where that differs.
        choices: the words that it may be, each with its value.
        wanted: what it has to be, for the message about a word that is not.
        needed: it may not be empty.
        secret: it names a file, and its value is what that file holds.
    """

    meaning: str
    check: Check | None
    text: str
    name: str = ""
    production: str | None = None
    choices: Mapping[str, Any] | None = None
    wanted: str = ""
    needed: bool = False
    secret: bool = False


def setting(default: Any, meaning: str, check: Check | None = None, *, text: str | None = None, **more: Any) -> Any:
    """A field of a dataclass that is a setting.

    Args:
        default: of the field.
        meaning: what it is for, in a line.
        check: what it has to hold.
        text: the default as it would be written in luigi.cfg, where `default` does not say it.
        **more: as in `Setting`.
    """
    if isinstance(words := more.get("choices"), tuple):
        more["choices"] = dict(zip(words, words, strict=True))
    if text is None:
        text = f"{default}".lower() if isinstance(default, bool) else f"{default}"
    return field(
        default=default, repr=not more.get("secret"), metadata={"setting": Setting(meaning, check, text, **more)}
    )


def settings_of(section: type) -> dict[str, tuple[Setting, "Field[Any]"]]:
    """The settings of a section, each with its field, by the names that they have in luigi.cfg."""
    declared = ((one.metadata["setting"], one) for one in fields(section) if "setting" in one.metadata)
    return {told.name or one.name: (told, one) for told, one in declared}


def holds(test: Callable[[Any, Any], object], wrong: str) -> Check:
    """What passes a test; `{}` or `{!r}` in what is told of it otherwise is the value."""
    return lambda value, section: "" if test(value, section) else wrong.format(value)


def within(least: float, most: float, why: str = "") -> Check:
    """A number between two others."""
    return holds(lambda value, _: least <= value <= most, f"is {{}}, not {least} to {most}{why}")


def at_least(least: int) -> Check:
    """A number that is not smaller."""
    return holds(lambda value, _: value >= least, f"is less than {least}" if least else "is negative")
