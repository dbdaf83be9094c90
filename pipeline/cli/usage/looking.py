"""The verbs that tell how things stand, and change nothing but tables and checks."""

import argparse

from pipeline.cli.usage.verb import DATABASE, SOURCES, Verb
from pipeline.foundation.arguments import positive, size

_FOLDERS = "`[pipeline]`: staging, quarantine, archive"
_NO_WORK = {0: "it was told", 1: "", 2: "wrong usage or settings, or nothing is known of the work"}


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rid", nargs="?", metavar="RID", help="one work, with its history")
    parser.add_argument("--json", action="store_true", help="one JSON document; see docs/status.md")
    parser.add_argument(
        "--watch",
        type=positive,
        nargs="?",
        const=2,
        default=0,
        metavar="SECONDS",
        help="go on until Ctrl-C (every 2 s)",
    )
    parser.add_argument("--all", action="store_true", help="every work, not only the latest 200 of those that are home")
    parser.add_argument(
        "--expiring", type=positive, default=48, metavar="HOURS", help="restored copies at risk: that end in less (48)"
    )


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rid", metavar="RID", help="the work")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rid", metavar="RID", help="the work")
    parser.add_argument(
        "--path", action="store_true", help="only where the logs are: sync log and folder of audit logs"
    )
    parser.add_argument("--all", action="store_true", help="of every sync that the record knows, the oldest first")


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rids", nargs="*", metavar="RID", help="works to check")
    parser.add_argument("--all", action="store_true", help="every work in the archive")
    parser.add_argument(
        "--oldest", type=positive, default=0, metavar="N", help="the N works whose last check, or sync, is longest ago"
    )
    parser.add_argument(
        "--forget", default="", metavar="RID", help="check nothing: end the alarm of this work's failed check"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why it is ended; kept in the record")
    parser.add_argument(
        "--max-rate", type=size, default=0, metavar="BYTES", help="read no more than so much in a second: 500k, 50M"
    )
    parser.add_argument("--threads", type=positive, default=0, metavar="N", help="default: the CPUs available")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--verbose", action="store_true", help="log more")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _db(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["status", "upgrade", "downgrade"],
        help="tell the revision; make the tables this release's, or an earlier one's",
    )
    parser.add_argument("revision", nargs="?", default="", metavar="REVISION", help="of downgrade: an earlier one")
    parser.add_argument("--yes", action="store_true", help="without asking")


VERBS = (
    Verb(
        "status",
        "what waits, runs, is done, failed, and why",
        ("status", "status --watch", "status W1NLM4700", "status --json | jq .needs_you"),
        about="First what needs a person, with the command to go on, or that all is well. Then queues and folders with "
        "the age of what waits longest, lanes with rate and time left, restored copies that end soon, disks, archived "
        "works that failed their last fixity check, works with the reason of each failure: those that need a person "
        "first, and of those that are home the latest 200. A refused bag is over once a later one brought its work "
        "home: then it is only counted. On a terminal --watch is a table that moves. A queue that does not answer is "
        "told as such, and holds up nothing.",
        options=_status,
        exits=_NO_WORK,
        reads=(DATABASE, SOURCES, _FOLDERS),
        see=("status.md",),
    ),
    Verb(
        "explain",
        "a work's whole story, what happens next, and the command to go on",
        ("explain W1NLM4700", "explain W1NLM4700 --json"),
        about="When, where and what; how it was verified; attempts and failures; the logs of its syncs; what is on "
        "the disks of this host.",
        options=_explain,
        exits=_NO_WORK,
        reads=(DATABASE, _FOLDERS),
    ),
    Verb(
        "log",
        "the log of a work's last sync: what the sync script and the audit tool printed",
        ("log W1NLM4700", "log W1NLM4700 --all", "log W1NLM4700 --path | xargs less"),
        about="It is found through the record, in whichever folder of whichever day it lies. One that another host "
        "wrote is named with that host.",
        options=_log,
        exits={
            0: "it was shown, or there is none as nothing had to be copied",
            1: "it is on another host, or is not there any more",
            2: "wrong usage or settings, or nothing is known of the work",
        },
        reads=(DATABASE, "the logs below `[pipeline] logs`"),
        see=("sync.md",),
    ),
    Verb(
        "verify",
        "read archived works again and match them with their kept proof",
        (
            "verify W1NLM4700",
            "verify --oldest 200 --max-rate 50M",
            "verify --all --json",
            "verify --forget W1FPL2251 --reason withdrawn",
        ),
        about="A fixity check: it only reads, and each check is an event in the record. What came home by the record "
        "is checked, and what the archive has of works that the record never heard of. A check that fails is an alarm "
        "in status, mails and metrics, until the work passes a check or comes home again, or --forget with --reason "
        "ends it. One of RID, --all, --oldest and --forget is needed.",
        options=_verify,
        exits={
            0: "nothing is wrong",
            1: "something is wrong, or not all could be checked",
            2: "wrong usage or settings, or a work is not archived, or has no alarm; nothing was checked",
            3: "the archive or the database is out of reach",
        },
        reads=(DATABASE, "`[pipeline]`: archive, logs", "the proof kept with each work"),
        see=("sync.md",),
    ),
    Verb(
        "check",
        "settings, queues, buckets, database, scheduler, disk, sync script",
        ("check", "check --json"),
        about="Each thing that the pipeline depends on, with a verdict. It makes the tables of an empty database, "
        "and the folders of staging, quarantine and logs. It tries in staging and in "
        "each share of the archive what their file systems can do, and leaves nothing there. limited: the pipeline "
        "works, and something of a work is not kept, or not taken.",
        options=_check,
        exits={0: "all is well", 1: "", 2: "settings are wrong", 3: "something does not answer, or cannot be used"},
        reads=("all settings", "everything that they name"),
    ),
    Verb(
        "db",
        "the tables of the progress database",
        ("db status", "db upgrade", "db downgrade 0001 --yes"),
        about="upgrade makes them in an empty database, and changes those of an earlier release; what is in them "
        "stays. downgrade is for going back to an earlier release, and asks first.",
        options=_db,
        exits={0: "the tables are this release's", 1: "they are not"},
    ),
)
