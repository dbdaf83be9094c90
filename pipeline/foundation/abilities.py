"""What a file system can do: found out by trying it, and done as far as it can."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation import durable, removal

# What a share answers that will not set times or modes: CIFS with another uid, FUSE, a squashed root.
_REFUSES = durable.CANNOT | {errno.EPERM, errno.EACCES}
LONGEST_NAME_BYTES = 255  # what Linux allows, and bags may use
_LONG_AGO_SECONDS = 1_000_000_000
_EXACT_SECONDS = 2  # FAT keeps every second second
_MODE = 0o604


@dataclass(frozen=True)
class Abilities:
    """What was tried, and went.

    Attributes:
        times: a file keeps the time of change that it is given.
        modes: a file keeps the mode that it is given.
        renames: a rename that replaces nothing is one step: renameat2(2) with RENAME_NOREPLACE.
        folder_fsync: a folder can be fsynced.
        case: names that differ by case alone are two names.
        longest_name: bytes of the longest name.
        flock: a folder can be locked by flock(2).
    """

    times: bool
    modes: bool
    renames: bool
    folder_fsync: bool
    case: bool
    longest_name: int
    flock: bool

    @property
    def lacking(self) -> list[str]:
        """What it cannot do and what comes of it, each for a person."""
        lacks = [
            (self.times, "does not keep times"),
            (self.modes, "does not keep modes"),
            (self.renames, "renames without replacing only in two steps"),
            (self.folder_fsync, "has no fsync of folders: names last as its server says"),
            (self.case, "takes names that differ by case alone for one: such works cannot come home"),
            (
                self.longest_name >= LONGEST_NAME_BYTES,
                f"takes no name over {self.longest_name} bytes: works that have one cannot come home",
            ),
            (self.flock, "cannot lock a folder (flock)"),
        ]
        return [what for able, what in lacks if not able]


def probe(folder: Path) -> Abilities:
    """Try what the file system of `folder` can do, in a folder of its own in it that is gone afterwards.

    Raises:
        OSError: nothing can be written there.
    """
    place = Path(tempfile.mkdtemp(prefix=".pipeline-check-", dir=folder))
    try:
        return _tried(place)
    finally:
        removal.remove_tree(place)


def _tried(place: Path) -> Abilities:
    file = place / "a"
    file.write_bytes(b"")
    set_times(file, float(_LONG_AGO_SECONDS))
    set_mode(file, _MODE)
    status = file.stat()
    renames = durable.rename_in_one(file, place / "b")
    return Abilities(
        times=abs(status.st_mtime - _LONG_AGO_SECONDS) <= _EXACT_SECONDS,
        modes=status.st_mode & 0o777 == _MODE,
        renames=renames,
        folder_fsync=_goes(place, os.fsync),
        case=not os.path.lexists(place / ("B" if renames else "A")),
        longest_name=_longest_name(place),
        flock=_goes(place, lambda descriptor: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)),
    )


def _goes(place: Path, call: Callable[[int], object]) -> bool:
    """Whether the file system takes a call on a folder."""
    with durable.opened(place) as descriptor:
        try:
            call(descriptor)
        except OSError:
            return False
    return True


def _longest_name(place: Path) -> int:
    """The length of the longest name that can be made, by halving."""
    goes, fails = 1, LONGEST_NAME_BYTES + 1
    while fails - goes > 1:
        length = (goes + fails + 1) // 2 if goes > 1 else LONGEST_NAME_BYTES  # most can do it all: try that first
        try:
            (place / ("n" * length)).write_bytes(b"")
        except OSError:
            fails = length
        else:
            goes = length
    return goes


def set_times(target: Path | int, times: os.stat_result | float, *, at: int | None = None) -> bool:
    """Give a file or folder its times; False where its share refuses.

    Times and modes are never a reason to lose content that was proved: who cares for them looks what came of it.

    Args:
        target: a path, whose link is not followed, or a descriptor.
        times: the times of another file; or seconds since the epoch, for both the last access and the last change.
        at: the descriptor of the folder that a path is relative to.
    """
    if isinstance(times, os.stat_result):
        both = times.st_atime_ns, times.st_mtime_ns
    else:
        both = (round(times * 1e9),) * 2
    return _taken(lambda: os.utime(target, ns=both, dir_fd=at, follow_symlinks=isinstance(target, int)))


def set_mode(target: Path | int, mode: int) -> bool:
    """Give a file or folder its mode; False where its share refuses."""
    return _taken(lambda: os.chmod(target, mode))


def _taken(call: Callable[[], None]) -> bool:
    try:
        call()
    except OSError as error:
        if error.errno not in _REFUSES:
            raise
        return False
    return True
