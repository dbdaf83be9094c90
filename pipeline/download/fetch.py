"""The download as a whole: go on or begin, fetch, compare with what S3 has, mend once, give the file its name."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.download.fetch_options import Fetched, FetchOptions
from pipeline.download.journal import RangeJournal
from pipeline.download.plan import Plan, plan
from pipeline.download.remote import Body, RangeIgnored, answered, look, open_whole
from pipeline.download.transfer import Transfer
from pipeline.foundation import durable, failpoints
from pipeline.foundation.errors import (
    DownloadMismatch,
    NoRoom,
    NotRestored,
    ObjectGone,
    ObjectReplaced,
    PipelineError,
    RestoreExpired,
    WorkBusy,
)
from pipeline.foundation.work import Bag, Pulse, human_bytes, no_pulse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TOLD_RANGES = 5
_ADVICE = dict.fromkeys([errno.ENOSPC, errno.EDQUOT, errno.EFBIG], "make room on the staging disk") | dict.fromkeys(
    [errno.EACCES, errno.EPERM, errno.EROFS], "let this user write to the staging disk"
)


def fetch(
    s3: "S3Client", bag: Bag, *, to: Path, options: FetchOptions | None = None, pulse: Pulse = no_pulse
) -> Fetched:
    """Bring the object that `bag` identifies to the file `to`; it appears under that name only when whole and verified.

    What an earlier try brought is not fetched again. The journal of what came stays beside the file until `settle`.

    Raises:
        NotRestored: it is still frozen in Glacier; RestoreExpired: it is so again, half-way.
        ObjectGone: it is not there (any more).
        ObjectReplaced: the bucket now holds other bytes under the key.
        DownloadMismatch: what came is not what S3 has, twice.
        NoRoom: the disk is full, or cannot be written to.
        WorkBusy: another process of this host still writes the file.
        PipelineError: S3 cannot be reached, or refuses; or what the pulse raised.
    """
    started = time.monotonic()
    part, journal = to.with_name(f"{to.name}.part"), _journal_of(to)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if journal.exists() and to.exists() and not part.exists():
            failpoints.see_allowed()
            os.replace(to, part)  # killed before anything vouched for the file: it is looked at again, not paid again
        with _locked(part, bag) as file:
            return _Attempt(s3, bag, to, part, file, options or FetchOptions(), pulse).run(started)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "see to the staging disk")
        raise NoRoom(f"{to}: {error.strerror}", work_rid=bag.work_rid, by_hand=advice) from error


def settle(path: Path) -> None:
    """The downloaded file is vouched for: its journal is not needed any more."""
    failpoints.see_allowed()
    _journal_of(path).unlink(missing_ok=True)


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


@contextlib.contextmanager
def _locked(part: Path, bag: Bag) -> Iterator[int]:
    """The `.part` file, open, and nobody else's meanwhile: a lane that lost its lease may still be writing it.

    Raises:
        WorkBusy: it is somebody else's.
    """
    while True:
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, whoever had it may have given it its name, or removed it.
            if part.exists() and part.stat().st_ino == os.fstat(file).st_ino:
                yield file
                return
        except BlockingIOError as error:
            raise WorkBusy(
                f"another process on this host still writes {part}", work_rid=bag.work_rid, kept="what has come stays"
            ) from error
        finally:
            os.close(file)


@dataclass
class _Attempt:
    """One attempt.

    Args:
        s3: the client.
        bag: what is wanted.
        to: the name that the file gets in the end.
        part: the name that it has until then.
        file: descriptor of the `.part` file; nobody else writes it.
        options: how to fetch.
        pulse: told how much is there; what it raises ends the attempt.
    """

    s3: "S3Client"
    bag: Bag
    to: Path
    part: Path
    file: int
    options: FetchOptions
    pulse: Pulse
    journal: RangeJournal | None = None
    fetched_bytes: int = 0
    in_sequence: list[str] = field(default_factory=list)
    refetched: list[str] = field(default_factory=list)

    def run(self, started: float) -> Fetched:
        """Everything, up to the final name.

        Args:
            started: when the download was asked for, by the monotonic clock.
        """
        with self._leaving():
            journal, first = self._begun()
            try:
                self._bring(journal, range(journal.plan.chunks), first=first)
            except RangeIgnored:
                remote = journal.plan.remote
                whole = plan(remote, chunk_bytes=max(1, remote.size_bytes), verify=self.options.verify)
                journal = self._anew(whole)
                self._bring(journal, [0])
            found = journal.plan.found(journal.claims, self.in_sequence)
            if journal.plan.is_not(found):
                found = self._mended(journal, found)
            if self.options.durable:
                os.fsync(self.file)
                durable.publish(self.part, self.to)
            else:
                failpoints.see_allowed()
                os.replace(self.part, self.to)
        known = journal.plan
        return Fetched(
            path=self.to,
            size_bytes=known.remote.size_bytes,
            etag=known.remote.etag,
            version_id=known.remote.version_id,
            verified=str(known.level),
            digests=known.digests(found),
            fetched_bytes=self.fetched_bytes,
            refetched=tuple(self.refetched),
            seconds=time.monotonic() - started,
        )

    def _begun(self) -> tuple[RangeJournal, Body | None]:
        """The journal to go on with; and for a small object its answer, with which everything comes in one request."""
        there = os.fstat(self.file).st_size
        old = RangeJournal.go_on(_journal_of(self.to), self.bag.etag) if there else None
        if old is not None and old.plan.remote.size_bytes == there:
            if self.bag.version_id:  # the same bytes may have been put again, and their first version be gone
                remote = replace(old.plan.remote, version_id=self.bag.version_id)
                old.plan = replace(old.plan, remote=remote)
            self.journal = old
            return old, None
        if old is not None:
            old.close()
        options, first = self.options, None
        if 0 < self.bag.size_bytes <= options.chunk_bytes:
            ask = partial(open_whole, self.s3, self.bag, stall_seconds=options.stall_seconds)
            remote, first = answered(ask, waiting=self._waiting, unwanted=lambda answer: answer[1].close())
        else:
            remote = answered(partial(look, self.s3, self.bag), waiting=self._waiting)
        try:
            journal = self._anew(plan(remote, chunk_bytes=options.chunk_bytes, verify=options.verify))
        except BaseException:
            if first is not None:
                first.close()
            raise
        if first is not None and journal.plan.chunks > 1:  # larger than its event said
            first.close()
            first = None
        return journal, first

    def _waiting(self) -> None:
        self.pulse(0, self.bag.size_bytes)

    def _anew(self, chosen: Plan) -> RangeJournal:
        """An empty file of the full size, and its journal."""
        if self.journal is not None:
            self.journal.close()
        os.ftruncate(self.file, 0)
        if chosen.remote.size_bytes:
            os.posix_fallocate(self.file, 0, chosen.remote.size_bytes)  # a full disk is found before a byte is paid for
        self.journal = RangeJournal.begin(_journal_of(self.to), chosen)
        return self.journal

    def _bring(
        self, journal: RangeJournal, numbers: Iterable[int], *, first: Body | None = None, follow: bool = True
    ) -> None:
        transfer = self._transfer(journal)
        try:
            transfer.run(numbers, pulse=self.pulse, first=first, follow=follow)
        finally:
            self.fetched_bytes += transfer.fetched_bytes
        self.in_sequence = transfer.in_sequence

    def _transfer(self, journal: RangeJournal) -> Transfer:
        return Transfer(self.s3, self.bag, journal=journal, file=self.file, options=self.options)

    def _mended(self, journal: RangeJournal, found: str) -> str:
        """Find the ranges that are wrong, and fetch them once more; returns what the whole then amounts to.

        S3 tells a digest of the whole only. So ranges that lie on the disk otherwise than they came are suspected; if
        there are none, all come again, one by one, until the whole is right: those that differ were wrong.

        Raises:
            DownloadMismatch: it is still not what S3 has.
        """
        if not journal.doubted:
            damaged = self._transfer(journal).differing(range(journal.plan.chunks), pulse=self.pulse)
            for numbers in [damaged] if damaged else ([number] for number in range(journal.plan.chunks)):
                before = [journal.claims.pop(number) for number in numbers]
                self._bring(journal, numbers, follow=False)
                if damaged or before != [journal.claims[number] for number in numbers]:
                    self.refetched += map(journal.plan.named, numbers)
                    self._bring(journal, [])
                    found = journal.plan.found(journal.claims, self.in_sequence)
                    if not journal.plan.is_not(found):
                        return found
            journal.doubt()
        raise self._mismatch(journal.plan, found)

    def _mismatch(self, known: Plan, found: str) -> DownloadMismatch:
        ranges = ", ".join(self.refetched[:_TOLD_RANGES])
        twice = f"{ranges} came otherwise the second time" if ranges else "the same bytes came twice"
        return DownloadMismatch(
            f"{self.bag.address}: what came has {known.level} {found}, S3 says {known.expected}; {twice}",
            work_rid=self.bag.work_rid,
            go_on=("work", self.bag.work_rid, "--from", "download"),
            facts={"refetched": self.refetched},
        )

    @contextlib.contextmanager
    def _leaving(self) -> Iterator[None]:
        """What was paid for is kept for the next attempt; a file with nothing of use in it is not."""
        try:
            yield
        except (ObjectGone, ObjectReplaced) as error:
            error.kept = error.kept or ("what had come of it was discarded" if self._there_bytes else "")
            self._discard()
            raise
        except (PipelineError, OSError) as error:
            there = self._there_bytes
            if not there:
                self._discard()
                raise
            size = self.journal.plan.remote.size_bytes if self.journal else 0
            kept = f"{human_bytes(there)} of {human_bytes(size)} are kept in {self.part}, and not fetched again"
            if isinstance(error, PipelineError):
                error.kept = error.kept or kept
            if isinstance(error, NotRestored):
                raise RestoreExpired(
                    f"download of {self.bag.address}: the restored copy expired half-way",
                    work_rid=self.bag.work_rid,
                    kept=kept,
                    by_hand="ask S3 to restore the object once more; the event brings the rest home",
                ) from error
            raise
        finally:
            if self.journal is not None:
                self.journal.close()

    @property
    def _there_bytes(self) -> int:
        """What the journal claims."""
        return self.journal.claimed_bytes if self.journal is not None else 0

    def _discard(self) -> None:
        failpoints.see_allowed()
        self.part.unlink(missing_ok=True)
        _journal_of(self.to).unlink(missing_ok=True)
