"""Bag: make a bag zip of a work, in BDRC's shape, in one pass: each file is read once, hashed while it is written.

`{RID}.bag.zip` holds `{RID}.bag/` with the payload in `data/`, stored; sha512 manifests; BagIt 0.97. What this makes,
`pipeline.debag` and the bagit package accept.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline import replicate
from pipeline.foundation import durable, guarded, vectors
from pipeline.foundation.errors import Fault, InvalidBag, NoRoom, TransientError, WorkBusy
from pipeline.foundation.work import Pulse, checked_rid, no_pulse

_BUFFER_BYTES = 256 * 1024
_SMALL_BYTES, _MANY_FILES = 1 << 20, 32  # what is read whole, and hashed in vector lanes side by side
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_PATH = 2900  # bytes; debag takes 3000
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)  # what a zip can tell
_FILE_MODE, _FOLDER_MODE = (stat.S_IFREG | 0o644) << 16, (stat.S_IFDIR | 0o755) << 16 | 0x10


@dataclass(frozen=True)
class Bagged:
    """A work that was bagged: its RID, its zip, and the files and bytes of its payload."""

    rid: str
    path: Path
    files: int
    bytes: int
    zip_bytes: int


@dataclass(slots=True)
class _Work:
    """A work folder, looked through: files and folders by path relative to it, in order."""

    rid: str
    folder: Path
    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    folders: list[tuple[str, os.stat_result]] = field(default_factory=list)


def make(work_dirs: Sequence[Path], *, into: Path, pulse: Pulse = no_pulse) -> list[Bagged]:
    """Make `{RID}.bag.zip` in `into` for each work folder, whose name is the RID.

    Nothing is made before all works were looked through. Each zip is written beside its place, and durable before it
    gets its name.

    Args:
        work_dirs: the works; they are only read.
        into: the folder for the zips; made if need be.
        pulse: called with bytes done and in all; it may raise to stop, and no half zip stays.

    Raises:
        InvalidRid: a folder's name is no RID.
        InvalidBag: a work holds links, special files or names that no bag can carry, or its zip is there already.
        NoRoom: the disk is full.
        WorkBusy: another process is making the same zip.
        TransientError: reading or writing failed, or a file changed meanwhile.
    """
    faults: list[Fault] = []
    works = [_look_through(Path(folder).resolve(), faults) for folder in work_dirs]
    for work in works:
        name = f"{work.rid}.bag.zip"
        if os.path.lexists(into / name) or sum(other.rid == work.rid for other in works) > 1:
            faults.append(Fault("destination-exists", f"{work.rid}.bag", name, "is there already"))
    if faults:
        raise InvalidBag(f"cannot be bagged: {min(faults)}", faults=sorted(faults))
    total = sum(facts.st_size for work in works for _, facts in work.files)
    done = 0
    bagged = []
    try:
        into.mkdir(parents=True, exist_ok=True)
        for work in works:
            writer = _Writer(work, total, done, pulse)
            bagged.append(writer.make(into))
            done = writer.done
    except OSError as error:
        raise _failed(error, "the bag could not be made") from error
    return bagged


def _failed(error: OSError, what: str) -> TransientError:
    """What an operating-system error means: nothing about the work, so it may pass later."""
    text = f"{what}: {error.strerror or error}"
    return NoRoom(text) if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else TransientError(text)


def _look_through(folder: Path, faults: list[Fault]) -> _Work:
    """List a work, and name everything in it that no bag can carry."""
    work = _Work(checked_rid(folder.name, source=str(folder)), folder)
    bag = f"{work.rid}.bag"
    try:
        for path, entry in guarded.below(folder):
            facts = entry.stat(follow_symlinks=False)
            shown = path.encode("utf-8", "backslashreplace").decode()
            faults += (Fault(kind, bag, shown, detail) for kind, detail in _faults_of(path, facts))
            if stat.S_ISDIR(facts.st_mode):
                work.folders.append((f"{path}/", facts))
            elif stat.S_ISREG(facts.st_mode):
                work.files.append((path, facts))
    except OSError as error:
        raise _failed(error, f"{Path(error.filename)} cannot be read") from error
    work.files.sort(key=lambda item: item[0])
    work.folders.sort(key=lambda item: item[0])
    return work


def _faults_of(path: str, facts: os.stat_result) -> Iterator[tuple[str, str]]:
    """What debag would refuse about a file or folder: kinds as `debag.faults` has them, and details."""
    if stat.S_ISLNK(facts.st_mode):
        yield "link", "a symbolic link"
    elif not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        yield "special-file", "neither file nor folder"
    if "\\" in path:
        yield "name-backslash", "a separator on Windows"
    if any("\ud800" <= char <= "\udfff" for char in path):
        yield "name-undecodable", "is not UTF-8"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        yield "name-too-long", f"{len(os.fsencode(path))} bytes"


class _Writer:
    """One work on its way into its zip."""

    def __init__(self, work: _Work, total: int, done: int, pulse: Pulse) -> None:
        self.work = work
        self.bag = f"{work.rid}.bag"
        self.total = total
        self.done = done
        self.pulse = pulse
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._seat = lanes.seat(vectors.Halt(), ctypes.c_int64()) if (lanes := vectors.lanes()) else None

    def make(self, into: Path) -> Bagged:
        """Write the zip beside its place, make it durable, give it its name."""
        target = into / f"{self.bag}.zip"
        part = into / f".{target.name}.part"
        with os.fdopen(os.open(part, _PART, 0o666), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WorkBusy(f"another process is making {target}", work_rid=self.work.rid) from error
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise OSError(errno.EEXIST, "is not what a bag was begun in", str(part))
            file.truncate(0)
            try:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zip_file:
                    self._write(zip_file)
                file.flush()
                os.fsync(file.fileno())
                made = durable.publish_new(part, target)
            except BaseException:
                with suppress(FileNotFoundError):
                    part.unlink()
                raise
            if not made:
                part.unlink()
                raise FileExistsError(errno.EEXIST, "appeared while the bag was made", str(target))
        size = sum(facts.st_size for _, facts in self.work.files)
        return Bagged(self.work.rid, target, len(self.work.files), size, target.stat().st_size)

    def _write(self, zip_file: zipfile.ZipFile) -> None:
        _write_folder(zip_file, f"{self.bag}/", self.work.folder.stat())
        _write_folder(zip_file, f"{self.bag}/data/", self.work.folder.stat())
        for path, facts in self.work.folders:
            _write_folder(zip_file, f"{self.bag}/data/{path}", facts)
        payload = {path: {"sha512": digest} for path, digest in self._write_files(zip_file)}
        info = f"BDRC-RID: {self.work.rid}\nBagging-Date: {datetime.now(UTC):%F}\n"
        size, now = sum(facts.st_size for _, facts in self.work.files), time.localtime()[:6]
        tags = replicate.tag_files(self.work.rid, {"bag-info.txt": info.encode()}, payload, size_bytes=size)
        for path, text in tags.items():
            entry = zipfile.ZipInfo(f"{self.bag}/{path}", now)
            entry.external_attr = _FILE_MODE
            zip_file.writestr(entry, text)

    def _write_files(self, zip_file: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
        """Copy the payload into the zip, in its order; gives each file's path and digest."""
        some: list[tuple[str, os.stat_result]] = []
        for path, facts in self.work.files:
            small = self._seat is not None and facts.st_size <= _SMALL_BYTES
            if not small or len(some) == _MANY_FILES:
                yield from self._write_many(zip_file, some)
                some = []
            if small:
                some.append((path, facts))
            else:
                digest = hashlib.sha512()
                large = facts.st_size >= zipfile.ZIP64_LIMIT
                with zip_file.open(_entry(f"{self.bag}/data/{path}", facts), "w", force_zip64=large) as member:
                    for piece in self._pieces(path, facts):
                        digest.update(piece)
                        member.write(piece)
                yield path, digest.hexdigest()
        yield from self._write_many(zip_file, some)

    def _write_many(
        self, zip_file: zipfile.ZipFile, some: Sequence[tuple[str, os.stat_result]]
    ) -> Iterable[tuple[str, str]]:
        """Copy files that fit into memory together."""
        contents = [b"".join(map(bytes, self._pieces(path, facts))) for path, facts in some]
        for (path, facts), content in zip(some, contents, strict=True):
            zip_file.writestr(_entry(f"{self.bag}/data/{path}", facts), content)
        digests = self._seat.hash(contents) if self._seat is not None else []
        return zip((path for path, _ in some), digests, strict=True)

    def _pieces(self, path: str, facts: os.stat_result) -> Iterator[memoryview]:
        """A file's bytes, each piece gone when the next is asked.

        Raises:
            TransientError: it changed meanwhile.
        """
        copied = 0
        descriptor = os.open(self.work.folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while copied <= facts.st_size and (count := os.readv(descriptor, [self._buffer])):
                yield self._buffer[:count]
                copied += count
                self.done += count
                self.pulse(self.done, self.total)
            now = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if copied != facts.st_size or (now.st_ino, now.st_mtime_ns) != (facts.st_ino, facts.st_mtime_ns):
            raise TransientError(f"{self.work.folder / path} changed while it was bagged", work_rid=self.work.rid)


def _entry(name: str, facts: os.stat_result) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _zip_time(facts.st_mtime))
    entry.external_attr = _FILE_MODE
    entry.file_size = facts.st_size
    return entry


def _write_folder(zip_file: zipfile.ZipFile, name: str, facts: os.stat_result) -> None:
    entry = zipfile.ZipInfo(name, _zip_time(facts.st_mtime))
    entry.external_attr = _FOLDER_MODE
    zip_file.writestr(entry, b"")


def _zip_time(seconds: float) -> tuple[int, int, int, int, int, int]:
    """Local time, as zips have it, within the years that they can tell."""
    year, month, day, hour, minute, second = time.localtime(seconds)[:6]
    return min(max((year, month, day, hour, minute, second), _EARLIEST), _LATEST)
