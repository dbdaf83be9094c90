"""The command line: verbs, exit status, what a person sees. Results go to stdout, logs to stderr."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import __version__, cli_watching
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

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 0, 1, 2, 3

_UNREACHABLE = (
    AccessDenied,
    ArchiveMissing,
    DatabaseUnavailable,
    FolderUnreachable,
    SchedulerUnreachable,
    StorageUnreachable,
)
_SIZES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_EXAMPLES = {
    "run": ["run", "run --watch --lanes 4"],
    "work": ["work W1NLM4700", "work W1NLM4700 --from debag", "work /mnt/usb/W1FPL2251.bag.zip"],
    "debag": ["debag W1NLM4700.bag.zip --into unpacked", "debag *.bag.zip --into unpacked --json"],
    "bag": ["bag works/W1NLM4700 --into bags"],
    "status": ["status --watch", "status W1NLM4700", "status --json | jq .at_risk"],
    "explain": ["explain W1NLM4700"],
    "retry": ["retry W1NLM4700 W1FPL2251", "retry --kind audit-failed"],
    "skip": ["skip W1NLM4700 --reason 'withdrawn by its owner'"],
    "pause": ["pause --reason 'the archive moves'"],
    "resume": ["resume"],
    "quarantine": ["quarantine list", "quarantine show W1NLM4700", "quarantine drop W1NLM4700 --yes"],
    "dead-letters": ["dead-letters list", "dead-letters resend W1NLM4700", "dead-letters resend --all"],
    "verify": ["verify W1NLM4700", "verify --oldest 200 --max-rate 50M"],
    "check": ["check", "check --json"],
    "db": ["db status", "db upgrade"],
    "demo": ["demo --bags 20 --size 20M --keep"],
}


def main(arguments: Sequence[str]) -> int:
    """Run the verb; returns the exit status.

    0: all done, or nothing to do. 1: some work failed. 2: wrong usage or settings. 3: something it depends on is out
    of reach.
    """
    parser = _parser()
    options = parser.parse_args(list(arguments) or ["run"])
    verb = options.verb or "run"
    try:
        # Each verb imports what it needs: `debag` and `--help` do without AWS, database and scheduler.
        module = importlib.import_module(f"pipeline.verbs.{verb.replace('-', '_')}")
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
        sys.stderr.write(f"run_pipeline.py: {line}\n")
    if isinstance(error, SettingsError):
        sys.stderr.write("run_pipeline.py: nothing was started; see luigi.cfg and .env\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_pipeline.py",
        description="Brings bags home from cold storage: download, debag, sync, record. Without a verb: run.",
        epilog="exit status: 0 all done or nothing to do; 1 some work failed; 2 wrong usage or settings; "
        "3 something it depends on is out of reach",
    )
    parser.add_argument("--version", action="version", version=__version__)
    # `run_pipeline.py --watch` means `run_pipeline.py run --watch`.
    _run_options(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    _run_options(verbs.add_parser("run", help="process what waits in all sources, then exit"), defaults=True)
    _work_options(verbs.add_parser("work", help="process works by hand"))
    _debag_options(verbs.add_parser("debag", help="debag zips: no AWS, no database"))
    _bag_options(verbs.add_parser("bag", help="make bag zips of work folders"))
    status = verbs.add_parser("status", help="what waits, runs, is done, failed, and why")
    status.add_argument("rid", nargs="?", metavar="RID", help="one work, with its history")
    status.add_argument("--json", action="store_true", help="one JSON document; see docs/status.md")
    status.add_argument(
        "--watch",
        type=positive,
        nargs="?",
        const=2,
        default=0,
        metavar="SECONDS",
        help="go on until Ctrl-C (every 2 s)",
    )
    status.add_argument(
        "--expiring", type=positive, default=48, metavar="HOURS", help="restored copies at risk: that end in less (48)"
    )
    explain = verbs.add_parser("explain", help="a work's whole story, what happens next, and the command to go on")
    explain.add_argument("rid", metavar="RID")
    explain.add_argument("--json", action="store_true", help="one JSON document")
    _repair_options(verbs)
    _verify_options(verbs.add_parser("verify", help="read archived works again and match them with their kept proof"))
    check = verbs.add_parser("check", help="settings, queues, buckets, database, scheduler, disk, sync script")
    check.add_argument("--json", action="store_true", help="one JSON document")
    database = verbs.add_parser("db", help="the tables of the progress database")
    database.add_argument("action", choices=["status", "upgrade"])
    cli_watching.add(verbs)
    _demo_options(verbs.add_parser("demo", help="the whole pipeline on an embedded stack, with sample bags"))
    for verb, examples in _EXAMPLES.items():
        one = verbs.choices[verb]
        one.formatter_class = argparse.RawDescriptionHelpFormatter
        one.epilog = "examples:\n" + "\n".join(f"  run_pipeline.py {example}" for example in examples)
    return parser


def _repair_options(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    retry = verbs.add_parser("retry", help="hand works back to the lanes: failed, refused, skipped, or waiting ones")
    retry.add_argument("rids", nargs="*", metavar="RID")
    retry.add_argument("--kind", default="", help="all that failed or were refused with this error, as audit-failed")
    skip = verbs.add_parser("skip", help="leave a work out; nothing is deleted")
    skip.add_argument("rid", metavar="RID")
    skip.add_argument("--reason", required=True, metavar="TEXT", help="kept in the record")
    skip.add_argument("--yes", action="store_true", help="without asking")
    pause = verbs.add_parser("pause", help="no lane on any host takes anything in; what runs is finished")
    pause.add_argument("--reason", default="", metavar="TEXT", help="kept in the record, and shown")
    verbs.add_parser("resume", help="lanes take works in again")
    _quarantine_options(verbs.add_parser("quarantine", help="refused bags, and what becomes of them"))
    _dead_letter_options(verbs.add_parser("dead-letters", help="messages that could never succeed"))


def _quarantine_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    listed = actions.add_parser("list", help="all refused bags on this host")
    shown = actions.add_parser("show", help="everything that is wrong with a bag, and whether it is the only copy")
    released = actions.add_parser("release", help="hand a refused bag back to the lanes; its zip is not fetched again")
    dropped = actions.add_parser("drop", help="delete a refused bag; asks first")
    for action in (listed, shown):
        action.add_argument("--json", action="store_true", help="one JSON document")
    for action in (shown, released, dropped):
        action.add_argument("names", nargs="+", metavar="RID", help="a work, or a bag's identity")
    dropped.add_argument("--yes", action="store_true", help="without asking")
    dropped.add_argument("--only-copy", action="store_true", help="also what S3 does not hold any more")


def _dead_letter_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    listed = actions.add_parser("list", help="all dead letters, with their reason and what has become of their works")
    shown = actions.add_parser("show", help="one with all that is known of it")
    resent = actions.add_parser("resend", help="send it back to its queue: its refused works are tried once more")
    for action in (listed, shown):
        action.add_argument("--json", action="store_true", help="one JSON document")
    shown.add_argument("names", nargs="+", metavar="MESSAGE", help="its identity, the beginning of it, or a RID")
    resent.add_argument("names", nargs="*", metavar="MESSAGE", help="its identity, the beginning of it, or a RID")
    resent.add_argument("--all", action="store_true", help="all of them")


def _run_options(parser: argparse.ArgumentParser, *, defaults: bool = False) -> None:
    # The options stand both before and after the verb: only the verb's own defaults may not wipe out the others.
    absent = argparse.SUPPRESS if defaults else None
    parser.add_argument("--watch", action="store_true", default=absent or False, help="keep going until stopped")
    parser.add_argument("--lanes", type=positive, default=absent, metavar="N", help="works at the same time")
    parser.add_argument(
        "--local-scheduler",
        action="store_true",
        default=absent or False,
        help="without luigid (with --lanes 1: in one process)",
    )
    parser.add_argument(
        "--verbose", action="store_true", default=absent or False, help="log more, Luigi's own words too"
    )


def _work_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="a RID, s3://bucket/key, or a local .zip")
    parser.add_argument(
        "--from", dest="from_step", choices=["download", "debag", "sync"], help="do this step and those after it again"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="let the bag's files replace others of the same names in the archive, which are kept in .replaced there",
    )
    parser.add_argument("--local-scheduler", action="store_true", help="without luigid")
    parser.add_argument("--verbose", action="store_true", help="log more, Luigi's own words too")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rids", nargs="*", metavar="RID", help="works to check")
    parser.add_argument("--all", action="store_true", help="every work in the archive")
    parser.add_argument(
        "--oldest", type=positive, default=0, metavar="N", help="the N works whose last check, or sync, is longest ago"
    )
    parser.add_argument(
        "--max-rate", type=size, default=0, metavar="BYTES", help="read no more than so much in a second: 500k, 50M"
    )
    parser.add_argument("--threads", type=positive, default=0, metavar="N", help="default: the CPUs available")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--verbose", action="store_true", help="log more")


def _debag_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("zips", nargs="+", type=Path, metavar="ZIP")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="each work becomes DIR/RID")
    parser.add_argument("--json", action="store_true", help="one JSON document: works and faults")
    parser.add_argument("--threads", type=positive, default=0, metavar="N", help="default: the CPUs available")
    parser.add_argument("--refuse-weak-digests", action="store_true", help="refuse bags with md5 or sha1 alone")
    parser.add_argument("--allow-unbagged", action="store_true", help="accept plain zips of works, verified by nothing")


def _bag_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work_dirs", nargs="+", type=Path, metavar="WORKDIR", help="its name is the RID")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="where RID.bag.zip goes")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, metavar="DIR", help="the folder for everything; default: a temporary one")
    parser.add_argument(
        "--bags", type=positive, default=6, metavar="N", help="how many, one of them corrupt (default 6)"
    )
    parser.add_argument(
        "--size", type=size, default=2 << 20, metavar="SIZE", help="of each work: 500k, 2M (default), 1G"
    )
    parser.add_argument("--lanes", type=positive, default=2, metavar="N", help="works at the same time (default 2)")
    parser.add_argument("--keep", action="store_true", help="leave the visualiser running until Ctrl-C")


def positive(text: str) -> int:
    """A number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def size(text: str) -> int:
    """A size in bytes of `500k`, `2M`, `1G` or a plain number, for argparse."""
    factor = _SIZES.get(text[-1:].lower(), 0)
    try:
        count = int(float(text[:-1]) * factor) if factor else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 500k, 2M, 1G") from error
    if not 0 < count <= 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is no size between 1 byte and 1 TiB")
    return count
