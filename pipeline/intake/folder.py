"""Zips that are dropped into a folder: found, and told apart from unfinished ones. Touches that folder alone.

{folder}/W1.bag.zip                 dropped by a person or a feeder
{folder}/.settling/{token}-{name}   on its way out, for an instant: nobody can replace it there unnoticed
"""

import contextlib
import errno
import hashlib
import os
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation import guarded
from pipeline.foundation.errors import FolderUnreachable, InvalidRid
from pipeline.foundation.work import rid_from_name, stamp_of

_UNFINISHED = frozenset({"part", "partial", "tmp", "temp", "filepart", "crdownload", "download", "swp"})
_LONGEST_NAME_BYTES = 230  # leaves room for a token, or a number where the name is taken
_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_LONGEST_COMMENT = 0xFFFF
_FULL32 = 0xFFFFFFFF
_END64_BYTES = 56 + 20  # the zip64 end record and its locator, which may stand in between


@dataclass(frozen=True)
class Dropped:
    """A zip in the folder, as it was when it was looked at.

    Attributes:
        stamp: differs for another file of the same name, and for this one after a change.
        changed_on: when it last changed in any way, by the file system's clock, seconds since the epoch.
    """

    path: Path
    stamp: str
    size_bytes: int
    changed_on: float

    @property
    def age_seconds(self) -> float:
        """For how long it has not changed, as far as this host's clock and the file system's agree."""
        return time.time() - self.changed_on

    @property
    def shown(self) -> str:
        """The path for people: on one line, and with nothing that a terminal would obey."""
        text = str(self.path)
        return text if text.isprintable() else ascii(text)

    @property
    def is_whole(self) -> bool:
        """Whether it ends as a zip does; one that is unreadable counts as whole: whoever takes it will say so."""
        try:
            return ends_as_a_zip(self.path)
        except OSError:
            return True

    @property
    def work_rid(self) -> str:
        """The RID that the name promises.

        Raises:
            InvalidRid: the name tells no RID, or holds what no name should.
        """
        if not self.path.name.isprintable():
            raise InvalidRid(f"{self.path.name[:80]!a} is no name for a zip: it holds more than letters")
        return rid_from_name(self.path.name)

    @property
    def claim(self) -> str:
        """What is leased while a lane works on it: the work, or the file's name where that tells no work."""
        try:
            return self.work_rid
        except InvalidRid:
            return f"file:{hashlib.sha256(os.fsencode(self.path.name)).hexdigest()[:16]}"


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Attributes:
        zips: the one that changed longest ago first.
        passed_over: names that end as a zip's does, of what is never taken: links, folders, special files.
    """

    zips: tuple[Dropped, ...]
    passed_over: tuple[str, ...] = ()


def is_wanted(name: str) -> bool:
    """Whether a file of this name is meant to be taken: `*.zip`, neither hidden nor named as an unfinished one."""
    parts = name.lower().split(".")
    hidden = name.startswith((".", "~"))
    return parts[-1] == "zip" and len(parts) > 1 and not hidden and not _UNFINISHED.intersection(parts)


def look(folder: Path) -> Listing:
    """What lies in the folder now; nothing is opened, so thousands of files cost one listing.

    Raises:
        FolderUnreachable: it is not there, or cannot be read.
    """
    zips: list[Dropped] = []
    passed_over: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_wanted(entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError):  # taken by another lane meanwhile
                    dropped = _dropped(Path(entry.path), entry.stat(follow_symlinks=False))
                    if dropped is None:
                        passed_over.append(ascii(entry.name)[1:-1])
                    else:
                        zips.append(dropped)
    except OSError as error:
        raise unreachable(folder, error) from error
    zips.sort(key=lambda one: (one.changed_on, one.path))
    return Listing(tuple(zips), tuple(sorted(passed_over)))


def see_usable(folder: Path, *, writable: bool) -> None:
    """See that zips can be found in a folder, and moved out of it if that is meant to be done.

    Raises:
        FolderUnreachable: they cannot; nothing was touched.
    """
    if not folder.is_dir():
        raise unreachable(folder, FileNotFoundError(errno.ENOENT, "it is not there"))
    if not os.access(folder, os.R_OK | os.X_OK):
        raise unreachable(folder, PermissionError(errno.EACCES, "it cannot be read"))
    if writable and not os.access(folder, os.W_OK):
        raise unreachable(folder, PermissionError(errno.EROFS, "it cannot be written to"))


def look_again(dropped: Dropped) -> Dropped | None:
    """The same path now; None: nothing to take is there any more.

    Raises:
        FolderUnreachable: the folder is not there, or cannot be read.
    """
    try:
        return _dropped(dropped.path, dropped.path.stat(follow_symlinks=False))
    except FileNotFoundError as error:
        if not dropped.path.parent.is_dir():
            raise unreachable(dropped.path.parent, error) from error
        return None
    except OSError as error:
        raise unreachable(dropped.path.parent, error) from error


def _dropped(path: Path, status: os.stat_result) -> Dropped | None:
    if not stat.S_ISREG(status.st_mode) or len(os.fsencode(path.name)) > _LONGEST_NAME_BYTES:
        return None
    return Dropped(path, stamp_of(status), status.st_size, max(status.st_mtime, status.st_ctime))


def ends_as_a_zip(path: Path) -> bool:
    """Whether the file's last bytes are the end record of a whole zip (APPNOTE.TXT 4.3.16); reads 64 KiB at most.

    A zip that is still written ends in the middle of a member, or in the zeros of a file that was made in full size.
    One with something else before or after it counts as unfinished too: it is only taken later.

    Raises:
        OSError: it cannot be read.
    """
    with os.fdopen(guarded.open_file(path), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _END.size - _LONGEST_COMMENT)
        file.seek(start)
        tail = file.read()
    place = tail.rfind(_END_MARK)
    while place >= 0:
        if place + _END.size <= len(tail):
            *_, directory_bytes, directory_start, comment = _END.unpack_from(tail, place)
            gap = start + place - directory_start - directory_bytes
            # A zip stored in the zip ends so too, but its directory is counted from its own beginning.
            fits = gap in {0, _END64_BYTES} or _FULL32 in {directory_bytes, directory_start}
            if place + _END.size + comment == len(tail) and fits:
                return True
        place = tail.rfind(_END_MARK, 0, place + len(_END_MARK) - 1)
    return False


def unreachable(folder: Path, error: OSError) -> FolderUnreachable:
    """Why nothing can be done in a folder."""
    advice = {
        errno.ENOENT: "mount it, or make it",
        errno.EXDEV: "set done_path and refused_path to folders on the same file system",
        errno.EROFS: "make it writable, or set done = keep",
        errno.EACCES: "grant the rights, or set done = keep",
        errno.EPERM: "see who made it: what is made there has to belong to the pipeline's user, and be no link",
    }
    return FolderUnreachable(
        f"folder {folder}: {error.strerror or error}",
        kept="every zip is where it was",
        by_hand=f"{advice.get(error.errno or 0, 'see to its disk')}; it is looked at again by itself",
    )
