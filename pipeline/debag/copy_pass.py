"""The one pass: every byte is read once, hashed while it is written, by threads that share nothing but a queue.

hashlib, zlib and the system calls release the GIL. The figures behind the sizes: `docs/decisions/0003`. Where there are
vector lanes, stored members with SHA-512 alone go through them, a batch in one call (`docs/decisions/0045`).
"""

import ctypes
import errno
import os
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.jobs import FilePlan
from pipeline.debag.result import NEW_FILE
from pipeline.debag.streams import BUFFER_BYTES, BadMember, HashesHere, HashesInLine, allocate, content, write_all
from pipeline.debag.zip_directory import STORED
from pipeline.foundation import vectors
from pipeline.foundation.abilities import set_times
from pipeline.foundation.fixity import hash_makers
from pipeline.foundation.work import Pulse

_LARGE_BYTES = 64 << 20
_BATCH_BYTES, _BATCH_FILES = 4 << 20, 64
_VECTOR_BATCH_BYTES, _VECTOR_BATCH_FILES = 32 << 20, 512
_WORTH_SKIPPING = 4096
_ALLOCATE_BYTES = 64 << 10
_WRITE_BACK_BYTES = 16 << 20  # of a large file: the disk works while the CPUs hash
_PULSE_SECONDS = 0.1
_VECTOR_ALGORITHMS = ("sha512",)


def batches(jobs: Sequence[FilePlan], threads: int, lanes: vectors.Lanes | None) -> list[list[FilePlan]]:
    """Jobs as threads take them: large ones first, small ones by the handful and in the zip's order."""
    large = sorted((job for job in jobs if job.member.size >= _BATCH_BYTES), key=lambda job: -job.member.size)
    made = _groups(large, threads, lanes) if lanes else [[job] for job in large]
    small = sorted((job for job in jobs if job.member.size < _BATCH_BYTES), key=lambda job: job.member.offset)
    left = sum(job.member.size for job in small)
    most_bytes, most_files = (_VECTOR_BATCH_BYTES, _VECTOR_BATCH_FILES) if lanes else (_BATCH_BYTES, _BATCH_FILES)
    size = limit = 0
    for job in small:
        if size >= limit or len(made[-1]) >= most_files:
            left -= size
            limit = max(_BATCH_BYTES, min(most_bytes, left // (4 * threads)))  # the last ones small: none waits long
            size = 0
            made.append([])
        made[-1].append(job)
        size += job.member.size
    return made


def _groups(large: Sequence[FilePlan], threads: int, lanes: vectors.Lanes) -> list[list[FilePlan]]:
    """Large files of about one size together, as long as every thread has enough of them to be faster so.

    With fewer, a pair of threads takes some together, one of which reads and writes for the one that hashes.
    """
    made = []
    waiting = deque(large)
    while waiting:
        many = min(lanes.width, -(-len(waiting) // threads))
        if many < lanes.fewest and threads > 1:
            many = min(lanes.width, -(-len(waiting) * 2 // threads))
        size = waiting[0].member.size
        alike = [job for job in islice(waiting, many) if job.member.size * 2 > size and _fits(job)]
        if len(alike) < max(lanes.fewest, many):
            alike = [waiting[0]]
        for _ in alike:
            waiting.popleft()
        made.append(alike)
    return made


def _fits(job: FilePlan) -> bool:
    """Whether vector lanes can take a file: as it is in the zip, and SHA-512 is all that is asked of it."""
    return job.member.method == STORED and not job.check_crc and job.algorithms == _VECTOR_ALGORITHMS


def _reach(batch: Sequence[FilePlan], index: int) -> int:
    """Bytes from the start of a small member to the end of the last one that still fits into the buffer."""
    start = batch[index].member.data_offset
    reach = batch[index].member.size
    for job in batch[index + 1 :]:
        longer = job.member.data_offset + job.member.size - start
        if longer > BUFFER_BYTES or longer - reach - job.member.size > _WORTH_SKIPPING:
            break
        reach = max(reach, longer)
    return reach


@dataclass
class CopyPass:
    """Reads the members of some jobs, hashes them, and writes them if there is a folder to write to.

    Args:
        source: descriptor of the zip.
        root: descriptor of the staging folder, whose sub-folders are all made; None to verify only.
        say: takes what is wrong with a file; as soon as anything is, writing stops and verifying goes on.
        written: called with (descriptor, offset, bytes) of what was streamed into a file; to start write-back.
    """

    source: int
    root: int | None
    say: Findings
    written: Callable[[int, int, int], None] | None
    _halt: vectors.Halt = field(default_factory=vectors.Halt)
    _queue: deque[list[FilePlan]] = field(default_factory=deque)
    _done: list[ctypes.c_int64] = field(default_factory=list)  # by thread
    _lanes: vectors.Lanes | None = field(default_factory=vectors.lanes)
    _waiting: int = 0  # bytes in the queue, as near as threads without a lock know it

    def run(self, jobs: Sequence[FilePlan], *, threads: int, pulse: Pulse) -> None:
        """Do all jobs; returns when every thread has ended, however it ends.

        Args:
            jobs: what to do.
            threads: how many threads.
            pulse: called from this thread about ten times a second; if it raises, the threads stop at once.

        Raises:
            OSError: reading or writing failed.
        """
        self._queue.extend(batches(jobs, threads, self._lanes))
        self._waiting = total = sum(job.member.size for job in jobs)
        self._done = [ctypes.c_int64() for _ in range(threads)]
        pulse(0, total)
        with ThreadPoolExecutor(threads, thread_name_prefix="debag") as crew:
            try:
                working = [crew.submit(self._work, number) for number in range(threads)]
                while wait(working, _PULSE_SECONDS).not_done:
                    pulse(sum(done.value for done in self._done), total)
            finally:
                self._halt.set()
        for each in working:
            each.result()
        pulse(sum(done.value for done in self._done), total)

    def _work(self, number: int) -> None:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        seat = self._lanes.seat(self._halt, self._done[number]) if self._lanes else None
        try:
            while not self._halt.is_set():
                try:
                    batch = self._queue.popleft()
                except IndexError:
                    return
                self._waiting -= sum(job.member.size for job in batch)
                if seat is not None:
                    batch = self._take_many(batch, seat)
                self._take_batch(batch, buffer, number)
        except BaseException:
            self._halt.set()
            raise

    def _take_many(self, batch: list[FilePlan], seat: vectors.Seat) -> list[FilePlan]:
        """Those of some files that vector lanes can take, in one call; returns the others."""
        fitting = [job for job in batch if _fits(job)]
        if len(batch) == 1 or not fitting:
            return batch
        files = [
            vectors.ToHash(job.target, job.member.size, job.member.data_offset, round(job.mtime * 1e9))
            for job in fitting
        ]
        into = -1 if self.root is None or self.say.count else self.root
        ahead = self._is_left_alone(sum(file.size for file in files))
        found = seat.copy(self.source, files, into=into, write_back=self.written is not None, ahead=ahead)
        for job, hashed in zip(fitting, found, strict=True):
            if hashed.digest:
                job.digests = (hashed.digest,)
                self._compare(job)
            elif isinstance(hashed.error, FileExistsError):
                self._collides(job)
            elif hashed.error is not None:
                raise hashed.error
        return [job for job in batch if not _fits(job)]

    def _take_batch(self, batch: list[FilePlan], buffer: memoryview, number: int) -> None:
        """Some files; what lies together in the zip and fits into the buffer is read at once."""
        start = end = 0
        for index, job in enumerate(batch):
            if self._halt.is_set():
                return
            member = job.member
            if member.method != STORED or job.check_crc or member.size > BUFFER_BYTES:
                self._take(job, buffer, None, number)
                end = 0
                continue
            if member.data_offset < start or member.data_offset + member.size > end:
                start = member.data_offset
                end = start + os.preadv(self.source, [buffer[: _reach(batch, index)]], start)
                if end < start + member.size:
                    raise OSError(errno.EIO, "the zip ended before a member did")
            at = member.data_offset - start
            self._take(job, buffer, buffer[at : at + member.size], number)

    def _take(self, job: FilePlan, buffer: memoryview, ready: memoryview | None, number: int) -> None:
        """One file: read (unless its bytes are there), hash, write, compare."""
        out = -1
        try:
            if self.root is not None and not self.say.count:
                out = os.open(job.target, NEW_FILE, 0o666, dir_fd=self.root)
            if ready is not None:
                job.digests = tuple([maker(ready).hexdigest() for maker in hash_makers(job.algorithms)])
                if out >= 0 and ready:
                    write_all(out, ready)
                self._done[number].value += len(ready)
            else:
                self._stream(job, buffer, out, number)
            if out >= 0:
                set_times(out, job.mtime)
            self._compare(job)
        except BadMember as error:
            self.say.of(job.bag).fault(error.kind, error.detail, path=job.path)
        except FileExistsError:
            self._collides(job)
        finally:
            if out >= 0:
                os.close(out)

    def _stream(self, job: FilePlan, buffer: memoryview, out: int, number: int) -> None:
        size = job.member.size
        makers = hash_makers(job.algorithms)
        if out >= 0 and size >= _ALLOCATE_BYTES:
            allocate(out, size)
        in_line = self._is_left_alone(size) and len(makers) > 0
        hashes = HashesInLine(makers) if in_line else HashesHere(makers, buffer)
        written = self.written if out >= 0 and size >= _ALLOCATE_BYTES else None
        crc = at = begun = 0
        try:
            for piece, occupied in content(self.source, job.member, buffer, hashes):
                if self._halt.is_set():
                    return
                hashes.feed(piece, occupied)
                if job.check_crc:
                    crc = zlib.crc32(piece, crc)
                if out >= 0:
                    write_all(out, piece)
                at += len(piece)
                self._done[number].value += len(piece)
                if written and (at == size or at - begun >= _WRITE_BACK_BYTES):
                    written(out, begun, at - begun)
                    begun = at
        finally:
            job.digests = hashes.finish()
        if job.check_crc and crc != job.member.crc:
            detail = f"CRC-32 should be {job.member.crc:08x}, it is {crc:08x}"
            raise BadMember(FaultKind.CRC_DIFFERS, detail)

    def _is_left_alone(self, size: int) -> bool:
        """Whether so little is left beside so many bytes that another CPU will be idle."""
        return size >= _LARGE_BYTES and len(self._done) > 1 and self._waiting < size // 2

    def _collides(self, job: FilePlan) -> None:
        detail = "the disk cannot tell it from another file of the bag"
        self.say.of(job.bag).fault(FaultKind.NAMES_COLLIDE, detail, path=job.path)

    def _compare(self, job: FilePlan) -> None:
        if job.digests == job.expected:
            job.digests = job.expected  # the same text, which is held once then
            return
        wrong = [
            f"{name}: manifest says {expected}, it is {found}"
            for name, expected, found in zip(job.algorithms, job.expected, job.digests, strict=True)
            if expected and expected != found
        ]
        if wrong:
            kind = FaultKind.TAG_DIGEST_DIFFERS if job.of_tags else FaultKind.DIGEST_DIFFERS
            self.say.of(job.bag).fault(kind, "; ".join(wrong), path=job.path)
