"""The built-in copier's pass: each file written, flushed, taken out of the page cache, read back and matched.

The bytes are read once from staging and once from the archive, and hashed once: on their way back. A digest of what was
sent would only be needed to tell a damaged staging from a damaged archive, and is made when something is wrong.
"""

import os
import stat
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.foundation import abilities, durable, failpoints, guarded
from pipeline.foundation.fixity import FileFixity, hash_makers
from pipeline.foundation.work import Pulse
from pipeline.sync import crew
from pipeline.sync.cache import drop_cache
from pipeline.sync.readback import BLOCK_BYTES, Difference
from pipeline.sync.trees import shown

_UNIT_BYTES, _UNIT_FILES = 32 << 20, 1000  # what is flushed at once; small enough for every thread to get several
_OPEN_FILES = 32  # fetched ahead by each thread: together far below the 1024 that a process may have open
# For those that wait for a disk; with small files they would only wait for the interpreter's lock.
_SPARE_THREADS, _SMALL_BYTES = 2, 64 << 10
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Job:
    """One file to bring.

    Attributes:
        name: relative to the work.
        expected: its size and digests.
        there: the copy has a file of that name and size already: it is read first, and written only if it differs.
    """

    name: str
    expected: FileFixity
    there: bool = False


@dataclass
class Outcome:
    """What became of the jobs.

    Attributes:
        matched: how many files were read back and are equal in every algorithm.
        written: how many were written.
        damaged: files that are not what their digests say in staging already.
        differing: files that came back from the archive as something else than what staging has.
        unreadable: files that could not be read back.
        cache_dropped: whether every file was certainly read from the storage and not from the page cache.
    """

    matched: int = 0
    written: int = 0
    damaged: list[Difference] = field(default_factory=list)
    differing: list[Difference] = field(default_factory=list)
    unreadable: list[Difference] = field(default_factory=list)
    cache_dropped: bool = True

    def add(self, other: "Outcome") -> None:
        """Take in what another thread found."""
        self.matched += other.matched
        self.written += other.written
        self.damaged += other.damaged
        self.differing += other.differing
        self.unreadable += other.unreadable
        self.cache_dropped = self.cache_dropped and other.cache_dropped


def bring(work_dir: Path, copy: Path, jobs: Sequence[Job], *, threads: int, pulse: Pulse) -> Outcome:
    """Write the files of `jobs` from `work_dir` to `copy`, whose folders are all there, and read them back.

    Args:
        work_dir: the work in staging.
        copy: where to; nothing else writes there.
        jobs: the files.
        threads: how many files are worked on at a time; 0 = as many as there are processors, and two that wait.
        pulse: called from this thread several times a second with (bytes proved, bytes in all); if it raises, the pass
            stops, and what is complete stays.

    Raises:
        OSError: staging could not be read, or the copy not written. (What cannot be read back is told, not raised.)
    """
    waiting = deque(_units(jobs))
    total = sum(job.expected.size_bytes for job in jobs)
    spare = _SPARE_THREADS if total > len(jobs) * _SMALL_BYTES else 0
    wanted = threads or len(os.sched_getaffinity(0)) + spare
    stop = threading.Event()
    with guarded.opened(work_dir) as source, guarded.opened(copy) as target:
        folders = _Folders(work_dir, copy, source, target, at_once=durable.synced_at_once(copy))
        workers = [_Worker(folders, waiting, stop) for _ in range(min(wanted, len(waiting)))]
        crew.run(
            [worker.run for worker in workers],
            stop=stop,
            beat=lambda: pulse(sum(worker.bytes_proved for worker in workers), total),
        )
    found = Outcome()
    for worker in workers:
        found.add(worker.found)
    return found


def _units(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs as threads take them: what is flushed together. Large files alone and first, the others in their order."""
    large = [job for job in jobs if job.expected.size_bytes >= _UNIT_BYTES]
    yield from ([job] for job in sorted(large, key=lambda job: -job.expected.size_bytes))
    unit: list[Job] = []
    size = 0
    for job in jobs:
        if job.expected.size_bytes >= _UNIT_BYTES:
            continue
        unit.append(job)
        size += job.expected.size_bytes
        if size >= _UNIT_BYTES or len(unit) >= _UNIT_FILES:
            yield unit
            unit, size = [], 0
    if unit:
        yield unit


@dataclass(frozen=True)
class _Folders:
    """Staging and copy, by path for sentences and by descriptor for the work."""

    work_dir: Path
    copy: Path
    source: int
    target: int
    at_once: bool


class _Worker:
    """One thread's share: it takes the next unit until none is left or it shall stop."""

    def __init__(self, folders: _Folders, waiting: deque[list[Job]], stop: threading.Event) -> None:
        self.found = Outcome()
        self.bytes_proved = 0
        self._folders = folders
        self._waiting = waiting
        self._stop = stop
        self._buffer = memoryview(bytearray(BLOCK_BYTES))

    def run(self) -> None:
        """Bring unit after unit; what is found is left in `found`."""
        while not self._stop.is_set():
            try:
                unit = self._waiting.popleft()
            except IndexError:
                return
            self._prove([job for job in unit if job.there])
            absent = [job for job in unit if not job.there]
            for job in absent:
                if self._stop.is_set():
                    return
                self._write(job)
            if absent and self._folders.at_once:
                durable.sync_file_system(self._folders.copy)  # dirty pages cannot be dropped from the cache
            self._prove(absent)

    def _write(self, job: Job) -> None:
        """The file's bytes, mode and times."""
        try:
            source = guarded.open_file(job.name, at=self._folders.source)
            try:
                status = os.fstat(source)
                # Made with its mode, for a share that takes a mode then and never again; ours to write all the same.
                mode = stat.S_IMODE(status.st_mode)
                target = os.open(job.name, _NEW_FILE, mode & 0o777 | 0o600, dir_fd=self._folders.target)
                try:
                    if self._stream(job.expected.size_bytes, source, target):
                        self._finish(target, status)
                finally:
                    os.close(target)
            finally:
                os.close(source)
        except OSError as error:
            # Names are relative to a descriptor here, and write(2) tells none at all.
            error.filename = str(self._folders.copy / job.name)
            raise
        self.found.written += 1

    def _stream(self, size_bytes: int, source: int, target: int) -> bool:
        """The bytes; False if it was stopped half-way."""
        done = 0
        while count := os.readv(source, [self._buffer]):
            done += count
            view = self._buffer[:count]
            while view:
                view = view[os.write(target, view) :]
            if self._stop.is_set():
                return False
            if count < BLOCK_BYTES and done >= size_bytes:  # one call less for each small file
                break
        return True

    def _finish(self, target: int, status: os.stat_result) -> None:
        """Mode and times, as far as the share takes them, and the bytes on the disk."""
        abilities.set_mode(target, stat.S_IMODE(status.st_mode))
        abilities.set_times(target, status)
        if not self._folders.at_once:
            os.fsync(target)

    def _prove(self, jobs: Sequence[Job]) -> None:
        """Read back from the storage, some files fetched ahead; what is not equal and not of this pass is left out."""
        for start in range(0, len(jobs), _OPEN_FILES):
            some = jobs[start : start + _OPEN_FILES]
            opened: list[int] = []
            try:
                for job in some:
                    opened.append(guarded.open_file(job.name, at=self._folders.target))
                    self.found.cache_dropped = drop_cache(opened[-1]) and self.found.cache_dropped
                    os.posix_fadvise(opened[-1], 0, 0, os.POSIX_FADV_WILLNEED)
                for job, descriptor in zip(some, opened, strict=True):
                    if self._stop.is_set():
                        return
                    self._match(job, descriptor)
            finally:
                for descriptor in opened:
                    os.close(descriptor)

    def _match(self, job: Job, descriptor: int) -> None:
        """Compare one file with its digests."""
        try:
            wrong = self._wrong(job.expected, descriptor)
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
            if not job.there:
                self.found.unreadable.append(Difference(shown(job.name), wrong))
                return
        if self._stop.is_set():
            return
        if not wrong:
            self.found.matched += 1
            self.bytes_proved += job.expected.size_bytes
        elif job.there:  # what an earlier run left half-way; it is written anew
            job.there = False
            failpoints.see_allowed()
            os.unlink(job.name, dir_fd=self._folders.target)
        else:
            self._blame(job, wrong)

    def _blame(self, job: Job, wrong: str) -> None:
        """Where did it go wrong? Staging is asked only now."""
        descriptor = guarded.open_file(job.name, at=self._folders.source)
        try:
            damaged = self._wrong(job.expected, descriptor)
        finally:
            os.close(descriptor)
        if self._stop.is_set():
            return
        if damaged:
            self.found.damaged.append(Difference(shown(job.name), damaged))
        else:
            self.found.differing.append(Difference(shown(job.name), wrong))

    def _wrong(self, expected: FileFixity, descriptor: int) -> str:
        """In what an open file is not as expected; empty if in nothing."""
        hashes = [make() for make in hash_makers(tuple(expected.digests))]
        size = 0
        while count := os.readv(descriptor, [self._buffer]):
            piece = self._buffer if count == BLOCK_BYTES else self._buffer[:count]
            for digest in hashes:
                digest.update(piece)
            size += count
            if self._stop.is_set() or (count < BLOCK_BYTES and size >= expected.size_bytes):
                break
        if size != expected.size_bytes:
            return f"{size:,} bytes instead of {expected.size_bytes:,}"
        found = [digest.hexdigest() for digest in hashes]
        wrong = [name for name, digest in zip(expected.digests, found, strict=True) if digest != expected.digests[name]]
        return f"other {', '.join(wrong)}" if wrong else ""
