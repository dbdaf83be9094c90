"""The verbs that tell how things stand, to a person or to who watches, and change nothing but tables and checks."""

from pathlib import Path

from pipeline.cli.usage.verb import DATABASE, JSON, RID, SOURCES, THREADS, YES, Verb, option
from pipeline.foundation.arguments import hours, moment, positive, rate

_FOLDERS = "`[pipeline]`: staging, quarantine, archive"
_NO_WORK = {0: "it was told", 1: "", 2: "wrong usage or settings, or nothing is known of the work"}

_FILE = option("file", type=Path, metavar="FILE", help="gzip'd lines of JSON; docs/backups.md has the format")

_DB = (
    Verb("status", "tell the revision of the tables", ("db status",)),
    Verb(
        "upgrade",
        "make the tables in an empty database, or change those of an earlier release; what is in them stays",
        ("db upgrade",),
    ),
    Verb(
        "downgrade",
        "bring the tables back to an earlier revision, for an earlier release; asks first",
        ("db downgrade 0001 --yes",),
        options=(option("revision", metavar="REVISION", help="an earlier one"), YES),
    ),
    Verb(
        "export",
        "write the whole record to a new file, as it is at one instant, while lanes go on",
        ("db export /backup/record-2026-11-29.gz",),
        options=(_FILE,),
    ),
    Verb(
        "import",
        "fill an empty database of any kind with an exported record; asks if lanes were at work when it was made",
        ("db import /backup/record-2026-11-29.gz", "db import /backup/record-2026-11-29.gz --yes"),
        options=(_FILE, YES),
    ),
    Verb(
        "rebuild",
        "write the rows of archived works anew, from the proof that lies with each; asks first",
        ("db rebuild --from-archive", "db rebuild --from-archive --verify --yes"),
        options=(
            option(
                "--from-archive", action="store_true", required=True, help="the only place where they can come from"
            ),
            option(
                "--verify", action="store_true", help="read every byte before, as verify does; else names and sizes"
            ),
            YES,
            JSON,
        ),
    ),
)

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
        options=(
            option("rid", nargs="?", metavar="RID", help="one work, with its history"),
            option("--json", action="store_true", help="one JSON document; see docs/status.md"),
            option(
                "--watch",
                type=positive,
                nargs="?",
                const=2,
                default=0,
                metavar="SECONDS",
                help="go on until Ctrl-C (every 2 s)",
            ),
            option("--all", action="store_true", help="every work, not only the latest 200 of those that are home"),
            option(
                "--expiring",
                type=positive,
                default=48,
                metavar="HOURS",
                help="restored copies at risk: that end in less (48)",
            ),
        ),
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
        options=(RID, JSON),
        exits=_NO_WORK,
        reads=(DATABASE, _FOLDERS),
    ),
    Verb(
        "log",
        "the log of a work's last sync: what the sync script and the audit tool printed",
        ("log W1NLM4700", "log W1NLM4700 --all", "log W1NLM4700 --path | xargs less"),
        about="It is found through the record, in whichever folder of whichever day it lies. One that another host "
        "wrote is named with that host.",
        options=(
            RID,
            option("--path", action="store_true", help="only where the logs are: sync log and folder of audit logs"),
            option("--all", action="store_true", help="of every sync that the record knows, the oldest first"),
        ),
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
            "verify --due --max-hours 5 --max-rate 50MB/s",
            "verify --all --json",
            "verify --replica --due 30",
            "verify --forget W1FPL2251 --reason withdrawn",
        ),
        about="A fixity check: it only reads, and each check is an event in the record. What came home by the record "
        "is checked, and what the archive has of works that the record never heard of. A check that fails is an alarm "
        "in status, mails and metrics, until the work passes a check or comes home again, or --forget with --reason "
        "ends it. With --replica second copies are looked at: size and checksum as S3 tells them, without a byte "
        "retrieved. One of RID, --all, --oldest, --due and --forget is needed. Called each night, --due DAYS looks at "
        "each work once in so many days: at what might be late by the next night, never looked at first; and at a "
        "day's share of the others. Hosts that do so at the same time share the works. See docs/years.md.",
        options=(
            option("rids", nargs="*", metavar="RID", help="works to check"),
            option("--all", action="store_true", help="every work in the archive"),
            option(
                "--oldest",
                type=positive,
                default=0,
                metavar="N",
                help="the N works whose last check, or sync, is longest ago",
            ),
            option(
                "--due",
                type=positive,
                nargs="?",
                const=0,
                metavar="DAYS",
                help="what has to be looked at today, so that each is once in so many days; default: [fixity] due_days",
            ),
            option("--replica", action="store_true", help="look at second copies instead"),
            option(
                "--forget", default="", metavar="RID", help="check nothing: end the alarm of this work's failed check"
            ),
            option("--reason", default="", metavar="TEXT", help="why it is ended; kept in the record"),
            option(
                "--max-hours",
                type=hours,
                default=0,
                metavar="H",
                help="stop after so long; what was read half counts for nothing, and comes last the next time",
            ),
            option(
                "--max-rate",
                type=rate,
                default=0,
                metavar="RATE",
                help="read no more than so much in a second (500k, 50MB/s), and leave nothing of it in the page cache",
            ),
            THREADS,
            JSON,
            option("--verbose", action="store_true", help="log more"),
        ),
        exits={
            0: "nothing is wrong",
            1: "something is wrong, or not all could be checked; not if --max-hours was over",
            2: "wrong usage or settings, or a work is not archived, or has no alarm; nothing was checked",
            3: "the archive or the database is out of reach",
        },
        reads=(DATABASE, "`[pipeline]`: archive, logs", "`[fixity]`", "the proof kept with each work"),
        see=("sync.md", "years.md"),
    ),
    Verb(
        "check",
        "settings, queues, buckets, database, scheduler, disk, sync script",
        ("check", "check --json"),
        about="Each thing that the pipeline depends on, with a verdict. It makes the tables of an empty database, "
        "and the folders of staging, quarantine and logs. It tries in staging and in "
        "each share of the archive what their file systems can do, and leaves nothing there. limited: the pipeline "
        "works, and something of a work is not kept, or not taken.",
        options=(JSON,),
        exits={0: "all is well", 1: "", 2: "settings are wrong", 3: "something does not answer, or cannot be used"},
        reads=("all settings", "everything that they name"),
    ),
    Verb(
        "db",
        "the progress database: its tables, a copy of what is in them, a move, a record that is lost",
        tuple(action.examples[0] for action in _DB),
        about="A database of another kind is a matter of an evening: docs/backups.md has it step by step.",
        actions=_DB,
        exits={
            0: "it is done; of status: the tables serve this release",
            1: "they do not, or could not be changed; of rebuild: a work is not as its proof says, or was not reached",
            2: "wrong usage or settings, the file or the database is not fit, or nobody agreed; nothing was changed",
        },
        reads=(DATABASE, "of rebuild: `[pipeline]`: archive, and the proof kept with each work"),
        see=("backups.md",),
    ),
)

TELLING = (
    Verb(
        "report",
        "what a time came to: a page with pictures, or a table",
        ("report --html /srv/www/pipeline.html --since 7d", "report --csv --since 2026-11-01 > works.csv"),
        about="Needs what requirements-report.txt lists for --html.",
        options=(
            option("--html", type=Path, metavar="FILE", help="one page that needs nothing else"),
            option("--csv", nargs="?", const="-", metavar="FILE", help="the works as a table; to stdout, or a file"),
            option(
                "--since", type=moment, default="30d", metavar="WHEN", help="7d, 12h, 2026-11-01 (UTC); default: 30d"
            ),
        ),
        exits={0: "it was written", 1: ""},
    ),
    Verb(
        "metrics",
        "figures for Prometheus",
        ("metrics --listen 9108", "metrics --textfile /var/lib/node_exporter/pipeline.prom"),
        about="Works by outcome, bytes, durations of steps, queues, lanes, fixity checks, disks. One of --textfile and "
        "--listen is needed.",
        options=(
            option("--textfile", type=Path, metavar="FILE", help="written once, for the node exporter"),
            option("--listen", metavar="[HOST:]PORT", help="answers until stopped; on loopback, without a HOST"),
        ),
        exits={0: "it was written, or stopped; pipeline_up tells what answers", 1: "", 3: ""},
        reads=(DATABASE, SOURCES, "`[pipeline]`: staging, quarantine, archive"),
        see=("metrics.md",),
    ),
    Verb(
        "notify",
        "tell operators what is new, by mail and webhook, and receivers of callbacks of works",
        ("notify", "notify --test", "notify --watch"),
        about="Failures, dead letters (also those that SQS moved by itself), restores that expire soon, a daily "
        "digest: one message where a hundred would do. From cron every five minutes, or with --watch as a service.",
        options=(
            option("--test", action="store_true", help="send a sample through each channel, and to each receiver"),
            option("--watch", action="store_true", help="keep going until stopped"),
        ),
        exits={
            0: "what was due is sent",
            1: "",
            2: "wrong usage or settings, or there is neither channel nor receiver",
            3: "a channel or receiver did not take its message",
        },
        reads=(DATABASE, SOURCES, "`[notify]`, `[callback NAME]`, and the files of their secrets"),
        see=("notifications.md", "callbacks.md"),
    ),
    Verb(
        "callbacks",
        "what receivers of callbacks are still to be told, and what was given up",
        ("callbacks list", "callbacks list pathway --json", "callbacks resend pathway", "callbacks drop pathway --yes"),
        about="notify sends. What a receiver does not take in `give_up_days` is given up: resend has it sent again, "
        "drop forgets it. Of a receiver that is no longer set, drop forgets what waits, too.",
        options=(
            option("action", choices=["list", "resend", "drop"], help="look; or decide about what was given up"),
            option("name", nargs="?", default="", metavar="NAME", help="of its section [callback NAME]; list: or all"),
            JSON,
            YES,
        ),
        exits={1: "", 2: "wrong usage or settings, nothing was given up, or nobody agreed; nothing was changed"},
        reads=(DATABASE, "`[callback NAME]`"),
        see=("callbacks.md",),
    ),
    Verb(
        "completion",
        "a script that completes this command line in bash, zsh or fish",
        (
            "completion bash > ~/.local/share/bash-completion/completions/run_pipeline.py",
            'completion zsh > "${fpath[1]}/_run_pipeline.py"',
            "completion fish > ~/.config/fish/completions/run_pipeline.py.fish",
        ),
        about="Verbs, actions, options, choices and files. The folder has to be there (`mkdir -p`), and for bash "
        "Debian's package bash-completion. Print the script anew after a new release. Under whatever path the command "
        "is called it is completed, but not as `python …`.",
        options=(option("shell", choices=["bash", "zsh", "fish"], help="whose script is printed"),),
        exits={0: "it was printed", 1: "", 3: ""},
        reads=("nothing",),
    ),
)
