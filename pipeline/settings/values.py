"""What was set, as plain frozen values: nothing below this package knows where a setting came from."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.steps.debag import Policy
from pipeline.steps.sync import Options
from pipeline.work import without_user


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
    """The central scheduler, from Luigi's own `[core]`.

    Attributes:
        url: with user and password where it stands behind a proxy that asks for them.
    """

    url: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The URL for people: without user and password."""
        return without_user(self.url)


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
    download_connections: int
    download_chunk_bytes: int
    download_bandwidth_bytes_per_second: int
    download_verify: bool
    debag_threads: int
    debag_policy: Policy
    sync_copier: str
    sync_mount_marker: str
    sync_script: Path
    sync_web_parent: str
    sync_db_config: str
    sync_debug: bool
    sync_time_limit_seconds: int
    sync_audit_limit_seconds: int
    sync_options: Options
    sync_heed_works: bool
    scheduler: Scheduler
    sources: tuple[Source, ...]

    @property
    def lane_logs(self) -> Path | None:
        """Where lanes log to, besides stderr."""
        return self.logs if self.log_files else None

    def source(self, name: str) -> Source | None:
        """The source of that name."""
        return next((source for source in self.sources if source.name == name), None)

    def source_of_bucket(self, bucket: str) -> Source:
        """The source whose bucket this is; a source with no more than boto3's own defaults for other buckets."""
        return next((source for source in self.sources if source.bucket == bucket), Source(name="", bucket=bucket))
