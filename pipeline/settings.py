"""Settings: Luigi's own `luigi.Config` sections, each value overridable by an environment variable.

A setting `script` of the section `[sync]` is overridden by `PIPELINE_SYNC_SCRIPT`; one of `[source fpl]` by
`PIPELINE_SOURCE_FPL_…`. `load` checks everything at once and returns plain frozen values, so nothing below this module
knows where a setting came from. `PIPELINE_ENV` (`dev` or `prod`) chooses the profile of defaults.

`.env` and `LUIGI_CONFIG_PATH` are seen to by `run_pipeline.py`, before luigi is imported.
"""

import os
import re
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import luigi
import luigi.configuration
from luigi.parameter import ParameterException, UnconsumedParameterWarning

from pipeline.errors import SettingsError
from pipeline.steps.debag import Policy

ENVIRONMENTS = ("dev", "prod")
_SOURCE_FIELDS = ("kind", "region", "bucket", "queue", "profile", "endpoint_url", "allow_unbagged")
_ROOT = Path(__file__).resolve().parent.parent


class pipeline(luigi.Config):
    """`[pipeline]`: where things lie on this host, and how much runs at once."""

    environment = luigi.Parameter(default="dev", description="dev or prod; PIPELINE_ENV wins")
    lanes = luigi.IntParameter(default=2, description="works brought home at the same time on this host")
    host = luigi.Parameter(default="", description="name of this host in the record; empty: its own")
    staging = luigi.Parameter(default="var/staging", description="fast local disk for downloads and unpacked bags")
    quarantine = luigi.Parameter(default="var/quarantine", description="where refused bags are kept with their reports")
    logs = luigi.Parameter(default="var/logs", description="logs of the lanes and of the sync script")
    archive_root = luigi.Parameter(
        default="var/archive", description="folder of Archive0 to Archive3; /mnt in production"
    )
    margin_bytes = luigi.IntParameter(default=1 << 30, description="bytes of staging disk that always stay free")


class database(luigi.Config):
    """`[database]`: the progress database."""

    url = luigi.Parameter(default="sqlite:///var/pipeline.db", description="an SQLAlchemy URL")
    url_file = luigi.Parameter(default="", description="a file that holds the URL (a secret), instead of url")


class queue(luigi.Config):
    """`[queue]`: how messages are taken and given back."""

    wait_seconds = luigi.IntParameter(default=20, description="long poll of watch mode, 1 to 20 s")
    lease_seconds = luigi.IntParameter(default=300, description="how long a lane that fell silent keeps its work")
    heartbeat_seconds = luigi.FloatParameter(default=60.0, description="how often lease and visibility are renewed")
    backoff_seconds = luigi.IntParameter(default=60, description="first delay after a failure; doubles each time")
    backoff_limit_seconds = luigi.IntParameter(default=3600, description="longest delay after a failure")


class debag(luigi.Config):
    """`[debag]`: what a bag may be."""

    threads = luigi.IntParameter(default=0, description="threads a bag; 0: the CPUs available to the process")
    max_ratio = luigi.FloatParameter(default=50.0, description="largest expansion of a compressed member over 8 MB")
    max_members = luigi.IntParameter(default=200_000, description="most members of a zip")
    allow_weak_digests = luigi.BoolParameter(
        default=True, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="accept bags with md5 or sha1 alone"
    )
    require_tag_manifest = luigi.BoolParameter(
        default=False, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="refuse bags without a tag manifest"
    )
    rid_mismatch = luigi.ChoiceParameter(
        default="refuse", choices=["warn", "refuse"], description="when BDRC-RID, folder and key name different works"
    )


class sync(luigi.Config):
    """`[sync]`: the sync script and what it is told."""

    script = luigi.Parameter(default="bin/syncOneWork.sh", description="the site's script, or the one shipped")
    web_parent = luigi.Parameter(default="", description="S3 prefix for images/; empty: no web copy")
    db_config = luigi.Parameter(default="", description="DB_CONFIG of the script: level:file of database connections")
    debug = luigi.BoolParameter(
        default=False, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="DEBUG_SYNC of the script"
    )
    time_limit_seconds = luigi.IntParameter(default=0, description="the script is ended after this; 0: never")


_SECTIONS = (pipeline, database, queue, debag, sync)

# Luigi takes its own settings in [core] for unknown ones of a task. Ours are checked by `_unknown`.
warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)


@dataclass(frozen=True)
class Source:
    """Where bags come from: `[source NAME]`.

    Attributes:
        name: the section's name.
        region: AWS region of bucket and queue.
        bucket: the bucket whose events the queue brings.
        queue: the queue's name, or its URL.
        profile: section of the AWS credentials file; empty leaves the search to boto3.
        endpoint_url: another S3 and SQS than Amazon's; for trials.
        allow_unbagged: accept plain zips of works without a bag, recorded as verified by nothing.
    """

    name: str
    region: str = ""
    bucket: str = ""
    queue: str = ""
    profile: str = ""
    endpoint_url: str = ""
    allow_unbagged: bool = False


@dataclass(frozen=True)
class Scheduler:
    """The central scheduler, from Luigi's own `[core]`."""

    url: str


@dataclass(frozen=True)
class Settings:
    """Everything that was set, checked."""

    environment: str
    host: str
    lanes: int
    staging: Path
    quarantine: Path
    logs: Path
    archive_root: Path
    margin_bytes: int
    database_url: str
    wait_seconds: int
    lease_seconds: int
    heartbeat_seconds: float
    backoff_seconds: int
    backoff_limit_seconds: int
    debag_threads: int
    debag_policy: Policy
    sync_script: Path
    sync_web_parent: str
    sync_db_config: str
    sync_debug: bool
    sync_time_limit_seconds: int
    scheduler: Scheduler
    sources: tuple[Source, ...]

    def source(self, name: str) -> Source | None:
        """The source of that name."""
        return next((source for source in self.sources if source.name == name), None)

    def source_of_bucket(self, bucket: str) -> Source:
        """The source whose bucket this is; a source with no more than boto3's own defaults for other buckets."""
        return next((source for source in self.sources if source.bucket == bucket), Source(name="", bucket=bucket))


def load() -> Settings:
    """All settings, checked.

    Raises:
        SettingsError: names every setting that is missing or wrong, at once.
    """
    problems: list[str] = []
    _let_the_environment_win()
    try:
        found = (pipeline(), database(), queue(), debag(), sync())
        sources = tuple(_sources(problems))
        problems += _unknown()
    except (ParameterException, ValueError, KeyError) as error:
        # Luigi tells the reason of a failed ${NAME} only in the cause.
        raise SettingsError(
            [*problems, f"luigi.cfg: {error}" + (f" ({error.__cause__})" if error.__cause__ else "")]
        ) from error
    main, data, messages, bags, syncing = found
    url = _database_url(data, problems)
    scheduler = Scheduler(url=_scheduler_url())
    _check(main, messages, bags, problems)
    if problems:
        raise SettingsError(problems)
    return Settings(
        environment=main.environment,
        host=main.host or socket.gethostname(),
        lanes=main.lanes,
        staging=_path(main.staging),
        quarantine=_path(main.quarantine),
        logs=_path(main.logs),
        archive_root=_path(main.archive_root),
        margin_bytes=main.margin_bytes,
        database_url=url,
        wait_seconds=messages.wait_seconds,
        lease_seconds=messages.lease_seconds,
        heartbeat_seconds=messages.heartbeat_seconds,
        backoff_seconds=messages.backoff_seconds,
        backoff_limit_seconds=messages.backoff_limit_seconds,
        debag_threads=bags.threads,
        debag_policy=Policy(
            max_ratio=bags.max_ratio,
            max_members=bags.max_members,
            allow_weak_digests=bags.allow_weak_digests,
            rid_mismatch=bags.rid_mismatch,
            require_tag_manifest=bags.require_tag_manifest,
            reserve_bytes=main.margin_bytes,
        ),
        sync_script=_path(syncing.script),
        sync_web_parent=syncing.web_parent,
        sync_db_config=syncing.db_config,
        sync_debug=syncing.debug,
        sync_time_limit_seconds=syncing.time_limit_seconds,
        scheduler=scheduler,
        sources=sources,
    )


def _let_the_environment_win() -> None:
    config = luigi.configuration.get_config()
    for section in _SECTIONS:
        for name, _ in section.get_params():
            value = os.environ.get(f"PIPELINE_{section.__name__}_{name}".upper())
            if value is not None:
                config.set(section.__name__, name, value.replace("%", "%%"))
    if "PIPELINE_ENV" in os.environ:
        config.set("pipeline", "environment", os.environ["PIPELINE_ENV"])


def _unknown() -> list[str]:
    """Settings that nobody reads: most likely misspelt ones that somebody counts on."""
    config = luigi.configuration.get_config()
    return [
        f"[{section.__name__}] has no setting {name!r}"
        for section in _SECTIONS
        if config.has_section(section.__name__)
        for name in config[section.__name__]
        if name not in dict(section.get_params()) and name not in config.defaults()
    ]


def _sources(problems: list[str]) -> Iterator[Source]:
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


def _database_url(data: database, problems: list[str]) -> str:
    if not data.url_file:
        return str(data.url)
    try:
        return Path(data.url_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"[database] url_file cannot be read: {error}")
        return ""


def _scheduler_url() -> str:
    config = luigi.configuration.get_config()
    url = os.environ.get("PIPELINE_SCHEDULER_URL") or config.get("core", "default_scheduler_url", "")
    if not url:
        host = config.get("core", "default_scheduler_host", "localhost")
        url = f"http://{host}:{config.get('core', 'default_scheduler_port', '8082')}"
    return str(url).rstrip("/")


def _check(main: pipeline, messages: queue, bags: debag, problems: list[str]) -> None:
    rules = [
        (
            main.environment in ENVIRONMENTS,
            f"[pipeline] environment (PIPELINE_ENV) is {main.environment!r}, not dev or prod",
        ),
        (1 <= main.lanes <= 64, f"[pipeline] lanes is {main.lanes}, not 1 to 64"),
        (main.margin_bytes >= 0, "[pipeline] margin_bytes is negative"),
        (
            0 <= messages.wait_seconds <= 20,
            f"[queue] wait_seconds is {messages.wait_seconds}, not 0 to 20 (a limit of SQS)",
        ),
        (
            0 < messages.heartbeat_seconds * 2 <= messages.lease_seconds <= 43_200,
            f"[queue] lease_seconds is {messages.lease_seconds}: not at least twice heartbeat_seconds and at most 12 h",
        ),
        (
            0 <= messages.backoff_seconds <= messages.backoff_limit_seconds <= 43_200,
            "[queue] backoff_seconds and backoff_limit_seconds: not in order within 0 and 12 h",
        ),
        (bags.threads >= 0, "[debag] threads is negative"),
    ]
    problems += [text for holds, text in rules if not holds]
    if urlsplit(_scheduler_url()).scheme not in {"http", "https"}:
        problems.append(f"[core] default_scheduler_url is {_scheduler_url()!r}, not http(s)://…")


def _path(text: str) -> Path:
    """Relative paths are meant from the project's folder, whatever the current one is."""
    return Path(os.path.abspath(_ROOT / Path(text).expanduser()))
