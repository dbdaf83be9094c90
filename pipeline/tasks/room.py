"""Room first: disk is reserved before a work starts, and what killed runs left on it is removed."""

import logging
from itertools import takewhile

from pipeline.foundation import durable
from pipeline.foundation.errors import NoRoom
from pipeline.foundation.work import Bag, human_bytes
from pipeline.record import BagRow, BagState
from pipeline.tasks import staging
from pipeline.tasks.context import Site

_log = logging.getLogger(__name__)


def make_room(here: Site, bag: Bag) -> None:
    """See that there is room for the zip, what it unpacks to (stored zips: as much again), and the margin.

    What works that began before this one on this host have yet to write is theirs: their leases are the reservations.

    Raises:
        NoRoom: there is not enough.
    """
    root = here.settings.staging
    root.mkdir(parents=True, exist_ok=True)
    free = durable.free_bytes(root)
    if free is None:  # its file system does not tell: a full disk is seen when it is full
        return
    there = staging.used_bytes(here.place(bag).staging)  # of a download cut short: it is not needed twice
    need = max(0, bag.size_bytes * (1 if bag.is_local else 2) - there) + here.settings.margin_bytes
    reserved = 0
    for work_rid, bag_id, size_bytes in here.leases.before_mine(bag.work_rid, host=here.host):
        reserved += max(0, 2 * size_bytes - staging.used_bytes(root / f"{work_rid}-{bag_id}"))
    if free - reserved < need:
        others = f", of which {human_bytes(reserved)} are reserved for works in progress" if reserved else ""
        raise NoRoom(
            f"{human_bytes(free)} free on {root}{others}; {human_bytes(need)} needed (zip, payload and margin)",
            work_rid=bag.work_rid,
            kept="nothing was downloaded",
            by_hand="make room; the message comes back by itself",
        )


def sweep(here: Site) -> None:
    """Remove what is of no more use: staging of works that are home, whoever did it; leases that nobody gave back."""
    here.leases.clear_expired()
    for bag_id, folder in staging.residue(here.settings.staging):
        row = here.record.bag(bag_id)
        if row is None or here.place(row.bag).staging != folder or not _is_left_over(here, row):
            continue
        bag = row.bag
        with here.leased(bag.work_rid, bag_id) as ours:
            row = (
                here.record.bag(bag_id) if ours else None
            )  # until it was ours, an operator may have asked for it again
            if row is not None and _is_left_over(here, row):
                staging.clear(here.place(bag))
                _log.info("%s: cleared what was left in staging", bag.work_rid)


def _is_left_over(here: Site, row: BagRow) -> bool:
    """Whether nothing in a bag's staging is of use: it is home; or what it waits for is S3's, and a newer one is home.

    Half a download of a bag that waits for its next restore is of use otherwise: it has been paid for.
    """
    if row.state == BagState.DONE:
        return True
    newer = takewhile(lambda other: other.bag.bag_id != row.bag.bag_id, here.record.bags_of(row.bag.work_rid))
    return row.state == BagState.NOT_RESTORED and any(other.state == BagState.DONE for other in newer)
