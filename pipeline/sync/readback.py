"""Reading an archive copy and matching it, file by file, with the verified digests of its bag.

The page cache is no proof of what the storage holds: where possible, it is dropped for each file before the read.
"""

import ctypes
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.foundation import guarded, vectors
from pipeline.foundation.fixity import FileFixity, Fixity, hash_makers
from pipeline.foundation.machine import available_cpus, drop_cache
from pipeline.foundation.work import Pulse, no_pulse
from pipeline.sync.trees import scan, shown, wrong_at_sight

BLOCK_BYTES = 256 * 1024

_MANY_BYTES, _MANY_FILES = 32 << 20, 32  # what vector lanes are given at once; so many are open then
_FILES_A_THREAD = 16  # fewer are read sooner than a thread is started
_BEAT_SECONDS = 0.1
_Waiting = deque[tuple[str, FileFixity]]


@dataclass(frozen=True, order=True)
class Difference:
    """One name under which a copy does not hold what the bag holds; `detail` is for a person."""

    path: str
    detail: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.path} ({self.detail})"


@dataclass(frozen=True)
class Comparison:
    """What a copy is, measured by the bag's digests; names are relative to the copy, and sorted.

    Attributes:
        matched: how many files are there and equal in every algorithm.
        missing: names that the copy does not have.
        differing: names under which it has something else.
        unreadable: names that the system would not read.
        extra: names that the bag does not have.
        algorithms: the digests that were compared.
        cache_dropped: whether every file was certainly read from the storage and not from the page cache.
    """

    matched: int = 0
    missing: tuple[str, ...] = ()
    differing: tuple[Difference, ...] = ()
    unreadable: tuple[Difference, ...] = ()
    extra: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    cache_dropped: bool = False

    @property
    def whole(self) -> bool:
        """Whether every file of the bag is there and equal."""
        return not (self.missing or self.differing or self.unreadable)

    @property
    def wrong(self) -> list[Difference]:
        """All that is missing, differs or cannot be read."""
        missing = [Difference(name, "missing") for name in self.missing]
        return sorted([*missing, *self.differing, *self.unreadable])


class Brake:
    """Keeps all readers together below so many bytes in a second.

    Args:
        bytes_per_second: how fast they may be, taken over the whole time and not in each moment.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def wait_seconds(self, count: int) -> float:
        """For how long to pause after so many bytes."""
        now = time.monotonic()
        with self._lock:
            self._free_at = max(self._free_at, now) + count / self._rate
            return self._free_at - now


def compare(
    folder: Path, fixity: Fixity, *, threads: int = 0, pulse: Pulse = no_pulse, brake: Brake | None = None
) -> Comparison:
    """Read every file of `fixity` in `folder` and compare all its digests; names beside them are listed, not read.

    Args:
        folder: a work's archive copy.
        fixity: what it should hold.
        threads: how many files are read at a time; 0 = as many as there are processors.
        pulse: called from this thread several times a second; if it raises, reading stops and the exception goes on.
        brake: slows the reading down.

    Raises:
        OSError: `folder` or a folder in it cannot be listed. (A file that cannot be read is reported, not raised.)
    """
    tree = scan(folder)
    wrong = wrong_at_sight(tree, fixity)
    to_read = [(name, file) for name, file in fixity.files.items() if name in tree.files and name not in wrong]
    readers = _read_all(folder, to_read, threads=threads, pulse=pulse, brake=brake)
    found = gathered(readers, fixity)
    missing = [name for name in fixity.files if name not in tree.files and name not in wrong]
    extra = [name for name in (*tree.files, *tree.others) if name not in fixity.files and name not in wrong]
    return replace(
        found,
        missing=tuple(sorted(map(shown, missing))),
        differing=tuple(sorted([*found.differing, *(Difference(shown(name), wrong[name]) for name in wrong)])),
        extra=tuple(sorted(map(shown, extra))),
        cache_dropped=bool(to_read) and found.cache_dropped,
    )


def _read_all(
    folder: Path, to_read: Sequence[tuple[str, FileFixity]], *, threads: int, pulse: Pulse, brake: Brake | None
) -> list["_FileReader"]:
    """Read the files with so many threads; returns what each of them found."""
    waiting = deque(to_read)
    total = sum(expected.size_bytes for _, expected in waiting)
    wanted = threads or available_cpus()
    many = max(1, min(wanted, -(-len(waiting) // _FILES_A_THREAD) if total < BLOCK_BYTES * 16 else wanted))
    stop = threading.Event()
    readers = [_FileReader(stop, folder, waiting, brake, total // (4 * many)) for _ in range(many)]
    run_all(readers, stop=stop, pulse=lambda done: pulse(done, total))
    return readers


class Reader:
    """One thread's share of reading a copy; what it found is left in the attributes.

    Attributes:
        bytes_read: so far, for the pulse.
        in_lanes: bytes that vector lanes have read, besides.
        halt: stops them; `stop` is seen between two calls only.
        matched: how many files are equal in every algorithm.
        differing: files that are something else.
        unreadable: files that the system would not read.
        cache_dropped: whether every file was certainly read from the storage.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.bytes_read = 0
        self.matched = 0
        self.differing: list[Difference] = []
        self.unreadable: list[Difference] = []
        self.cache_dropped = True
        self.halt = vectors.Halt()
        self.in_lanes = ctypes.c_int64()
        self._seat = lanes.seat(self.halt, self.in_lanes) if (lanes := vectors.lanes()) else None
        self._buffer = memoryview(bytearray(BLOCK_BYTES))

    def run(self) -> None:
        """Take what waits, until nothing is left or `stop` is set."""
        raise NotImplementedError

    def read(self, count: int) -> None:
        """So many bytes were read."""

    def wrong_of_many(self, folder: int, files: Sequence[tuple[str, FileFixity]]) -> list[str | OSError] | None:
        """In what some files below a folder are not as expected, as `wrong` tells it, or why that is not known.

        Each is taken out of the page cache and read in a vector lane; None if lanes are no faster with these. Files
        that are left when it is stopped are told to be fine.
        """
        known = all(expected.digests.keys() == {"sha512"} for _, expected in files)
        if self._seat is None or len(files) < self._seat.lanes.fewest or not known:
            return None
        wanted = [vectors.ToHash(name, expected.size_bytes) for name, expected in files]
        read, dropped = self._seat.read(folder, wanted, drop_cache=True)
        self.cache_dropped = self.cache_dropped and dropped
        return [
            one.error or (expected.differs(one.size, {"sha512": one.digest}) if one.digest else "")
            for one, (_, expected) in zip(read, files, strict=True)
        ]

    def wrong(self, expected: FileFixity, descriptor: int) -> str:
        """In what an open file is not as expected; empty if in nothing, or if it was stopped half-way."""
        hashes = [make() for make in hash_makers(tuple(expected.digests))]
        size = 0
        while count := os.readv(descriptor, [self._buffer]):
            piece = self._buffer if count == BLOCK_BYTES else self._buffer[:count]
            for digest in hashes:
                digest.update(piece)
            size += count
            self.read(count)
            if self.stop.is_set():
                return ""
            if count < BLOCK_BYTES and size >= expected.size_bytes:  # one call less for each small file
                break
        digests = [digest.hexdigest() for digest in hashes]
        return expected.differs(size, dict(zip(expected.digests, digests, strict=True)))


class _FileReader(Reader):
    """Takes one waiting file after the other."""

    def __init__(
        self, stop: threading.Event, folder: Path, waiting: _Waiting, brake: Brake | None, share_bytes: int
    ) -> None:
        super().__init__(stop)
        self._share_bytes = min(share_bytes, _MANY_BYTES)  # taken at once: so all threads end together
        self._folder = folder
        self._waiting = waiting
        self._brake = brake

    def run(self) -> None:
        """Read and compare."""
        with guarded.opened(self._folder) as folder:
            while files := self._taken():
                known = self.wrong_of_many(folder, files)
                for number, (name, expected) in enumerate(files):
                    if self.stop.is_set():
                        return
                    self._settle(name, self._compared(name, expected) if known is None else known[number])

    def read(self, count: int) -> None:
        """So many bytes were read; pause for as long as the brake says."""
        self.bytes_read += count
        if self._brake is not None:
            self.stop.wait(self._brake.wait_seconds(count))

    def _taken(self) -> list[tuple[str, FileFixity]]:
        """The next files: one, or as many as lanes take at once."""
        files: list[tuple[str, FileFixity]] = []
        size = 0
        most = 1 if self._seat is None or self._brake is not None else _MANY_FILES
        with suppress(IndexError):  # nothing is left
            while not files or (len(files) < most and size < self._share_bytes):
                files.append(self._waiting.popleft())
                size += files[-1][1].size_bytes
        return files

    def _settle(self, name: str, wrong: str | OSError) -> None:
        if isinstance(wrong, OSError):
            self.unreadable.append(Difference(shown(name), f"cannot be read: {wrong.strerror}"))
        elif wrong:
            self.differing.append(Difference(shown(name), wrong))
        elif not self.stop.is_set():
            self.matched += 1

    def _compared(self, name: str, expected: FileFixity) -> str | OSError:
        try:
            descriptor = guarded.open_file(os.path.join(self._folder, name))
            try:
                self.cache_dropped = drop_cache(descriptor) and self.cache_dropped
                return self.wrong(expected, descriptor)
            finally:
                if self._brake is not None:  # others are to be disturbed as little as can be
                    drop_cache(descriptor)
                os.close(descriptor)
        except OSError as error:
            return error


def run_all(readers: Sequence[Reader], *, stop: threading.Event, pulse: Callable[[int], None]) -> None:
    """Run each reader in a thread of its own; returns, or raises what the first of them raised, when all have ended.

    Args:
        readers: at least one.
        stop: theirs; set here when one of them or `pulse` raises.
        pulse: called from this thread several times a second, and once at the end, with the bytes read so far.
    """
    with ThreadPoolExecutor(len(readers), thread_name_prefix="sync") as pool:
        running: set[Future[None]] = {pool.submit(reader.run) for reader in readers}
        try:
            while running:
                finished, running = wait(running, timeout=_BEAT_SECONDS)
                for future in finished:
                    future.result()
                pulse(sum(reader.bytes_read + reader.in_lanes.value for reader in readers))
        finally:
            stop.set()
            for reader in readers:
                reader.halt.set()


def gathered(readers: Sequence[Reader], fixity: Fixity) -> Comparison:
    """What all readers found together of the files of `fixity`."""
    return Comparison(
        matched=sum(reader.matched for reader in readers),
        differing=tuple(sorted(found for reader in readers for found in reader.differing)),
        unreadable=tuple(sorted(found for reader in readers for found in reader.unreadable)),
        algorithms=tuple(fixity.algorithms),
        cache_dropped=all(reader.cache_dropped for reader in readers),
    )
