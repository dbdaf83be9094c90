"""The verbs with which an operator decides about works, bags and messages."""

from pipeline.cli.usage.verb import DATABASE, JSON, RID, SOURCES, YES, Verb, option

_BUSY = "a lane has one of the works"
_STAGING = "`[pipeline]`: staging, quarantine"
_NAMES = "a work, or a bag's identity"
_LETTERS = "its identity, or that under which logs name it; the beginning of it; or a RID"

_BAGS = (option("names", nargs="+", metavar="RID", help=_NAMES),)

_RESEND = (
    option("names", nargs="*", metavar="MESSAGE", help=_LETTERS),
    option("--all", action="store_true", help="all of them"),
)

_QUARANTINE = (
    Verb(
        "list",
        "all refused bags, and what is kept of each and where",
        ("quarantine list", "quarantine list --json"),
        options=(JSON,),
    ),
    Verb(
        "show",
        "everything that is wrong with a bag, and whether it is the only copy",
        ("quarantine show W1NLM4700", "quarantine show W1NLM4700 --json | jq .kept[].report.faults"),
        options=(*_BAGS, JSON),
    ),
    Verb(
        "release",
        "hand a refused bag back to the lanes; its zip is not fetched again",
        ("quarantine release W1NLM4700",),
        options=_BAGS,
    ),
    Verb(
        "drop",
        "delete a refused bag; asks first",
        ("quarantine drop W1NLM4700", "quarantine drop W1NLM4700 --yes --only-copy"),
        options=(*_BAGS, YES, option("--only-copy", action="store_true", help="also what S3 does not hold any more")),
    ),
)

_DEAD_LETTERS = (
    Verb(
        "list",
        "all dead letters, with their reason and what has become of their works",
        ("dead-letters list", "dead-letters list --json"),
        options=(JSON,),
    ),
    Verb(
        "show",
        "one with all that is known of it",
        ("dead-letters show W1NLM4700", "dead-letters show 5fb4 --json"),
        options=(option("names", nargs="+", metavar="MESSAGE", help=_LETTERS), JSON),
    ),
    Verb(
        "resend",
        "send it back to its queue: its refused works are tried once more",
        ("dead-letters resend W1NLM4700", "dead-letters resend --all"),
        options=_RESEND,
    ),
    Verb(
        "drop",
        "delete it, asking first; what it said stays in the record",
        ("dead-letters drop 5fb4", "dead-letters drop --all --yes"),
        options=(*_RESEND, YES),
    ),
)

VERBS = (
    Verb(
        "retry",
        "hand works back to the lanes: failed, refused, skipped, or waiting ones",
        ("retry W1NLM4700 W1FPL2251", "retry --kind audit-failed"),
        about="They are taken up at once by a lane that is free. Of a work with several bags the newest one is "
        "meant. Either RID or --kind is needed.",
        options=(
            option("rids", nargs="*", metavar="RID", help="the works"),
            option(
                "--kind",
                default="",
                metavar="KIND",
                help="all that failed or were refused with this error, as audit-failed",
            ),
        ),
        exits={
            0: "they are handed back",
            1: _BUSY,
            2: "wrong usage or settings, or a work is not known; nothing was changed",
        },
        reads=(DATABASE, _STAGING),
    ),
    Verb(
        "quarantine",
        "refused bags, and what becomes of them",
        tuple(example for action in _QUARANTINE for example in action.examples[:1]),
        about="A bag that breaks a rule is kept with a report of every fault, on the host that refused it. drop "
        "needs --only-copy for what S3 does not hold any more.",
        actions=_QUARANTINE,
        exits={
            1: _BUSY,
            2: "wrong usage or settings, nothing is kept of a work, or nobody agreed; nothing was changed",
        },
        reads=(DATABASE, _STAGING, SOURCES),
        see=("bags.md",),
    ),
    Verb(
        "dead-letters",
        "messages that could never succeed",
        tuple(example for action in _DEAD_LETTERS for example in action.examples[:1]),
        about="Looking at them takes nothing away. While they are looked at, they are hidden from others for up to "
        "two minutes. Of a group of a FIFO queue ten are seen at a time.",
        actions=_DEAD_LETTERS,
        exits={
            1: _BUSY + " of a letter that SQS moved; it stays among the dead letters",
            2: "wrong usage or settings, no such dead letter, or nobody agreed; nothing was changed",
        },
        reads=(DATABASE, SOURCES),
    ),
    Verb(
        "skip",
        "leave a work out; nothing is deleted",
        ("skip W1NLM4700 --reason 'withdrawn by its owner'", "skip W1NLM4700 --reason duplicate --yes"),
        about="It asks first. The work stays out, also when its message comes again, until retry or work asks for it.",
        options=(RID, option("--reason", required=True, metavar="TEXT", help="kept in the record"), YES),
        exits={
            1: _BUSY + "; nothing was changed",
            2: "wrong usage or settings, the work is not known or is home, or nobody agreed",
        },
    ),
    Verb(
        "pause",
        "no lane on any host takes anything in; what runs is finished",
        ("pause --reason 'the archive moves'",),
        options=(option("--reason", default="", metavar="TEXT", help="kept in the record, and shown"),),
        exits={0: "intake is paused", 1: ""},
        see=("decisions/0014-a-pause-is-in-the-record.md",),
    ),
    Verb(
        "resume",
        "lanes take works in again",
        ("resume",),
        about="It also tells whether the pause button of luigid's page still stands.",
        exits={0: "intake goes on", 1: ""},
        reads=(DATABASE, "`[core] default_scheduler_url`: luigid"),
    ),
    Verb(
        "tidy",
        "take away what nobody needs any more",
        ("tidy --plan", "tidy", "tidy --yes", "tidy --plan --json | jq '.kinds[] | {kind, bytes}'"),
        about="First it shows what would go, kind by kind, with the room that it makes, and asks. [retention] says how "
        "long each kind is kept. What is the only copy of anything stays; but what an operator replaced goes where "
        "replaced_days is set. Lanes need not be stopped.",
        options=(
            option("--plan", action="store_true", help="only show what would go"),
            YES,
            JSON,
            option("--verbose", action="store_true", help="log more"),
        ),
        exits={
            0: "it is gone, or there was nothing to do",
            1: "a kind could not be looked at, or something could not be taken away",
            2: "wrong usage or settings, or nobody agreed; nothing was deleted",
        },
        reads=(
            DATABASE,
            "`[retention]`: how long each kind is kept",
            SOURCES,
            "`[pipeline]`: archive, quarantine, logs",
        ),
        see=("years.md",),
    ),
)
