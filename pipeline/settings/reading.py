"""Reading the sections from the files that were named, and no other that happens to lie about."""

import configparser
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import Field
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pipeline.foundation.declared import settings_of
from pipeline.foundation.errors import SettingsError

# Luigi takes its own settings in [core] for unknown ones of a task. Ours are checked by `mistakes.unknown`.
warnings.filterwarnings("ignore", r"The configuration contains the parameter .* not consumed", UserWarning)
PROJECT = Path(__file__).resolve().parents[2]
UNREADABLE = (configparser.Error, ValueError, KeyError)
"""What comes of a value that cannot be read; `reason` tells why."""

# What the pipeline relies on, where a file leaves Luigi's own sections out: failures are told by us, in a line; a task
# that wrote no target did not succeed.
_OF_LUIGI = (
    ("core", "no_configure_logging", "true"),
    ("core", "autoload_range", "false"),
    ("worker", "check_complete_on_run", "true"),
)
TURNED = {("pipeline", "environment"): "PIPELINE_ENV", ("core", "default_scheduler_url"): "PIPELINE_SCHEDULER_URL"}
"""Settings that have a variable of another name."""
_Section = TypeVar("_Section")


def _luigi_s_reader() -> ModuleType:
    """`luigi.configuration`, without the rest of Luigi: that takes a third of a second, and only tasks need it."""
    spec = find_spec("luigi")
    if spec is not None and "luigi" not in sys.modules:
        # A module's package is imported before it: here an empty one, dropped again for who imports the whole of it.
        sys.modules["luigi"] = module_from_spec(spec)
        try:
            import_module("luigi.configuration")
        finally:
            del sys.modules["luigi"]
    return import_module("luigi.configuration")


_READER = _luigi_s_reader()


def luigi_cfg() -> Any:
    """What Luigi has read of `luigi.cfg`, and what was set since: one for the whole process."""
    return _READER.get_config()


def read_named_files() -> None:
    """Make Luigi's settings those of the file that `LUIGI_CONFIG_PATH` names, on top of `PIPELINE_BASE_CONFIG` if set.

    By itself Luigi adds /etc/luigi and the `luigi.cfg` of the folder it is started in. So a demo, or a site of its own,
    that is started in the folder of a configured installation would take messages from that one's queues.

    Raises:
        SettingsError: a file that is named cannot be read, or not be parsed; of two, both are told.
    """
    named = os.environ.get("LUIGI_CONFIG_PATH")
    if not named:
        return
    config = luigi_cfg()
    for section in config.sections():
        config.remove_section(section)
    config.defaults().clear()
    base = os.environ.get("PIPELINE_BASE_CONFIG", "")
    problems: list[str] = []
    for name, path in filter(all, (("PIPELINE_BASE_CONFIG", base), ("LUIGI_CONFIG_PATH", named))):
        try:
            with open(path, encoding="utf-8") as file:
                config.read_file(file, path)
        except OSError as error:
            problems.append(f"{name} names {path}: {error.strerror}")
        except (configparser.Error, UnicodeDecodeError) as error:
            problems.append(f"{name} names {path}, which is not understood: {' '.join(str(error).split())}")
    if problems:
        raise SettingsError(problems)
    for section, name, value in _OF_LUIGI:
        if not config.has_option(section, name):
            config.set(section, name, value)


def read(section: type[_Section], where: str, problems: list[str], **given: object) -> _Section:
    """A section, checked; what is wrong is added to `problems`, and for what cannot be read its default stands in.

    `[pipeline]` is read first: it says whether this is production, where some defaults differ.

    Args:
        section: a dataclass; its settings are read.
        where: the name of the section.
        problems: grows.
        given: fields that are no settings of this section.
    """
    config, known = luigi_cfg(), settings_of(section)
    read = {field.name: _value(where, name, field, problems) for name, (_, field) in known.items()}
    for name in [one for one in config[where] if one not in known] if config.has_section(where) else ():
        try:
            config.get(where, name)
        except UNREADABLE as error:
            problems.append(f"[{where}] {name}: {reason(error)}")
    made = section(**read, **given)
    for name, (setting, field) in known.items():
        if setting.check and (wrong := setting.check(read[field.name], made)):
            problems.append(f"[{where}] {name}{'' if wrong.startswith(':') else ' '}{wrong}")
    return made


def _value(where: str, name: str, field: "Field[Any]", problems: list[str]) -> Any:
    """What is set, in the environment or a file, or the default."""
    config, setting = luigi_cfg(), field.metadata["setting"]
    for one in (variable(where, name), TURNED.get((where, name), "")):
        if one in os.environ:
            config.set(where, name, os.environ[one].replace("%", "%%"))
    default = setting.text if setting.production is None or not _in_production() else setting.production
    try:
        text = config.get(where, name, default).strip()
    except UNREADABLE as error:
        problems.append(f"[{where}] {name}: {reason(error)}")
        return _parsed(default, field)
    if setting.needed and not text:
        problems.append(f"[{where}] {name} is missing")
    if setting.secret:
        return content(text, f"[{where}] {name}", problems) if text else ""
    try:
        return _parsed(text if field.type is str and not setting.choices else text or default, field)
    except ValueError as error:
        wrong = f" is {text!r}, not {setting.wanted}" if setting.wanted else f": {error}"
        problems.append(f"[{where}] {name}{wrong}")
    return _parsed(default, field)


def _in_production() -> bool:
    with suppress(*UNREADABLE):  # told where the section is read
        return bool(luigi_cfg().get("pipeline", "environment", "dev") == "prod")
    return False


def _parsed(text: str, field: "Field[Any]") -> Any:
    choices = field.metadata["setting"].choices
    if choices and text not in choices:
        raise ValueError(f"{text} is not a valid choice from {{{', '.join(choices)}}}")
    if choices:
        return choices[text]
    parse: Any = _PARSERS.get(field.type, field.type)
    return parse(text) if text or field.type is str else field.default


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"cannot interpret '{text}' as boolean")
    return text.lower() == "true"


def from_project(text: str) -> Path:
    """Relative paths are meant from the project's folder, whatever the current one is."""
    return Path(os.path.abspath(PROJECT / Path(text).expanduser()))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


_PARSERS: dict[Any, Callable[[str], Any]] = {
    bool: _flag,
    Path: from_project,
    Path | None: from_project,
    tuple[str, ...]: lambda text: tuple(_words(text)),
    tuple[float, ...]: lambda text: tuple(map(float, _words(text))),
    float | None: float,
}


def variable(section: str, option: str) -> str:
    """The environment variable that wins over an option of a section."""
    first, _, rest = section.partition(" ")
    return re.sub(r"[^A-Z0-9]", "_", f"PIPELINE {first} {rest.strip()}".strip().upper()) + f"_{option.upper()}"


def reason(error: Exception) -> str:
    """Why a value cannot be read. One with a `%` or `$` in it is never shown: it may hold a password."""
    if not isinstance(error, configparser.InterpolationError):
        return f"{error}"
    # ${NAME} is Luigi's, which tells of the name by the look that failed, and of the whole value in its own words.
    missing = error.__cause__ or error.__context__
    if isinstance(missing, KeyError) and not isinstance(error, configparser.InterpolationMissingOptionError):
        return f"the environment has no {missing.args[0]}, which it refers to"
    return "a % has to be written %%"


def content(file: str, what: str, problems: list[str]) -> str:
    """The one secret that a file holds; what is wrong is added to `problems`."""
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        problems.append(f"{what} cannot be read: {file}: {error.strerror}")
        return ""
    except UnicodeDecodeError:
        problems.append(f"{what} cannot be read: {file} is not text")
        return ""
    if not text:
        problems.append(f"{what}: {file} is empty")
    elif len(text.splitlines()) > 1:
        problems.append(f"{what}: {file} holds more than one line")
        return ""
    return text
