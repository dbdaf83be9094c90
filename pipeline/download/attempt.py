"""One attempt at a download: plan or go on, fetch, compare with what S3 has, mend once, give the file its name."""

import os
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.download.asking import answered
from pipeline.download.journal import Journal
from pipeline.download.options import Fetched, Options
from pipeline.download.plan import Plan, plan
from pipeline.download.remote import Body, RangeIgnored, look, open_whole
from pipeline.download.transfer import Transfer
from pipeline.foundation import durable, failpoints
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


class Attempt:
    """One attempt.

    Args:
        s3: the client.
        bag: what is wanted.
        to: the name that the file gets in the end.
        file: descriptor of the `.part` file; nobody else writes it.
        journal: where the journal lies.
    """

    def __init__(
        self, s3: "S3Client", bag: Bag, *, to: Path, file: int, journal: Path, options: Options, pulse: Pulse
    ) -> None:
        self._s3 = s3
        self._bag = bag
        self._to = to
        self._part = to.with_name(f"{to.name}.part")
        self._file = file
        self._journal_path = journal
        self._options = options
        self._pulse = pulse
        self._journal: Journal | None = None
        self._fetched_bytes = 0
        self._in_sequence: list[str] = []
        self._refetched: list[str] = []

    def run(self, started: float) -> Fetched:
        """Everything, up to the final name.

        Args:
            started: when the download was asked for, by the monotonic clock.

        Raises:
            PipelineError: see `fetch`; what is left is told.
            OSError: the disk failed.
        """
        with self._leaving():
            journal, first = self._begun()
            try:
                self._bring(journal, range(journal.plan.chunks), first=first)
            except RangeIgnored:
                journal = self._anew(self._in_one_piece(journal.plan))
                self._bring(journal, [0])
            found = self._found(journal)
            if self._is_wrong(journal.plan, found):
                found = self._mended(journal, found)
            if self._options.durable:
                os.fsync(self._file)
                durable.publish(self._part, self._to)
            else:
                failpoints.see_allowed()
                os.replace(self._part, self._to)
        known = journal.plan
        return Fetched(
            path=self._to,
            size_bytes=known.remote.size_bytes,
            etag=known.remote.etag,
            version_id=known.remote.version_id,
            verified=str(known.level),
            digests=known.digests(found),
            fetched_bytes=self._fetched_bytes,
            refetched=tuple(self._refetched),
            seconds=time.monotonic() - started,
        )

    def _begun(self) -> tuple[Journal, Body | None]:
        """The journal to go on with; and for a small object its answer, with which everything comes in one request."""
        there = os.fstat(self._file).st_size
        old = Journal.go_on(self._journal_path, self._bag.etag) if there else None
        if old is not None and old.plan.remote.size_bytes == there:
            if self._bag.version_id:  # the same bytes may have been put again, and their first version be gone
                remote = replace(old.plan.remote, version_id=self._bag.version_id)
                old.plan = replace(old.plan, remote=remote)
            self._journal = old
            return old, None
        if old is not None:
            old.close()
        options, first = self._options, None
        if 0 < self._bag.size_bytes <= options.chunk_bytes:
            ask = partial(open_whole, self._s3, self._bag, stall_seconds=options.stall_seconds)
            remote, first = answered(ask, waiting=self._waiting, unwanted=lambda answer: answer[1].close())
        else:
            remote = answered(partial(look, self._s3, self._bag), waiting=self._waiting)
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
        self._pulse(0, self._bag.size_bytes)

    def _anew(self, chosen: Plan) -> Journal:
        """An empty file of the full size, and its journal."""
        if self._journal is not None:
            self._journal.close()
        os.ftruncate(self._file, 0)
        if chosen.remote.size_bytes:
            os.posix_fallocate(
                self._file, 0, chosen.remote.size_bytes
            )  # a full disk is found before a byte is paid for
        self._journal = Journal.begin(self._journal_path, chosen)
        return self._journal

    def _in_one_piece(self, known: Plan) -> Plan:
        return plan(known.remote, chunk_bytes=max(1, known.remote.size_bytes), verify=self._options.verify)

    def _bring(
        self, journal: Journal, numbers: Iterable[int], *, first: Body | None = None, follow: bool = True
    ) -> None:
        transfer = Transfer(self._s3, self._bag, journal=journal, file=self._file, how=self._options.how)
        try:
            transfer.run(numbers, pulse=self._pulse, first=first, follow=follow)
        finally:
            self._fetched_bytes += transfer.fetched_bytes
        self._in_sequence = transfer.in_sequence

    def _found(self, journal: Journal) -> str:
        return journal.plan.found(journal.claims, self._in_sequence)

    @staticmethod
    def _is_wrong(known: Plan, found: str) -> bool:
        return bool(known.expected) and found != known.expected

    def _mended(self, journal: Journal, found: str) -> str:
        """Find the ranges that are wrong, and fetch them once more; returns what the whole then amounts to.

        S3 tells a digest of the whole only. So ranges that lie on the disk otherwise than they came are suspected; if
        there are none, all come again, one by one, until the whole is right: those that differ were wrong.

        Raises:
            DownloadMismatch: it is still not what S3 has.
        """
        if not journal.doubted:
            damaged = self._damaged(journal)
            for numbers in [damaged] if damaged else ([number] for number in range(journal.plan.chunks)):
                before = [journal.claims.pop(number) for number in numbers]
                self._bring(journal, numbers, follow=False)
                if damaged or before != [journal.claims[number] for number in numbers]:
                    self._refetched += map(journal.plan.named, numbers)
                    self._bring(journal, [])
                    found = self._found(journal)
                    if not self._is_wrong(journal.plan, found):
                        return found
            journal.doubt()
        raise self._mismatch(journal.plan, found)

    def _damaged(self, journal: Journal) -> list[int]:
        """The ranges that lie on the disk otherwise than they came."""
        transfer = Transfer(self._s3, self._bag, journal=journal, file=self._file, how=self._options.how)
        return transfer.differing(range(journal.plan.chunks), pulse=self._pulse)

    def _mismatch(self, known: Plan, found: str) -> DownloadMismatch:
        ranges = ", ".join(self._refetched[:_TOLD_RANGES])
        twice = f"{ranges} came otherwise the second time" if ranges else "the same bytes came twice"
        return DownloadMismatch(
            f"{self._bag.address}: what came has {known.level} {found}, S3 says {known.expected}; {twice}",
            work_rid=self._bag.work_rid,
            go_on=f"run_pipeline.py work {shlex.quote(self._bag.work_rid)} --from download, which fetches it all again",
            facts={"refetched": self._refetched},
        )

    @contextmanager
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
            size = self._journal.plan.remote.size_bytes if self._journal else 0
            kept = f"{human_bytes(there)} of {human_bytes(size)} are kept in {self._part}, and not fetched again"
            if isinstance(error, PipelineError):
                error.kept = error.kept or kept
            if isinstance(error, NotRestored):
                raise RestoreExpired(
                    f"download of {self._bag.address}: the restored copy expired half-way",
                    work_rid=self._bag.work_rid,
                    kept=kept,
                    go_on="ask S3 to restore the object once more; the event brings the rest home",
                ) from error
            raise
        finally:
            if self._journal is not None:
                self._journal.close()

    @property
    def _there_bytes(self) -> int:
        """What the journal claims."""
        return self._journal.claimed_bytes if self._journal is not None else 0

    def _discard(self) -> None:
        failpoints.see_allowed()
        self._part.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)
