"""An archived work as a bag zip that is never on a disk: read once, matched with its kept digests, the same each time.

In BDRC's shape: `{RID}.bag/` with the payload in `data/`, stored, a sha512 manifest, BagIt 0.97 (RFC 8493). The payload
is the archived work, in the order of its names; what is kept with it in `{RID}.bag` becomes the bag's tag files again.
Times are those of the files, in UTC.
"""

import ctypes
import hashlib
import os
import struct
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Protocol

from pipeline.foundation import fixity, guarded, vectors
from pipeline.foundation.errors import FixityFailed
from pipeline.foundation.fixity import FileFixity, Fixity, hash_makers
from pipeline.foundation.work import Pulse, no_pulse
from pipeline.replicate.tags import ALGORITHMS, tag_files

_BUFFER_BYTES = 1 << 20
_SMALL_BYTES, _BATCH_BYTES, _BATCH_FILES = 2 << 20, 8 << 20, 500  # what is in memory together
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)  # what a zip can tell
_FILE, _FOLDER = 0o100644 << 16, 0o040755 << 16 | 0x10
_EXTENDED_TIME = struct.Struct("<HHBi")
_OF_A_MEMBER = 400  # bytes of both headers, descriptor and manifest line, without the names: less than that


class Sink(Protocol):
    """Where the zip goes to: a file that cannot be sought in."""

    def write(self, data: bytes, /) -> int:
        """Take bytes."""

    def flush(self) -> None:
        """Nothing needs to be done."""

    def close(self) -> None:
        """The end."""


@dataclass(frozen=True)
class Content:
    """What is sent of a work.

    Attributes:
        folder: where it is archived.
        payload: what every file of it has to be.
        tags: what is kept with it in `{RID}.bag`; not the digests, which whoever brings it home makes anew.
        folders: the folders in it, for those that are empty.
    """

    folder: Path
    payload: Fixity
    tags: Mapping[str, bytes]
    folders: tuple[str, ...]

    @property
    def digest(self) -> str:
        """One digest of the work's own files, by path, size and strongest kept digest.

        The tag files of the bags in which it came are not among them: they change when the same work comes again.
        """
        whole = hashlib.sha512()
        for name, file in sorted(self.payload.files.items()):
            if not name.startswith(f"{self.payload.work_rid}.bag."):
                whole.update(os.fsencode(f"{_strongest(file)} {file.size_bytes} {name}\n"))
        return whole.hexdigest()

    @property
    def most_bytes(self) -> int:
        """The bytes of the zip, and a few more; the same for the same content."""
        names = sum(8 * len(os.fsencode(name)) for name in (*self.payload.files, *self.folders, *self.tags))
        members = len(self.payload.files) + len(self.folders) + len(self.tags) + 10
        sizes = self.payload.size_bytes + 2 * sum(map(len, self.tags.values()))
        return sizes + names + members * (_OF_A_MEMBER + 4 * len(os.fsencode(self.payload.work_rid)))


def _strongest(file: FileFixity) -> str:
    name = next((name for name in ALGORITHMS if name in file.digests), min(file.digests, default=""))
    return f"{name}:{file.digests.get(name, '')}"


def content(folder: Path, known: Fixity) -> Content:
    """What is to be sent of an archived work: the files of its kept digests, those in `{RID}.bag` as tag files.

    Args:
        folder: the archived work.
        known: its kept digests.

    Raises:
        FixityFailed: a tag file is not what it was.
        OSError: the folder cannot be read.
    """
    bag = f"{known.work_rid}.bag/"
    payload = {name: file for name, file in known.files.items() if not name.startswith(bag)}
    tags = {name.removeprefix(bag): _tag_file(folder, name, known) for name in known.files if name.startswith(bag)}
    tags.pop(fixity.digests_name(known.work_rid), None)
    folders = {
        os.path.normpath(f"{os.path.relpath(below, folder)}/{one}")
        for below, found, _ in os.walk(folder, onerror=_raised)
        for one in found
        if not os.path.islink(f"{below}/{one}")
    }
    shown = sorted(name for name in folders if not f"{name}/".startswith(bag))
    return Content(folder, replace(known, files=payload), tags, tuple(shown))


def _tag_file(folder: Path, name: str, known: Fixity) -> bytes:
    try:
        text = guarded.read_file(folder / name)
    except OSError as error:
        raise _rotten(known.work_rid, folder / name, error.strerror or str(error)) from error
    digests = known.files[name].digests
    found = {one: hashlib.new(one, text, usedforsecurity=False).hexdigest() for one in digests}
    if wrong := known.files[name].differs(len(text), found):
        raise _rotten(known.work_rid, folder / name, wrong)
    return text


def _raised(error: OSError) -> None:
    raise error


def write(sent: Content, sink: Sink, *, pulse: Pulse = no_pulse) -> None:
    """Write the bag zip of a work to what cannot be sought in.

    Args:
        sent: what to write.
        sink: takes it, from the first byte to the last.
        pulse: called with payload bytes done and in all; it may raise to stop.

    Raises:
        FixityFailed: a file is not what its kept digests say, or cannot be read.
        OSError: a folder cannot be read.
    """
    rid = sent.payload.work_rid
    bag = f"{rid}.bag"
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as zip_file:
        for name in ("", "data/", *(f"data/{name}/" for name in sent.folders)):
            changed = (sent.folder / name.removeprefix("data/")).stat().st_mtime
            zip_file.writestr(_entry(f"{bag}/{name}", changed, _FOLDER), b"")
        found = _Copies(sent, zip_file, pulse).all()
        for name, text in tag_files(rid, sent.tags, found, size_bytes=sent.payload.size_bytes).items():
            zip_file.writestr(_entry(f"{bag}/{name}", 0, _FILE), text)


class _Copies:
    """Files on their way into the zip, matched with their kept digests while they are read: small ones in batches."""

    def __init__(self, sent: Content, zip_file: zipfile.ZipFile, pulse: Pulse) -> None:
        self._sent, self._zip_file, self._pulse = sent, zip_file, pulse
        self._done, self._total = 0, sent.payload.size_bytes
        self._digests: dict[str, dict[str, str]] = {}
        lanes = vectors.lanes()
        self._seat = lanes.seat(vectors.Halt(), ctypes.c_int64()) if lanes else None

    def all(self) -> Mapping[str, Mapping[str, str]]:
        """Copy every file, in the order of their names; returns their digests."""
        batch: list[str] = []
        size = 0
        for name, file in sorted(self._sent.payload.files.items()):
            small = file.size_bytes <= _SMALL_BYTES
            if batch and (not small or size + file.size_bytes > _BATCH_BYTES or len(batch) == _BATCH_FILES):
                self._copy_batch(batch)
                batch, size = [], 0
            if small:
                batch.append(name)
                size += file.size_bytes
            else:
                self._copy_large(name)
        self._copy_batch(batch)
        return self._digests

    def _copy_batch(self, names: Sequence[str]) -> None:
        """Files that fit into memory together: read, matched, and only then written."""
        entries, contents = [], []
        for name in names:
            file, entry = self._opened(name)
            with self._reading(name), BufferedReader(file) as whole:  # which reads on where a share gives less
                entries.append(entry)
                contents.append(whole.read(self._sent.payload.files[name].size_bytes + 1))
        made = (
            self._seat.hash(contents) if self._seat else [hashlib.sha512(content).hexdigest() for content in contents]
        )
        for name, entry, content, sha512 in zip(names, entries, contents, made, strict=True):
            others = self._sent.payload.files[name].digests.keys() - {"sha512"}
            digests = {one: hashlib.new(one, content, usedforsecurity=False).hexdigest() for one in others}
            self._match(name, len(content), {**digests, "sha512": sha512})
            self._zip_file.writestr(entry, content)
            self._tell(len(content))

    def _copy_large(self, name: str) -> None:
        """A file piece by piece."""
        wanted = self._sent.payload.files[name]
        algorithms = tuple({"sha512", *wanted.digests})
        hashes = [make() for make in hash_makers(algorithms)]
        buffer, size = memoryview(bytearray(_BUFFER_BYTES)), 0
        file, entry = self._opened(name)
        with file:
            entry.file_size = wanted.size_bytes
            large = wanted.size_bytes >= zipfile.ZIP64_LIMIT
            with self._zip_file.open(entry, "w", force_zip64=large) as member:
                while (count := self._read(name, file, buffer)) and (size := size + count) <= wanted.size_bytes:
                    for one in hashes:
                        one.update(buffer[:count])
                    member.write(buffer[:count])
                    self._tell(count)
        self._match(name, size, dict(zip(algorithms, (one.hexdigest() for one in hashes), strict=True)))

    def _opened(self, name: str) -> tuple[FileIO, zipfile.ZipInfo]:
        with self._reading(name):
            file = FileIO(guarded.open_file(self._sent.folder / name))
            member = f"{self._sent.payload.work_rid}.bag/data/{name}"
            return file, _entry(member, os.fstat(file.fileno()).st_mtime, _FILE)

    def _read(self, name: str, file: FileIO, buffer: memoryview) -> int:
        with self._reading(name):
            return file.readinto(buffer)

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path = self._sent.folder / name
            raise _rotten(self._sent.payload.work_rid, path, error.strerror or str(error)) from error

    def _match(self, name: str, size: int, digests: dict[str, str]) -> None:
        if wrong := self._sent.payload.files[name].differs(size, digests):
            raise _rotten(self._sent.payload.work_rid, self._sent.folder / name, wrong)
        self._digests[name] = digests

    def _tell(self, count: int) -> None:
        self._done += count
        self._pulse(self._done, self._total)


def _rotten(work_rid: str, path: Path, what: str) -> FixityFailed:
    return FixityFailed(
        f"{path} is not what was archived: {what}",
        work_rid=work_rid,
        kept="nothing was sent",
        go_on=("verify", work_rid),
        facts={"path": str(path), "what": what},
    )


def _entry(name: str, changed: float, mode: int) -> zipfile.ZipInfo:
    """A member whose time is in UTC, to the second in the field for it, as near as a zip comes in its header."""
    moment = time.gmtime(changed)
    entry = zipfile.ZipInfo(name, min(max(moment[:6], _EARLIEST), _LATEST))
    entry.external_attr, entry.create_system = mode, 3
    if -(1 << 31) <= changed < 1 << 31:
        entry.extra = _EXTENDED_TIME.pack(0x5455, 5, 1, int(changed))
    return entry
