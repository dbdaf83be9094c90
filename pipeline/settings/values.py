"""What was set, as plain frozen values: nothing below this package knows where a setting came from."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pipeline.debag import Policy
from pipeline.foundation.work import without_user
from pipeline.sync import Options


@dataclass(frozen=True)
class Source:
    """A queue that tells of bags in a bucket: `[source NAME]`. Its settings: `sources.FIELDS`."""

    name: str
    region: str = ""
    bucket: str = ""
    queue: str = ""
    profile: str = ""
    endpoint_url: str = ""
    allow_unbagged: bool = False
    several_works: bool = False


class WhenDone(StrEnum):
    """What becomes of a zip in a folder when everything that it holds is home."""

    MOVE = "move"
    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True)
class Folder:
    """A folder into which zips are dropped: `[source NAME]` with `kind = folder`. Its settings: `sources.FIELDS`."""

    name: str
    path: Path
    done: WhenDone
    done_path: Path
    refused_path: Path
    settle_seconds: float
    incomplete_seconds: float
    poll_seconds: float
    allow_unbagged: bool = False
    several_works: bool = True

    @property
    def targets(self) -> tuple[Path, ...]:
        """Where zips are moved to."""
        if self.done is WhenDone.KEEP:
            return ()
        return (self.refused_path, *([self.done_path] if self.done is WhenDone.MOVE else []))

    def refused_dir(self, work_rid: str, bag_id: str) -> Path:
        """Where a refused zip is kept with its report."""
        return self.refused_path / f"{work_rid}-{bag_id}"


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


@dataclass(frozen=True)
class Notify:
    """How operators are told of trouble: see the section `[notify]`."""

    smtp_host: str
    smtp_port: int
    smtp_security: str
    smtp_user: str
    smtp_password: str = field(repr=False)
    mail_from: str
    mail_to: tuple[str, ...]
    webhook_url: str = field(repr=False)  # who knows it may post
    webhook_format: str
    interval_seconds: int
    patience: int
    expiry_hours: int
    digest_hour: int


@dataclass(frozen=True)
class Settings:
    """Everything that was set, checked."""

    environment: str
    host: str
    lanes: int
    staging: Path
    quarantine: Path
    logs: Path
    log_files: bool
    log_json: bool
    alive_file: Path | None
    archive_root: Path
    margin_bytes: int
    database_url: str = field(repr=False)  # with its password
    aws_credentials: Path | None
    wait_seconds: int
    lease_seconds: int
    heartbeat_seconds: float
    backoff_seconds: int
    backoff_limit_seconds: int
    retry_days: float
    download_connections: int
    download_chunk_bytes: int
    download_bandwidth_bytes_per_second: int
    download_verify: bool
    debag_threads: int
    debag_policy: Policy
    sync_copier: str
    sync_mount_marker: str
    sync_script: Path
    sync_path: str
    sync_web_parent: str
    sync_db_config: str
    sync_debug: bool
    sync_time_limit_seconds: int
    sync_audit_limit_seconds: int
    sync_options: Options
    sync_heed_works: bool
    scheduler: Scheduler
    notify: Notify
    sources: tuple[Source, ...]
    folders: tuple[Folder, ...] = ()

    @property
    def lane_logs(self) -> Path | None:
        """Where lanes log to, besides stderr."""
        return self.logs if self.log_files else None

    def source(self, name: str) -> Source | None:
        """The queue's source of that name."""
        return next((source for source in self.sources if source.name == name), None)

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
