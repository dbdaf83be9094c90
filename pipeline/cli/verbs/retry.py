"""`run_pipeline.py retry RID…`: hand works back to the lanes that failed, were refused, skipped, or wait."""

from argparse import Namespace

from pipeline import settings
from pipeline.foundation.errors import UsageError
from pipeline.operations import repair, show
from pipeline.record import BagRow, overview
from pipeline.tasks import context
from pipeline.tasks.context import Site


def main(options: Namespace) -> int:
    """Hand them back; 1 when a lane has one of them.

    Raises:
        UsageError: it is not clear which works are meant, or one is not known; nothing was changed.
    """
    if bool(options.rids) == bool(options.kind):
        raise UsageError("either RID… or --kind is needed", go_on="run_pipeline.py retry --help")
    here = context.open_site(settings.load(), lane="retry")
    rows = _of_kind(here, options.kind) if options.kind else [repair.newest(here, rid) for rid in options.rids]
    out = show.console()
    if not rows:
        out.print(f"no work failed with {show.safe(options.kind)}")
    return 1 if repair.hand_back_each(here, rows, reason="handed back", say=out.print) else 0


def _of_kind(here: Site, kind: str) -> list[BagRow]:
    found = [here.record.bag(bag_id) for bag_id in overview.failed_with(here.engine, kind)]
    return [row for row in found if row is not None]
