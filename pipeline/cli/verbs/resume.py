"""`run_pipeline.py resume`: lanes take works in again."""

from argparse import Namespace

from pipeline import record, settings
from pipeline.foundation.errors import SchedulerUnreachable
from pipeline.foundation.work import stamp
from pipeline.lanes.builds import scheduler_paused
from pipeline.operations import repair, show
from pipeline.tasks import context


def main(_options: Namespace) -> int:
    """Resume, and say so if the scheduler's own pause button still stands."""
    chosen = settings.load()
    here = context.open_site(chosen, lane="resume")
    out = show.console()
    before = record.pause_of(here.engine)
    if before is None:
        out.print("intake is not paused")
    else:
        record.set_pause(here.engine, paused=False, agent=here.agent, by=repair.operator(), reason="")
        out.print(
            f"intake goes on; it was paused since {stamp(before.since)} by {before.by}: {show.safe(before.reason)}"
        )
    try:
        button = scheduler_paused(chosen.scheduler.url)
    except SchedulerUnreachable as error:
        out.print(show.safe(str(error)))
    else:
        if button:
            out.print(f"the pause button of luigid's page still stands, at {chosen.scheduler.shown}: release it there")
    return 0
