"""Fixity checks of the archive: which works are due, and one work's check with its event in the record."""

import math
import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pipeline import record, sync
from pipeline.foundation.errors import (
    ArchiveMissing,
    DatabaseUnavailable,
    InvalidRid,
    PipelineError,
    Stopping,
    UsageError,
)
from pipeline.foundation.work import Pulse, archive_dir, archive_shares, asked_rid, checked_rid, no_pulse
from pipeline.record import CHECK, FORGOTTEN, Archived, BagRow, failure_facts, schedule, stories, views
from pipeline.record.replicas import SecondCopy
from pipeline.sync import Brake, FixityVerdict, Proof, Verified
from pipeline.tasks.context import Site

_LISTED = 1000  # names in an event; the report has them all
_NIGHT = timedelta(hours=12)
_Seen = TypeVar("_Seen", Archived, SecondCopy)


@dataclass(frozen=True)
class Checked:
    """One work's check: the work, where it lies, and what was found.

    Attributes:
        result: what was found.
        before: when it was last known to be right, or looked at; None if never.
    """

    work_rid: str
    path: Path
    result: Verified
    before: datetime | None = None

    @property
    def verdict(self) -> FixityVerdict:
        """Passed, failed, no proof, or busy."""
        return self.result.verdict

    def facts(self, *, most: int | None = None) -> dict[str, Any]:
        """For the record (with so many names at most) and for the report."""
        found = self.result.found
        extra = [name for name in found.extra if name != self.result.against]
        return {
            **self._failure(),
            "premis_event_type": "fixity check",
            "path": str(self.path),
            "against": self.result.against,
            "files": found.matched,
            "bytes": self.result.bytes,
            "algorithms": list(found.algorithms),
            "cache_dropped": found.cache_dropped,
            "wrong": [{"path": one.path, "detail": one.detail} for one in self.result.wrong[:most]],
            "wrong_files": len(self.result.wrong),
            "extra": extra[:most],
            "seconds": round(self.result.seconds, 3),
        }

    def _failure(self) -> dict[str, Any]:
        """As every failure is told in the record, so that notifications and reports tell this one, too."""
        if self.verdict is not FixityVerdict.FAILED:
            return {}
        what = f"the archive copy failed its check, {len(self.result.wrong)} wrong in {self.path}"
        error = PipelineError(what, work_rid=self.work_rid, go_on=("explain", self.work_rid))
        return failure_facts(error) | {"kind": "fixity-failed"}


def see_archive(here: Site) -> None:
    """Whether the archive is there at all.

    Raises:
        ArchiveMissing: it is not.
    """
    root = here.settings.archive_root
    try:
        os.listdir(root)
    except OSError as error:
        raise _missing(root, error.strerror or str(error)) from error


def by_name(here: Site, rids: Iterable[str]) -> list[Archived]:
    """The works of these RIDs, which came home by the record, or lie in the archive since before it was begun.

    Raises:
        UsageError: one is no RID, or not archived: misspelt, on its way, refused, or a zip's name alone.
        ArchiveMissing: the archive, or the share point of such a one, is out of reach.
        DatabaseUnavailable: the database is out of reach.
    """
    return [_named(here, asked_rid(rid)) for rid in dict.fromkeys(rids)]


def _named(here: Site, rid: str) -> Archived:
    known = record.archived(here.engine, work_rid=rid).get(rid, Archived(rid))
    if known.is_home:
        return known
    told = stories.story(here.engine, rid)
    if told is not None and told.bags:
        raise _not_archived(rid, told.bags[0].row)
    folder = archive_dir(here.settings.archive_root, rid)
    if not folder.exists():
        _see_share(here, known, folder)
        raise UsageError(
            f"{rid}: not archived: the record knows no such work{views.other_spelling(here.engine, rid)}, and there is "
            f"no {folder}; nothing was checked",
            go_on=("status",),
        )
    return known


def _not_archived(rid: str, newest: BagRow) -> UsageError:
    """A work of which the record has bags, and none of them came home."""
    if newest.works and rid not in newest.works:
        what = f"it is the name of a zip with the works {shlex.join(newest.works)}"
        return UsageError(f"{rid}: not archived: {what}; nothing was checked", go_on=("verify", *newest.works))
    return UsageError(
        f"{rid}: not archived: its newest bag is {newest.state}; nothing was checked",
        go_on=("explain", rid),
    )


def everything(here: Site) -> list[Archived]:
    """Every work with a sync row, and every work folder in the archive; the one that was not looked at longest first.

    But not what lies there of a work whose bag is on its way, or was refused: it may be a part.

    Raises:
        ArchiveMissing: the archive cannot be listed.
        DatabaseUnavailable: the database is out of reach.
    """
    if bare := sync.unmarked(here.settings.archive_root, here.settings.sync.mount_marker):
        raise _missing(here.settings.archive_root, f"no {here.settings.sync.mount_marker} in {', '.join(bare)}")
    root, known = here.settings.archive_root, record.archived(here.engine)
    lying = set(_in_archive(root))
    lying -= record.on_the_way(here.engine) - {rid for rid, work in known.items() if work.is_home}
    works = [work for work in known.values() if work.sync_id or work.work_rid in lying]
    works += [Archived(rid) for rid in lying - known.keys()]
    listed, unknown = schedule.listed(here.engine), {work.work_rid for work in works if not work.sync_id}
    # Where its shelf is missing, too, the disk may be: it stays on the schedule.
    gone = {rid for rid in listed - unknown if archive_dir(root, rid).parent.is_dir()}
    schedule.enrol(here.engine, unknown - listed, gone)
    return sorted(works, key=lambda work: (work.turn, work.work_rid))


def due(ones: Sequence[_Seen], days: int, *, looked_on: Callable[[_Seen], datetime | None]) -> list[_Seen]:
    """Those whose turn it is today, in their order: done daily, each is looked at at least once in so many days.

    They are those that might be late before they are reached tomorrow; and of the others a day's share, less what was
    looked at today: what came home in one week would else be due in one night.

    Args:
        ones: all there are, the one that is looked at first first.
        days: at most between two looks.
        looked_on: when one was looked at, not when it was made.
    """
    now, soon = datetime.now(UTC), timedelta(days=max(days - 2, days / 2))
    late: set[int] = {number for number, one in enumerate(ones) if one.seen_on is None or now - one.seen_on >= soon}
    looks = filter(None, map(looked_on, ones))
    share = math.ceil(len(ones) / max(1, soon.days)) if len(ones) > days else 0
    share -= len(late) + sum(now - look < _NIGHT for look in looks)
    early: list[int] = [number for number in range(len(ones)) if number not in late][: max(0, share)]
    return [ones[number] for number in sorted({*late, *early})]


def check_work(
    here: Site,
    work: Archived,
    *,
    brake: Brake | None = None,
    threads: int = 0,
    pulse: Pulse = no_pulse,
    shared: bool = False,
) -> Checked | None:
    """Check one work, and put what was found into the record, as an event of the step `verify`.

    No lease is taken: a check only reads, and a sync must not have to wait for it. A work that somebody has leased, or
    that was synced while it was read, is told as busy, whatever was found.

    Args:
        here: the site.
        work: which.
        brake: slows the reading down.
        threads: as for `sync.verify`.
        pulse: as for `sync.verify`; it may raise, and what was read half counts for nothing.
        shared: other hosts do the same: None, if another is at this work, or has checked it since it was looked up.

    Raises:
        ArchiveMissing: the archive, or the share point of a work that should be there, is not there.
        DatabaseUnavailable: the database is out of reach; the check is not in the record.
    """
    folder = archive_dir(here.settings.archive_root, work.work_rid)
    before = max(filter(None, (work.synced_on, work.checked_on)), default=None)
    if here.leases.remaining_seconds(work.work_rid):
        return Checked(work.work_rid, folder, Verified(FixityVerdict.BUSY), before)
    _see_share(here, work, folder)
    if not schedule.claim(here.engine, work, seconds=here.settings.lease_seconds) and shared:
        return None
    recorded, kept = Proof(*work.proof) if work.proof else None, _keeping(here, work, pulse)
    result = sync.verify(folder, work_rid=work.work_rid, recorded=recorded, brake=brake, threads=threads, pulse=kept)
    if result.verdict is not FixityVerdict.PASSED:
        if _is_touched(here, work):
            return Checked(work.work_rid, folder, Verified(FixityVerdict.BUSY), before)
        _see_share(here, work, folder)
    checked = Checked(work.work_rid, folder, result, before)
    schedule.ended(here.engine, work, result.verdict, checked.facts(most=_LISTED), agent=here.agent)
    return checked


def _keeping(here: Site, work: Archived, pulse: Pulse) -> Pulse:
    """The pulse, which also tells other hosts now and then that this one goes on, and at once that it does not."""
    told = time.monotonic()

    def tell(seconds: int) -> None:
        with suppress(DatabaseUnavailable):  # at worst another host reads the same, or waits for a lease
            schedule.go_on(here.engine, work.work_rid, seconds=seconds)

    def keep(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= here.settings.heartbeat_seconds:
            told = time.monotonic()
            tell(here.settings.lease_seconds)
        try:
            pulse(done, total)
        except Stopping:
            tell(0)
            raise

    return keep


def forget(here: Site, rid: str, *, reason: str, by: str) -> None:
    """End the alarm of a failed check, on an operator's word; the next check that fails raises a new one.

    Raises:
        UsageError: there is no alarm of that work; nothing was changed.
        DatabaseUnavailable: the database is out of reach.
    """
    if rid not in {one.work_rid for one in record.broken(here.engine)}:
        raise UsageError(f"{rid}: no failed fixity check of it stands; nothing was changed", go_on=("status",))
    here.record.note(CHECK, FORGOTTEN, {"reason": reason, "by": by}, work_rid=rid)


def _is_touched(here: Site, work: Archived) -> bool:
    """Whether somebody works on it, or has since we looked it up."""
    if here.leases.remaining_seconds(work.work_rid):
        return True
    now = record.archived(here.engine, work_rid=work.work_rid).get(work.work_rid, Archived(work.work_rid))
    return now.sync_id != work.sync_id


def _see_share(here: Site, work: Archived, folder: Path) -> None:
    """Is a work lost that came home and is nowhere to be seen, or is its share point not mounted?

    Raises:
        ArchiveMissing: the share point is not there, or lacks its marker, or is empty.
    """
    see_archive(here)
    share, marker = folder.parent.parent, here.settings.sync.mount_marker
    if marker and sync.unmounted(here.settings.archive_root, share, marker):
        raise _missing(share, f"it has no {marker}")
    if folder.exists() or not work.sync_id:
        return
    try:
        empty = not os.listdir(share)
    except OSError as error:
        raise _missing(share, error.strerror or str(error)) from error
    if empty:
        raise _missing(share, "it is empty")


def _missing(folder: Path, why: str) -> ArchiveMissing:
    return ArchiveMissing(
        f"{folder} is out of reach ({why}); it may be unmounted",
        kept="what was checked so far is in the record",
        by_hand="mount it, then the same again",
    )


def _in_archive(root: Path) -> Iterable[str]:
    """The RIDs of all folders that lie where the work of that name belongs."""
    for share in archive_shares(root):
        for shelf in _folders(share):
            for folder in _folders(shelf):
                try:
                    rid = checked_rid(folder.name)
                except InvalidRid:
                    continue
                if archive_dir(root, rid) == folder:
                    yield rid


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _missing(folder, error.strerror or str(error)) from error
