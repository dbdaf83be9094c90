"""SHA-512 of several files at once in the vector lanes of one core, by the library of `native/` where it is there.

hashlib makes one digest after the other; eight lanes make four times as many bytes a second, four lanes half as many
again. The library is believed only after it agreed with hashlib in this process; where it is missing, does not agree,
or finds no lanes, there is none, and hashlib does it all.
"""

import ctypes
import hashlib
import os
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE, LIBRARY = "bag_pipeline_native", "libsha512.so"
_DONE, _NOT_OPENED = 1, 2  # outcomes of the library
_OFF = os.environ.get("PIPELINE_TEST_VECTORS", "") == "off"
_ROOM_BYTES = 8 * ((64 << 10) + 256)  # MOST_LANES * PADDED_BYTES
_FILE = struct.Struct("=7q2i64s2i")
_MISSING = "not built: make venv builds them where there is a C compiler"
_TRIED_BYTES = (0, 1, 111, 112, 119, 120, 127, 128, 129, 239, 240, 255, 256, 4096, 70_000, 65_535, 65_536, 131_071, 300)


class Halt(threading.Event):
    """An event that the library sees, too: as soon as it is set, a call in it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.word = ctypes.c_int32(0)

    def set(self) -> None:
        """Let everybody stop."""
        self.word.value = 1
        super().set()


class _Pass(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("buffer", "done", "stop")),
        *((name, ctypes.c_int32) for name in ("kind", "source", "folder", "into", "write_back", "drop_cache")),
        *((name, ctypes.c_int32) for name in ("dropped", "ahead")),
    )


@dataclass(frozen=True, slots=True)
class ToHash:
    """A file to hash.

    Attributes:
        name: its path below the folder that it is opened or made in.
        size: its bytes; of a file that is opened by its name, how many it should have.
        offset: where its bytes begin in the source.
        time_ns: when it was last changed, in nanoseconds since the epoch, for the file that is made.
        content: its bytes, where they are in memory.
    """

    name: str = ""
    size: int = 0
    offset: int = 0
    time_ns: int = 0
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Hashed:
    """What a file was found to be.

    Attributes:
        size: how many bytes were read.
        digest: SHA-512 in hexadecimal; empty if there is none.
        error: why not; None as well if the call was halted before. Names the file if it could not even be opened.
    """

    size: int
    digest: str
    error: OSError | None


class Lanes:
    """The lanes of a core.

    Attributes:
        name: the instruction set, for a person.
        width: how many files at once.
        fewest: as long as a thread has fewer, one after the other is faster.
        kind: the library's number of them.
        hash_files: its function that hashes.
        copy_files: its function that only copies.
    """

    def __init__(self, library: ctypes.CDLL, kind: int, name: str) -> None:
        self.name = name
        self.width: int = library.sha512_lanes(kind)
        self.fewest: int = library.sha512_fewest(kind)
        self.hash_files = library.sha512_files
        self.copy_files = library.copy_files
        self.kind = kind

    def seat(self, halt: Halt, done: ctypes.c_int64) -> "Seat":
        """What a thread needs to use them; `done` grows by the bytes that are read, while they are."""
        return Seat(self, halt, done)


class Seat:
    """One thread's use of the lanes of the core that it runs on; holds half a megabyte.

    Attributes:
        lanes: those lanes.
    """

    def __init__(self, lanes: Lanes, halt: Halt, done: ctypes.c_int64) -> None:
        self.lanes = lanes
        self._kept = (room := ctypes.create_string_buffer(_ROOM_BYTES)), halt, done
        self._pass = _Pass(ctypes.addressof(room), ctypes.addressof(done), ctypes.addressof(halt.word), lanes.kind)

    def copy(
        self, source: int, files: Sequence[ToHash], *, into: int, write_back: bool, ahead: bool = False
    ) -> list[Hashed]:
        """Hash parts of an open file while they are written to files of their own, never over one that is there.

        Args:
            source: descriptor of what is read.
            files: its parts, and what becomes of them.
            into: descriptor of the folder that they are made in; -1 to hash only.
            write_back: whether the disk is to begin with what was written.
            ahead: whether another thread reads and writes meanwhile: for a few large files, where a CPU is idle.

        Returns:
            what each was; where one could not be read or written for another reason than that its name is taken, all
            that was not done then is left.
        """
        self._pass.source, self._pass.into, self._pass.write_back, self._pass.ahead = source, into, write_back, ahead
        return self._run(files)

    def read(self, folder: int, files: Sequence[ToHash], *, drop_cache: bool) -> tuple[list[Hashed], bool]:
        """Hash files below a folder, all open at a time; links and what is no regular file are refused.

        Returns:
            what each was, and whether all were certainly read from the storage, not from the page cache.
        """
        self._pass.source, self._pass.into, self._pass.folder = -1, -1, folder
        self._pass.drop_cache = drop_cache
        return self._run(files), bool(self._pass.dropped)

    def copy_below(self, folder: int, names: Sequence[str], *, into: int) -> OSError | None:
        """Copy files to the same names below another folder, with modes and times, and hash nothing.

        Args:
            folder: descriptor of the folder that they are opened below: links and what is no regular file are refused.
            names: of the files; those behind the first that fails are left.
            into: descriptor of the folder that they are made below, never over one that is there.

        Returns:
            why one of them, which it names, could not be copied.
        """
        self._pass.source, self._pass.into, self._pass.folder, self._pass.write_back = -1, into, folder, 1
        self._pass.drop_cache = 0
        copied = self._run([ToHash(name) for name in names], self.lanes.copy_files)
        for name, one in zip(names, copied, strict=True):
            if one.error is not None:
                one.error.filename = name
                return one.error
        return None

    def hash(self, contents: Sequence[bytes]) -> list[str]:
        """The digests of what is in memory."""
        self._pass.source = self._pass.into = -1
        return [found.digest for found in self._run([ToHash(size=len(one), content=one) for one in contents])]

    def _run(self, files: Sequence[ToHash], call: Callable[..., None] | None = None) -> list[Hashed]:
        names = ctypes.create_string_buffer(b"\0".join([os.fsencode(file.name) for file in files]))
        at = ctypes.addressof(names)
        table = bytearray(_FILE.size * len(files))
        for number, file in enumerate(files):
            content = 0
            if file.content is not None:
                content = ctypes.cast(ctypes.c_char_p(file.content), ctypes.c_void_p).value or 0
            time = divmod(file.time_ns, 1_000_000_000)
            numbers = at, content, file.offset, file.size, *time, 0, 0, 0
            _FILE.pack_into(table, number * _FILE.size, *numbers, b"", 0, 0)
            at += len(os.fsencode(file.name)) + 1
        entries = (ctypes.c_char * len(table)).from_buffer(table)
        (call or self.lanes.hash_files)(ctypes.byref(self._pass), entries, ctypes.c_int64(len(files)))
        found = []
        for file, (*_, size, outcome, error, digest, _, _) in zip(files, _FILE.iter_unpack(table), strict=True):
            named = (file.name,) if outcome == _NOT_OPENED else ()
            failed = OSError(error, os.strerror(error), *named) if error else None
            found.append(Hashed(size, digest.hex() if outcome == _DONE else "", failed))
        return found


def found_in(file: Path, *, kind: int | None = None) -> Lanes | str:
    """The lanes of a library, once they agree with hashlib; else why there are none.

    Args:
        file: the library.
        kind: which lanes, by its own numbers; without it the fastest of this machine.
    """
    try:
        library = ctypes.CDLL(str(file))
        library.sha512_kind.restype = ctypes.c_char_p
        best = library.sha512_best() if kind is None else kind
        name = library.sha512_kind(best)
        lanes = Lanes(library, best, name.decode()) if name else None
    except (OSError, AttributeError) as error:  # also one that an earlier release has built
        return f"not to be loaded: {error}"
    if lanes is None:
        return "missing: this machine has none that would be faster"
    return lanes if _agrees(lanes) else "not used: here they do not agree with hashlib"


def _agrees(lanes: Lanes) -> bool:
    contents = [bytes([number + 1]) * size for number, size in enumerate(_TRIED_BYTES)]
    return lanes.seat(Halt(), ctypes.c_int64()).hash(contents) == [hashlib.sha512(one).hexdigest() for one in contents]


@cache
def installed() -> Lanes | str:
    """The lanes that this process uses; else why it uses none."""
    if _OFF:
        return "switched off"
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        return _MISSING
    return found_in(Path(package.origin).with_name(LIBRARY))


def lanes() -> Lanes | None:
    """The lanes that this process uses, if any."""
    found = installed()
    return found if isinstance(found, Lanes) else None
