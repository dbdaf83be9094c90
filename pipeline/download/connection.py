"""One connection: fetches a range, and goes on within it after resets, stalls and answers cut short."""

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pipeline.download.fetch_options import FetchOptions
from pipeline.download.journal import Begun, RangeJournal
from pipeline.download.plan import By, Plan
from pipeline.download.remote import BODY_BROKE, Body, RangeIgnored, WrongAnswer, open_range
from pipeline.foundation import durable, failpoints
from pipeline.foundation.errors import DownloadMismatch, PipelineError, StorageUnreachable
from pipeline.foundation.work import Bag

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BUFFER_BYTES = 1 << 18
_PROGRESS_BYTES = 1 << 18  # so much came since the last failure: then the line works, and failures are counted anew
_LONGEST_PAUSE_SECONDS = 20.0


class Halted(Exception):
    """The transfer ends: the thread that finds this out just leaves."""


class DiskFailed(Exception):
    """The disk, not the network, failed."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Connection:
    """What one thread works with; `cut` is for another thread.

    A thread that waits for a server which has fallen silent cannot be ended, so it may be left behind. After `cut` it
    writes nothing any more, so that the file can be closed, and its number given to another one.

    Args:
        s3: the client; it retries requests that are throttled or not answered.
        file: descriptor of the file, open for reading and writing.
        halted: set when everything is to end.
    """

    def __init__(
        self, s3: "S3Client", bag: Bag, plan: Plan, *, file: int, options: FetchOptions, halted: threading.Event
    ) -> None:
        self._s3 = s3
        self._bag = bag
        self._plan = plan
        self._file = file
        self._options = options
        self._halted = halted
        self._lock = threading.Lock()
        self._cut = False
        self._body: Body | None = None
        self._reading_since = 0.0
        self._too_slow = False
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._most_bytes = options.bandwidth.block_bytes if options.bandwidth is not None else _BUFFER_BYTES
        self.done_bytes = 0
        self.fetched_bytes = 0

    def wake(self) -> None:
        """Let the thread find out that everything is to end, if it waits for bytes."""
        with self._lock:
            if self._body is not None:
                self._body.interrupt()

    def give_up_if_slow(self) -> None:
        """Let the thread ask for the rest anew if bytes trickle: such a connection would hold up the whole for days."""
        with self._lock:
            since = self._reading_since
            if self._body is not None and since and time.monotonic() - since > self._options.slow_seconds:
                self._too_slow = True
                self._body.interrupt()

    def cut(self) -> None:
        """Let nothing be written any more."""
        with self._lock:
            self._cut = True

    @contextlib.contextmanager
    def uncut(self) -> Iterator[None]:
        """The block runs before `cut`, or not at all.

        Raises:
            Halted: it was cut.
        """
        with self._lock:
            if self._cut:
                raise Halted
            yield

    def on_disk(self, number: int) -> list[str]:
        """The digests of a range as it lies on the disk.

        Raises:
            Halted: everything is to end.
        """
        start, end = self._plan.span(number)
        if self._plan.by is By.NOTHING:
            self.done_bytes += end - start
            return []
        digest = self._plan.digest()
        for block in blocks(self._file, start, end, buffer=self._buffer, halted=self._halted):
            digest.update(block)
            self.done_bytes += len(block)
        return digest.values()

    def fetch(self, journal: RangeJournal, number: int, first: Body | None = None) -> None:
        """Bring a range to the disk, and claim it in the journal with its digests, taken of the bytes as they came.

        Args:
            journal: also told now and then how far the range is, and when the rest does not come.
            number: the range.
            first: its body, if its answer is here already.

        Raises:
            Halted: everything is to end.
            StorageUnreachable: it broke off again and again.
            PipelineError: S3 refuses.
        """
        attempt = self._resumed(journal, number)
        try:
            self._all(attempt, first)
        except BaseException:
            self._claim(attempt, after_bytes=1)
            raise
        flushed = self._flush() if self._flushes else False
        with self.uncut():
            journal.claim(number, attempt.digest.values(), flushed=flushed)
            self._start_write_back(attempt)

    @property
    def _flushes(self) -> bool:
        """Whether ranges are known by nothing but that they reached the disk; a single one the end flushes anyhow."""
        return self._options.durable and self._plan.by is By.NOTHING and self._plan.chunks > 1

    def _flush(self) -> bool:
        """Let everything that was written reach the disk; the file may be closed meanwhile."""
        with self.uncut():
            file = os.dup(self._file)
        try:
            with _on_disk():
                os.fdatasync(file)
        finally:
            os.close(file)
        return True

    def _claim(self, attempt: Begun, *, after_bytes: int) -> None:
        """Let the journal know how far a range is, if so much more came since it was told."""
        if after_bytes <= attempt.unclaimed_bytes and attempt.position < attempt.end:
            with self.uncut(), _on_disk():
                self._start_write_back(attempt)
                attempt.claim()

    def _start_write_back(self, attempt: Begun) -> None:
        """Let the disk work while the network does: in the end everything is flushed at once."""
        if self._options.durable and attempt.unclaimed_bytes:
            durable.start_write_back(self._file, attempt.position - attempt.unclaimed_bytes, attempt.unclaimed_bytes)

    def _resumed(self, journal: RangeJournal, number: int) -> Begun:
        """Where to go on in a range."""
        attempt = Begun(journal, number)
        attempt.go_on(partial(blocks, self._file, buffer=self._buffer, halted=self._halted))
        self.done_bytes += attempt.position - attempt.start
        return attempt

    def _all(self, attempt: Begun, first: Body | None) -> None:
        start, end, failures, mark = attempt.start, attempt.end, 0, attempt.position
        while True:
            try:
                self._rest(attempt, first)
            except (WrongAnswer, *BODY_BROKE) as error:
                if self._halted.is_set():
                    raise Halted from error
                failures = 1 if attempt.position - mark >= _PROGRESS_BYTES else failures + 1
                mark = attempt.position
                if failures >= self._options.attempts:
                    raise self._given_up(error, attempt) from error
            except RangeIgnored as error:
                if (start, end) != (0, self._plan.remote.size_bytes):
                    raise
                if failures >= self._options.attempts:
                    raise self._given_up(error, attempt) from error
                # Without ranges the rest cannot be asked for: the whole comes again.
                self.done_bytes -= attempt.position
                attempt.begin_again()
                failures, mark = failures + 1, start
            else:
                return
            first = None
            self._pause(failures)

    def _rest(self, attempt: Begun, first: Body | None) -> None:
        body = first or open_range(
            self._s3,
            self._bag,
            self._plan.remote,
            start=attempt.position,
            end=attempt.end,
            stall_seconds=self._options.stall_seconds,
        )
        try:
            with self.uncut():
                self._body, self._reading_since, self._too_slow = body, 0.0, False
            self._read(body, attempt)
        except BaseException:
            body.close()
            raise
        finally:
            with self._lock:
                self._body = None
        body.release()

    def _read(self, body: Body, attempt: Begun) -> None:
        while attempt.position < attempt.end:
            block = self._buffer[: min(self._most_bytes, attempt.end - attempt.position)]
            self._reading_since = time.monotonic()
            came = body.readinto(block)
            self._reading_since = 0.0
            # What came is not looked at then: a connection that is broken off may give anything.
            if self._halted.is_set():
                raise Halted
            if self._too_slow:
                raise ConnectionError(f"{len(block)} bytes did not come within {self._options.slow_seconds:.0f} s")
            if not came:
                raise ConnectionError(f"{attempt.end - attempt.position} bytes are missing")
            block = block[:came]
            with self.uncut(), _on_disk():
                _write(self._file, block, attempt.position)
            attempt.digest.update(block)
            attempt.position += came
            self.done_bytes += came
            self.fetched_bytes += came
            self._claim(attempt, after_bytes=self._options.claim_bytes)
            failpoints.point("download half-way")
            if self._options.bandwidth is not None:
                with _on_disk():
                    self._options.bandwidth.take(came, self._halted)

    def _pause(self, failures: int) -> None:
        longest = min(_LONGEST_PAUSE_SECONDS, self._options.pause_seconds * 2**failures)
        if self._halted.wait(longest * random.uniform(0.5, 1)):  # noqa: S311  # spreads load, guards nothing
            raise Halted

    def _given_up(self, error: BaseException, attempt: Begun) -> PipelineError:
        what = f"download of {self._bag.address}"
        if isinstance(error, WrongAnswer):
            return DownloadMismatch(f"{what}: {error}", work_rid=self._bag.work_rid)
        return StorageUnreachable(
            f"{what}: bytes {attempt.position}-{attempt.end - 1} broke off {self._options.attempts} times: "
            f"{type(error).__name__}: {error}",
            work_rid=self._bag.work_rid,
        )


def blocks(file: int, start: int, end: int, *, buffer: memoryview, halted: threading.Event) -> Iterator[memoryview]:
    """The bytes of a file from `start` up to `end`, or up to its own end, block by block in the buffer.

    Raises:
        Halted: everything is to end.
    """
    while start < end:
        if halted.is_set():
            raise Halted
        block = buffer[: end - start]
        block = block[: os.preadv(file, [block], start)]
        if not block:
            return
        yield block
        start += len(block)


def _write(file: int, block: memoryview, position: int) -> None:
    while block:
        written = os.pwrite(file, block, position)
        block, position = block[written:], position + written


@contextlib.contextmanager
def _on_disk() -> Iterator[None]:
    """What fails in the block is the disk: asking S3 again would not help."""
    try:
        yield
    except OSError as error:
        raise DiskFailed(error) from error
