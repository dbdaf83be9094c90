"""The command line: verbs, exit status, what a person sees. Results go to stdout, logs to stderr."""

import configparser
import contextlib
import errno
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from pipeline.cli import usage
from pipeline.foundation.errors import (
    AccessDenied,
    ArchiveMissing,
    DatabaseUnavailable,
    FolderUnreachable,
    PipelineError,
    SchedulerUnreachable,
    SettingsError,
    StorageUnreachable,
    UsageError,
)
from pipeline.foundation.work import printable

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 0, 1, 2, 3

SHARED = {"resume": "pause", "skip": "retry"}
"""Verbs that share another one's module."""
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_UNREACHABLE = (
    AccessDenied,
    ArchiveMissing,
    DatabaseUnavailable,
    FolderUnreachable,
    SchedulerUnreachable,
    StorageUnreachable,
)


def main(arguments: Sequence[str], *, imported: Callable[[], None] = lambda: None) -> int:
    """Run the verb; returns the exit status.

    0: all done, or nothing to do. 1: some work failed. 2: wrong usage or settings. 3: something it depends on is out
    of reach.

    Args:
        arguments: the verb and its options.
        imported: called when all that the verb needs is imported, before it begins.
    """
    options = usage.parser().parse_args(list(arguments) or ["run"])
    verb = options.verb or "run"
    try:
        module = _module(verb)
        imported()
        status = int(module.main(options))
        sys.stdout.flush()
    except PipelineError as error:
        return _complain(error, _status_of(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`… | head`).
        _forget_stdout()
        return EXIT_FAILED
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _forget_stdout()
        what = f"what {verb} tells could not be written: {error.strerror}"
        return _complain(PipelineError(what, by_hand="the same, with its output elsewhere"), EXIT_FAILED)
    return status


def _module(verb: str) -> ModuleType:
    """Each verb imports what it needs: `debag` and `--help` do without AWS, database and scheduler.

    Raises:
        SettingsError: luigi.cfg cannot be parsed, which Luigi does while it is imported.
    """
    gc.disable()  # what is imported stays; to look through it for garbage again and again takes a fifth of the time
    try:
        return importlib.import_module(f"pipeline.cli.verbs.{SHARED.get(verb, verb).replace('-', '_')}")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise SettingsError([f"luigi.cfg is not understood: {' '.join(str(error).split())}"]) from error
    finally:
        gc.freeze()
        gc.enable()


def _forget_stdout() -> None:
    """The interpreter would try again to write what is left, and complain, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _status_of(error: PipelineError) -> int:
    if isinstance(error, SettingsError | UsageError):
        return EXIT_USAGE
    return EXIT_UNREACHABLE if isinstance(error, _UNREACHABLE) else EXIT_FAILED


def _complain(error: PipelineError, status: int) -> int:
    lines = list(error.problems) if isinstance(error, SettingsError) else [str(error)]
    if isinstance(error, SettingsError):
        lines.append("nothing was started; see luigi.cfg and .env")
    with contextlib.suppress(OSError):  # stderr may be on a full disk: then the exit status alone tells
        for line in lines:
            text = "\n".join(printable(part) for part in line.split("\n"))
            sys.stderr.write(f"run_pipeline.py: {text}\n")
    return status
