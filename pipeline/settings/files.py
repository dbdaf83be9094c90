"""Which files the settings come from: those that were named, and no other that happens to lie about."""

import configparser
import os

import luigi.configuration
from luigi.parameter import ParameterException

from pipeline.foundation.errors import SettingsError

UNREADABLE = (ParameterException, configparser.Error, ValueError, KeyError)
"""What Luigi raises for a value that cannot be read; `reason` tells why."""

# What the pipeline relies on, where a file leaves Luigi's own sections out: failures are told by us, in a line; a task
# that wrote no target did not succeed.
_OF_LUIGI = (
    ("core", "no_configure_logging", "true"),
    ("core", "autoload_range", "false"),
    ("worker", "check_complete_on_run", "true"),
)


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
    config = luigi.configuration.get_config()
    for section in config.sections():
        config.remove_section(section)
    config.defaults().clear()
    base = os.environ.get("PIPELINE_BASE_CONFIG", "")
    problems: list[str] = []
    for variable, path in filter(all, (("PIPELINE_BASE_CONFIG", base), ("LUIGI_CONFIG_PATH", named))):
        try:
            with open(path, encoding="utf-8") as file:
                config.read_file(file, path)
        except OSError as error:
            problems.append(f"{variable} names {path}: {error.strerror}")
        except (configparser.Error, UnicodeDecodeError) as error:
            problems.append(f"{variable} names {path}, which is not understood: {' '.join(str(error).split())}")
    if problems:
        raise SettingsError(problems)
    for section, name, value in _OF_LUIGI:
        if not config.has_option(section, name):
            config.set(section, name, value)


def reason(error: Exception) -> str:
    """Why a value cannot be read. One with a `%` or `$` in it is never shown: it may hold a password."""
    if not isinstance(error, configparser.InterpolationError):
        return f"{error}"
    # ${NAME} is Luigi's, which tells of the name by the look that failed, and of the whole value in its own words.
    missing = error.__cause__ or error.__context__
    if isinstance(missing, KeyError) and not isinstance(error, configparser.InterpolationMissingOptionError):
        return f"the environment has no {missing.args[0]}, which it refers to"
    return "a % has to be written %%"
