"""The sections `[source NAME]`: where bags come from."""

import os
import re
from collections.abc import Iterator

import luigi.configuration

from pipeline.settings.values import Source

_SOURCE_FIELDS = ("kind", "region", "bucket", "queue", "profile", "endpoint_url", "allow_unbagged")


def read_sources(problems: list[str]) -> Iterator[Source]:
    """Every `[source NAME]`; what is wrong is added to `problems`."""
    config = luigi.configuration.get_config()
    for section in config.sections():
        if not section.startswith("source "):
            continue
        name = section.removeprefix("source ").strip()
        prefix = "PIPELINE_SOURCE_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        values = {
            field: os.environ.get(f"{prefix}_{field.upper()}", config.get(section, field, "")).strip()
            for field in _SOURCE_FIELDS
        }
        unknown = sorted(set(config[section]) - set(_SOURCE_FIELDS) - set(config.defaults()))
        problems += [f"[{section}] has no setting {field!r}" for field in unknown]
        if values.pop("kind") not in {"", "queue"}:
            problems.append(f"[{section}] kind: only 'queue' is known")
        problems += [f"[{section}] {field} is missing" for field in ("region", "bucket", "queue") if not values[field]]
        unbagged = values.pop("allow_unbagged").lower()
        if unbagged not in {"", "true", "false"}:
            problems.append(f"[{section}] allow_unbagged is {unbagged!r}, not true or false")
        yield Source(name=name, **values, allow_unbagged=unbagged == "true")
