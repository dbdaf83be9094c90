"""`run_pipeline.py pause`: no lane on any host takes anything in, until `resume`; what runs is finished."""

from argparse import Namespace

from pipeline import record, settings
from pipeline.foundation.work import stamp
from pipeline.operations import repair, show
from pipeline.record import overview
from pipeline.tasks import context


def main(options: Namespace) -> int:
    """Pause, and say what still runs."""
    here = context.open_site(settings.load(), lane="pause")
    out = show.console()
    before = record.pause_of(here.engine)
    if before is not None:
        out.print(f"intake is paused already, since {stamp(before.since)} by {before.by}: {show.safe(before.reason)}")
        return 0
    record.set_pause(
        here.engine, paused=True, agent=here.agent, by=repair.operator(), reason=options.reason or "no reason given"
    )
    out.print("intake is paused: no lane on any host takes anything in; go on with: run_pipeline.py resume")
    for holder in overview.holders(here.engine):
        out.print(f"{holder.work_rid}: {holder.owner} is at it, and will finish it")
    return 0
