"""Folders removed where nobody can lead us elsewhere, however deep they are: see `guarded`."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from pipeline.foundation import durable
from pipeline.foundation.guarded import FOLDER, opened
from pipeline.foundation.owners import NotOurs

REMOVED = ".removed"
"""How the name ends of what is being removed."""


def empty_folder(descriptor: int) -> None:
    """Empty a folder, however deep it is: `shutil.rmtree` gives up a thousand folders down, a hostile zip does not.

    Each folder is opened from the one above it and left by `..`, whose identity is known: nothing that somebody swaps
    for a link meanwhile leads out. Workers that share a disk may be at the same one: what is gone is no failure.

    Raises:
        OSError: something cannot be removed.
    """
    here = os.open(".", FOLDER, dir_fd=descriptor)
    waiting = [_without_files(here)]
    above: list[tuple[str, tuple[int, int]]] = []  # the name of each folder that we are in, and what it lies in
    try:
        while waiting[-1] or above:
            if waiting[-1]:
                name = waiting[-1].pop()
                with contextlib.suppress(FileNotFoundError):
                    below = os.open(name, FOLDER, dir_fd=here)
                    _let_us_write(below)
                    above.append((name, _identity(here)))
                    here, done = below, here
                    os.close(done)
                    waiting.append(_without_files(here))
                continue
            waiting.pop()
            name, known = above.pop()
            here, done = os.open("..", FOLDER, dir_fd=here), here
            os.close(done)
            if _identity(here) != known:
                raise OSError(errno.ESTALE, f"{name} was moved while it was emptied", name)
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(name, dir_fd=here)
    finally:
        os.close(here)


def _without_files(descriptor: int) -> list[str]:
    """Remove what is no folder; the names of the folders."""
    folders = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=descriptor)
    return folders


def _let_us_write(descriptor: int) -> None:
    """In a folder that is to go, and may have the mode of a scanner's; whether it helped is seen then."""
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, stat.S_IRWXU)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def remove_tree(folder: Path, *, at: int | None = None) -> None:
    """Remove a folder and all that is in it, however deep; harmless where there is none, or others do so too.

    `at` is the descriptor of the folder in which its last name is looked for; None: by its whole path.
    """
    with contextlib.suppress(FileNotFoundError):
        with opened(folder, at=at) as descriptor:
            _let_us_write(descriptor)
            empty_folder(descriptor)
        os.rmdir(folder if at is None else folder.name, dir_fd=at)


def remove(path: Path, *, below: Path) -> None:
    """Remove a folder, a file or a link itself, where nobody can lead us elsewhere; harmless where there is none.

    It has another name before anything in it goes. Killed, `.{name}.removed` is left, to be removed in the same way.

    Args:
        path: what is to go, whatever the modes of its folders.
        below: the folder above it from which on no folder may be a link.

    Raises:
        NotOurs: one is.
        OSError: something cannot be removed.
    """
    with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
        way, above = below, stack.enter_context(opened(below))
        for name in path.parent.relative_to(below).parts:
            way /= name
            above = stack.enter_context(opened(way, at=above))
        doomed = path if path.name.endswith(REMOVED) else path.with_name(f".{path.name}{REMOVED}")
        if doomed != path:
            _remove_any(doomed, above)
            os.replace(path.name, doomed.name, src_dir_fd=above, dst_dir_fd=above)
            durable.fsync_folder(above)
        _remove_any(doomed, above)


def _remove_any(path: Path, above: int) -> None:
    try:
        remove_tree(path, at=above)
    except NotOurs:  # no folder
        os.unlink(path.name, dir_fd=above)
