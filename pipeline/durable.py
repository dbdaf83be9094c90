"""What survives a pulled plug: write beside, fsync, rename, fsync the folder.

`rename(2)` is atomic but not durable, and neither is a new file's name: both live in the folder, which has to be
fsynced as well (fsync(2), NOTES). A file that is renamed into place before its bytes are on disk can come back empty.
"""

import contextlib
import ctypes
import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from pipeline import plug

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_SYNC_FILE_RANGE_WRITE = 2
_NO_SUCH_RENAME = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}

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


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are not there, durably."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def sync_file_system(folder: Path) -> None:
    """Make everything written so far to the file system of `folder` durable, with one call: syncfs(2).

    Raises:
        OSError: a write to that file system failed (ENOSPC, EIO, …).
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(descriptor)


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
        return
    for below, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = os.path.join(below, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        fsync_folder(Path(below))


def _raise(error: OSError) -> None:
    raise error


def rename_new(source: Path, target: Path) -> None:
    """Rename, unless something has that name already; not durable until both folders are fsynced.

    Raises:
        FileExistsError: something has that name.
        OSError: it cannot be renamed.
    """
    plug.before(plug.Act.RENAME)
    _rename_new(source, target)
    plug.after(plug.Act.RENAME)


def _rename_new(source: Path, target: Path) -> None:
    paths = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target))
    if _libc.renameat2(*paths, _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NO_SUCH_RENAME:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    if os.path.lexists(target):  # NFS does not know that rename; nobody else writes here while we hold the lease
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)


def publish(source: Path, target: Path) -> None:
    """Give `source` (complete and already durable itself) its final name, durably; same file system only."""
    plug.before(plug.Act.RENAME)
    os.replace(source, target)
    fsync_folder(target.parent)
    plug.after(plug.Act.RENAME)
    if source.parent != target.parent:
        fsync_folder(source.parent)


def publish_new(source: Path, target: Path) -> bool:
    """Give `source` its final name durably, unless something has that name already: then False, and nothing is done.

    Raises:
        OSError: it cannot be renamed; with EXDEV they lie on different file systems.
    """
    plug.before(plug.Act.RENAME)
    try:
        _rename_new(source, target)
    except FileExistsError:
        return False
    fsync_folder(target.parent)
    plug.after(plug.Act.RENAME)
    if source.parent != target.parent:
        fsync_folder(source.parent)
    return True


def write_file(target: Path, content: bytes) -> None:
    """Write `target` so that at any instant it is either what it was or complete, also after a power cut."""
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish(part, target)


def write_json(target: Path, facts: Mapping[str, object]) -> None:
    """Write `facts` to `target` as `write_file` does; names keep their script, keys their order."""
    write_file(target, (json.dumps(facts, ensure_ascii=False, indent=1) + "\n").encode())


def empty_folder(descriptor: int) -> None:
    """Empty a folder, however deep it is: `shutil.rmtree` gives up a thousand folders down, a hostile zip does not.

    Workers that share a staging disk may be at the same one at the same time: what is gone already is no failure.
    """
    waiting, folders = ["."], []
    while waiting:
        folder = waiting.pop()
        try:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        except FileNotFoundError:
            continue
        try:
            with os.scandir(below) as entries:
                for entry in entries:
                    path = entry.name if folder == "." else f"{folder}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                        folders.append(path)
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(path, dir_fd=descriptor)
        finally:
            os.close(below)
    for folder in reversed(folders):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder, dir_fd=descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, however deep; harmless where there is none, or others do so too."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        empty_folder(descriptor)
    finally:
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)
