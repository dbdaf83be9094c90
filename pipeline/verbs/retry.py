"""`run_pipeline.py retry RID…`: hand works back to the lanes that failed, were refused, skipped, or wait."""

from argparse import Namespace

from pipeline import repairs, settings, show, site
from pipeline.errors import UsageError, WorkBusy
from pipeline.site import Site
from pipeline.steps.record import BagRow, overview


def main(options: Namespace) -> int:
    """Hand them back; 1 when a lane has one of them.

    Raises:
        UsageError: it is not clear which works are meant, or one is not known; nothing was changed.
    """
    if bool(options.rids) == bool(options.kind):
        raise UsageError("either RID… or --kind is needed", go_on="run_pipeline.py retry --help")
    here = site.open_site(settings.load(), lane="retry")
    rows = _of_kind(here, options.kind) if options.kind else [repairs.newest(here, rid) for rid in options.rids]
    out = show.console()
    if not rows:
        out.print(f"no work failed with {show.safe(options.kind)}")
    busy = 0
    for row in rows:
        try:
            out.print(f"{row.bag.work_rid}: {repairs.hand_back(here, row, reason='handed back')}")
        except WorkBusy as error:
            busy += 1
            out.print(show.safe(str(error)))
    return 1 if busy else 0


def _of_kind(here: Site, kind: str) -> list[BagRow]:
    found = [here.record.bag(bag_id) for bag_id in overview.failed_with(here.engine, kind)]
    return [row for row in found if row is not None]
