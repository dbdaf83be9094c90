"""Folders that others may reach too: opened and removed without ever following a link."""

import contextlib
import os
from pathlib import Path


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
