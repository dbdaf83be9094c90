"""The bag zip as an open file: read-only, never followed through a link, and known to be the same to the end."""

import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.debag.faults import FaultKind, Findings, UnreadableZip
from pipeline.foundation.errors import NoRoom, StagingDamaged, TransientError

LOCAL = struct.Struct("<4s5H3L2H")
LOCAL_MARK = b"PK\x03\x04"
FULL32 = 0xFFFFFFFF
STREAMED, UTF8_FLAG = 0x0008, 0x0800
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def transient(error: OSError, *, what: str, work_rid: str = "") -> TransientError:
    """What an operating-system error means: nothing about the bag, so it may pass later."""
    text = f"{what}: {error.strerror or error}"
    if error.errno in _NO_ROOM:
        return NoRoom(text, work_rid=work_rid, kept="the zip is untouched", by_hand="free some disk, then again")
    return TransientError(text, work_rid=work_rid, kept="the zip is untouched")


class ZipSource:
    """An open bag zip.

    Attributes:
        path: where it lies.
        descriptor: open for reading; positions are always given, so threads share it.
        size: bytes.
        mtime_ns: when it was last changed.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        facts = os.fstat(descriptor)
        self.size = facts.st_size
        self.mtime_ns = facts.st_mtime_ns
        self._identity = _identity(facts)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer only at the end of the file."""
        parts = []
        while length > 0:
            part = os.pread(self.descriptor, length, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def check_unchanged(self) -> None:
        """See that the path still leads to the same bytes as when it was opened.

        Raises:
            StagingDamaged: it was replaced, changed or removed meanwhile, so nothing that was found counts.
        """
        try:
            same = _identity(os.fstat(self.descriptor)) == self._identity == _identity(os.lstat(self.path))
        except FileNotFoundError:
            same = False
        if not same:
            raise StagingDamaged(f"{self.path} was changed while it was read")


def _identity(facts: os.stat_result) -> tuple[int, int, int, int]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


@contextmanager
def opened(path: Path, say: Findings) -> Iterator[ZipSource]:
    """The zip, open for reading.

    Raises:
        StagingDamaged: it is not there.
        UnreadableZip: it is a link, a folder or a special file.
        TransientError: it cannot be opened.
    """
    try:
        # O_NONBLOCK: opening a pipe must not wait for somebody to write into it
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise StagingDamaged(f"{path} is gone") from error
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.ENOTDIR}:
            raise say.fatal(FaultKind.NOT_A_ZIP, "not a plain file", path=path.name) from error
        raise transient(error, what=f"{path} cannot be opened") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise say.fatal(FaultKind.NOT_A_ZIP, "not a plain file", path=path.name)
        yield ZipSource(path, descriptor)
    finally:
        os.close(descriptor)


def say_what_it_is(source: ZipSource, say: Findings) -> UnreadableZip:
    """Name the fault of a file without any end record, by what can still be told of it."""
    if source.read(0, len(LOCAL_MARK)) == LOCAL_MARK:
        detail = f"begins as a zip, but its end is missing: {source.size} bytes are here{_salvage(source)}"
        return say.fatal(FaultKind.ZIP_TRUNCATED, detail, path=source.path.name)
    detail = "the file is empty" if not source.size else f"{source.size} bytes, neither begin nor end of a zip"
    return say.fatal(FaultKind.NOT_A_ZIP, detail, path=source.path.name)


def _salvage(source: ZipSource) -> str:
    """What local headers still tell of a zip that was cut off: how many members are whole, and the one that is not."""
    offset, whole, name = 0, 0, ""
    while whole < 1_000_000:
        head = source.read(offset, LOCAL.size)
        if len(head) < LOCAL.size or head[:4] != LOCAL_MARK:
            break
        _, _, flags, _, _, _, _, packed, _, name_length, extra_length = LOCAL.unpack(head)
        name = source.read(offset + LOCAL.size, name_length).decode("utf-8", "replace")
        if flags & STREAMED or packed == FULL32:
            return f"; the last member that could be followed is {name[:200]!r}"
        offset += LOCAL.size + name_length + extra_length + packed
        if offset > source.size:
            return f"; {whole} members are whole, {name[:200]!r} is cut off"
        whole += 1
    return f"; {whole} members are whole, the last is {name[:200]!r}" if whole else ""
