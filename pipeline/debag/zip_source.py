"""The bag zip as an open file: read-only, never followed through a link, and known to be the same to the end."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.debag.faults import FaultKind, Findings, UnreadableZip
from pipeline.foundation.errors import NoRoom, StagingDamaged, TransientError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def transient(error: OSError, *, what: str, work_rid: str = "") -> TransientError:
    """What an operating-system error means: nothing about the bag, so it may pass later."""
    text = f"{what}: {error.strerror or error}"
    if error.errno in _FULL:
        return NoRoom(text, work_rid=work_rid, kept="the zip is untouched", go_on="free some disk, then again")
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
            say.fault(FaultKind.NOT_A_ZIP, path=path.name, detail="not a plain file")
            raise UnreadableZip from error
        raise transient(error, what=f"{path} cannot be opened") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            say.fault(FaultKind.NOT_A_ZIP, path=path.name, detail="not a plain file")
            raise UnreadableZip
        yield ZipSource(path, descriptor)
    finally:
        os.close(descriptor)
