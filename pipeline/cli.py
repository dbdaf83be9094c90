"""The command line: verbs, exit status, what a person sees. Results go to stdout, logs to stderr."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from pipeline import usage
from pipeline.errors import (
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
from pipeline.work import printable

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 0, 1, 2, 3

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
        # Each verb imports what it needs: `debag` and `--help` do without AWS, database and scheduler.
        module = importlib.import_module(f"pipeline.verbs.{verb.replace('-', '_')}")
        imported()
        status = int(module.main(options))
        sys.stdout.flush()
    except (SettingsError, UsageError) as error:
        return _complain(error, EXIT_USAGE)
    except _UNREACHABLE as error:
        return _complain(error, EXIT_UNREACHABLE)
    except PipelineError as error:
        return _complain(error, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`… | head`); the interpreter must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FAILED
    return status


def _complain(error: PipelineError, status: int) -> int:
    lines = error.problems if isinstance(error, SettingsError) else [str(error)]
    for line in lines:
        text = "\n".join(printable(part) for part in line.split("\n"))
        sys.stderr.write(f"run_pipeline.py: {text}\n")
    if isinstance(error, SettingsError):
        sys.stderr.write("run_pipeline.py: nothing was started; see luigi.cfg and .env\n")
    return status
