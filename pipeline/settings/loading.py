"""Reading all settings, and checking them at once."""

import os
import socket
from pathlib import Path

import luigi.configuration
from luigi.parameter import ParameterException

from pipeline.errors import SettingsError
from pipeline.settings.checks import check
from pipeline.settings.sections import SECTIONS, database, debag, pipeline, queue, sync
from pipeline.settings.sources import read_sources
from pipeline.settings.values import Scheduler, Settings
from pipeline.steps.debag import Policy

_ROOT = Path(__file__).resolve().parent.parent.parent


def load() -> Settings:
    """All settings, checked.

    Raises:
        SettingsError: names every setting that is missing or wrong, at once.
    """
    problems: list[str] = []
    _let_the_environment_win()
    try:
        found = (pipeline(), database(), queue(), debag(), sync())
        sources = tuple(read_sources(problems))
        problems += _unknown()
    except (ParameterException, ValueError, KeyError) as error:
        # Luigi tells the reason of a failed ${NAME} only in the cause.
        raise SettingsError(
            [*problems, f"luigi.cfg: {error}" + (f" ({error.__cause__})" if error.__cause__ else "")]
        ) from error
    main, data, messages, bags, syncing = found
    url = _database_url(data, problems)
    scheduler = Scheduler(url=_scheduler_url())
    check(main, messages, bags, problems, scheduler=scheduler.url)
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
    for section in SECTIONS:
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
        for section in SECTIONS
        if config.has_section(section.__name__)
        for name in config[section.__name__]
        if name not in dict(section.get_params()) and name not in config.defaults()
    ]


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


def _path(text: str) -> Path:
    """Relative paths are meant from the project's folder, whatever the current one is."""
    return Path(os.path.abspath(_ROOT / Path(text).expanduser()))
