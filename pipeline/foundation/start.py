"""What comes before the first import of a library, which takes a second: signals, streams, UTF-8, Python, `.env`."""

import io
import os
import re
import shlex
import signal
import stat
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENV = str(ROOT / ".env")
_FILES = ("LUIGI_CONFIG_PATH", "PIPELINE_BASE_CONFIG")
# Some of what requirements.txt lists: a Python that has all of these is one that was meant to run this.
_NEEDED = ("boto3", "dotenv", "luigi", "rich", "sqlalchemy")
# Of an URL, or by the name of what is set, as `deploy` looks for them; not where only a file or a variable is named.
_PASSWORD = re.compile(
    r"://[^/\s:@]*:(?!\$\{)[^/\s@]+@|^[ \t]*(?:export[ \t]+)?(?!\w*(?:_file|secrets)\b)"
    r"\w*(?:password|passwd|secret|token|access_key|api_key)\w*[ \t]*[=:][ \t]*[\"']?[^\s\"'$./<]",
    re.IGNORECASE | re.MULTILINE,
)
_STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))
_ERRORS = ("surrogateescape", "surrogateescape", "backslashreplace")  # of the streams, as PEP 540 has them


def begin() -> None:
    """Prepare this process for the program, or begin it again with the project's own Python."""
    _open_streams()
    use_utf8()
    _use_own_python()
    # Told by settings.load with what to do, and of no concern to `debag`.
    warnings.filterwarnings("ignore", "Config file does not exist", UserWarning)
    # .env and the place of luigi.cfg have to be known before luigi is imported: it reads them while it is.
    if os.path.exists(ENV):
        from dotenv import load_dotenv  # noqa: PLC0415  # after the check that it is installed

        load_dotenv(ENV)
    os.environ.setdefault("LUIGI_CONFIG_PATH", str(ROOT / "luigi.cfg"))
    refused = os.environ.get("PIPELINE_ENV") == "prod"  # by the settings
    for file in dict.fromkeys([os.environ.get(name, "") for name in _FILES] + ([] if refused else [ENV])):
        if told := password_for_all(file):
            sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {told}\n")


def password_for_all(file: str) -> str:
    """What to do where every user of this host may read a file with a password, such as `.env`; empty: nothing."""
    unread = file == ENV and "PYTHON_DOTENV_DISABLED" in os.environ
    if unread or not os.path.isfile(file) or not os.stat(file).st_mode & stat.S_IROTH:
        return ""
    if not _PASSWORD.search(Path(file).read_text(encoding="utf-8", errors="replace")):
        return ""
    return f"{file} holds a password, and every user may read it: chmod 600 {shlex.quote(file)}"


def use_utf8() -> None:
    """Have this process and its children take names for UTF-8; begin it again where the locale says something else.

    A name is bytes, in a zip, in S3 and on disk. Python's UTF-8 mode (PEP 540) reads and writes them all, whatever the
    locale is, but has to be chosen before the interpreter starts.
    """
    os.environ["PYTHONUTF8"] = "1"
    os.environ.pop("PYTHONIOENCODING", None)
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode and sys.executable:
        os.environ["LC_ALL"] = "C.UTF-8"  # for children that are not Python
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  # no shell is wanted
    for stream, errors in zip((sys.stdin, sys.stdout, sys.stderr), _ERRORS, strict=True):
        if isinstance(stream, io.TextIOWrapper) and (stream.encoding, stream.errors) != ("utf-8", errors):
            stream.reconfigure(encoding="utf-8", errors=errors)


def watches(arguments: list[str]) -> bool:
    """Whether the program is to go on until it is told to stop, so that a stop is its right end."""
    return "--watch" in arguments and "status" not in arguments


def stop_at_once_on_signals(arguments: list[str]) -> None:
    """A signal that comes before anything was begun ends the process as an orderly stop does, in whatever import."""
    watching = watches(arguments)
    for number in (signal.SIGINT, signal.SIGTERM) if watching else (signal.SIGINT,):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop_watching if watching else _interrupt)


def interruptible() -> None:
    """All is imported: from now on Ctrl-C is an exception, so that what was begun is cleared up."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop_watching(_number: int, _frame: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(0)


def _interrupt(number: int, _frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


def _use_own_python() -> None:
    """Begin again with the Python of `make venv` where this one lacks what is needed: so a link to a script will do."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    own = ROOT / ".venv" / "bin" / "python"
    if missing and os.access(own, os.X_OK) and not Path(sys.prefix).samefile(ROOT / ".venv"):
        os.execv(own, [str(own), *sys.argv])  # noqa: S606  # no shell is wanted
    if missing:
        sys.exit(f"this Python has no {', no '.join(missing)}: run `make venv` in {ROOT}, then the same again")


def _open_streams() -> None:
    """Give streams that were closed (`2>&-`) to nobody: the next file that is opened would get their numbers."""
    for number, name, mode in _STREAMS:
        if getattr(sys, name) is None:
            while (given := os.open(os.devnull, os.O_RDWR)) < number:  # the lowest that is free
                pass
            if given > number:
                os.close(given)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # for as long as the process lives
