"""`run_pipeline.py pause` and `resume`: whether lanes, on any host, take anything in; what runs is finished."""

from argparse import Namespace

from rich.console import Console

from pipeline import record
from pipeline.foundation.errors import SchedulerUnreachable
from pipeline.foundation.work import stamp
from pipeline.lanes.builds import scheduler_paused
from pipeline.operations import repair, show
from pipeline.record import overview
from pipeline.tasks import context
from pipeline.tasks.context import Site


def main(options: Namespace) -> int:
    """Pause, and say what still runs; or resume, and say so if the scheduler's own pause button still stands."""
    here, out, pause = context.open_site(lane=options.verb), show.console(), options.verb == "pause"
    before = record.pause_of(here.engine)
    since = before and f"since {stamp(before.since)} by {before.by}: {show.safe(before.reason)}"
    if pause == (before is None):
        reason = (options.reason or "no reason given") if pause else ""
        record.set_pause(here.engine, paused=pause, agent=here.agent, by=repair.operator(), reason=reason)
    if not pause:
        out.print(f"intake goes on; it was paused {since}" if since else "intake is not paused")
        _tell_button(here, out)
    elif since:
        out.print(f"intake is paused already, {since}")
    else:
        out.print("intake is paused: no lane on any host takes anything in; go on with: run_pipeline.py resume")
        for holder in overview.holders(here.engine):
            out.print(f"{holder.work_rid}: {holder.owner} is at it, and will finish it")
    return 0


def _tell_button(here: Site, out: Console) -> None:
    scheduler = here.settings.scheduler
    try:
        if scheduler_paused(scheduler.url):
            out.print(f"the pause button of luigid's page still stands, at {scheduler.shown}: release it there")
    except SchedulerUnreachable as error:
        out.print(show.safe(str(error)))
