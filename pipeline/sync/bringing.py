"""The built-in copier's pass: each file written, flushed, taken out of the page cache, read back and matched.

The bytes are read once from staging and once from the archive, and hashed once: on their way back. A digest of what was
sent would only be needed to tell a damaged staging from a damaged archive, and is made when something is wrong.
"""

import os
import stat
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation import abilities, durable, failpoints, guarded, vectors
from pipeline.foundation.fixity import FileFixity, Fixity
from pipeline.foundation.machine import available_cpus, drop_cache
from pipeline.foundation.work import Pulse
from pipeline.sync.readback import BLOCK_BYTES, Comparison, Difference, Reader, gathered, run_all
from pipeline.sync.trees import shown

_UNIT_BYTES, _UNIT_FILES = 32 << 20, 1000  # what is flushed at once; small enough for every thread to get several
_OPEN_FILES = 32  # fetched ahead by each thread: together far below the 1024 that a process may have open
# For those that wait for a disk; with small files and no vector lanes they would wait for the interpreter's lock.
_SPARE_THREADS, _SMALL_BYTES = 2, 64 << 10
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class ToBring:
    """One file to bring.

    Attributes:
        name: relative to the work.
        expected: its size and digests.
        there: the copy has a file of that name and size already: it is read first, and written only if it differs.
    """

    name: str
    expected: FileFixity
    there: bool = False


def bring(
    work_dir: Path, copy: Path, files: Fixity, *, there: Collection[str], threads: int, pulse: Pulse
) -> tuple[Comparison, list[Difference]]:
    """Write files from `work_dir` to `copy`, whose folders are all there, and read them back.

    Args:
        work_dir: the work in staging.
        copy: where to; nothing else writes there.
        files: what is to be brought.
        there: of which the copy has a file of that size already: it is read first, and written only if it differs.
        threads: how many files are worked on at a time; 0 = as many as there are processors, and two that wait.
        pulse: called from this thread several times a second with (bytes proved, bytes in all); if it raises, the pass
            stops, and what is complete stays.

    Returns:
        what came back from the archive, and the files that are not what their digests say in staging already.

    Raises:
        OSError: staging could not be read, or the copy not written. (What cannot be read back is told, not raised.)
    """
    jobs = [ToBring(name, expected, there=name in there) for name, expected in sorted(files.files.items())]
    with guarded.opened(work_dir) as source, guarded.opened(copy) as target:
        folders = _Folders(work_dir, copy, source, target, at_once=durable.synced_at_once(copy))
        workers = _all(_Worker, folders, jobs, files, threads=threads, pulse=pulse)
    return gathered(workers, files), [found for worker in workers for found in worker.damaged]


def prove(copy: Path, files: Fixity, *, threads: int, pulse: Pulse) -> Comparison:
    """Read files back as `bring` does that are in `copy` already, and durable; what came back.

    Raises:
        OSError: one is not there, or is no file.
    """
    jobs = [ToBring(name, expected) for name, expected in sorted(files.files.items())]
    with guarded.opened(copy) as target:
        folders = _Folders(copy, copy, target, target, at_once=True)
        return gathered(_all(_Prover, folders, jobs, files, threads=threads, pulse=pulse), files)


def _all(
    kind: type["_Worker"],
    folders: "_Folders",
    jobs: Sequence[ToBring],
    files: Fixity,
    *,
    threads: int,
    pulse: Pulse,
) -> list["_Worker"]:
    """All jobs, by so many threads; returns what did them, with what was found."""
    waiting = deque(_units(jobs))
    total = files.size_bytes
    spare = _SPARE_THREADS if vectors.lanes() or total > len(jobs) * _SMALL_BYTES else 0
    stop = threading.Event()
    workers = [kind(stop, folders, waiting) for _ in range(min(threads or available_cpus() + spare, len(waiting)))]
    run_all(workers, stop=stop, pulse=lambda done: pulse(done, total))
    return workers


def _units(jobs: Sequence[ToBring]) -> Iterator[list[ToBring]]:
    """Jobs as threads take them: what is flushed together. Large files alone and first, the others in their order."""
    large = [job for job in jobs if job.expected.size_bytes >= _UNIT_BYTES]
    yield from ([job] for job in sorted(large, key=lambda job: -job.expected.size_bytes))
    unit: list[ToBring] = []
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


class _Worker(Reader):
    """One thread's share: it takes the next unit until none is left or it shall stop."""

    def __init__(self, stop: threading.Event, folders: _Folders, waiting: deque[list[ToBring]]) -> None:
        super().__init__(stop)
        self.damaged: list[Difference] = []
        self._folders = folders
        self._waiting = waiting

    def run(self) -> None:
        """Bring unit after unit."""
        while not self.stop.is_set():
            try:
                unit = self._waiting.popleft()
            except IndexError:
                return
            self._prove([job for job in unit if job.there])
            absent = [job for job in unit if not job.there]
            if self._seat is not None and self._folders.at_once:
                self._write_many(self._seat, absent)
            else:
                for job in absent:
                    if self.stop.is_set():
                        return
                    self._write(job)
            if absent and self._folders.at_once:
                durable.sync_file_system(self._folders.copy)  # dirty pages cannot be dropped from the cache
            self._prove(absent)

    def _write_many(self, seat: vectors.Seat, jobs: Sequence[ToBring]) -> None:
        """As `_write`, for many files, in one call."""
        folders = self._folders
        if error := seat.copy_below(folders.source, [job.name for job in jobs], into=folders.target):
            error.filename = str(folders.copy / error.filename)
            raise error

    def _write(self, job: ToBring) -> None:
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

    def _stream(self, size_bytes: int, source: int, target: int) -> bool:
        """The bytes; False if it was stopped half-way."""
        done = 0
        while count := os.readv(source, [self._buffer]):
            done += count
            view = self._buffer[:count]
            while view:
                view = view[os.write(target, view) :]
            if self.stop.is_set():
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

    def _prove(self, jobs: Sequence[ToBring]) -> None:
        """Read back from the storage, some files fetched ahead; what is not equal and not of this pass is left out."""
        for start in range(0, len(jobs), _OPEN_FILES):
            some = jobs[start : start + _OPEN_FILES]
            many = self.wrong_of_many(self._folders.target, [(job.name, job.expected) for job in some])
            if many is not None:
                self.in_lanes.value = 0  # what counts is what is proved
                for job, wrong in zip(some, many, strict=True):
                    self._settle(job, wrong)
                continue
            opened: list[int] = []
            try:
                for job in some:
                    opened.append(guarded.open_file(job.name, at=self._folders.target))
                    self.cache_dropped = drop_cache(opened[-1]) and self.cache_dropped
                    os.posix_fadvise(opened[-1], 0, 0, os.POSIX_FADV_WILLNEED)
                for job, descriptor in zip(some, opened, strict=True):
                    if self.stop.is_set():
                        return
                    self._match(job, descriptor)
            finally:
                for descriptor in opened:
                    os.close(descriptor)

    def _match(self, job: ToBring, descriptor: int) -> None:
        """Compare one file with its digests."""
        wrong: str | OSError
        try:
            wrong = self.wrong(job.expected, descriptor)
        except OSError as error:
            wrong = error
        self._settle(job, wrong)

    def _settle(self, job: ToBring, wrong: str | OSError) -> None:
        """What becomes of a file in which this is wrong.

        Raises:
            OSError: it could not even be opened.
        """
        if isinstance(wrong, OSError):
            if wrong.filename:
                raise wrong
            wrong = f"cannot be read: {wrong.strerror}"
            if not job.there:
                self.unreadable.append(Difference(shown(job.name), wrong))
                return
        if self.stop.is_set():
            return
        if not wrong:
            self.matched += 1
            self.bytes_read += job.expected.size_bytes
        elif job.there:  # what an earlier run left half-way; it is written anew
            job.there = False
            failpoints.see_allowed()
            os.unlink(job.name, dir_fd=self._folders.target)
        else:
            self._blame(job, wrong)

    def _blame(self, job: ToBring, wrong: str) -> None:
        """Where did it go wrong? Staging is asked only now."""
        descriptor = guarded.open_file(job.name, at=self._folders.source)
        try:
            damaged = self.wrong(job.expected, descriptor)
        finally:
            os.close(descriptor)
        if self.stop.is_set():
            return
        if damaged:
            self.damaged.append(Difference(shown(job.name), damaged))
        else:
            self.differing.append(Difference(shown(job.name), wrong))


class _Prover(_Worker):
    """Of what is there already: it only reads."""

    def run(self) -> None:
        """Read back unit after unit."""
        while not self.stop.is_set() and self._waiting:
            with suppress(IndexError):  # another thread has taken the last one
                self._prove(self._waiting.popleft())

    def _blame(self, job: ToBring, wrong: str) -> None:
        self.differing.append(Difference(shown(job.name), wrong))
