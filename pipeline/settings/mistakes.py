"""Settings that nobody reads, and where a wrong one stands: in which file, or in which variable of the environment."""

import configparser
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from pipeline.foundation.declared import settings_of
from pipeline.replicate import Replica
from pipeline.settings.prices import Prices
from pipeline.settings.reading import TURNED, from_project, luigi_cfg, variable
from pipeline.settings.receivers import Callback
from pipeline.settings.sections import SECTIONS, Folder, Source, name_of

# The sections that Luigi and its `contrib` read themselves: https://luigi.readthedocs.io/en/stable/configuration.html
_OF_LUIGI = """
azureblob batch_email batch_notifier bigquery core cors datadog dropbox elasticsearch email execution_summary hadoop
hadoopcli hdfs hive kubernetes logging mssql mysql OpenPai pig postgres presto prometheus pyspark_runner redis redshift
resources retcode s3 salesforce scalding scheduler sendgrid smtp spark sqlalchemy task_history upstream webhdfs worker
"""
# No settings of a section: those that say which settings there are, and those of compose, where its `.env` is read too.
_OTHERS = ("PIPELINE_ENV", "PIPELINE_BASE_CONFIG", "PIPELINE_SECRETS", "PIPELINE_SCHEDULER_URL")
_OF_COMPOSE = ("PIPELINE_SOURCE", "PIPELINE_IMAGE", "PIPELINE_HOST")
_NAMED = {"source": "NAME", "replica": "NAME", "callback": "NAME", "prices": "REGION"}
_OF_TESTS = "PIPELINE_TEST_"
# How every sentence about a wrong setting begins.
_SETTING = re.compile(r"\[(?P<section>[^\]]+)\](?: has no setting '(?P<unknown>.+?)'| (?P<option>\w+))?")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+\b")


def unknown(named: Sequence[Source | Folder | Prices | Replica | Callback]) -> Iterator[str]:
    """Sections, settings of sections, and variables that are ours by their name, and that nobody reads."""
    config = luigi_cfg()
    ours = {name: [*settings_of(section)] for name, section in SECTIONS.items()}
    fields = {
        name_of(one): [*(["kind"] if isinstance(one, Source | Folder) else []), *settings_of(type(one))]
        for one in named
    }
    for section in config.sections():
        first, _, rest = section.partition(" ")
        known = ours.get(section) or fields.get(f"{first} {rest.strip()}")
        if known:
            unread = (name for name in config[section] if name not in known and name not in config.defaults())
            yield from (f"[{section}] has no setting {name!r}{_nearest(name, known)}" for name in unread)
        elif section.strip() in _NAMED:
            yield f"[{section}] has no name: it has to be [{section.strip()} {_NAMED[section.strip()]}]"
        elif first not in _NAMED and section not in _OF_LUIGI.split():
            names = [*ours, *_OF_LUIGI.split(), f"source {rest}", f"replica {rest}", f"callback {rest}"]
            yield f"[{section}] is no section of ours nor of Luigi's{_nearest(section, names, '[{}]')}"
    names = [variable(section, name) for section, options in ours.items() for name in options]
    names += [variable(section, field) for section, options in fields.items() for field in options]
    yield from _unknown_variables([*_OTHERS, *names])


def _unknown_variables(known: Collection[str]) -> Iterator[str]:
    for name in sorted(os.environ):
        if name.startswith("PIPELINE_") and not name.startswith(_OF_TESTS) and name not in {*known, *_OF_COMPOSE}:
            without_section = [one for one in known if one.endswith(name.removeprefix("PIPELINE"))]
            yield f"{name} is no setting{_nearest(name, without_section[:1] or known)}"


def _nearest(name: str, known: Collection[str], form: str = "{}") -> str:
    """The name that was most likely meant, as the end of a sentence; nothing where none is near."""
    by_small = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), by_small, n=1)
    return f"; the nearest is {form.format(by_small[near[0]])}" if near else ""


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
        name = TURNED.get((section, option), "")
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
    from dotenv import dotenv_values  # noqa: PLC0415  # only where something is wrong

    file = from_project(".env")
    from_file = "PYTHON_DOTENV_DISABLED" not in os.environ and Path(file).is_file()
    return str(file) if from_file and dotenv_values(file).get(name) == os.environ[name] else "the environment"
