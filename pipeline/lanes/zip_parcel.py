"""A dropped zip as a parcel: read once when it is opened, moved out when it is settled."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline import download, intake
from pipeline.foundation import failpoints
from pipeline.foundation.errors import InvalidRid, PipelineError
from pipeline.foundation.work import Bag, printable
from pipeline.intake import Dropped
from pipeline.lanes.parcel import Outcome, Parcel, Verdict
from pipeline.settings import Folder, WhenDone
from pipeline.tasks.context import Site

GONE = "object-gone"
_log = logging.getLogger(__name__)


class ZipParcel(Parcel):
    """A dropped zip, and what becomes of it.

    The leases of its works are all that keeps others away, and the heartbeat renews them. They end by themselves:
    until then a zip that is given back is left alone.

    Args:
        here: the lane's site.
        folder: where it was dropped.
        dropped: the file, claimed.
        try_later: told when it failed for a reason that may pass, and the record knows nothing of it.
    """

    again = "it was put into the folder again"

    def __init__(self, here: Site, folder: Folder, dropped: Dropped, *, try_later: Callable[[Dropped], None]) -> None:
        self.name = dropped.shown
        self._here = here
        self._folder = folder
        self._dropped = dropped
        self._try_later = try_later

    def open(self) -> Sequence[Bag]:
        """The bag that it is: read once, for its digest; and known by its stamp from then on.

        Raises:
            InvalidRid: its name names no work.
            ZipUnreadable: it cannot be read, or is not quiet after all.
            ObjectGone: it was taken away.
            Stopping, LeaseLost: the reading was cut short.
        """
        try:
            work_rid = self._dropped.work_rid
        except InvalidRid as error:
            error.go_on = f"name it RID.bag.zip, and put it into {self._folder.path} again"
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
        elif verdict.outcome is Outcome.PERMANENT and verdict.kind != GONE and self._folder.done is not WhenDone.KEEP:
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
