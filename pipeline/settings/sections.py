"""The sections of `luigi.cfg` that are ours: each setting once, with its default, its meaning and its check.

Those of the steps `[download]`, `[debag]` and `[sync]` are declared where the steps are told what to do.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline import debag, download, sync
from pipeline.foundation.declared import at_least, holds, setting, within
from pipeline.foundation.work import DOOR_KEY_FILE
from pipeline.settings.prices import Restores
from pipeline.settings.retention import Retention


def wrong_address(url: str) -> str:
    """What is wrong with a web address; empty: nothing. It may hold a password, so nothing of it is shown."""
    if not url.isprintable() or " " in url:
        return "holds a blank or a line break"
    try:
        split = urlsplit(url)
        whole = split.scheme in {"http", "https"} and bool(split.hostname) and split.port != 0
    except ValueError:  # its words quote what they are about
        whole = False
    return "" if whole else "is not http(s)://host…"


@dataclass(frozen=True)
class Pipeline:
    """`[pipeline]`: where things lie on this host, and how much runs at once."""

    environment: str = setting(
        "dev",
        "dev or prod; PIPELINE_ENV wins",
        holds(lambda word, _: word in {"dev", "prod"}, "(PIPELINE_ENV) is {!r}, not dev or prod"),
    )
    lanes: int = setting(2, "works brought home at the same time on this host", within(1, 64))
    host: str = setting("", "name of this host in the record; empty: its own")
    staging: Path = setting(Path("var/staging"), "fast local disk for downloads and unpacked bags")
    quarantine: Path = setting(Path("var/quarantine"), "where refused bags are kept with their reports")
    logs: Path = setting(Path("var/logs"), "logs of the lanes and of the sync script")
    log_files: bool = setting(default=True, meaning="lanes log to files too, and not to stderr alone")
    log_json: bool = setting(
        default=False,
        meaning="json: a JSON object a line, with work, step and attempt",
        name="log_format",
        text="text",
        choices={"text": False, "json": True},
    )
    alive_file: Path | None = setting(
        None, "touched while all lanes run, or `notify --watch` does, for health checks; empty: none", text=""
    )
    scheduler_password_file: str = setting(
        DOOR_KEY_FILE, "holds the password of luigid's door (a secret); the default is for a luigid on this host"
    )
    archive_root: Path = setting(Path("var/archive"), "folder of Archive0 to Archive3", production="/mnt")
    margin_bytes: int = setting(
        1 << 30, "bytes that always stay free on the disks where bags are downloaded and unpacked", at_least(0)
    )

    @property
    def lane_logs(self) -> Path | None:
        """Where lanes log to, besides stderr."""
        return self.logs if self.log_files else None


@dataclass(frozen=True)
class Database:
    """`[database]`: the progress database."""

    url: str = setting("sqlite:///var/pipeline.db", "an SQLAlchemy URL", production="")
    url_file: str = setting("", "a file that holds the URL (a secret), instead of url")
    password_file: str = setting("", "a file that holds the URL's password (a secret)")
    db_config: str = setting("", "BDRC's level:file, as prod:/run/secrets/db_apps, instead of url")


@dataclass(frozen=True)
class Messages:
    """`[queue]`: how messages are taken and given back."""

    wait_seconds: int = setting(20, "long poll of watch mode, 1 to 20 s", within(0, 20, " (a limit of SQS)"))
    lease_seconds: int = setting(
        300,
        "how long a lane that fell silent keeps its work",
        holds(
            lambda seconds, its: 0 < its.heartbeat_seconds * 2 <= seconds <= 43_200,
            "is {}: not at least twice heartbeat_seconds and at most 12 h",
        ),
    )
    heartbeat_seconds: float = setting(60.0, "how often lease and visibility are renewed")
    backoff_seconds: int = setting(
        60,
        "first delay after a failure; doubles each time",
        holds(
            lambda first, its: 0 <= first <= its.backoff_limit_seconds <= 43_200,
            "and backoff_limit_seconds: not in order within 0 and 12 h",
        ),
    )
    backoff_limit_seconds: int = setting(3600, "longest delay after a failure")
    retry_days: float = setting(
        10.0,
        "what fails for longer is a dead letter, until `retry`",
        holds(lambda days, _: 0 < days < float("inf"), "is {}, not a number of days"),
    )


def _is_address(text: str) -> bool:
    return "@" in text and text.isprintable()


@dataclass(frozen=True)
class Notify:
    """`[notify]`: how operators are told of trouble; without a channel nobody is."""

    smtp_host: str = setting("", "the mail server; empty: no mail")
    smtp_port: int = setting(587, "its port")
    smtp_security: str = setting(
        "starttls",
        "how the connection is protected",
        holds(
            lambda way, its: way != "none" or not its.smtp_password,
            "is none: a password is sent over a protected connection only",
        ),
        choices=("starttls", "tls", "none"),
    )
    smtp_user: str = setting(
        "",
        "who sends; empty: the server asks nobody",
        holds(
            lambda user, its: bool(its.smtp_password) == bool(user),
            "and smtp_password_file: one is set, one is not",
        ),
    )
    smtp_password: str = setting(
        "", "a file that holds the password (a secret)", name="smtp_password_file", secret=True
    )
    mail_from: str = setting(
        "",
        "the sender's address",
        holds(
            lambda sender, its: not its.smtp_host or (its.mail_to and all(map(_is_address, (sender, *its.mail_to)))),
            "and mail_to: with smtp_host, both are addresses",
        ),
    )
    mail_to: tuple[str, ...] = setting((), "the receivers' addresses, with commas", text="")
    webhook_url: str = setting(  # who knows it may post
        "",
        "a file that holds the webhook's address (a secret)",
        lambda url, _: f": what it holds {wrong}" if url and (wrong := wrong_address(url)) else "",
        name="webhook_url_file",
        secret=True,
    )
    webhook_format: str = setting("slack", "slack: text alone; json: the facts too", choices=("slack", "json"))
    interval_seconds: int = setting(900, "least time between two messages of a channel", at_least(1))
    patience: int = setting(3, "so often may a passing failure happen to a bag unheard")
    expiry_hours: int = setting(48, "warn when a restored copy goes away within this", at_least(1))
    digest_hour: int = setting(7, "hour (UTC) of the daily digest; -1: none", within(-1, 23))


_EVERY = holds(lambda days, _: days == 0 or 7 <= days <= 3650, "is {}: neither 0 nor 7 to 3650")


@dataclass(frozen=True)
class Fixity:
    """`[fixity]`: how often what is kept is looked at; see docs/years.md."""

    due_days: int = setting(0, "each archived work is verified at least once in so many days; 0: nobody asked", _EVERY)
    replica_due_days: int = setting(0, "the same for second copies and `verify --replica`", _EVERY)


def _odd(address: str, _: object) -> str:
    """What is wrong with the address of a service, if it is one; its words show nothing of it."""
    if "://" not in address:
        return ""
    named = "@" in address.partition("://")[2].partition("/")[0]
    return wrong_address(address) or ("holds a user or a password: those belong to the profile" if named else "")


_TOPIC, _KEY = re.compile(r"[A-Za-z0-9_-]{1,256}"), re.compile(r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+")
_FLAG, _SECONDS = "true or false", "a number of seconds"
_UNBAGGED = "accept plain zips of works, recorded as verified by nothing"
_DURATION = holds(lambda seconds, _: 0 <= seconds < float("inf"), f"is {{:g}}, not {_SECONDS}")


@dataclass(frozen=True)
class Source:
    """A queue that tells of bags in a bucket."""

    name: str
    region: str = setting("", "AWS region of bucket and queue", needed=True)
    bucket: str = setting("", "the bucket whose events the queue brings; bags of others are refused", needed=True)
    queue: str = setting("", "the queue's name, or its URL", _odd, needed=True)
    profile: str = setting("", "section of the AWS credentials file; empty: as boto3 finds credentials")
    restore_profile: str = setting("", "the one that may ask for restores; empty: profile")
    endpoint_url: str = setting("", "another S3 and SQS than Amazon's; for trials", _odd)
    topic: str = setting(
        "",
        "an SNS topic between bucket and queue, for others who listen too; empty: none. For setup-aws, as kms_key",
        holds(
            lambda topic, its: not topic or (_TOPIC.fullmatch(topic) and not its.is_fifo),
            "is {!r}: not the name of a standard topic before a standard queue, as S3 and SNS want them",
        ),
    )
    kms_key: str = setting(
        "",
        "the ARN of the KMS key that encrypts queues and topic; empty: the queues by a key of SQS, the topic not",
        holds(lambda key, _: not key or _KEY.fullmatch(key), "is {!r}, not the ARN of a key (arn:aws:kms:…:key/…)"),
    )
    allow_unbagged: bool = setting(default=False, meaning=_UNBAGGED, wanted=_FLAG)
    several_works: bool = setting(
        default=False, meaning="a zip may hold other works than the one that its key names", wanted=_FLAG
    )

    @property
    def queue_name(self) -> str:
        """The queue's name, also where its URL was set."""
        return self.queue.rstrip("/").rpartition("/")[2]

    @property
    def is_fifo(self) -> bool:
        """Whether the queue is FIFO, which its name says (SQS API Reference, CreateQueue)."""
        return self.queue_name.endswith(".fifo")


class WhenDone(StrEnum):
    """What becomes of a zip in a folder when everything that it holds is home."""

    MOVE = "move"
    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True)
class Folder:
    """A folder into which zips are dropped."""

    name: str
    path: Path = setting(
        Path(), "the folder; never made, so that a disk that is not mounted is seen", text="", needed=True
    )
    done: WhenDone = setting(
        WhenDone.MOVE, "what becomes of zips that are home: move, delete, or keep", wanted=", ".join(WhenDone)
    )
    done_path: Path = setting(
        Path(), "where those go that are moved, on the same file system; empty: `done` in the folder", text=""
    )
    refused_path: Path = setting(
        Path(), "where refused ones go, with their reports; empty: `refused` in the folder", text=""
    )
    settle_seconds: float = setting(
        30, "a file that changed less long ago may still be written", _DURATION, wanted=_SECONDS
    )
    incomplete_seconds: float = setting(
        3600, "the same for a file that does not end as a zip does", _DURATION, wanted=_SECONDS
    )
    poll_seconds: float = setting(10, "how long a look at the folder serves", _DURATION, wanted=_SECONDS)
    allow_unbagged: bool = setting(default=False, meaning=_UNBAGGED, wanted=_FLAG)
    several_works: bool = setting(
        default=True, meaning="a zip may hold other works than the one that its name says", wanted=_FLAG
    )

    @property
    def targets(self) -> tuple[Path, ...]:
        """Where zips are moved to."""
        if self.done is WhenDone.KEEP:
            return ()
        return (self.refused_path, *([self.done_path] if self.done is WhenDone.MOVE else []))

    def refused_dir(self, work_rid: str, bag_id: str) -> Path:
        """Where a refused zip is kept with its report."""
        return self.refused_path / f"{work_rid}-{bag_id}"


SECTIONS: dict[str, type] = {
    "pipeline": Pipeline,
    "database": Database,
    "queue": Messages,
    "download": download.FetchOptions,
    "debag": debag.Policy,
    "sync": sync.SyncSettings,
    "notify": Notify,
    "restore": Restores,
    "retention": Retention,
    "fixity": Fixity,
}
KINDS: dict[str, type[Source] | type[Folder]] = {"queue": Source, "folder": Folder}
"""What a `[source NAME]` is, by its `kind`."""


def name_of(one: Any) -> str:
    """The name of its section: a source, or what is called as its class is."""
    return f"{'source' if isinstance(one, Source | Folder) else type(one).__name__.lower()} {one.name}"
