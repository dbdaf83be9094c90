"""`run_pipeline.py callbacks list|resend|drop [NAME]`: what receivers of callbacks are still to be told."""

from argparse import Namespace

from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import human_count, stamp
from pipeline.operations import show
from pipeline.operations.status import Standing
from pipeline.record import outbox
from pipeline.tasks import context

_SHOWN = 200


def main(options: Namespace) -> int:
    """List it, or decide about what was given up; it is sent by `notify`.

    Raises:
        UsageError: nothing was given up for a receiver of that name, or nobody agreed; nothing was changed.
    """
    here, name = context.open_site(lane="callbacks"), options.name
    if options.action == "list":
        rows = outbox.rows(here.engine, name, limit=None if options.json else _SHOWN)
        told, none = list(map(_told, rows)), "none waits, and none was given up"
        return show.result(options, {"callbacks": told}, lambda out: show.tell(out, told) if told else out.print(none))
    owed = Standing(here).callbacks.get(name, {"waiting": 0, "dead": 0, "is_set": True})
    waiting = options.action == "drop" and not owed["is_set"]  # nobody sends it any more
    count = human_count(owed["dead"] + (owed["waiting"] if waiting else 0), "callback")
    if not owed["dead"] and not waiting:
        raise UsageError(f"nothing was given up for {name or 'a receiver without NAME'}", go_on=("callbacks", "list"))
    if options.action == "resend":
        outbox.send_again(here.engine, name)
        said = f"{count} to {name}: sent again by notify"
    else:
        show.agreed(f"{name} will never be told: {count}. Forget them?", yes=options.yes)
        outbox.drop(here.engine, name, waiting=waiting)
        said = f"{count} to {name}: forgotten"
    show.console().print(show.safe(said))
    return 0


def _told(row: outbox.CallbackRow) -> show.Row:
    return {
        "callback": row.callback,
        "work": row.work_rid,
        "event": row.event,
        "since": stamp(row.made_on),
        "tried": str(row.attempts),
        "next": stamp(row.due_on) if row.due_on else "given up",
        "why": row.error,
    }
