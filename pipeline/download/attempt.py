"""One attempt at a download: go on or begin, fetch, compare with what S3 has, mend once, give the file its name."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.download.fetch_options import Fetched, FetchOptions
from pipeline.download.journal import RangeJournal
from pipeline.download.plan import By, Plan, plan
from pipeline.download.remote import Body, RangeIgnored, look, open_whole
from pipeline.download.transfer import Transfer
from pipeline.foundation import durable, failpoints
from pipeline.foundation.aws import answered
from pipeline.foundation.errors import (
    DownloadMismatch,
    NotRestored,
    ObjectGone,
    ObjectReplaced,
    PipelineError,
    RestoreExpired,
)
from pipeline.foundation.work import Bag, Pulse, human_bytes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TOLD_RANGES = 5


@dataclass
class Attempt:
    """One attempt.

    Args:
        s3: the client.
        bag: what is wanted.
        to: the name that the file gets in the end.
        journal_path: beside it.
        part: the name that it has until then.
        file: descriptor of the `.part` file; nobody else writes it.
        options: how to fetch.
        pulse: told how much is there; what it raises ends the attempt.
    """

    s3: "S3Client"
    bag: Bag
    to: Path
    journal_path: Path
    part: Path
    file: int
    options: FetchOptions
    pulse: Pulse
    journal: RangeJournal | None = None
    fetched_bytes: int = 0
    in_sequence: list[str] = field(default_factory=list)
    refetched: list[str] = field(default_factory=list)
    came_whole: bool = False

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
            self.came_whole = True
            journal = self._by_what_is_wanted(journal)
            found = journal.plan.found(journal.claims, self.in_sequence)
            if journal.plan.is_not(found):
                found = self._mended(journal, found)
            if self.options.durable:
                os.fsync(self.file)
                journal.all_flushed()
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
        old = RangeJournal.go_on(self.journal_path, self.bag.etag) if there else None
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
        self.journal = RangeJournal.begin(self.journal_path, chosen)
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

    def _by_what_is_wanted(self, journal: RangeJournal) -> RangeJournal:
        """The journal by the digests of what lies on the disk, if they are wanted now and were not taken on the way."""
        remote = journal.plan.remote
        wanted = plan(remote, chunk_bytes=self.options.chunk_bytes, verify=self.options.verify)
        if journal.plan.expected or not wanted.expected:
            return journal
        transfer = self._transfer(RangeJournal(journal.path, wanted))
        claims = transfer.on_disk(pulse=self.pulse, follow=True)
        self.in_sequence = transfer.in_sequence
        journal.close()
        self.journal = RangeJournal.of(journal.path, wanted, claims, doubted=journal.doubted)
        return self.journal

    def _mended(self, journal: RangeJournal, found: str) -> str:
        """Find the ranges that are wrong, and fetch them once more; returns what the whole then amounts to.

        S3 tells a digest of the whole only. So ranges that lie on the disk otherwise than they came are suspected; if
        there are none, all come again, one by one, until the whole is right: those that differ were wrong.

        Raises:
            DownloadMismatch: it is still not what S3 has.
        """
        if not journal.doubted:
            there = self._transfer(journal).on_disk(pulse=self.pulse)
            damaged = [number for number, taken in there.items() if taken != journal.claims[number]]
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
            if self.came_whole:  # it is not what S3 had, and nearly so; and may be all that is left
                error.kept = f"what had come of it, part of it wrong, is kept in {self.part}"
                raise
            error.kept = error.kept or ("what had come of it was discarded" if self._there_bytes else "")
            self._discard()
            raise
        except (PipelineError, OSError) as error:
            there = self._there_bytes
            if not there:
                self._discard()
                raise
            if isinstance(error, PipelineError):
                self._flush()
            size = self.journal.plan.remote.size_bytes if self.journal else 0
            kept = f"{human_bytes(there)} of {human_bytes(size)} are kept in {self.part}, and not fetched again"
            if isinstance(error, PipelineError):
                error.kept = error.kept or kept
            if isinstance(error, NotRestored):
                raise RestoreExpired(
                    f"download of {self.bag.address}: the restored copy expired half-way",
                    work_rid=self.bag.work_rid,
                    kept=kept,
                    go_on=("restore", self.bag.work_rid),
                ) from error
            raise
        finally:
            if self.journal is not None:
                self.journal.close()

    def _flush(self) -> None:
        """Let what came survive a restart of the machine where there are no digests to know it by."""
        if self.journal is not None and self.journal.plan.by is By.NOTHING and self.options.durable:
            with contextlib.suppress(OSError):  # then it does not; what ended the download is told
                os.fdatasync(self.file)
                self.journal.all_flushed()

    @property
    def _there_bytes(self) -> int:
        """What the journal claims."""
        return self.journal.claimed_bytes if self.journal is not None else 0

    def _discard(self) -> None:
        failpoints.see_allowed()
        self.part.unlink(missing_ok=True)
        self.journal_path.unlink(missing_ok=True)
