"""The folder beside the target in which a result grows, unseen, until one rename makes it the target."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.foundation import abilities, failpoints, guarded, owners
from pipeline.foundation import durable as disk
from pipeline.foundation.errors import NoRoom, StagingDamaged, WorkBusy

_PRIVATE = 0o700
_TRIES = 100


class Staging:
    """A locked, empty, private folder on the target's file system.

    Attributes:
        path: where it lies: `.{name}.staging` beside the target.
        descriptor: open on it since before anything was written, so that syncfs(2) reports every failed write.
        target: what it will become.
    """

    def __init__(self, path: Path, descriptor: int, target: Path) -> None:
        self.path = path
        self.descriptor = descriptor
        self.target = target
        self.published = False

    def check_room(self, size: int, files: int, *, reserve_bytes: int) -> None:
        """See that so many bytes in so many files fit on the disk.

        Raises:
            NoRoom: they do not.
        """
        facts = os.fstatvfs(self.descriptor)
        needed = size + files * facts.f_frsize + reserve_bytes
        free = disk.free_bytes(self.descriptor)
        if free is not None and free < needed:
            raise NoRoom(
                f"{needed} bytes are needed at {self.target.parent}, {free} are free",
                kept="the zip is untouched",
                go_on="free some disk, then again",
                facts={"needed_bytes": needed, "free_bytes": free},
            )
        if facts.f_files and facts.f_favail < files:
            raise NoRoom(f"{files} inodes are needed at {self.target.parent}, {facts.f_favail} are free")

    def make_folders(self, folders: Iterable[str]) -> None:
        """Make folders, given relative to this one, those above first, all before any file."""
        for folder in folders:
            os.mkdir(folder, dir_fd=self.descriptor)

    def set_folder_times(self, folders: Iterable[tuple[str, float | None]]) -> None:
        """Give the folders their times, once nothing is written into them any more."""
        for folder, seconds in folders:
            if seconds is not None:
                abilities.set_times(Path(folder), seconds, at=self.descriptor)

    def write(self, name: str, pieces: Iterable[bytes | bytearray]) -> int:
        """Write a file, relative to this folder; durable once `publish` is through. Tells its bytes."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        out = os.open(name, flags, 0o666, dir_fd=self.descriptor)
        size = 0
        try:
            for piece in pieces:
                size += len(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(out, view) :]
        finally:
            os.close(out)
        return size

    def publish(self, *, durable: bool) -> None:
        """Make it the target: everything to disk with one syncfs(2), one rename, the folder's names to disk.

        Raises:
            OSError: something could not be written; nothing was published.
            StagingDamaged: something lies at the target.
        """
        abilities.set_mode(self.descriptor, self._public_mode())
        if durable:
            disk.sync_file_system(self.path, descriptor=self.descriptor)
        failpoints.see_allowed()
        try:
            disk.rename_to_free(self.path, self.target)
        except FileExistsError as error:
            raise StagingDamaged(f"{self.target} appeared while {self.path} was made") from error
        self.published = True
        here, there = os.fstat(self.descriptor), self.target.lstat()
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise StagingDamaged(
                f"{self.target} is not what was made: somebody put another folder in place of {self.path}"
            )
        if durable:
            disk.fsync_folder(self.target.parent)

    def _public_mode(self) -> int:
        """The mode that the umask gives a new folder; asking for the umask itself would change it for all threads."""
        with os.scandir(self.descriptor) as entries:
            modes = [stat.S_IMODE(entry.stat().st_mode) for entry in entries if entry.is_dir(follow_symlinks=False)]
        return modes[0] if modes else 0o755


def staging_path(target: Path) -> Path:
    """Where the result for `target` grows."""
    return target.with_name(f".{target.name}.staging")


@contextmanager
def staged(target: Path) -> Iterator[Staging]:
    """A staging folder for `target`, locked against other processes; removed at the end unless it was published.

    Raises:
        WorkBusy: somebody else is making `target`.
        OSError: it could not be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = staging_path(target)
    descriptor = _locked(path)
    staging = Staging(path, descriptor, target)
    try:
        guarded.empty_folder(descriptor)
        yield staging
    finally:
        try:
            if not staging.published:
                guarded.empty_folder(descriptor)
                path.rmdir()
        finally:
            os.close(descriptor)


def _locked(path: Path) -> int:
    """The staging folder, made if need be, and locked.

    Its lock is on the folder itself: when the folder is renamed or removed, whoever waited holds a lock on something
    that lies elsewhere, sees that, and begins anew.
    """
    for _ in range(_TRIES):
        try:
            path.mkdir(_PRIVATE)
        except FileExistsError:
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            owners.see_ours(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if _lock(descriptor, path):
            return descriptor
        os.close(descriptor)
    raise WorkBusy(f"{path} comes and goes: others are at work there")


def _lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
            raise WorkBusy(f"another process is at work in {path}") from error
        raise
    try:
        here, there = os.fstat(descriptor), path.lstat()
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def discard(target: Path) -> None:
    """Remove a result that does not hold any more, at one stroke: renamed away first, so no half of it is ever seen.

    Raises:
        WorkBusy: somebody is at work there.
    """
    with staged(target) as staging:
        if os.path.lexists(target):
            failpoints.see_allowed()
            os.rename(target, staging.path / "discarded")
