"""The options of the verbs with which a pipeline is watched from outside: report, metrics, notify."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add(verbs: Any) -> None:
    """Add the verbs to the command line's."""
    _report(verbs.add_parser("report", help="what a time came to: a page with pictures, or a table"))
    metrics = verbs.add_parser("metrics", help="figures for Prometheus")
    metrics.add_argument("--textfile", type=Path, metavar="FILE", help="written once, for the node exporter")
    metrics.add_argument("--listen", metavar="[HOST:]PORT", help="answers until stopped; on loopback, without a HOST")
    metrics.epilog = "example: run_pipeline.py metrics --listen 9108"
    notify = verbs.add_parser("notify", help="tell operators what is new, by mail and webhook")
    notify.add_argument("--test", action="store_true", help="send a sample through each channel")
    notify.add_argument("--watch", action="store_true", help="keep going until stopped")
    notify.epilog = "example, from cron every 5 minutes: run_pipeline.py notify"


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=Path, metavar="FILE", help="one page that needs nothing else")
    parser.add_argument(
        "--csv", nargs="?", const="-", metavar="FILE", help="the works as a table; to stdout, or a file"
    )
    parser.add_argument(
        "--since", type=moment, default="30d", metavar="WHEN", help="7d, 12h, 2026-11-01 (UTC); default: 30d"
    )
    parser.epilog = "example, nightly: run_pipeline.py report --html /srv/www/pipeline.html --since 30d"


def moment(text: str) -> datetime:
    """A moment, for argparse: `7d` or `12h` ago, or a date (and time) in UTC, unless it says otherwise."""
    try:
        if ago := re.fullmatch(r"(\d{1,5})([mhdw])", text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        then = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no moment: 7d, 12h, 2026-11-01, 2026-11-01T08:00") from error
    return then if then.tzinfo else then.replace(tzinfo=UTC)
