#!/usr/bin/env python3
"""Brings bags home from cold storage; `run_pipeline.py --help` tells how."""

import os
import signal
import sys
import warnings

WATCHES = "--watch" in sys.argv and "status" not in sys.argv


def stop_at_once(number: int, _frame: object) -> None:
    """A signal has come before anything was begun: end as an orderly stop does, whatever import it interrupts."""
    os.write(2, b"stopped\n" if WATCHES else b"interrupted\n")
    os._exit(0 if WATCHES else 128 + number)


def interruptible() -> None:
    """All is imported: from now on Ctrl-C is an exception, so that what was begun is cleared up."""
    if not WATCHES and signal.getsignal(signal.SIGINT) is stop_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":  # first of all: importing takes a second
    for _number in [signal.SIGINT, signal.SIGTERM] if WATCHES else [signal.SIGINT]:
        if signal.getsignal(_number) != signal.SIG_IGN:
            signal.signal(_number, stop_at_once)

from importlib.util import find_spec  # noqa: E402  # after the above
from pathlib import Path  # noqa: E402  # as above

ROOT = Path(__file__).resolve().parent
# Some of what requirements.txt lists: a Python that has all of these is one that was meant to run this.
_NEEDED = ("boto3", "dotenv", "luigi", "rich", "sqlalchemy")


def use_own_python() -> None:
    """Begin again with the Python of `make venv` where this one lacks what is needed: so a link to a script will do."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    own = ROOT / ".venv" / "bin" / "python"
    if missing and own.exists() and not Path(sys.prefix).samefile(ROOT / ".venv"):
        os.execv(own, [str(own), *sys.argv])  # noqa: S606  # no shell is wanted
    if missing:
        sys.exit(f"this Python has no {', no '.join(missing)}: run `make venv` in {ROOT}, then the same again")


def open_streams() -> None:
    """Give streams that were closed (`2>&-`) to nobody: the next file that is opened would get their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            while (given := os.open(os.devnull, os.O_RDWR)) < number:  # the lowest that is free
                pass
            if given > number:
                os.close(given)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # for as long as the process lives


def prepare_environment() -> None:
    """`.env` and the place of luigi.cfg have to be known before luigi is imported: it reads them while it is."""
    open_streams()
    # Told by settings.load with what to do, and of no concern to `debag`.
    warnings.filterwarnings("ignore", "Config file does not exist", UserWarning)
    from dotenv import load_dotenv  # noqa: PLC0415  # after the check that it is installed

    load_dotenv(ROOT / ".env")
    os.environ.setdefault("LUIGI_CONFIG_PATH", str(ROOT / "luigi.cfg"))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    use_own_python()
    prepare_environment()
    from pipeline.cli import main

    sys.exit(main(sys.argv[1:], imported=interruptible))
