"""What the settings have to hold, whoever set them."""

from urllib.parse import urlsplit

from pipeline.foundation import guarded, owners
from pipeline.settings.paths import from_project
from pipeline.settings.sections import debag, download, pipeline, queue, sync

MOST_CONNECTIONS = 64
_LEAST_BANDWIDTH = 100_000  # below, a connection's buffer would take longer than a connection may be silent
ENVIRONMENTS = ("dev", "prod")


def check(main: pipeline, messages: queue, bags: debag, syncing: sync, problems: list[str], *, scheduler: str) -> None:
    """What every section has to hold; what is wrong is added to `problems`."""
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
        (0 < messages.retry_days < float("inf"), f"[queue] retry_days is {messages.retry_days}, not a number of days"),
        (bags.threads >= 0, "[debag] threads is negative"),
        (
            syncing.copier == "script" or not syncing.web_parent,
            "[sync] web_parent is set, but copier is builtin, which makes no web copy: one of them has to go",
        ),
        (
            "/" not in syncing.mount_marker and syncing.mount_marker not in {".", ".."},
            f"[sync] mount_marker is {syncing.mount_marker!r}, not the name of a file",
        ),
        (syncing.audit_limit_seconds >= 0, "[sync] audit_limit_seconds is negative"),
    ]
    problems += [text for holds, text in rules if not holds]
    if wrong := wrong_address(scheduler):
        problems.append(f"[core] default_scheduler_url {wrong}")


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


def check_ours(main: pipeline, problems: list[str]) -> None:
    """See that nobody else decides what lies in the folders of this host; what is wrong is added to `problems`."""
    for name in ("staging", "quarantine", "logs"):
        try:
            guarded.see_nobody_can_swap(from_project(getattr(main, name)))
        except owners.NotOurs as error:
            problems.append(f"[pipeline] {name}: {error.strerror}")
        except OSError:
            continue  # whoever uses it says what is wrong with it


def check_download(fetching: download, problems: list[str]) -> None:
    """What `[download]` has to hold; what is wrong is added to `problems`."""
    limit = fetching.bandwidth_bytes_per_second
    rules = [
        (
            1 <= fetching.connections <= MOST_CONNECTIONS,
            f"[download] connections is {fetching.connections}, not 1 to {MOST_CONNECTIONS}",
        ),
        (
            1 << 20 <= fetching.chunk_bytes <= 1 << 32,
            f"[download] chunk_bytes is {fetching.chunk_bytes}, not 1 MiB to 4 GiB",
        ),
        (
            limit == 0 or limit >= _LEAST_BANDWIDTH,
            f"[download] bandwidth_bytes_per_second is {limit}, not 0 (no limit) or at least {_LEAST_BANDWIDTH}",
        ),
    ]
    problems += [text for holds, text in rules if not holds]
