"""The verbs that bring works home, make bags and take them apart."""

import argparse
from pathlib import Path

from pipeline.cli.usage.verb import DATABASE, JSON, SOURCES, THREADS, YES, Verb, option
from pipeline.foundation.arguments import positive, size

_LINE = (
    "`[pipeline]`: staging, quarantine, archive, logs, lanes",
    DATABASE,
    SOURCES,
    "`[queue]`, `[download]`, `[debag]`, `[sync]`",
    "`[core] default_scheduler_url`: luigid, unless `--local-scheduler`",
    "`~/.config/bdrc/site-sync.yml`, or the file that `[sync] options_file` names",
    "the AWS credentials: `/run/secrets/aws`, else as boto3 finds them",
)
_BAG_EXITS = {1: "a bag was refused, or the disk refused something; all reasons are told", 3: ""}


RUN = (
    option("--watch", action="store_true", help="keep going until stopped"),
    option("--lanes", type=positive, metavar="N", help="works at the same time"),
    option("--local-scheduler", action="store_true", help="without luigid (with --lanes 1: in one process)"),
    option("--verbose", action="store_true", help="log more, Luigi's own words too"),
)
"""The options of `run`, which stand both before and after the verb."""

VERBS = (
    Verb(
        "run",
        "process what waits in all sources, then exit",
        ("run", "run --watch --lanes 4", "run --lanes 1 --local-scheduler"),
        about="The verb when none is given. Runs that overlap are harmless: what another one has is left to it. "
        "SIGTERM and Ctrl-C let each step stop at its next safe point, within seconds; a second signal "
        "forces.",
        # What is left out after the verb does not wipe out what stood before it.
        options=tuple((names, {**how, "default": argparse.SUPPRESS}) for names, how in RUN),
        exits={
            1: "some work failed, or was refused; status tells which, and why",
            3: "a queue, a folder, the database or luigid is out of reach; with --watch it is tried again instead",
        },
        reads=_LINE,
        see=("deployment.md", "sync.md", "bags.md"),
    ),
    Verb(
        "work",
        "process works by hand",
        (
            "work W1NLM4700",
            "work W1NLM4700 --from debag",
            "work s3://glacier.example.org/Archive0/00/W1NLM4700/W1NLM4700.bag.zip",
            "work drop/W1FPL2251.bag.zip --local-scheduler",
        ),
        about="What is done is not done again, unless --from says so. Other content under the same names in the "
        "archive stops the work, unless --replace lets it go; what is replaced is kept.",
        options=(
            option("targets", nargs="+", metavar="TARGET", help="a RID, s3://bucket/key, or a local .zip"),
            option(
                "--from",
                dest="from_step",
                choices=["download", "debag", "sync"],
                help="do this step and those after it again",
            ),
            option(
                "--replace",
                action="store_true",
                help="let the bag's files replace others of the same names in the archive, which are kept in .replaced "
                "there",
            ),
            option("--local-scheduler", action="store_true", help="without luigid"),
            option("--verbose", action="store_true", help="log more, Luigi's own words too"),
        ),
        exits={1: "a work failed, was refused, or is at work in a lane"},
        reads=_LINE,
        see=("sync.md", "bags.md"),
    ),
    Verb(
        "debag",
        "debag zips: no AWS, no database",
        ("debag W1NLM4700.bag.zip --into unpacked", "debag *.bag.zip --into unpacked --json"),
        about="Every byte is compared with every manifest while it is unpacked. A bag that breaks a rule is not "
        "unpacked, and all its faults are told. The zips stay as they are.",
        options=(
            option("zips", nargs="+", type=Path, metavar="ZIP", help="a zip of one bag or several"),
            option("--into", type=Path, required=True, metavar="DIR", help="each work becomes DIR/RID"),
            option("--json", action="store_true", help="one JSON document: works and faults"),
            THREADS,
            option("--refuse-weak-digests", action="store_true", help="refuse bags with md5 or sha1 alone"),
            option("--allow-unbagged", action="store_true", help="accept plain zips of works, verified by nothing"),
        ),
        exits=_BAG_EXITS,
        reads=("the zips; no settings",),
        see=("bags.md",),
    ),
    Verb(
        "replicate",
        "make second copies of works that are home",
        ("replicate W1NLM4700", "replicate --owed 500 --yes", "replicate --all --to deep --yes"),
        about="In the buckets of [replica NAME]. A work that comes home gets its copies by itself: this is for those "
        "that came before. Each file is matched with its kept digests while it is sent; a copy with the same content "
        "that is there already is not sent again. One of RID, --owed and --all is needed.",
        options=(
            option("rids", nargs="*", metavar="RID", help="the works"),
            option(
                "--owed",
                type=positive,
                nargs="?",
                const=0,
                metavar="N",
                help="those that lack one by the record, N at most",
            ),
            option("--all", action="store_true", help="every work in the archive"),
            option("--to", default="", metavar="NAME", help="in that replica alone"),
            option("--replace", action="store_true", help="put it over other content in a bucket without versions"),
            YES,
            JSON,
            option("--verbose", action="store_true", help="log more"),
        ),
        exits={
            0: "all are there",
            1: "one could not be made",
            2: "wrong usage or settings, or a work is not archived; nothing was sent",
            3: "the database is out of reach",
        },
        reads=(DATABASE, "`[replica NAME]`: buckets of second copies", "`[pipeline]`: archive, logs"),
        see=("replicas.md",),
    ),
    Verb(
        "bag",
        "make bag zips of work folders",
        ("bag works/W1NLM4700 --into bags", "bag works/* --into bags --json"),
        about="In BDRC's shape: sha512 manifests, one bag in one zip. The folders stay as they are.",
        options=(
            option("work_dirs", nargs="+", type=Path, metavar="WORKDIR", help="its name is the RID"),
            option("--into", type=Path, required=True, metavar="DIR", help="where RID.bag.zip goes"),
            JSON,
        ),
        exits={**_BAG_EXITS, 1: "a folder cannot become a bag, or the disk refused something; all reasons are told"},
        reads=("the folders; no settings",),
        see=("bags.md",),
    ),
)

SETUP_AWS = Verb(
    "setup-aws",
    "make what a source needs on AWS: queues, their policies, the bucket's notification; a replica's lifecycle rule",
    ("setup-aws", "setup-aws fpl --plan", "setup-aws fpl --yes", "setup-aws fpl --remove", "setup-aws --policy worker"),
    about="First it shows what is there and what would be, as a diff, then it asks. What is there already is only "
    "changed where it has to be, and what others put there stays. Run again, it says that there is nothing to do. "
    "Without SOURCE: all sources with a queue, and all replicas.",
    options=(
        option("sources", nargs="*", metavar="SOURCE", help="names of sources or replicas in luigi.cfg"),
        option("--plan", action="store_true", help="only show what would be changed"),
        option("--remove", action="store_true", help="take away what it made, and only that"),
        option(
            "--with-messages", action="store_true", help="with --remove: queues also where messages are lost with them"
        ),
        option(
            "--policy",
            choices=["worker", "restorer", "replica", "setup"],
            help="print the least IAM policy of this role",
        ),
        option(
            "--profile", default="", metavar="NAME", help="section of the AWS credentials file; default: the source's"
        ),
        YES,
    ),
    exits={
        0: "it is as it is to be, or was only shown",
        1: "something of somebody else's is in the way, or AWS refused; what was done before stays",
        2: "wrong usage or settings, or nobody agreed; nothing was changed",
        3: "AWS is out of reach, or denies the right",
    },
    reads=(SOURCES, "`[queue] lease_seconds`", "the AWS credentials: `/run/secrets/aws`, else as boto3 finds them"),
    see=("aws.md", "rights.md"),
)

RESTORE = Verb(
    "restore",
    "ask S3 for works in cold storage, paced and priced; list, pause, resume or cancel what is wanted",
    (
        "restore W1NLM4700 W1NLM4800 --plan",
        "restore --list wanted.csv --yes",
        "restore --prefix s3://glacier.example.org/Archive0/ --tier standard --days 7",
        "restore --next 100",
        "restore list",
        "restore pause W1NLM4700",
        "restore cancel --yes",
    ),
    about="First a plan: how each object stands in S3, bytes, requests, time, disk, and the cost by the prices that "
    "are set. Then it asks, and puts what is wanted in a line in the record; nothing is asked of S3 yet. Every run "
    "asks for the next works as room comes free: what is asked for and not home stays within [restore] "
    "at_most_works and at_most_bytes, and within what can be brought home before the copies end.\n\n"
    "The first word may be list, pause, resume or cancel, with RIDs or without: then nothing is planned. What S3 was "
    "asked for already is paid for, and comes home all the same.",
    options=(
        option(
            "targets",
            nargs="*",
            metavar="TARGET",
            help="a RID or s3://bucket/key; or list, pause, resume, cancel, then RIDs",
        ),
        option("--list", type=Path, metavar="FILE", help="RIDs one a line, or CSV without header: work, bucket, key"),
        option("--prefix", metavar="s3://BUCKET/PREFIX", help="every .bag.zip below it"),
        option(
            "--next",
            type=positive,
            metavar="N",
            help="the next N of glacier_sync_progress that nobody asked for, with their place in user_data",
        ),
        option(
            "--tier",
            choices=["bulk", "standard", "expedited"],
            help="how fast; standard where a class has no such tier",
        ),
        option("--days", type=positive, metavar="N", help="how long the restored copies stay"),
        option("--first", action="store_true", help="before all that waits already"),
        option("--plan", action="store_true", help="the plan alone"),
        option("--over-budget", action="store_true", help="although it costs more than [restore] most_cost"),
        option("--all", action="store_true", help="with list: what is home or cancelled too"),
        YES,
        JSON,
    ),
    exits={
        1: "some of it is not there, or was not in a state to be changed",
        2: "wrong usage, over budget, or not agreed",
    },
    reads=(
        DATABASE,
        "`[source NAME]`: buckets, profiles, restore_profile",
        "`[restore]`: limits, tier, days",
        "`[prices REGION]`: what S3 takes",
    ),
    see=("restores.md", "settings.md"),
)

DEMO = Verb(
    "demo",
    "the whole pipeline on an embedded stack, with sample bags",
    ("demo", "demo --bags 20 --size 20M --keep", "demo --campaign"),
    about="moto's S3 and SQS, luigid and SQLite, on loopback, in one folder; one of the bags is corrupt on "
    "purpose. With --campaign all lie in cold storage, are wanted at once, and come home a few at a time. "
    "Needs what requirements-demo.txt lists.",
    options=(
        option("--home", type=Path, metavar="DIR", help="the folder for everything; default: a temporary one"),
        option("--bags", type=positive, metavar="N", help="how many, one of them corrupt (default 6)"),
        option(
            "--campaign", action="store_true", help="`restore` asks S3 for the bags (default 12), none of them corrupt"
        ),
        option("--size", type=size, default=2 << 20, metavar="SIZE", help="of each work: 500k, 2M (default), 1G"),
        option("--lanes", type=positive, default=2, metavar="N", help="works at the same time (default 2)"),
        option("--keep", action="store_true", help="leave the visualiser running until Ctrl-C"),
    ),
    exits={0: "all happened as told", 1: "something did not", 3: ""},
    reads=("no settings: it makes its own",),
)
