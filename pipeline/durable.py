"""What survives a pulled plug: write beside, fsync, rename, fsync the folder.

`rename(2)` is atomic but not durable, and neither is a new file's name: both live in the folder, which has to be
fsynced as well (fsync(2), NOTES). A file that is renamed into place before its bytes are on disk can come back empty.
"""

import ctypes
import json
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline import plug

_libc = ctypes.CDLL(None, use_errno=True)


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def publish(source: Path, target: Path) -> None:
    """Give `source` (complete and already durable itself) its final name, durably; same file system only."""
    plug.before(plug.Act.RENAME)
    os.replace(source, target)
    fsync_folder(target.parent)
    plug.after(plug.Act.RENAME)
    if source.parent != target.parent:
        fsync_folder(source.parent)


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
    """Empty a folder, however deep it is: `shutil.rmtree` gives up a thousand folders down, a hostile zip does not."""
    waiting, folders = ["."], []
    while waiting:
        folder = waiting.pop()
        below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            with os.scandir(below) as entries:
                for entry in entries:
                    path = entry.name if folder == "." else f"{folder}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                        folders.append(path)
                    else:
                        os.unlink(path, dir_fd=descriptor)
        finally:
            os.close(below)
    for folder in reversed(folders):
        os.rmdir(folder, dir_fd=descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, however deep; harmless where there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        empty_folder(descriptor)
    finally:
        os.close(descriptor)
    os.rmdir(folder)
