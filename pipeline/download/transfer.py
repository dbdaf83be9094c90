"""Ranges of an object into a file, over several connections at once.

Each connection is a thread with one buffer: it reads into it, writes it where it belongs and digests it; socket, disk
and hashlib all work without Python's lock. The caller's thread only waits and asks its pulse, so that a request to stop
is honoured at once, whatever the connections wait for.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from pipeline.download.connection import Connection, DiskFailed, Halted, blocks
from pipeline.download.fetch_options import FetchOptions
from pipeline.download.journal import RangeJournal
from pipeline.download.remote import Body
from pipeline.foundation.work import Bag, Pulse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TICK_SECONDS = 0.25
_PATIENCE_SECONDS = 1.0
_BUFFER_BYTES = 1 << 18


class Transfer:
    """Brings ranges into an open file; one transfer serves once.

    Args:
        s3: the client.
        bag: what is fetched.
        journal: which ranges there are, and which are there; those that come are claimed in it.
        file: descriptor of the file, open for reading and writing.
        options: how to fetch.

    Attributes:
        in_sequence: afterwards, the digests of the whole in order, where the plan needs them.
    """

    def __init__(self, s3: "S3Client", bag: Bag, *, journal: RangeJournal, file: int, options: FetchOptions) -> None:
        self._journal = journal
        self._plan = journal.plan
        self._file = file
        self._most_connections = options.connections
        self._todo: deque[int] = deque()
        self._there: set[int] = set()
        self._arrived = threading.Condition()
        self._halted = threading.Event()
        self._new_connection = partial(
            Connection, s3, bag, journal.plan, file=file, options=options, halted=self._halted
        )
        self._over = threading.Event()
        self._working = 0
        self._connections: list[Connection] = []
        self._error: BaseException | None = None
        self._first: Body | None = None
        self.in_sequence: list[str] = []

    def run(self, numbers: Iterable[int], *, pulse: Pulse, first: Body | None = None, follow: bool = True) -> None:
        """Bring these ranges: what the journal claims is re-hashed, and fetched only where it is not as claimed.

        Args:
            numbers: the ranges; all others are there.
            pulse: told a few times a second; what it raises ends the transfer.
            first: the body of the first of them, if its answer is here already.
            follow: take the digests of the whole in order, if the plan needs them.

        Raises:
            PipelineError: what ended it; the ranges that came are claimed in the journal.
            OSError: the disk failed.
        """
        self._todo = deque(numbers)
        self._there = set(range(self._plan.chunks)) - set(self._todo)
        self._first = first
        self._run(self._jobs(self._bring, follow=follow), pulse)

    def on_disk(self, *, pulse: Pulse, follow: bool = False) -> dict[int, list[str]]:
        """The digests of each range as it lies on the disk.

        Args:
            pulse: as in `run`.
            follow: take the digests of the whole in order too, if the plan needs them.

        Raises:
            PipelineError: the pulse ended it.
            OSError: the disk failed.
        """
        found: dict[int, list[str]] = {}

        def take(number: int, connection: Connection) -> None:
            found[number] = connection.on_disk(number)

        self._todo = deque(range(self._plan.chunks))
        self._run(self._jobs(take, follow=follow), pulse)
        return dict(sorted(found.items()))

    def _jobs(self, each: Callable[[int, Connection], None], *, follow: bool) -> list[Callable[[], None]]:
        """Threads' work: each does this to the next range, over a connection of its own, until there is none left."""
        self._connections = [self._new_connection() for _ in range(min(self._most_connections, len(self._todo)))]
        jobs: list[Callable[[], None]] = [partial(self._work, each, connection) for connection in self._connections]
        return [*jobs, self._follow] if follow and self._plan.in_sequence else jobs

    def _run(self, jobs: list[Callable[[], None]], pulse: Pulse) -> None:
        if not jobs:
            return
        before = sum(end - start for start, end in map(self._plan.span, self._there))
        self._working = len(jobs)
        threads = [threading.Thread(target=self._guarded, args=[job], daemon=True, name="download") for job in jobs]
        try:
            for thread in threads:
                thread.start()
            while not self._over.wait(_TICK_SECONDS) and not self._halted.is_set():
                for connection in self._connections:
                    connection.give_up_if_slow()
                pulse(before + self._done_bytes, self._plan.remote.size_bytes)
            if self._error is not None:
                raise self._error
            pulse(before + self._done_bytes, self._plan.remote.size_bytes)
        finally:
            self._end(threads)

    @property
    def fetched_bytes(self) -> int:
        """What came over the network."""
        return sum(connection.fetched_bytes for connection in self._connections)

    @property
    def _done_bytes(self) -> int:
        return sum(connection.done_bytes for connection in self._connections)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Halted:
            pass  # whoever halted knows why
        except BaseException as error:  # noqa: BLE001  # it is raised again in the caller's thread
            if not self._halted.is_set():
                self._error = error.error if isinstance(error, DiskFailed) else error
            self._halt()
        finally:
            with self._arrived:
                self._working -= 1
                if not self._working:
                    self._over.set()

    def _halt(self) -> None:
        self._halted.set()
        with self._arrived:
            self._arrived.notify_all()

    def _end(self, threads: list[threading.Thread]) -> None:
        """Leave no thread that writes; those that wait for a silent server are left behind, and only that."""
        if self._over.is_set() and self._error is None:
            return
        self._halt()
        for connection in self._connections:
            connection.wake()
        over = time.monotonic() + _PATIENCE_SECONDS
        for thread in threads:
            thread.join(max(0, over - time.monotonic()))
        for connection in self._connections:
            connection.cut()

    def _work(self, each: Callable[[int, Connection], None], connection: Connection) -> None:
        while not self._halted.is_set():
            try:
                number = self._todo.popleft()
            except IndexError:
                return
            each(number, connection)
            with self._arrived:
                self._there.add(number)
                self._arrived.notify_all()

    def _bring(self, number: int, connection: Connection) -> None:
        claimed = self._journal.claims.get(number)
        if claimed is not None:
            if connection.on_disk(number) == claimed:
                return
            start, end = self._plan.span(number)
            connection.done_bytes -= end - start
        first, self._first = self._first, None
        connection.fetch(self._journal, number, first)

    def _follow(self) -> None:
        """Digest the whole in order, right behind the connections, while its bytes are still in memory."""
        digest, buffer = self._plan.sequence(), memoryview(bytearray(_BUFFER_BYTES))
        for number in range(self._plan.chunks):
            with self._arrived:
                while not (number in self._there or self._halted.is_set()):
                    self._arrived.wait()
            for block in blocks(self._file, *self._plan.span(number), buffer=buffer, halted=self._halted):
                digest.update(block)
        self.in_sequence = digest.values()
