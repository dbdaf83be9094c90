"""The sections `[source NAME]`: where bags come from. Each is a queue, or a folder."""

import os
import re
from collections.abc import Mapping

import luigi.configuration

from pipeline.settings.checks import wrong_address
from pipeline.settings.files import UNREADABLE, reason
from pipeline.settings.paths import from_project
from pipeline.settings.values import Folder, Source, WhenDone

_EITHER = {"allow_unbagged": ("false", "accept plain zips of works, recorded as verified by nothing")}
FIELDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "queue": {
        "region": ("", "AWS region of bucket and queue"),
        "bucket": ("", "the bucket whose events the queue brings; bags of others are refused"),
        "queue": ("", "the queue's name, or its URL"),
        "profile": ("", "section of the AWS credentials file; empty: as boto3 finds credentials"),
        "endpoint_url": ("", "another S3 and SQS than Amazon's; for trials"),
        **_EITHER,
        "several_works": ("false", "a zip may hold other works than the one that its key names"),
    },
    "folder": {
        "path": ("", "the folder; never made, so that a disk that is not mounted is seen"),
        "done": (WhenDone.MOVE, "what becomes of zips that are home: move, delete, or keep"),
        "done_path": ("", "where those go that are moved, on the same file system; empty: `done` in the folder"),
        "refused_path": ("", "where refused ones go, with their reports; empty: `refused` in the folder"),
        "settle_seconds": ("30", "a file that changed less long ago may still be written"),
        "incomplete_seconds": ("3600", "the same for a file that does not end as a zip does"),
        "poll_seconds": ("10", "how long a look at the folder serves"),
        **_EITHER,
        "several_works": ("true", "a zip may hold other works than the one that its name says"),
    },
}
"""The settings of each kind of source: default and meaning, by name."""


def read_sources(problems: list[str]) -> tuple[tuple[Source, ...], tuple[Folder, ...]]:
    """Every `[source NAME]`, queues and folders; what is wrong is added to `problems`."""
    sources: list[Source] = []
    folders: list[Folder] = []
    for section in luigi.configuration.get_config().sections():
        name = section.removeprefix("source ").strip()
        if not section.startswith("source ") or not name:
            continue
        kind = _value(section, "kind", problems) or "queue"
        if kind not in FIELDS:
            problems.append(f"[{section}] kind is {kind!r}, not queue or folder")
            continue
        values = {field: _value(section, field, problems) or default for field, (default, _) in FIELDS[kind].items()}
        if kind == "queue":
            sources.append(_queue(section, name, values, problems))
        else:
            folders.append(_folder(section, name, values, problems))
    _check_queues(sources, problems)
    _check_folders(folders, problems)
    return tuple(sources), tuple(folders)


def variable(section: str, option: str) -> str:
    """The environment variable that wins over an option of a section."""
    first, _, rest = section.partition(" ")
    return re.sub(r"[^A-Z0-9]", "_", f"PIPELINE {first} {rest.strip()}".strip().upper()) + f"_{option.upper()}"


def _value(section: str, field: str, problems: list[str]) -> str:
    """What is set; nothing where that cannot be read, which is added to `problems`."""
    won = os.environ.get(variable(section, field))
    try:
        return str(luigi.configuration.get_config().get(section, field, "") if won is None else won).strip()
    except UNREADABLE as error:
        problems.append(f"[{section}] {field}: {reason(error)}")
        return ""


def _queue(section: str, name: str, values: Mapping[str, str], problems: list[str]) -> Source:
    problems += [f"[{section}] {field} is missing" for field in ("region", "bucket", "queue") if not values[field]]
    problems += [
        f"[{section}] {field} {wrong}" for field in ("queue", "endpoint_url") if (wrong := _odd(values[field]))
    ]
    return Source(
        name=name,
        region=values["region"],
        bucket=values["bucket"],
        queue=values["queue"],
        profile=values["profile"],
        endpoint_url=values["endpoint_url"],
        allow_unbagged=_flag(section, "allow_unbagged", values, problems),
        several_works=_flag(section, "several_works", values, problems),
    )


def _odd(address: str) -> str:
    """What is wrong with the address of a service, if it is one; its words show nothing of it."""
    if "://" not in address:
        return ""
    named = "@" in address.partition("://")[2].partition("/")[0]
    return wrong_address(address) or ("holds a user or a password: those belong to the profile" if named else "")


def _folder(section: str, name: str, values: Mapping[str, str], problems: list[str]) -> Folder:
    if not values["path"]:
        problems.append(f"[{section}] path is missing")
    done = values["done"]
    if done not in set(WhenDone):
        problems.append(f"[{section}] done is {done!r}, not {', '.join(WhenDone)}")
        done = WhenDone.KEEP
    path = from_project(values["path"])
    return Folder(
        name=name,
        path=path,
        done=WhenDone(done),
        done_path=from_project(values["done_path"]) if values["done_path"] else path / "done",
        refused_path=from_project(values["refused_path"]) if values["refused_path"] else path / "refused",
        settle_seconds=_seconds(section, "settle_seconds", values, problems),
        incomplete_seconds=_seconds(section, "incomplete_seconds", values, problems),
        poll_seconds=_seconds(section, "poll_seconds", values, problems),
        allow_unbagged=_flag(section, "allow_unbagged", values, problems),
        several_works=_flag(section, "several_works", values, problems),
    )


def _check_queues(sources: list[Source], problems: list[str]) -> None:
    """A queue that is read twice is counted twice, and each source takes the other's events for foreign ones."""
    for index, source in enumerate(sources):
        other = next((one.name for one in sources[:index] if _is_one_queue(source, one)), "")
        if source.queue and other:
            problems.append(f"[source {source.name}] queue is that of [source {other}] too")


def _is_one_queue(one: Source, other: Source) -> bool:
    """A URL says all by itself; a name is a queue of an account, which the profile says, at an endpoint."""
    if "://" in one.queue and "://" in other.queue:
        return one.queue.rstrip("/") == other.queue.rstrip("/")
    return _named_queue(one) == _named_queue(other)


def _named_queue(source: Source) -> tuple[str, ...]:
    name = source.queue.rstrip("/").rpartition("/")[2]
    return name, source.endpoint_url.rstrip("/"), source.region, source.profile


def _check_folders(folders: list[Folder], problems: list[str]) -> None:
    """What is done with a zip must not bring it back into a folder from which zips are taken."""
    taken = {folder.path: folder.name for folder in folders}
    for folder in folders:
        if taken[folder.path] != folder.name:
            problems.append(f"[source {folder.name}] path is that of [source {taken[folder.path]}] too")
        for field, path in (("done_path", folder.done_path), ("refused_path", folder.refused_path)):
            if path in taken:
                problems.append(f"[source {folder.name}] {field} is a folder from which zips are taken")


def _flag(section: str, field: str, values: Mapping[str, str], problems: list[str]) -> bool:
    value = values[field].lower()
    if value not in {"true", "false"}:
        problems.append(f"[{section}] {field} is {value!r}, not true or false")
    return value == "true"


def _seconds(section: str, field: str, values: Mapping[str, str], problems: list[str]) -> float:
    try:
        seconds = float(values[field])
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        problems.append(f"[{section}] {field} is {values[field]!r}, not a number of seconds")
    return seconds
