"""A folder as a source: its parcels are zips that a person or a feeder dropped into it.

The file is its own message: it stays where it is until its works are home, so a killed lane loses nothing. It is
claimed by the lease of the work that its name promises, before a byte of it is read; and known again by its stamp, so
thousands of waiting zips cost one listing and one question to the record.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import download, intake
from pipeline.foundation import failpoints
from pipeline.foundation.errors import InvalidRid, PipelineError
from pipeline.foundation.work import Bag, printable
from pipeline.intake import Dropped
from pipeline.lanes.parcel import Outcome, Parcel, Verdict
from pipeline.record import BagRow, BagState, views
from pipeline.settings import Folder, WhenDone
from pipeline.tasks.context import Site

_log = logging.getLogger(__name__)
_LISTING_SECONDS = 1.0
_GONE = "object-gone"


@dataclass
class _Seen:
    """What this lane remembers of a file between two looks; `since` is by the monotonic clock."""

    stamp: str
    since: float
    changes: bool = False
    not_before: float = 0.0
    failures: int = 0
    told: bool = False


class FolderSource:
    """A folder, whose zips are handed out one by one.

    Args:
        here: the lane's site.
        folder: which folder.
        watch: the folder is listed anew after as long as the settings say, instead of after a second.
    """

    waiting = False

    def __init__(self, here: Site, folder: Folder, *, watch: bool) -> None:
        self.name = folder.name
        self._here = here
        self._folder = folder
        self._watch = watch
        self._look_seconds = folder.poll_seconds if watch else min(_LISTING_SECONDS, folder.poll_seconds)
        self._looked = float("-inf")
        self._ready: deque[Dropped] = deque()
        self._seen: dict[Path, _Seen] = {}
        self._soon: float | None = None
        self._ahead_seconds = 0.0

    def receive(self) -> "ZipParcel | None":
        """The next zip that is complete and that nobody works on, claimed; it is not read yet.

        Raises:
            FolderUnreachable: the folder is not there, or cannot be read or written as its settings need.
            DatabaseUnavailable: the record cannot be read or written.
        """
        if time.monotonic() - self._looked >= self._look_seconds:
            self._look()
        while self._ready and not self._here.stopping.is_set():
            dropped = self._ready.popleft()
            if self._ends_whole(dropped) and (parcel := self._claim(dropped)) is not None:
                return parcel
        return None

    def pause_seconds(self) -> float | None:
        """Seconds until the next file has been quiet for long enough; in watch mode, until the next look."""
        return self._folder.poll_seconds if self._watch else self._soon

    def _failed(self, dropped: Dropped) -> None:
        """A file of which the record knows nothing has failed for a reason that may pass."""
        seen = self._seen.setdefault(dropped.path, _Seen(dropped.stamp, 0.0))
        seen.failures += 1
        seen.not_before = time.monotonic() + self._here.backoff_seconds(seen.failures)

    def _look(self) -> None:
        intake.see_usable(self._folder.path, writable=self._folder.done is not WhenDone.KEEP)
        intake.see_ours(self._folder.path, self._folder.targets)
        self._finish_moves()
        listing = intake.look(self._folder.path)
        if listing.zips and self._folder.done is not WhenDone.KEEP:
            self._ahead_seconds = intake.clock_ahead_seconds(self._folder.path)
        known = _known(self._here, listing.zips)
        seen_before, self._seen, self._soon = self._seen, {}, None
        self._ready.clear()
        for dropped in listing.zips:
            seen = seen_before.get(dropped.path) or _Seen(dropped.stamp, time.monotonic())
            if seen.stamp != dropped.stamp:
                seen = _Seen(dropped.stamp, time.monotonic(), changes=True)
            self._seen[dropped.path] = seen
            row = known.get((str(dropped.path), dropped.stamp))
            if row is not None and not self._to_be_settled(row):
                continue  # kept; or the record brings it up itself when its time comes, on the host that began it
            missing = self._missing_seconds(dropped, seen)
            if missing <= 0:
                self._ready.append(dropped)
            elif not seen.changes and missing < float("inf"):
                self._soon = min(missing, self._soon or missing)
        self._looked = time.monotonic()

    def _to_be_settled(self, row: BagRow) -> bool:
        return row.state in {BagState.DONE, BagState.REFUSED} and self._folder.done is not WhenDone.KEEP

    def _missing_seconds(self, dropped: Dropped, seen: _Seen) -> float:
        """For how many seconds more the file has to stay unchanged; without end while a failure of it is waited out."""
        quiet = self._quiet_seconds(dropped, seen)
        if quiet < self._folder.settle_seconds:
            return self._folder.settle_seconds - quiet
        return 0.0 if time.monotonic() >= seen.not_before else float("inf")

    def _quiet_seconds(self, dropped: Dropped, seen: _Seen) -> float:
        """For how long it has not changed, whatever the file server's clock says."""
        return max(dropped.age_seconds - self._ahead_seconds, time.monotonic() - seen.since)

    def _ends_whole(self, dropped: Dropped) -> bool:
        """Whether it ends as a zip does; one that has not for a long time is taken all the same, to be refused."""
        seen = self._seen[dropped.path]
        if self._quiet_seconds(dropped, seen) >= self._folder.incomplete_seconds:
            return True
        whole = dropped.is_whole
        if not (whole or seen.told):
            _log.warning(
                "%s does not end as a zip does: it is left alone until it has not changed for %.0f s",
                *(dropped.shown, self._folder.incomplete_seconds),
            )
            seen.told = True
        return whole

    def _claim(self, dropped: Dropped) -> "ZipParcel | None":
        """Take the lease, then look again: whoever had it may have brought the zip home since."""
        leases = self._here.leases
        if not leases.take(dropped.claim, ""):
            return None
        parcel = None
        try:
            now = intake.look_again(dropped)
            if now is None or now.stamp != dropped.stamp:
                return None
            row = _known(self._here, [now]).get((str(now.path), now.stamp))
            if row is not None and self._to_be_settled(row):
                self._parcel(now).settle([Verdict.ended(row)])
            elif row is None:
                failpoints.point("zip claimed")
                parcel = self._parcel(now)
        finally:
            if parcel is None:
                leases.release(dropped.claim)
        return parcel

    def _parcel(self, dropped: Dropped) -> "ZipParcel":
        return ZipParcel(self._here, self._folder, dropped, try_later=self._failed)

    def _finish_moves(self) -> None:
        """What a killed lane had set aside goes back into the folder, and is settled from there once more."""
        for left in intake.left_aside(self._folder.path):
            with self._here.leased(left.claim, "") as ours:
                if ours:
                    intake.put_back(left)


class ZipParcel(Parcel):
    """A dropped zip, and what becomes of it.

    Only the leases of its works keep others away, and the heartbeat renews them. A zip that is given back is left
    alone until they end.

    Args:
        here: the lane's site.
        folder: where it was dropped.
        dropped: the file, claimed.
        try_later: told when it failed for a reason that may pass, and the record knows nothing of it.
    """

    def __init__(self, here: Site, folder: Folder, dropped: Dropped, *, try_later: Callable[[Dropped], None]) -> None:
        self.name = dropped.shown
        self._here = here
        self._folder = folder
        self._dropped = dropped
        self._try_later = try_later

    @property
    def again(self) -> str:
        """Why a refused bag is tried once more: its zip lies in the folder.

        A lane that was frozen since it read the zip may have it in hand though others have refused it and moved it.

        Raises:
            FolderUnreachable: the folder is not there, or cannot be read.
        """
        now = intake.look_again(self._dropped)
        there = now is not None and now.stamp == self._dropped.stamp
        return "it was put into the folder again" if there else ""

    def open(self) -> Sequence[Bag]:
        """The bag in the zip. It is read once, for its digest, and known by its stamp from then on.

        Raises:
            InvalidRid: its name names no work.
            ZipUnreadable: it cannot be read, or is not quiet after all.
            ObjectGone: it was taken away.
            Stopping, LeaseLost: the reading was cut short.
        """
        try:
            work_rid = self._dropped.work_rid
        except InvalidRid as error:
            error.by_hand = f"name it RID.bag.zip, and put it into {self._folder.path} again"
            raise
        here = self._here
        heartbeat = here.new_heartbeat(self._dropped.claim)
        _log.info("%s: %s was dropped", work_rid, self.name)
        with heartbeat:
            pulse = heartbeat.pulse(work_rid, "intake")
            try:
                bag = download.identify_local(self._dropped.path, work_rid, pulse=pulse)
            except PipelineError:
                # A lane that was frozen since it took the lease: the zip may be gone since it came home without it.
                heartbeat.see_held(self._dropped.claim, ask=True)
                raise
        failpoints.point("zip identified")
        return [replace(bag, source=self._folder.name)]

    def settle(self, verdicts: Sequence[Verdict]) -> None:
        """Done: moved, deleted or kept, as set. Never to succeed: moved to the refused ones, with its report.

        What may still succeed stays where it is: the record knows when to try it again.

        Raises:
            FolderUnreachable: it cannot be moved or deleted; it is found again by its stamp.
        """
        # If another lane has the lease by now, that one settles the zip.
        with self._here.leased(self._dropped.claim, "") as ours:
            for verdict in verdicts if ours else ():
                self._settle(verdict)

    def _settle(self, verdict: Verdict) -> None:
        unknown = not verdict.bag_id and verdict.outcome in {Outcome.TRANSIENT, Outcome.PERMANENT}
        if unknown:  # the record has no bag that could tell it
            self._note(verdict, "failed", {"kind": verdict.kind, "error": verdict.reason})
            _log.error("%s: %s", self.name, verdict.reason)
        if verdict.outcome is Outcome.DONE:
            self._home(verdict)
        elif verdict.outcome is Outcome.PERMANENT and verdict.kind != _GONE and self._folder.done is not WhenDone.KEEP:
            self._refuse(verdict)
        elif unknown:
            self._try_later(self._dropped)

    def _home(self, verdict: Verdict) -> None:
        if self._folder.done is WhenDone.MOVE:
            moved = intake.move_out(self._dropped, self._folder.done_path, root=self._folder.done_path)
            if moved is not None:
                self._note(verdict, "moved", {"to": str(moved)})
                _log.info("%s: home; its zip was moved to %s", verdict.work_rid, moved)
        elif self._folder.done is WhenDone.DELETE and intake.remove(self._dropped):
            self._note(verdict, "deleted", {"zip": self.name})
            _log.info("%s: home; its zip was deleted", verdict.work_rid)

    def _refuse(self, verdict: Verdict) -> None:
        into = self._folder.refused_dir(verdict.work_rid, verdict.bag_id)
        if not verdict.bag_id:
            into = self._folder.refused_dir("name", self._dropped.claim.rpartition(":")[2])
        # The report first: a zip among the refused ones is never without its reason.
        moved = intake.move_out(self._dropped, into, root=self._folder.refused_path, report=self._report(verdict))
        if moved is not None:
            self._note(verdict, "refused", {"to": str(moved), "kind": verdict.kind})
            _log.error("%s was refused, and moved to %s with its report", self.name, moved)

    def _report(self, verdict: Verdict) -> bytes:
        """Why it was refused, and everything that is wrong with it."""
        row = self._here.record.bag(verdict.bag_id)
        text = f"{printable(self.name)} was refused: {verdict.kind}\n{printable(verdict.reason)}\n".encode()
        if row is not None and verdict.kind == "invalid-bag":
            faults = self._here.place(row.bag).report.with_suffix(".txt")
            text += b"\n" + faults.read_bytes() if faults.exists() else b""
        return text

    def _note(self, verdict: Verdict, outcome: str, detail: dict[str, object]) -> None:
        detail = {"source": self._folder.name, "file": self.name, **detail}
        self._here.record.note("intake", outcome, detail, work_rid=verdict.work_rid, bag_id=verdict.bag_id)


def _known(here: Site, zips: Sequence[Dropped]) -> dict[tuple[str, str], BagRow]:
    """What the record knows of these files as they are now, by path and stamp."""
    claims = {dropped.claim for dropped in zips}
    known = views.local_zips(here.engine, [claim for claim in claims if not claim.startswith("file:")])
    # One that was gone when it was needed, and is there now as it was: its disk was away.
    return {file: row for file, row in known.items() if row.error_kind != _GONE}
