"""Where a wrong setting stands: in which file, or in which variable of the environment."""

import configparser
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values

from pipeline.settings.paths import from_project
from pipeline.settings.sources import variable

# How every sentence about a wrong setting begins.
_SETTING = re.compile(r"\[(?P<section>[^\]]+)\](?: has no setting '(?P<unknown>.+?)'| (?P<option>\w+))?")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+\b")
_TURNED = {("pipeline", "environment"): "PIPELINE_ENV", ("core", "default_scheduler_url"): "PIPELINE_SCHEDULER_URL"}


def placed(problems: Iterable[str]) -> list[str]:
    """What is wrong, each with the place where it stands; of a setting that cannot be read, nothing else."""
    files, told, unreadable = list(_files()), [], set[str]()
    for problem in dict.fromkeys(problems):
        named = _SETTING.match(problem)
        if named and named[0] in unreadable:
            continue
        if named and problem.startswith(f"{named[0]}:"):
            unreadable.add(named[0])
        place = _place(problem, files)
        told.append(f"{problem} ({place})" if place else problem)
    return told


def _files() -> Iterator[tuple[str, configparser.ConfigParser]]:
    """The settings files that were named, the one that wins first."""
    for name in ("LUIGI_CONFIG_PATH", "PIPELINE_BASE_CONFIG"):
        path = os.environ.get(name, "")
        sections = configparser.ConfigParser(interpolation=None, strict=False)
        sections.optionxform = str  # type: ignore[assignment,method-assign]  # as Luigi has it: A is not a
        with suppress(OSError, configparser.Error, UnicodeDecodeError):  # who read them for their values has told
            if path and sections.read(path, encoding="utf-8"):
                yield path, sections


def _place(problem: str, files: list[tuple[str, configparser.ConfigParser]]) -> str:
    named = _SETTING.match(problem)
    if named:
        section, option = named["section"], named["unknown"] or named["option"] or ""
        name = _TURNED.get((section, option), "")
        for one in (name, variable(section, option)):
            if one in os.environ:
                return f"{one} in {_environment(one)}"
        with_option = (path for path, sections in files if sections.has_option(section, option))
        with_section = (path for path, sections in files if sections.has_section(section))
        return next(with_option, next(with_section, ""))
    if (named := _VARIABLE.match(problem)) and named[0] in os.environ:
        return f"in {_environment(named[0])}"
    return ""


def _environment(name: str) -> str:
    """Whether a variable comes from `.env`, which gives way to what was set before."""
    file = from_project(".env")
    from_file = "PYTHON_DOTENV_DISABLED" not in os.environ and Path(file).is_file()
    return str(file) if from_file and dotenv_values(file).get(name) == os.environ[name] else "the environment"
