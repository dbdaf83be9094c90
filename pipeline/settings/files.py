"""Which files the settings come from: those that were named, and no other that happens to lie about."""

import configparser
import os

import luigi.configuration

from pipeline.errors import SettingsError

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
        SettingsError: a file that is named cannot be read, or not be parsed.
    """
    named = os.environ.get("LUIGI_CONFIG_PATH")
    if not named:
        return
    config = luigi.configuration.get_config()
    for section in config.sections():
        config.remove_section(section)
    config.defaults().clear()
    base = os.environ.get("PIPELINE_BASE_CONFIG", "")
    for variable, path in filter(all, (("PIPELINE_BASE_CONFIG", base), ("LUIGI_CONFIG_PATH", named))):
        try:
            with open(path, encoding="utf-8") as file:
                config.read_file(file, path)
        except OSError as error:
            raise SettingsError([f"{variable} names {path}: {error.strerror}"]) from error
        except (configparser.Error, UnicodeDecodeError) as error:
            told = " ".join(str(error).split())
            raise SettingsError([f"{variable} names {path}, which is not understood: {told}"]) from error
    for section, name, value in _OF_LUIGI:
        if not config.has_option(section, name):
            config.set(section, name, value)
