"""Settings that nobody reads: misspelt ones that somebody counts on. Each is told with the nearest right name."""

import os
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches

import luigi.configuration

from pipeline.settings.sections import SECTIONS
from pipeline.settings.sources import FIELDS, variable
from pipeline.settings.values import Folder, Source

# The sections that Luigi and its `contrib` read themselves: https://luigi.readthedocs.io/en/stable/configuration.html
_OF_LUIGI = """
azureblob batch_email batch_notifier bigquery core cors datadog dropbox elasticsearch email execution_summary hadoop
hadoopcli hdfs hive kubernetes logging mssql mysql OpenPai pig postgres presto prometheus pyspark_runner redis redshift
resources retcode s3 salesforce scalding scheduler sendgrid smtp spark sqlalchemy task_history upstream webhdfs worker
"""
# No settings of a section: those that say which settings there are, and those of compose, where its `.env` is read too.
_OTHERS = ("PIPELINE_ENV", "PIPELINE_BASE_CONFIG", "PIPELINE_SECRETS", "PIPELINE_SCHEDULER_URL")
_OF_COMPOSE = ("PIPELINE_SOURCE", "PIPELINE_IMAGE", "PIPELINE_HOST")
_OF_TESTS = "PIPELINE_TEST_"


def unknown(sources: Sequence[Source | Folder]) -> Iterator[str]:
    """Sections, settings of sections, and variables that are ours by their name, and that nobody reads."""
    config = luigi.configuration.get_config()
    ours: dict[str, list[str]] = {one.__name__: [name for name, _ in one.get_params()] for one in SECTIONS}
    fields = {one.name: ["kind", *FIELDS["folder" if isinstance(one, Folder) else "queue"]] for one in sources}
    for section in config.sections():
        first, _, rest = section.partition(" ")
        known = ours.get(section) or (fields.get(rest.strip()) if first == "source" else None)
        if known:
            unread = (name for name in config[section] if name not in known and name not in config.defaults())
            yield from (f"[{section}] has no setting {name!r}{_nearest(name, known)}" for name in unread)
        elif section.strip() == "source":
            yield f"[{section}] has no name: it has to be [source NAME]"
        elif first != "source" and section not in _OF_LUIGI.split():
            names = [*ours, *_OF_LUIGI.split(), f"source {rest}"]
            yield f"[{section}] is no section of ours nor of Luigi's{_nearest(section, names, '[{}]')}"
    names = [variable(section, name) for section, options in ours.items() for name in options]
    names += [variable(f"source {name}", field) for name, options in fields.items() for field in options]
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
