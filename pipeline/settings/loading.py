"""Reading all settings, and checking them at once."""

import configparser
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import luigi.configuration
from luigi.parameter import ParameterException

from pipeline.errors import OptionsNotUnderstood, SettingsError
from pipeline.settings import production
from pipeline.settings.checks import check, check_download
from pipeline.settings.files import read_named_files
from pipeline.settings.notifying import read_notify
from pipeline.settings.paths import from_project as _path
from pipeline.settings.secrets import aws_credentials, database_url, db_config_default
from pipeline.settings.sections import SECTIONS, database, debag, download, notify, pipeline, queue, sync
from pipeline.settings.sources import read_sources
from pipeline.settings.values import Scheduler, Settings
from pipeline.steps.debag import Policy
from pipeline.steps.sync import BUILT_IN, SITE_FILE, Options, of_site

_UNREADABLE = (ParameterException, configparser.Error, ValueError, KeyError)


def load(*, working: bool = False) -> Settings:
    """All settings, checked.

    Args:
        working: works are to be brought home, so what production needs for that has to be there too: the archive.

    Raises:
        SettingsError: names every setting that is missing or wrong, at once.
    """
    read_named_files()
    _let_the_environment_win()
    unreadable = [problem for section in SECTIONS for problem in _unreadable(section)]
    problems = list(unreadable)
    try:
        sources, folders = read_sources(problems)
        problems += _unknown()
    except _UNREADABLE as error:
        where = f"[{error.section}] {error.option}: " if isinstance(error, configparser.InterpolationError) else ""
        raise SettingsError([*problems, f"luigi.cfg: {where}{_reason(error)}"]) from None
    if unreadable:
        raise SettingsError(problems)
    main, data, messages, fetching, bags, syncing = pipeline(), database(), queue(), download(), debag(), sync()
    telling = read_notify(notify(), problems)
    url = database_url(data, problems)
    credentials = aws_credentials(sources, problems)
    scheduler = _scheduler(problems)
    check_download(fetching, problems)
    check(main, messages, bags, syncing, problems, scheduler=scheduler.url)
    options = _sync_options(syncing.options_file, problems)
    if main.environment == "prod":
        production.refuse_demo_settings(url, sources, problems)
        if working:
            problems += production.missing_archive(_path(main.archive_root), marker=syncing.mount_marker)
    if problems:
        raise SettingsError(problems)
    return Settings(
        environment=main.environment,
        host=main.host or socket.gethostname(),
        lanes=main.lanes,
        staging=_path(main.staging),
        quarantine=_path(main.quarantine),
        logs=_path(main.logs),
        log_files=main.log_files,
        log_json=main.log_format == "json",
        alive_file=_path(main.alive_file) if main.alive_file else None,
        archive_root=_path(main.archive_root),
        margin_bytes=main.margin_bytes,
        database_url=url,
        aws_credentials=credentials,
        wait_seconds=messages.wait_seconds,
        lease_seconds=messages.lease_seconds,
        heartbeat_seconds=messages.heartbeat_seconds,
        backoff_seconds=messages.backoff_seconds,
        backoff_limit_seconds=messages.backoff_limit_seconds,
        download_connections=fetching.connections,
        download_chunk_bytes=fetching.chunk_bytes,
        download_bandwidth_bytes_per_second=fetching.bandwidth_bytes_per_second,
        download_verify=fetching.verify,
        debag_threads=bags.threads,
        debag_policy=Policy(
            max_ratio=bags.max_ratio,
            max_members=bags.max_members,
            allow_weak_digests=bags.allow_weak_digests,
            rid_mismatch=bags.rid_mismatch,
            require_tag_manifest=bags.require_tag_manifest,
            reserve_bytes=main.margin_bytes,
        ),
        sync_copier=syncing.copier,
        sync_mount_marker=syncing.mount_marker,
        sync_script=_path(syncing.script),
        sync_web_parent=syncing.web_parent,
        sync_db_config=syncing.db_config or db_config_default(main.environment),
        sync_debug=syncing.debug,
        sync_time_limit_seconds=syncing.time_limit_seconds,
        sync_audit_limit_seconds=syncing.audit_limit_seconds,
        sync_options=options,
        sync_heed_works=syncing.work_options == "heed",
        scheduler=scheduler,
        notify=telling,
        sources=sources,
        folders=folders,
    )


def _unreadable(section: type[luigi.Config]) -> Iterator[str]:
    """The values of a section that are not what they have to be, each by its name."""
    for name, parameter in section.get_params():
        try:
            parameter.task_value(section.__name__, name)
        except _UNREADABLE as error:
            yield f"luigi.cfg: [{section.__name__}] {name}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Why a value cannot be read. One that is badly quoted is not told: it may be a password."""
    if isinstance(error, configparser.InterpolationSyntaxError):
        return "a % has to be written %%"
    # Luigi tells the reason of a failed ${NAME} only in the cause.
    return f"{error}" + (f" ({error.__cause__})" if error.__cause__ else "")


def _let_the_environment_win() -> None:
    config = luigi.configuration.get_config()
    for section in SECTIONS:
        for name, _ in section.get_params():
            value = os.environ.get(f"PIPELINE_{section.__name__}_{name}".upper())
            if value is not None:
                config.set(section.__name__, name, value.replace("%", "%%"))
    if "PIPELINE_ENV" in os.environ:
        config.set("pipeline", "environment", os.environ["PIPELINE_ENV"])
    for (name, option), default in production.defaults(config.get("pipeline", "environment", "dev")).items():
        if not config.has_option(name, option):
            config.set(name, option, default)


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


def _sync_options(options_file: str, problems: list[str]) -> Options:
    """The site's options of the sync; a file that was set has to be there, one in BDRC's place need not."""
    file = _path(options_file) if options_file else Path.home() / SITE_FILE
    if options_file and not file.exists():
        problems.append(f"[sync] options_file: {file} is not there")
    try:
        return of_site(file)
    except OptionsNotUnderstood as error:
        problems.append(f"[sync] options: {error.what}")
    return BUILT_IN


def _scheduler(problems: list[str]) -> Scheduler:
    """The central scheduler, as Luigi's own sections tell of it."""
    name, option = "scheduler", "worker_disconnect_delay"
    seconds = Scheduler.disconnect_seconds
    try:
        seconds = luigi.configuration.get_config().getfloat(name, option, seconds)
    except _UNREADABLE as error:
        problems.append(f"luigi.cfg: [{name}] {option}: {_reason(error)}")
    return Scheduler(url=_scheduler_url(), disconnect_seconds=seconds)


def _scheduler_url() -> str:
    config = luigi.configuration.get_config()
    url = os.environ.get("PIPELINE_SCHEDULER_URL") or config.get("core", "default_scheduler_url", "")
    if not url:
        host = config.get("core", "default_scheduler_host", "localhost")
        url = f"http://{host}:{config.get('core', 'default_scheduler_port', '8082')}"
    return str(url).rstrip("/")
