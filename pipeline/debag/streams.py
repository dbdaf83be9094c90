"""How a member's bytes are read, hashed and written, piece by piece, in memory that does not grow."""

import errno
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from pipeline.debag.faults import FaultKind
from pipeline.debag.zip_directory import STORED, Member
from pipeline.foundation.durable import CANNOT

BUFFER_BYTES = 256 * 1024
_INFLATE_BYTES = 64 * 1024
_BUFFERS_IN_LINE = 8
Piece = tuple[memoryview, memoryview]
"""Some bytes, and the buffer that they occupy."""


class BadMember(Exception):
    """The member's bytes are not what its header says."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class HashesHere:
    """Takes a file's bytes, and tells its digests: in the thread that feeds it: best while every CPU has a file."""

    def __init__(self, makers: Sequence[Callable[..., Any]], buffer: memoryview) -> None:
        self._hashes = [maker() for maker in makers]
        self._buffer = buffer

    def take(self) -> memoryview:
        """A buffer that is free."""
        return self._buffer

    def feed(self, piece: memoryview, _buffer: memoryview) -> None:
        """Hash a piece; its buffer is free again when that is done."""
        for digest in self._hashes:
            digest.update(piece)

    def finish(self) -> tuple[str, ...]:
        """The digests, in hexadecimal; nothing may be fed any more."""
        return tuple(digest.hexdigest() for digest in self._hashes)


class HashesInLine(HashesHere):
    """Hashes in threads of its own, one an algorithm, each handing on to the next: for a huge file that is left alone.

    So reading and writing go on meanwhile, and two algorithms take no longer than one.
    """

    def __init__(self, makers: Sequence[Callable[..., Any]]) -> None:
        super().__init__(makers, memoryview(b""))
        self._queues: list[SimpleQueue[Piece | None]] = [SimpleQueue() for _ in makers]
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(_BUFFERS_IN_LINE):
            self._free.put(memoryview(bytearray(BUFFER_BYTES)))
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"debag-hash-{number}", daemon=True)
            for number in range(len(makers))
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        digest, queue = self._hashes[number], self._queues[number]
        following = self._queues[number + 1] if number + 1 < len(self._queues) else None
        while (item := queue.get()) is not None:
            digest.update(item[0])
            if following is None:
                self._free.put(item[1])
            else:
                following.put(item)
        if following is not None:
            following.put(None)

    def take(self) -> memoryview:
        """A free buffer, as soon as there is one."""
        return self._free.get()

    def feed(self, piece: memoryview, buffer: memoryview) -> None:
        """Queue a piece; the feeder may still read it, until it takes another buffer."""
        self._queues[0].put((piece, buffer))

    def finish(self) -> tuple[str, ...]:
        """The digests, when all is hashed; the threads have ended then."""
        self._queues[0].put(None)
        for thread in self._threads:
            thread.join()
        return super().finish()


def content(source: int, member: Member, buffer: memoryview, hashes: HashesHere) -> Iterator[Piece]:
    """A member's bytes, piece by piece, each with the buffer that it occupies; a piece is gone when the next is asked.

    Args:
        source: descriptor of the zip.
        member: whose content it is.
        buffer: for what is read of a deflated member.
        hashes: gives the buffers, and gets them back.

    Raises:
        BadMember: the bytes are not what the header says.
        OSError: they cannot be read.
    """
    if member.method == STORED:
        return _stored(source, member.data_offset, member.size, hashes)
    return ((piece, hashes.take()) for piece in inflated(source, member, buffer))


def _stored(source: int, offset: int, size: int, hashes: HashesHere) -> Iterator[Piece]:
    while size > 0:
        buffer = hashes.take()
        count = os.preadv(source, [buffer[: min(size, len(buffer))]], offset)
        if not count:
            raise OSError(errno.EIO, "the zip ended before a member did")
        yield buffer[:count], buffer
        offset += count
        size -= count


def inflated(source: int, member: Member, buffer: memoryview) -> Iterator[memoryview]:
    """The bytes of a deflated member, never more than it should have, and a bounded piece at a time."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    offset, packed, left = member.data_offset, member.packed, member.size
    try:
        while packed > 0 and not inflate.eof:
            count = os.preadv(source, [buffer[: min(packed, _INFLATE_BYTES)]], offset)
            if not count:
                raise OSError(errno.EIO, "the zip ended before a member did")
            offset += count
            packed -= count
            data = inflate.decompress(buffer[:count], min(left + 1, BUFFER_BYTES))
            while data:
                left -= len(data)
                if left < 0:
                    raise BadMember(FaultKind.MEMBER_TOO_LONG, f"inflates to more than {member.size} bytes")
                yield memoryview(data)
                data = inflate.decompress(inflate.unconsumed_tail, min(left + 1, BUFFER_BYTES))
    except zlib.error as error:
        raise BadMember(FaultKind.MEMBER_DAMAGED, f"cannot be inflated: {error}") from error
    if left or not inflate.eof:
        raise BadMember(FaultKind.MEMBER_CUT_SHORT, f"inflates to {member.size - left} of {member.size} bytes")
    if packed or inflate.unused_data:
        raise BadMember(FaultKind.MEMBER_TOO_LONG, "bytes follow the end of its deflated data")


def write_all(out: int, view: memoryview) -> None:
    """Write all of `view`; write(2) may take less at a time."""
    count = os.write(out, view)
    while count < len(view):
        view = view[count:]
        count = os.write(out, view)


def allocate(out: int, size: int) -> None:
    """Reserve the room of a file: a full disk is found now, and the blocks lie together.

    Raises:
        OSError: there is no room.
    """
    try:
        os.posix_fallocate(out, 0, size)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
