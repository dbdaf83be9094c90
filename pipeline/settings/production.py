"""What production refuses to start with: settings of demos and of development, and an archive that is not mounted."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pipeline import record
from pipeline.foundation import start
from pipeline.foundation.work import archive_shares
from pipeline.settings.reading import PROJECT
from pipeline.settings.sections import Source

_DEMO_KEY = "embedded"


def refuse_demo_settings(database_url: str, sources: Sequence[Source], problems: list[str]) -> None:
    """Settings that no production has; each that is found is added to `problems`."""
    if not database_url:
        if not any("[database]" in problem for problem in problems):  # or what was set is wrong, and told already
            problems.append(
                "[database] url, url_file or db_config is missing: production has no default (PIPELINE_ENV=prod)"
            )
    elif record.parsed_url(database_url).get_backend_name() == "sqlite":
        problems.append("[database] url is SQLite: production needs a database server (PIPELINE_ENV=prod)")
    for source in sources:
        if source.endpoint_url:
            host = urlsplit(source.endpoint_url).hostname or "?"
            problems.append(
                f"[source {source.name}] endpoint_url leads to {host}: production talks to Amazon's S3 and SQS, so it "
                "has to be empty (PIPELINE_ENV=prod)"
            )
    if os.environ.get("AWS_ACCESS_KEY_ID") == _DEMO_KEY:
        problems.append("AWS_ACCESS_KEY_ID holds the demo's key, not one of Amazon's (PIPELINE_ENV=prod)")
    if told := start.password_for_all(start.ENV):
        problems.append(f"{told} (PIPELINE_ENV=prod)")
    others = [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL")]
    problems += [f"{name} leads boto3 elsewhere than to Amazon (PIPELINE_ENV=prod)" for name in sorted(others)]


def missing_archive(archive_root: Path, *, marker: str) -> list[str]:
    """What tells that the archive is not mounted: what is written to the empty folder below it is lost to everybody.

    Args:
        archive_root: the folder of Archive0 to Archive3.
        marker: `[sync] mount_marker`; where it is set, a share that has it is mounted. One without it is told of by
            the works that belong there, which come back; only when none has it, nothing can be archived at all.
    """
    if archive_root.is_relative_to(PROJECT):
        return [f"[pipeline] archive_root is {archive_root}, in this program's own folder (PIPELINE_ENV=prod)"]
    if not archive_root.is_dir():
        return [f"[pipeline] archive_root {archive_root} is not there; is it mounted? (PIPELINE_ENV=prod)"]
    if marker:
        found = any((share / marker).is_file() for share in archive_shares(archive_root))
        return (
            []
            if found
            else [f"[sync] mount_marker: no share of {archive_root} has {marker}; is it mounted? (PIPELINE_ENV=prod)"]
        )
    bare = [share.name for share in archive_shares(archive_root) if not os.path.ismount(share)]
    if os.path.ismount(archive_root) or not bare:
        return []
    names = ", ".join(bare)
    return [f"[pipeline] archive_root {archive_root} is not mounted, nor are {names} in it (PIPELINE_ENV=prod)"]
