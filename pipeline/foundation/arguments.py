"""The command line's words for numbers, sizes and moments, as argparse reads them; and its calls, as they are typed."""

import argparse
import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import NewType

PROGRAM = "run_pipeline.py"
Command = NewType("Command", str)
"""What a person can copy into a shell as it stands."""

_SIZES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def command(*words: str) -> Command:
    """A call of this program: the verb and its arguments, quoted; empty without."""
    return Command(shlex.join((PROGRAM, *words)) if words else "")


def way_on(go_on: str, by_hand: str = "") -> str:
    """How to go on, as a person reads it."""
    return "; ".join(filter(None, (by_hand and f"to do: {by_hand}", go_on and f"go on with: {go_on}")))


def without_way(sentence: str) -> str:
    """A failure's sentence without how to go on."""
    return re.split("; (?:to do|go on with): ", sentence)[0]


def positive(text: str) -> int:
    """A number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def size(text: str) -> int:
    """A size in bytes of `500k`, `2M`, `1G` or a plain number."""
    factor = _SIZES.get(text[-1:].lower(), 0)
    try:
        count = int(float(text[:-1]) * factor) if factor else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 500k, 2M, 1G") from error
    if not 0 < count <= 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is no size between 1 byte and 1 TiB")
    return count


def rate(text: str) -> int:
    """Bytes in a second: as a size, and as `50MB/s`."""
    return size(re.sub(r"(?i)(?<=\d|[kmg])b?(/s)?$", "", text))


def hours(text: str) -> float:
    """Hours, and parts of one."""
    number = float(text)
    if not 0 < number < 1000:
        raise argparse.ArgumentTypeError(f"{text} is no number of hours")
    return number


def moment(text: str) -> datetime:
    """A moment: `7d` or `12h` ago, or a date (and time) in UTC, unless it says otherwise."""
    try:
        if ago := re.fullmatch(r"(\d{1,5})([mhdw])", text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        then = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no moment: 7d, 12h, 2026-11-01, 2026-11-01T08:00") from error
    return then if then.tzinfo else then.replace(tzinfo=UTC)
