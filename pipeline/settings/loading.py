"""All settings at once: the sections, the sources, and what they refer to."""

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pipeline import debag, download, sync
from pipeline.foundation import guarded, owners
from pipeline.foundation.errors import OptionsNotUnderstood, SettingsError
from pipeline.foundation.work import without_user
from pipeline.replicate import Replica
from pipeline.settings import production
from pipeline.settings.mistakes import placed, unknown
from pipeline.settings.prices import Prices, Restores
from pipeline.settings.reading import UNREADABLE, from_project, luigi_cfg, read, read_named_files, reason, variable
from pipeline.settings.receivers import Callback
from pipeline.settings.retention import Retention
from pipeline.settings.secrets import aws_credentials, database_url, db_config_default, scheduler_url
from pipeline.settings.sections import (
    KINDS,
    Database,
    Fixity,
    Folder,
    Messages,
    Notify,
    Pipeline,
    Source,
    name_of,
    wrong_address,
)

_OfSources = TypeVar("_OfSources", bound=Replica | Callback)


@dataclass(frozen=True)
class Scheduler:
    """The central scheduler, from Luigi's own `[core]`.

    Attributes:
        url: with user and password, which its door asks for.
        password_file: where that password lies, or is to be made.
        disconnect_seconds: after which luigid misses a worker that fell silent, if it reads the same luigi.cfg.
    """

    url: str = field(repr=False)
    password_file: Path
    disconnect_seconds: float = 60.0

    @property
    def shown(self) -> str:
        """The URL for people: without user and password."""
        return without_user(self.url)


@dataclass(frozen=True, kw_only=True)
class Settings(Pipeline, Messages):
    """Everything that was set, checked: `[pipeline]` and `[queue]`, and each other section as a value of its own."""

    database_url: str = field(repr=False)  # with its password
    download: download.FetchOptions
    debag: debag.Policy
    sync: sync.SyncSettings
    scheduler: Scheduler
    notify: Notify
    restore: Restores
    retention: Retention
    fixity: Fixity
    prices: tuple[Prices, ...]
    sources: tuple[Source, ...]
    folders: tuple[Folder, ...]
    replicas: tuple[Replica, ...] = ()
    callbacks: tuple[Callback, ...] = ()

    def replicas_for(self, source: str) -> tuple[Replica, ...]:
        """Where bags of that source get a second copy."""
        return tuple(one for one in self.replicas if one.wants(source))

    def callbacks_for(self, event: str, source: str) -> list[str]:
        """Who is told of that event, of a work from that source."""
        return [one.name for one in self.callbacks if one.wants(event, source)]

    def source(self, name: str) -> Source | None:
        """The queue's source of that name."""
        return next((source for source in self.sources if source.name == name), None)

    def prices_in(self, source: str) -> Prices:
        """What S3 takes in the region of a source."""
        return self.prices_of((self.source(source) or Source("")).region)

    def prices_of(self, region: str) -> Prices:
        """What S3 takes in a region."""
        return next((one for one in self.prices if one.name == region), Prices(region))

    def folder(self, name: str) -> Folder | None:
        """The folder's source of that name."""
        return next((folder for folder in self.folders if folder.name == name), None)

    def folder_of_zip(self, path: Path) -> Folder | None:
        """The source in whose folder (or below it, or in its refused folder) a zip lies."""
        return next(
            (one for one in self.folders if path.is_relative_to(one.path) or path.is_relative_to(one.refused_path)),
            None,
        )

    def source_of_bucket(self, bucket: str) -> Source:
        """The source whose bucket this is; a source with no more than boto3's own defaults for other buckets."""
        return next((source for source in self.sources if source.bucket == bucket), Source(name="", bucket=bucket))


_AS_READ: dict[str, type[Any]] = {
    "download": download.FetchOptions,
    "notify": Notify,
    "restore": Restores,
    "retention": Retention,
    "fixity": Fixity,
}
"""Sections of which nothing depends on another, each a field of the settings of the same name."""


def load(*, working: bool = False, make_password: bool = False) -> Settings:
    """All settings, checked.

    Args:
        working: works are to be brought home, so what production needs for that has to be there too: the archive.
        make_password: of a PostgreSQL of this host that has none yet.

    Raises:
        SettingsError: names every setting that is missing or wrong, at once.
    """
    read_named_files()
    problems: list[str] = []
    main = read(Pipeline, "pipeline", problems)
    messages = read(Messages, "queue", problems)
    plain: dict[str, Any] = {name: read(kind, name, problems) for name, kind in _AS_READ.items()}
    policy = read(debag.Policy, "debag", problems, reserve_bytes=main.margin_bytes)
    url = database_url(read(Database, "database", problems), problems, make_password=make_password)
    sources, folders = _sources(problems)
    prices = tuple(read(Prices, section, problems, name=name) for section, name in _named("prices"))
    names = {*(one.name for one in sources), *(one.name for one in folders)}
    replicas, callbacks = _of_sources(Replica, problems, names), _of_sources(Callback, problems, names)
    problems += unknown([*sources, *folders, *prices, *replicas, *callbacks])
    credentials = aws_credentials([*sources, *replicas], problems)
    given: dict[str, Any] = {"archive_root": main.archive_root, "logs": main.logs, "aws_credentials": credentials}
    syncing = _sync(read(sync.SyncSettings, "sync", problems, **given), main.environment, problems)
    scheduler = _scheduler(main.scheduler_password_file, problems)
    if main.environment == "prod":
        production.refuse_demo_settings(url, sources, problems)
    if working:
        _see_fit_for_work(main, syncing, problems)
    if problems:
        raise SettingsError(placed(problems))
    return Settings(
        **{**vars(messages), **vars(main), "host": main.host or socket.gethostname()},
        database_url=url,
        **plain,
        debag=policy,
        sync=syncing,
        scheduler=scheduler,
        prices=prices,
        sources=sources,
        folders=folders,
        replicas=replicas,
        callbacks=callbacks,
    )


def _see_fit_for_work(main: Pipeline, syncing: sync.SyncSettings, problems: list[str]) -> None:
    """See that production has its archive, and that nobody else decides what lies in the folders of this host."""
    if main.environment == "prod":
        problems += production.missing_archive(main.archive_root, marker=syncing.mount_marker)
    for name in ("staging", "quarantine", "logs"):
        try:
            guarded.see_nobody_can_swap(getattr(main, name))
        except owners.NotOurs as error:
            problems.append(f"[pipeline] {name}: {error.strerror}")
        except OSError:
            continue  # whoever uses it says what is wrong with it


def _sync(read: sync.SyncSettings, environment: str, problems: list[str]) -> sync.SyncSettings:
    """With the site's options: a file that was set has to be there, one in BDRC's place need not."""
    file, options = from_project(read.options_file) if read.options_file else Path.home() / sync.SITE_FILE, read.options
    if read.options_file and not file.exists():
        problems.append(f"[sync] options_file: {file} is not there")
    try:
        options = sync.of_site(file)
    except OptionsNotUnderstood as error:
        problems.append(f"[sync] options: {error.what}")
    folders = [str(from_project(folder)) for folder in read.path.split(":") if folder]
    return replace(
        read,
        options=options,
        path=":".join([*folders, sync.DEFAULT_PATH]),
        db_config=read.db_config or db_config_default(environment),
    )


def _scheduler(password_file: str, problems: list[str]) -> Scheduler:
    """The central scheduler, as Luigi's own sections tell of it."""
    config = luigi_cfg()
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
    url = scheduler_url(url.rstrip("/"), password_file, problems)
    if wrong := wrong_address(url):
        problems.append(f"[core] default_scheduler_url {wrong}")
    return Scheduler(url=url, password_file=from_project(password_file), disconnect_seconds=seconds)


def _sources(problems: list[str]) -> tuple[tuple[Source, ...], tuple[Folder, ...]]:
    """Every `[source NAME]`, queues and folders."""
    config, found = luigi_cfg(), list[Source | Folder]()
    for section, name in _named("source"):
        try:
            kind = os.environ.get(variable(section, "kind")) or config.get(section, "kind", "") or "queue"
        except UNREADABLE as error:
            problems.append(f"[{section}] kind: {reason(error)}")
            kind = "queue"
        if kind not in KINDS:
            problems.append(f"[{section}] kind is {kind!r}, not queue or folder")
            continue
        found.append(read(KINDS[kind], section, problems, name=name))
    sources = tuple(one for one in found if isinstance(one, Source))
    folders = tuple(
        replace(
            one,
            done_path=one.path / "done" if one.done_path == Path() else one.done_path,
            refused_path=one.path / "refused" if one.refused_path == Path() else one.refused_path,
        )
        for one in found
        if isinstance(one, Folder)
    )
    _check_queues(sources, problems)
    _check_folders(folders, problems)
    return sources, folders


def _named(kind: str) -> list[tuple[str, str]]:
    """The sections of a kind, as `[source NAME]`, each with its name."""
    sections = [(one, *one.partition(" ")[::2]) for one in luigi_cfg().sections()]
    return [(section, name.strip()) for section, first, name in sections if first == kind and name.strip()]


def _of_sources(kind: type[_OfSources], problems: list[str], sources: Collection[str]) -> tuple[_OfSources, ...]:
    """Every `[replica NAME]` or `[callback NAME]`, each for some of the sources."""
    found = tuple(read(kind, section, problems, name=name) for section, name in _named(kind.__name__.lower()))
    for one in found:
        foreign = sorted({*one.sources} - {*sources})
        problems += [f"[{name_of(one)}] sources: there is no [source {other}]" for other in foreign]
    return found


def _check_queues(sources: Sequence[Source], problems: list[str]) -> None:
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
    return source.queue_name, source.endpoint_url.rstrip("/"), source.region, source.profile


def _check_folders(folders: Sequence[Folder], problems: list[str]) -> None:
    """What is done with a zip must not bring it back into a folder from which zips are taken."""
    taken = {folder.path: folder.name for folder in folders}
    for folder in folders:
        if taken[folder.path] != folder.name:
            problems.append(f"[source {folder.name}] path is that of [source {taken[folder.path]}] too")
        for name, path in (("done_path", folder.done_path), ("refused_path", folder.refused_path)):
            if path in taken:
                problems.append(f"[source {folder.name}] {name} is a folder from which zips are taken")
