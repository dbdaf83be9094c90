"""Reading an archive copy and matching it, file by file, with the verified digests of its bag.

The page cache is no proof of what the storage holds: where possible, it is dropped for each file before the read.
"""

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.foundation import guarded
from pipeline.foundation.fixity import FileFixity, Fixity, hash_makers
from pipeline.foundation.machine import available_cpus, drop_cache
from pipeline.foundation.work import Pulse, human_count, no_pulse
from pipeline.sync.trees import Tree, scan, shown

BLOCK_BYTES = 256 * 1024

_SAME_TIME_NS = 2_000_000_000
_FILES_A_THREAD = 16  # fewer are read sooner than a thread is started
_BEAT_SECONDS = 0.1


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
    blocked = _blocked(tree, fixity)
    sizes = {
        name: Difference(shown(name), wrong)
        for name, expected in fixity.files.items()
        if (wrong := expected.differs(tree.files.get(name, expected.size_bytes), {}))
    }
    to_read = [(name, file) for name, file in fixity.files.items() if name in tree.files and name not in sizes]
    readers = _read_all(folder, to_read, threads=threads, pulse=pulse, brake=brake)
    found = gathered(readers, fixity)
    missing = [name for name in fixity.files if name not in tree.files and name not in blocked]
    extra = [name for name in (*tree.files, *tree.others) if name not in fixity.files and name not in blocked]
    return replace(
        found,
        missing=tuple(sorted(map(shown, missing))),
        differing=tuple(sorted([*found.differing, *blocked.values(), *sizes.values()])),
        extra=tuple(sorted(map(shown, extra))),
        cache_dropped=bool(to_read) and found.cache_dropped,
    )


def not_kept(source: Path, copy: Path, names: Collection[str]) -> tuple[str, ...]:
    """What of the files' metadata a copy does not have, for a person: some shares refuse or forget it.

    Times within two seconds of each other are equal: FAT and some servers keep no better ones.

    Raises:
        OSError: a file cannot be looked at.
    """
    times = modes = 0
    for name in names:
        wanted, has = os.lstat(os.path.join(source, name)), os.lstat(os.path.join(copy, name))
        times += abs(wanted.st_mtime_ns - has.st_mtime_ns) > _SAME_TIME_NS
        modes += stat.S_IMODE(wanted.st_mode) != stat.S_IMODE(has.st_mode)
    files = human_count(len(names), "file")
    return tuple(f"{what} of {many:,} of {files}" for what, many in (("times", times), ("modes", modes)) if many)


def _blocked(tree: Tree, fixity: Fixity) -> dict[str, Difference]:
    """The names where a file of the bag cannot be, because something else than a file or folder is there."""
    above = _folders_above(fixity.files)
    found = {name: f"is {what}" for name, what in tree.others.items() if name in fixity.files or name in above}
    found |= dict.fromkeys(fixity.files.keys() & tree.folders, "is a folder")
    found |= dict.fromkeys(above & tree.files.keys(), "is a file where the bag has a folder")
    return {name: Difference(shown(name), detail) for name, detail in found.items()}


def _folders_above(names: Iterable[str]) -> set[str]:
    """All folders that have to be there for files of these names."""
    above: set[str] = set()
    for name in names:
        parent = name.rpartition("/")[0]
        while parent and parent not in above:
            above.add(parent)
            parent = parent.rpartition("/")[0]
    return above


def _read_all(
    folder: Path, to_read: Sequence[tuple[str, FileFixity]], *, threads: int, pulse: Pulse, brake: Brake | None
) -> list["_FileReader"]:
    """Read the files with so many threads; returns what each of them found."""
    waiting = deque(to_read)
    total = sum(expected.size_bytes for _, expected in waiting)
    wanted = threads or available_cpus()
    many = max(1, min(wanted, -(-len(waiting) // _FILES_A_THREAD) if total < BLOCK_BYTES * 16 else wanted))
    stop = threading.Event()
    readers = [_FileReader(stop, folder, waiting, brake) for _ in range(many)]
    run_all(readers, stop=stop, pulse=lambda done: pulse(done, total))
    return readers


class Reader:
    """One thread's share of reading a copy; what it found is left in the attributes.

    Attributes:
        bytes_read: so far, for the pulse.
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
        self._buffer = memoryview(bytearray(BLOCK_BYTES))

    def run(self) -> None:
        """Take what waits, until nothing is left or `stop` is set."""
        raise NotImplementedError

    def read(self, count: int) -> None:
        """So many bytes were read."""

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
        self, stop: threading.Event, folder: Path, waiting: deque[tuple[str, FileFixity]], brake: Brake | None
    ) -> None:
        super().__init__(stop)
        self._folder = folder
        self._waiting = waiting
        self._brake = brake

    def run(self) -> None:
        """Read and compare."""
        while not self.stop.is_set():
            try:
                name, expected = self._waiting.popleft()
            except IndexError:
                return
            try:
                wrong = self._compared(name, expected)
            except OSError as error:
                self.unreadable.append(Difference(shown(name), f"cannot be read: {error.strerror}"))
                continue
            if wrong:
                self.differing.append(Difference(shown(name), wrong))
            elif not self.stop.is_set():
                self.matched += 1

    def read(self, count: int) -> None:
        """So many bytes were read; pause for as long as the brake says."""
        self.bytes_read += count
        if self._brake is not None:
            self.stop.wait(self._brake.wait_seconds(count))

    def _compared(self, name: str, expected: FileFixity) -> str:
        descriptor = guarded.open_file(os.path.join(self._folder, name))
        try:
            self.cache_dropped = drop_cache(descriptor) and self.cache_dropped
            return self.wrong(expected, descriptor)
        finally:
            os.close(descriptor)


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
                pulse(sum(reader.bytes_read for reader in readers))
        finally:
            stop.set()


def gathered(readers: Sequence[Reader], fixity: Fixity) -> Comparison:
    """What all readers found together of the files of `fixity`."""
    return Comparison(
        matched=sum(reader.matched for reader in readers),
        differing=tuple(sorted(found for reader in readers for found in reader.differing)),
        unreadable=tuple(sorted(found for reader in readers for found in reader.unreadable)),
        algorithms=tuple(fixity.algorithms),
        cache_dropped=all(reader.cache_dropped for reader in readers),
    )
