"""An archived work as a bag zip that is never on a disk: read once, matched with its kept digests, the same each time.

In BDRC's shape: `{RID}.bag/` with the payload in `data/`, stored, a sha512 manifest, BagIt 0.97 (RFC 8493). The payload
is the archived work with all that is kept with it, in the order of its names; times are those of the files, in UTC.
"""

import hashlib
import os
import struct
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from pipeline.foundation import guarded
from pipeline.foundation.errors import FixityFailed
from pipeline.foundation.fixity import FileFixity, Fixity, hash_makers
from pipeline.foundation.work import Pulse, no_pulse

_BUFFER_BYTES = 1 << 20
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)  # what a zip can tell
_FILE, _FOLDER = 0o100644 << 16, 0o040755 << 16 | 0x10
_EXTENDED_TIME = struct.Struct("<HHBi")
_STRONGEST = ("sha512", "sha384", "sha256", "sha1", "md5")
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
        known: what every file has to be; the kept digests themselves are among them.
        folders: the folders in it, for those that are empty.
    """

    folder: Path
    known: Fixity
    folders: tuple[str, ...]

    @property
    def digest(self) -> str:
        """One digest of the work's own files, by path, size and strongest kept digest.

        The tag files that lie with it in `{RID}.bag` are not among them: they change when the same work comes again.
        """
        bag = f"{self.known.work_rid}.bag"
        own = {name: file for name, file in self.known.files.items() if not _is_in(name, bag)}
        lines = (f"{_strongest(file)} {file.size_bytes} {name}\n" for name, file in sorted(own.items()))
        whole = hashlib.sha512()
        for line in lines:
            whole.update(os.fsencode(line))
        return whole.hexdigest()

    @property
    def most_bytes(self) -> int:
        """The bytes of the zip, and a few more; the same for the same content."""
        names = sum(4 * len(os.fsencode(name)) for name in (*self.known.files, *self.folders))
        members = len(self.known.files) + len(self.folders) + 10
        return self.known.size_bytes + names + members * (_OF_A_MEMBER + 4 * len(os.fsencode(self.known.work_rid)))


def _is_in(name: str, bag: str) -> bool:
    top = name.partition("/")[0]
    return top == bag or (top.startswith(f"{bag}.") and top[len(bag) + 1 :].isdigit())


def _strongest(file: FileFixity) -> str:
    name = next((name for name in _STRONGEST if name in file.digests), min(file.digests, default=""))
    return f"{name}:{file.digests.get(name, '')}"


def content(folder: Path, known: Fixity) -> Content:
    """What is to be sent of an archived work: the files of its kept digests, and all that lies with it in `{RID}.bag`.

    Args:
        folder: the archived work.
        known: its kept digests.

    Raises:
        OSError: the folder cannot be read.
    """
    files, folders, bag = dict(known.files), [], f"{known.work_rid}.bag"
    for below, found, names in os.walk(folder, onerror=_raised):
        inside = os.path.relpath(below, folder)
        folders += [os.path.normpath(f"{inside}/{one}") for one in found if not os.path.islink(f"{below}/{one}")]
        for name in names:
            path = os.path.normpath(f"{inside}/{name}")
            if path not in files and _is_in(path, bag):  # the proof itself, and tag files that no manifest lists
                text = guarded.read_file(folder / path)
                files[path] = FileFixity(len(text), {"sha512": hashlib.sha512(text).hexdigest()})
    return Content(folder, replace(known, files=files), tuple(sorted(folders)))


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
    rid, total, files = sent.known.work_rid, sent.known.size_bytes, sent.known.files
    bag, done = f"{rid}.bag", 0
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as zip_file:
        for name in ("", "data/", *(f"data/{name}/" for name in sent.folders)):
            changed = (sent.folder / name.removeprefix("data/")).stat().st_mtime
            zip_file.writestr(_entry(f"{bag}/{name}", changed, _FOLDER), b"")
        digests = {}
        for name in sorted(files):
            copy = _Copy(sent, name)
            for block in copy.into(zip_file, buffer):
                done += block
                pulse(done, total)
            digests[f"data/{name}"] = copy.sha512
        tags = {
            "bagit.txt": "BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
            "bag-info.txt": f"BDRC-RID: {rid}\nPayload-Oxum: {total}.{len(files)}\n",
            "manifest-sha512.txt": _manifest(digests),
        }
        proofs = {name: hashlib.sha512(os.fsencode(text)).hexdigest() for name, text in tags.items()}
        for name, text in {**tags, "tagmanifest-sha512.txt": _manifest(proofs)}.items():
            zip_file.writestr(_entry(f"{bag}/{name}", 0, _FILE), os.fsencode(text))


class _Copy:
    """One file on its way into the zip, matched with its kept digests while it is read."""

    def __init__(self, sent: Content, name: str) -> None:
        self._rid, self._path, self._file = sent.known.work_rid, sent.folder / name, sent.known.files[name]
        self._member = f"{self._rid}.bag/data/{name}"
        self.sha512 = ""

    def into(self, zip_file: zipfile.ZipFile, buffer: memoryview) -> Iterator[int]:
        """Copy it; yields how many bytes came, again and again."""
        algorithms = tuple(sorted({"sha512", *self._file.digests}))
        hashes = [make() for make in hash_makers(algorithms)]
        wanted, size = self._file.size_bytes, 0
        with self._opened() as file:
            entry = _entry(self._member, os.fstat(file.fileno()).st_mtime, _FILE)
            entry.file_size = wanted
            with zip_file.open(entry, "w", force_zip64=wanted >= zipfile.ZIP64_LIMIT) as member:
                while (count := self._read(file, buffer)) and (size := size + count) <= wanted:
                    for one in hashes:
                        one.update(buffer[:count])
                    member.write(buffer[:count])
                    yield count
        found = dict(zip(algorithms, (one.hexdigest() for one in hashes), strict=True))
        if wrong := self._file.differs(size, found):
            raise _rotten(self._rid, self._path, wrong)
        self.sha512 = found["sha512"]

    def _opened(self) -> IO[bytes]:
        try:
            return os.fdopen(guarded.open_file(self._path), "rb", buffering=0)
        except OSError as error:
            raise _rotten(self._rid, self._path, error.strerror or str(error)) from error

    def _read(self, file: Any, buffer: memoryview) -> int:
        try:
            return int(file.readinto(buffer))
        except OSError as error:
            raise _rotten(self._rid, self._path, error.strerror or str(error)) from error


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


def _manifest(digests: Mapping[str, str]) -> str:
    """A manifest's text; CR and LF in names are percent-encoded, as in BagIt 0.97 nothing else is."""
    lines = (f"{digest}  {name}" for name, digest in digests.items())
    return "".join(line.replace("\r", "%0D").replace("\n", "%0A") + "\n" for line in lines)
