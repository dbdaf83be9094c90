"""`run_pipeline.py retry RID…`: hand works back to the lanes; `skip RID --reason TEXT`: leave one out."""

from argparse import Namespace

from pipeline.foundation.errors import UsageError
from pipeline.operations import repair, show
from pipeline.record import BagRow, overview
from pipeline.tasks import context
from pipeline.tasks.context import Site


def main(options: Namespace) -> int:
    """Hand them back: those that failed, were refused or skipped, or wait; 1 when a lane has one of them.

    Raises:
        UsageError: it is not clear which works are meant, or one is not known; of `skip` also: it is home, or nobody
            agreed. Nothing was changed.
        WorkBusy: a lane works on what is to be skipped; nothing was changed.
    """
    if options.verb == "skip":
        return _skip(context.open_site(lane="skip"), options)
    if bool(options.rids) == bool(options.kind):
        raise UsageError("either RID… or --kind is needed", go_on=("retry", "--help"))
    here = context.open_site(lane="retry")
    rows = _of_kind(here, options.kind) if options.kind else [repair.newest(here, rid) for rid in options.rids]
    out = show.console()
    if not rows:
        out.print(f"no work failed with {show.safe(options.kind)}")
    return 1 if repair.hand_back_each(here, rows, reason="handed back", say=out.print) else 0


def _of_kind(here: Site, kind: str) -> list[BagRow]:
    found = [here.record.bag(bag_id) for bag_id in overview.failed_with(here.engine, kind)]
    return [row for row in found if row is not None]


def _skip(here: Site, options: Namespace) -> int:
    """Leave a work out, after a question; nothing is deleted."""
    row = repair.newest(here, options.rid)
    show.agreed(
        f"{row.bag.work_rid} ({row.bag.address}, {row.state}) will not be brought home. Skip it?", yes=options.yes
    )
    out = show.console()
    out.print(f"{row.bag.work_rid}: {repair.skip(here, row, reason=options.reason)}")
    place = here.place(row.bag)
    for folder in (place.staging, place.in_archive, place.quarantine):
        if folder.exists():
            out.print(f"{row.bag.work_rid}: what is in {folder} stays there")
    return 0
