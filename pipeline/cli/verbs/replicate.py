"""`run_pipeline.py replicate RID…|--owed [N]|--all`: make second copies of works that are home."""

import logging
from argparse import Namespace

from rich.console import Console

from pipeline.foundation import logs
from pipeline.foundation.errors import DatabaseUnavailable, PipelineError, Stopping, UsageError
from pipeline.foundation.signals import stopping_on_signals
from pipeline.foundation.work import Pulse, human_count
from pipeline.lanes import processes
from pipeline.operations import replication, show, verify
from pipeline.operations.replication import Owed
from pipeline.tasks import context
from pipeline.tasks.context import Site

_log = logging.getLogger("pipeline.replicate")


def main(options: Namespace) -> int:
    """Make them; 0: all are there; 1: one could not be made.

    Raises:
        UsageError: it is not clear which works are meant, no replica is set, or nobody agreed.
        DatabaseUnavailable: the database is out of reach.
    """
    if sum(map(bool, (options.rids, options.all, options.owed is not None))) != 1:
        raise UsageError("one of RID…, --owed [N] and --all is needed", go_on=("replicate", "--help"))
    here = context.open_site(lane="replicate")
    logs.log_to(here.settings.logs, "replicate", verbose=options.verbose, json_lines=here.settings.log_json)
    works = verify.by_name(here, options.rids) if options.rids else verify.everything(here)
    asked = replication.wanted(here, works, to=options.to)
    if options.owed is not None:
        asked = replication.lacking(here, asked)[: options.owed or None]
    if asked:
        plan = replication.plan(here, asked)
        _log.info("%s", plan)
        show.agreed(f"{plan}. Go on?", yes=options.yes or bool(options.rids))
    with stopping_on_signals(here.stopping.set), show.progress("replicate") as pulse:
        failed = _send(here, asked, pulse, replace=options.replace)
    told = {"asked": len(asked), "failed": [{"work_rid": rid, "error": error} for rid, error in failed.items()]}
    return show.result(
        options, told, lambda out: _tell(out, asked, failed), status=processes.EXIT_FAILED if failed else 0
    )


def _send(here: Site, asked: list[Owed], pulse: Pulse, *, replace: bool) -> dict[str, str]:
    """One after the other; what cannot be made is told, and holds up no other."""
    failed: dict[str, str] = {}
    for one in asked:
        try:
            if here.stopping.is_set():
                raise Stopping("stopped before it began", work_rid=one.work.work_rid)
            replication.send(here, one, replace=replace, pulse=pulse)
        except DatabaseUnavailable:
            raise
        except PipelineError as error:
            _log.error("%s", error)  # its words say it
            failed[one.work.work_rid] = str(error)
    return failed


def _tell(out: Console, asked: list[Owed], failed: dict[str, str]) -> None:
    for error in failed.values():
        out.print(show.safe(error))
    made = len({one.work.work_rid for one in asked} - failed.keys())
    out.print(f"{human_count(made, 'work')} with a second copy" + (f", {len(failed)} without" if failed else ""))
