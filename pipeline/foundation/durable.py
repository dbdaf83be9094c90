"""What survives a pulled plug: write beside, fsync, rename, fsync the folder.

`rename(2)` is atomic but not durable, and neither is a new file's name: both live in the folder, which has to be
fsynced as well (fsync(2), NOTES). A file that is renamed into place before its bytes are on disk can come back empty.
"""

import contextlib
import ctypes
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from pipeline.foundation import failpoints
from pipeline.foundation.work import json_bytes

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_SYNC_FILE_RANGE_WRITE = 2
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What a file system answers that has no such operation; whoever asks goes on without it, or does it in another way.
CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

# statfs(2)'s f_type of file systems whose syncfs(2) is known to write everything back and to tell when that failed:
# ext2 to ext4, XFS, Btrfs, F2FS, overlayfs, tmpfs. ZFS is missing because it has no fixed number, network file systems
# because a syncfs of the client promises nothing about the server.
_SYNCED_AT_ONCE = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x794C7630, 0x01021994}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """Which start of the machine this is; where that is not told, each process counts as one."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"process {os.getpid()}"


def fsync_folder(folder: Path | int) -> None:
    """Make the names in a folder durable; where its file system has no such thing, nothing is lacking.

    Raises:
        OSError: they could not be written (EIO, …).
    """
    with opened(folder) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in CANNOT:  # fsync(2): EINVAL where the file system does not synchronize folders
                raise


@contextlib.contextmanager
def opened(folder: Path | int) -> Iterator[int]:
    """The descriptor of a folder, whosever it is, also through a link; one that is given stays open."""
    if isinstance(folder, int):
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are not there, durably."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def sync_file_system(folder: Path, *, descriptor: int | None = None) -> None:
    """Make everything written so far below `folder` durable with one call, syncfs(2); file by file where there is none.

    Args:
        folder: a folder.
        descriptor: open on it since before anything was written: only then does syncfs(2) tell of every failed write.

    Raises:
        OSError: a write to that file system failed (ENOSPC, EIO, …).
    """
    with opened(folder if descriptor is None else descriptor) as there:
        code = _syncfs(there)
    if code in CANNOT:
        _fsync_each(folder)
    elif code:
        raise OSError(code, os.strerror(code), str(folder))


def _syncfs(descriptor: int) -> int:
    """The error number of syncfs(2), 0 where it succeeded; a C library without it is a system without it."""
    call = getattr(_libc, "syncfs", None)
    if call is None:
        return errno.ENOSYS
    return ctypes.get_errno() if call(descriptor) != 0 else 0


def start_write_back(descriptor: int, offset: int, size: int) -> None:
    """Let the disk begin with what was written, so that a sync has less to wait for; only a hint, never fails."""
    _libc.sync_file_range(
        ctypes.c_int(descriptor), ctypes.c_int64(offset), ctypes.c_int64(size), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
    )


def synced_at_once(folder: Path) -> bool:
    """Whether one syncfs(2) makes everything below `folder` durable; otherwise each file needs its own fsync.

    Raises:
        OSError: there is no such folder.
    """
    known = ctypes.create_string_buffer(512)  # struct statfs is 120 bytes; f_type is its first word
    if _libc.statfs(os.fsencode(folder), known) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(folder))
    return ctypes.c_long.from_buffer(known).value in _SYNCED_AT_ONCE


def make_durable(folder: Path) -> None:
    """Make a folder and all that is in it durable, however its file system wants it done; links are not followed.

    Raises:
        OSError: something could not be written.
    """
    if synced_at_once(folder):
        sync_file_system(folder)
    else:
        _fsync_each(folder)


def _fsync_each(folder: Path) -> None:
    for below, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = os.path.join(below, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        fsync_folder(Path(below))


def _raise(error: OSError) -> None:
    raise error


def free_bytes(folder: Path | int) -> int | None:
    """What is free on the disk of a folder, in bytes; None where its file system does not tell (0 of 0 blocks)."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize if facts.f_blocks else None


def rename_new(source: Path, target: Path) -> None:
    """Rename, unless something has that name already; not durable until both folders are fsynced.

    Raises:
        FileExistsError: something has that name.
        OSError: it cannot be renamed.
    """
    failpoints.before(failpoints.Act.RENAME)
    rename_to_free(source, target)
    failpoints.after(failpoints.Act.RENAME)


def rename_to_free(source: Path | str, target: Path | str, *, at: int | None = None, to: int | None = None) -> None:
    """The rename of `rename_new` alone: renameat2(2), as rename(2) would replace a file or an empty folder.

    Args:
        source: what has another name now.
        target: the new name.
        at: the descriptor of the folder that `source` is relative to.
        to: that of `target`.
    """
    if rename_in_one(source, target, at=at, to=to):
        return
    with contextlib.suppress(FileNotFoundError):  # nobody else writes here while we hold the lease
        os.stat(target, dir_fd=to, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target, src_dir_fd=at, dst_dir_fd=to)


def rename_in_one(source: Path | str, target: Path | str, *, at: int | None = None, to: int | None = None) -> bool:
    """Rename without replacing, in one instant; False where the file system cannot, as NFS, and nothing was done.

    Raises:
        FileExistsError: something has that name.
        OSError: it cannot be renamed.
    """
    folders = [_AT_FDCWD if folder is None else folder for folder in (at, to)]
    if _libc.renameat2(folders[0], os.fsencode(source), folders[1], os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code not in CANNOT:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    return False


def publish(source: Path, target: Path) -> None:
    """Give `source` (complete and already durable itself) its final name, durably; same file system only."""
    failpoints.before(failpoints.Act.RENAME)
    os.replace(source, target)
    fsync_folder(target.parent)
    failpoints.after(failpoints.Act.RENAME)
    if source.parent != target.parent:
        fsync_folder(source.parent)


def publish_new(source: Path | str, target: Path | str, *, at: int | None = None, to: int | None = None) -> bool:
    """Give `source` its final name durably, unless something has that name already: then False, and nothing is done.

    Args:
        source: what has another name now.
        target: its final name.
        at: the descriptor of the folder that the name `source` lies in; None: it is a path.
        to: that of `target`.

    Raises:
        OSError: it cannot be renamed; with EXDEV they lie on different file systems.
    """
    from_folder = Path(source).parent if at is None else at
    to_folder = Path(target).parent if to is None else to
    failpoints.before(failpoints.Act.RENAME)
    try:
        rename_to_free(source, target, at=at, to=to)
    except FileExistsError:
        return False
    fsync_folder(to_folder)
    failpoints.after(failpoints.Act.RENAME)
    if from_folder != to_folder:
        fsync_folder(from_folder)
    return True


def write_file(target: Path | str, content: bytes, *, at: int | None = None) -> None:
    """Write all of `target`; with what `written` promises, takes and raises."""
    with written(target, at=at) as file:
        file.write(content)


@contextlib.contextmanager
def written(target: Path | str, *, at: int | None = None, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write that gets its name when the block ends: at any instant `target` is what it was, or complete.

    Also after a power cut. Whatever has the name already, and whatever somebody puts in the way, is replaced and never
    written through. Where the block raises, `target` stays what it was.

    Args:
        target: the file.
        at: the descriptor of the folder that the name `target` lies in; None: it is a path.
        mode: of the new file, as the umask allows.

    Raises:
        OSError: it cannot be written.
    """
    failpoints.see_allowed()
    path = Path(target)
    with opened(path.parent if at is None else at) as folder:
        part = f".{path.name}.part"
        try:
            os.unlink(part, dir_fd=folder)  # what a killed run left; or a link
        except FileNotFoundError:
            pass
        except OSError:  # another user's, in a sticky folder
            part = f".{path.name}.{uuid.uuid4().hex}.part"
        descriptor = os.open(part, _NEW_FILE, mode, dir_fd=folder)
        ours = os.fstat(descriptor)
        with _gone_if_it_fails(part, folder, ours):
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            if not os.path.samestat(os.stat(part, dir_fd=folder, follow_symlinks=False), ours):
                raise OSError(errno.EEXIST, "somebody else writes it at the same time", str(target))
            failpoints.before(failpoints.Act.RENAME)
            os.replace(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        fsync_folder(folder)
        failpoints.after(failpoints.Act.RENAME)


@contextlib.contextmanager
def _gone_if_it_fails(part: str, folder: int, ours: os.stat_result) -> Iterator[None]:
    """Leave no part of ours behind when it may not get its name: whoever has the work by now would not know of it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(part, dir_fd=folder, follow_symlinks=False), ours):
                os.unlink(part, dir_fd=folder)
        raise


def write_json(target: Path, facts: Mapping[str, object]) -> None:
    """Write `facts` to `target` as `write_file` does; keys keep their order."""
    write_file(target, json_bytes(facts, indent=1))
