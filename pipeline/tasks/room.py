"""Room first: disk is reserved before a work starts, and what killed runs left on it is removed."""

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from pipeline import sync
from pipeline.foundation import durable
from pipeline.foundation.errors import NoRoom
from pipeline.foundation.work import Bag, human_bytes
from pipeline.record import BagRow, BagState
from pipeline.tasks import staging
from pipeline.tasks.context import Site
from pipeline.tasks.staging import Place

_log = logging.getLogger(__name__)


def make_room(here: Site, bag: Bag) -> None:
    """See that there is room for the zip, what it unpacks to (stored zips: as much again), and the margin.

    Each where it will lie: what is unpacked in the archive takes no room on the staging disk, unless that is one disk.
    What works that began before this one on this host have yet to write is theirs: their leases are the reservations.

    Raises:
        NoRoom: there is not enough.
    """
    root = here.settings.staging
    root.mkdir(parents=True, exist_ok=True)
    disks, need, reserved = dict[int, Path](), Counter[int](), Counter[int]()
    zip_bytes = 0 if bag.is_local else bag.size_bytes
    for folder, left in _to_come(here, bag.work_rid, bag.bag_id, zip_bytes=zip_bytes, payload_bytes=bag.size_bytes):
        device = folder.stat().st_dev
        disks.setdefault(device, folder)
        need[device] += left
    for work_rid, bag_id, size in here.leases.before_mine(bag.work_rid, host=here.host):
        for folder, left in _to_come(here, work_rid, bag_id, zip_bytes=size, payload_bytes=size):
            reserved[folder.stat().st_dev] += left
    for device, folder in disks.items():
        free, wanted, theirs = durable.free_bytes(folder), need[device] + here.settings.margin_bytes, reserved[device]
        if free is None or free - theirs >= wanted:  # one that does not tell: a full disk is seen when it is full
            continue
        others = f", of which {human_bytes(theirs)} are reserved for works in progress" if theirs else ""
        what = "zip, payload" if len(disks) == 1 else "zip" if folder == root else "payload"
        raise NoRoom(
            f"{human_bytes(free)} free on {folder}{others}; {human_bytes(wanted)} needed ({what} and margin)",
            work_rid=bag.work_rid,
            kept="nothing was downloaded",
            by_hand="make room; the message comes back by itself",
        )


def _to_come(
    here: Site, work_rid: str, bag_id: str, *, zip_bytes: int, payload_bytes: int
) -> Iterator[tuple[Path, int]]:
    """What a bag has yet to write where: folders of disks, each with bytes; what lies there is not needed twice."""
    root, chosen = here.settings.staging, here.settings.sync
    hidden = sync.unpacking_place(chosen.archive_root, work_rid, bag_id)
    if sync.why_not(chosen, hidden):
        zip_bytes, payload_bytes = zip_bytes + payload_bytes, 0
    yield root, max(0, zip_bytes - staging.used_bytes(root / f"{work_rid}-{bag_id}"))
    if payload_bytes:
        there = next(folder for folder in hidden.parents if folder.is_dir())
        yield there, max(0, payload_bytes - staging.used_bytes(hidden))


def folder_to_unpack_into(here: Site, place: Place) -> Path:
    """Where debag is to unpack: in the archive, where that saves a copy, else on the local disk."""
    why = sync.why_not(here.settings.sync, place.in_archive)
    if not why:
        try:
            sync.make_place(place.in_archive)
        except OSError as error:
            why = str(error)
    if not why:
        return place.in_archive / place.local.name
    if here.settings.sync.copier == sync.BUILTIN:
        _log.info("%s: unpacked on the local disk, and copied from there: %s", place.work_rid, why)
    return place.local


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
    """Whether nothing in a bag's staging is of use.

    It is home; or another host refused it, and its zip is kept; or it waits for S3 while a newer bag is home.
    Otherwise half a download of a bag that waits for its next restore is of use: it has been paid for.
    """
    if row.state == BagState.DONE:
        return True
    if row.state == BagState.REFUSED:
        return staging.kept_zip(here.place(row.bag), row.bag).is_file()
    newer = takewhile(lambda other: other.bag.bag_id != row.bag.bag_id, here.record.bags_of(row.bag.work_rid))
    return row.state == BagState.NOT_RESTORED and any(other.state == BagState.DONE for other in newer)
