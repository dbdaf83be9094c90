"""Reading all settings, and checking them at once."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import luigi.configuration

from pipeline.debag import Policy
from pipeline.foundation.errors import OptionsNotUnderstood, SettingsError
from pipeline.settings import production
from pipeline.settings.checks import check, check_download, check_ours
from pipeline.settings.files import UNREADABLE, read_named_files, reason
from pipeline.settings.notifying import read_notify
from pipeline.settings.paths import from_project as _path
from pipeline.settings.places import placed
from pipeline.settings.secrets import aws_credentials, database_url, db_config_default, scheduler_url
from pipeline.settings.sections import SECTIONS, database, debag, download, notify, pipeline, queue, sync
from pipeline.settings.sources import read_sources
from pipeline.settings.unknown import unknown
from pipeline.settings.values import Scheduler, Settings
from pipeline.sync import BUILT_IN, DEFAULT_PATH, SITE_FILE, Options, of_site

_Section = TypeVar("_Section", bound=luigi.Config)


def load(*, working: bool = False, make_password: bool = False) -> Settings:
    """All settings, checked.

    Args:
        working: works are to be brought home, so what production needs for that has to be there too: the archive.
        make_password: of a PostgreSQL of this host that has none yet.

    Raises:
        SettingsError: names every setting that is missing or wrong, at once.
    """
    read_named_files()
    _let_the_environment_win()
    problems: list[str] = []
    main, data, messages = _read(pipeline, problems), _read(database, problems), _read(queue, problems)
    fetching, bags, syncing = _read(download, problems), _read(debag, problems), _read(sync, problems)
    telling = read_notify(_read(notify, problems), problems)
    sources, folders = read_sources(problems)
    problems += unknown([*sources, *folders])
    url = database_url(data, problems, make_password=make_password)
    credentials = aws_credentials(sources, problems)
    scheduler = _scheduler(main.scheduler_password_file, problems)
    check_download(fetching, problems)
    check(main, messages, bags, syncing, problems, scheduler=scheduler.url)
    options = _sync_options(syncing.options_file, problems)
    if main.environment == "prod":
        production.refuse_demo_settings(url, sources, problems)
        if working:
            problems += production.missing_archive(_path(main.archive_root), marker=syncing.mount_marker)
    if working:
        check_ours(main, problems)
    if problems:
        raise SettingsError(placed(problems))
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
        retry_days=messages.retry_days,
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
        sync_path=":".join([*(str(_path(folder)) for folder in syncing.path.split(":") if folder), DEFAULT_PATH]),
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


def _read(section: type[_Section], problems: list[str]) -> _Section:
    """A section; a value that cannot be read is added to `problems`, and its default stands in for the checks."""
    config, where, instead = luigi.configuration.get_config(), section.__name__, {}
    known = dict(section.get_params())
    for name in dict.fromkeys([*known, *(config[where] if config.has_section(where) else ())]):
        try:
            if name in known:
                known[name].task_value(where, name)
            else:
                config.get(where, name)
        except UNREADABLE as error:
            problems.append(f"[{where}] {name}: {reason(error)}")
            config.set(where, name, "")  # Luigi reads all that stands in a section, also what is no setting of it
            if name in known:
                instead[name] = known[name].task_value("a section that nobody sets", name)
    made: _Section = section(**instead)
    return made


def _let_the_environment_win() -> None:
    config = luigi.configuration.get_config()
    for section in SECTIONS:
        for name, _ in section.get_params():
            value = os.environ.get(f"PIPELINE_{section.__name__}_{name}".upper())
            if value is not None:
                config.set(section.__name__, name, value.replace("%", "%%"))
    if "PIPELINE_ENV" in os.environ:
        config.set("pipeline", "environment", os.environ["PIPELINE_ENV"].replace("%", "%%"))
    environment = ""
    with suppress(*UNREADABLE):  # told where the section is read
        environment = config.get("pipeline", "environment", "dev")
    for (name, option), default in production.defaults(environment).items():
        if not config.has_option(name, option):
            config.set(name, option, default)


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


def _scheduler(password_file: str, problems: list[str]) -> Scheduler:
    """The central scheduler, as Luigi's own sections tell of it."""
    config = luigi.configuration.get_config()
    seconds, url = Scheduler.disconnect_seconds, os.environ.get("PIPELINE_SCHEDULER_URL", "")
    try:
        seconds = config.getfloat("scheduler", "worker_disconnect_delay", seconds)
    except UNREADABLE as error:
        problems.append(f"[scheduler] worker_disconnect_delay: {reason(error)}")
    try:
        url = url or config.get("core", "default_scheduler_url", "")
        if not url:
            host = config.get("core", "default_scheduler_host", "localhost")
            url = f"http://{host}:{config.get('core', 'default_scheduler_port', '8082')}"
    except UNREADABLE as error:
        problems.append(f"[core] default_scheduler_url: {reason(error)}")
    return Scheduler(
        url=scheduler_url(url.rstrip("/"), password_file, problems),
        password_file=_path(password_file),
        disconnect_seconds=seconds,
    )
