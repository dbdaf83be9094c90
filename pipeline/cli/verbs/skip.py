"""`run_pipeline.py skip RID --reason TEXT`: leave a work out; nothing is deleted."""

from argparse import Namespace

from pipeline import settings
from pipeline.operations import repair, show
from pipeline.tasks import context


def main(options: Namespace) -> int:
    """Leave it out, after a question.

    Raises:
        UsageError: the work is not known, or is home, or nobody agreed; nothing was changed.
        WorkBusy: a lane works on it; nothing was changed.
    """
    here = context.open_site(settings.load(), lane="skip")
    row = repair.newest(here, options.rid)
    show.agreed(
        f"{row.bag.work_rid} ({row.bag.address}, {row.state}) will not be brought home. Skip it?", yes=options.yes
    )
    out = show.console()
    out.print(f"{row.bag.work_rid}: {repair.skip(here, row, reason=options.reason)}")
    place = here.place(row.bag)
    for folder in (place.staging, place.quarantine):
        if folder.exists():
            out.print(f"{row.bag.work_rid}: what is in {folder} stays there")
    return 0
