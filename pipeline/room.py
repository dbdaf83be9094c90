"""Room first: disk is reserved before a work starts."""

import shutil

from pipeline import staging
from pipeline.errors import NoRoom
from pipeline.site import Site
from pipeline.work import Bag, human_bytes


def make_room(here: Site, bag: Bag) -> None:
    """See that there is room for the zip, what it unpacks to (stored zips: as much again), and the margin.

    What works that began before this one on this host have yet to write is theirs: their leases are the reservations.

    Raises:
        NoRoom: there is not enough.
    """
    root = here.settings.staging
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
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
            go_on="make room; the message comes back by itself",
        )
