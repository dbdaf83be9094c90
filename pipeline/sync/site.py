"""What a sync needs to know of the site, and what it tells when it is done: values only."""

import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.foundation.declared import Setting, at_least, holds, setting
from pipeline.sync.narrowing import BUILT_IN, SyncOptions
from pipeline.sync.proof import Proof

SCRIPT, BUILTIN = "script", "builtin"
LOCAL, ARCHIVE = "local", "archive"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _own_user_name() -> str:
    """The name of the user who runs this; the number where the machine has no name for it (as in containers)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(frozen=True)
class SyncSettings:
    """`[sync]`: the sync script and what it is told.

    Attributes:
        archive_root: the folder that holds `Archive0` to `Archive3`; has to exist.
        script: run by bash, needs no x bit.
        logs: where the logs of sync and audit tool go, in BDRC's folders by day and time.
        options: what the site's own file of options says.
        aws_credentials: becomes `AWS_SHARED_CREDENTIALS_FILE` if the file exists.
        host_name: `hostName`.
        user_name: `userName`.
        log_dip_version: `logDipVersion`, the version of BDRC's log_dip.
        audit_tool_version: `auditToolVersion`.
        path: all of them, once it is read: those that are set and the system's.
        grace_seconds: how long a script that is stopped may take to tidy up between TERM and KILL.
        log_limit_bytes: how much of the script's output is kept in its log file; the end is always kept.
    """

    archive_root: Path
    script: Path = field(
        metadata={"setting": Setting("the site's script, or the one shipped", None, "bin/syncOneWork.sh")}
    )
    logs: Path
    copier: str = setting(
        SCRIPT,
        "who copies: the script, or the pipeline itself",
        choices=(SCRIPT, BUILTIN),
    )
    staging: str = setting(
        ARCHIVE,
        "where bags are unpacked for the builtin copier: archive, where its file system allows it, saves a copy; local",
        choices=(LOCAL, ARCHIVE),
    )
    mount_marker: str = setting(
        "",
        "name of a file in each Archive{n} of the mounted archive; empty: not looked for",
        holds(lambda name, _: "/" not in name and name not in {".", ".."}, "is {!r}, not the name of a file"),
    )
    path: str = setting(
        DEFAULT_PATH,
        "folders, joined by colons, for the script's PATH, after its own and before the system's",
        text="",
    )
    web_parent: str = setting(
        "",
        "S3 prefix for images/; empty: no web copy",
        holds(
            lambda prefix, its: its.copier == SCRIPT or not prefix,
            "is set, but copier is builtin, which makes no web copy: one of them has to go",
        ),
    )
    db_config: str = setting("", "DB_CONFIG of the script: level:file of database connections")
    debug: bool = setting(default=False, meaning="DEBUG_SYNC of the script")
    time_limit_seconds: float = setting(0, "the script is ended after this; 0: never")
    audit_limit_seconds: int = setting(0, "so long may each run of the audit tool take; 0: any", at_least(0))
    options_file: str = setting("", "the site's options; empty: ~/.config/bdrc/site-sync.yml")
    heed_works: bool = setting(
        default=True,
        meaning="config/sync.yml in works; it can only narrow",
        name="work_options",
        text="heed",
        choices={"heed": True, "ignore": False},
    )
    options: SyncOptions = BUILT_IN
    aws_credentials: Path | None = None
    host_name: str = field(default_factory=socket.gethostname)
    user_name: str = field(default_factory=_own_user_name)
    log_dip_version: str = "unknown"
    audit_tool_version: str = "unknown"
    grace_seconds: float = 5
    log_limit_bytes: int = 256 * 1024 * 1024

    @property
    def script_path(self) -> str:
        """`PATH` of the script: its own folder first, so that it finds what a site keeps beside it."""
        return f"{self.script.absolute().parent}:{self.path}"


@dataclass(frozen=True)
class Synced:
    """A work whose archive copy is complete, durable, and was read back and matched.

    Attributes:
        path: the work's folder in the archive.
        files: how many files the bag brought; all of them matched.
        bytes: their size together.
        written: False when everything was there already, and the script was not run.
        added: how many of the files were not in the archive before.
        extra: names in the archive that the bag does not have, relative to `path`.
        log: the `syncLogDateTimeFile`; None when the script was not run.
        seconds: how long all of it took.
        algorithms: the digests that were compared.
        cache_dropped: True when every file was read back from the storage and not from this machine's page cache;
            False where the system cannot promise that.
        options: what was asked for.
        audits: what became of the audits, by `pre` and `post`.
        proof: the verified digests that stay with the work.
        replaced: names whose other content was moved aside to make way, by an operator's word.
        replaced_to: where that is kept; empty when nothing was.
        not_kept: what of the new files' metadata the archive does not have, in words: times, modes.
    """

    path: Path
    files: int
    bytes: int
    written: bool
    added: int
    extra: tuple[str, ...]
    log: Path | None
    seconds: float
    algorithms: tuple[str, ...]
    cache_dropped: bool
    options: SyncOptions
    audits: Mapping[str, str]
    proof: Proof
    replaced: tuple[str, ...] = ()
    replaced_to: str = ""
    not_kept: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What the record keeps of a sync."""
        return {
            "archive_path": str(self.path),
            "files": self.files,
            "bytes": self.bytes,
            "written": self.written,
            "added": self.added,
            "cache_dropped": self.cache_dropped,
            "replaced": list(self.replaced[:1000]),
            "replaced_to": self.replaced_to,
            "not_kept": ", ".join(self.not_kept),
            "extra": list(self.extra[:1000]),
            "algorithms": list(self.algorithms),
            "log": str(self.log or ""),
            "options": self.options.facts(),
            "audits": dict(self.audits),
            "proof": {"name": self.proof.name, "sha512": self.proof.sha512},
            "seconds": round(self.seconds, 3),
        }
