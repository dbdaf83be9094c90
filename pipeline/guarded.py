"""Folders and files that others may reach too: opened, made, checked and removed without ever following a link.

A drop folder may be shared, and belong to somebody else; then each name in it can become another thing between two
calls. What is done by a descriptor is done where it was opened. The kernel's `fs.protected_symlinks` is not relied on.
"""

import contextlib
import errno
import os
import pwd
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_LINKS = 40  # as many as the kernel follows


class NotOurs(PermissionError):
    """A folder in which nothing may be written: it is a link, belongs to another user, or every user may change it."""

    def __init__(self, why: str, folder: Path) -> None:
        super().__init__(errno.EPERM, f"{folder} {why}", str(folder))


def open_file(path: Path | str, *, at: int | None = None) -> int:
    """A descriptor for reading a regular file that others may have put there; a pipe is not waited for.

    Args:
        path: the file; a link is not followed.
        at: the descriptor of the folder that `path` is relative to.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, _FILE, dir_fd=at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return descriptor


def read_file(path: Path | str) -> bytes:
    """The content of a regular file; see `open_file`.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with os.fdopen(open_file(path), "rb") as file:
        return file.read()


def behind_our_links(path: Path) -> Path:
    """What a path names, through links that we, or root, have made; the file need not be there.

    Raises:
        NotOurs: a link was made by somebody else, or a pipe or whatever is no file.
        OSError: a link cannot be read, or they lead round in a circle.
    """
    for _ in range(_MOST_LINKS):
        try:
            status = path.lstat()
        except FileNotFoundError:
            return path
        link, theirs = stat.S_ISLNK(status.st_mode), status.st_uid not in _trusted()
        if theirs and not stat.S_ISREG(status.st_mode):
            raise NotOurs(f"is {'a link' if link else 'no file, and'} of {_named(status.st_uid)}: not written to", path)
        if not link:
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


@contextlib.contextmanager
def opened(folder: Path, *, at: int | None = None) -> Iterator[int]:
    """The descriptor of a folder, whosever it is.

    Args:
        folder: the folder.
        at: the descriptor of the folder in which its last name is looked for; None: by its whole path.

    Raises:
        NotOurs: it is a link, or no folder.
        OSError: it cannot be opened.
    """
    descriptor = _opened(folder if at is None else folder.name, at, folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def ours(folder: Path, *, below: Path | None = None, make: bool = False) -> Iterator[int]:
    """The descriptor of a folder that is ours to write in.

    It is no link, belongs to this user, to root or to whom the program belongs, and not every user may write in it.

    Args:
        folder: the folder.
        below: a folder above it that may be shared: each one from there on has to be ours. None: its parent.
        make: make those that are not there.

    Raises:
        NotOurs: it, or one on the way from `below`, is not.
        OSError: it is not there, or cannot be opened or made.
    """
    base = below if below is not None and folder.is_relative_to(below) else folder.parent
    if make:
        base.mkdir(parents=True, exist_ok=True)
    descriptor, path = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), base
    try:
        for name in folder.relative_to(base).parts:
            path /= name
            if make:
                _make(name, descriptor, path)
            above, descriptor = descriptor, _opened(name, descriptor, path)
            os.close(above)
            see_ours(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def see_nobody_can_swap(folder: Path) -> None:
    """See that a folder is ours, if it is there, and that no other user can put another in its place.

    Raises:
        NotOurs: it is not, or somebody can; the sentence names the folder that decides it.
        OSError: it cannot be looked at.
    """
    trusted = _trusted()
    with contextlib.suppress(FileNotFoundError), ours(folder) as descriptor:
        trusted.add(os.fstat(descriptor).st_uid)  # a file system that gives all to one user gives him what is above too
    for above in Path(os.path.realpath(folder)).parents:
        try:
            status = above.stat()
        except FileNotFoundError:
            continue  # it is still to be made
        if status.st_uid not in trusted:
            raise NotOurs(f"belongs to {_named(status.st_uid)}, who can put another folder in its place", above)
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            raise NotOurs("may be written to by every user, who can put another folder in its place", above)


def _make(name: str, above: int, path: Path) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:
        return
    except OSError as error:
        error.filename = str(path)  # the name alone tells nobody where
        raise


def _opened(name: str | Path, above: int | None, path: Path) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except OSError as error:
        error.filename = str(path)
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
        raise NotOurs("is a link, which is not followed" if link else "is no folder", path) from error


def _trusted() -> set[int]:
    """Whose folders are as good as ours: root's, and those of whoever owns the program that runs here."""
    return {0, os.geteuid(), Path(__file__).stat().st_uid}


def see_ours(descriptor: int, path: Path) -> None:
    """See that an open folder is ours; `path` is for the sentence.

    Raises:
        NotOurs: it is not.
    """
    status = os.fstat(descriptor)
    open_to_all = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    if status.st_uid in _trusted() and not open_to_all:
        return
    made = _made_in(descriptor)  # some shares give all files one owner and one mode, whoever made them
    if status.st_uid not in _trusted() and (made is None or made.st_uid != status.st_uid):
        raise NotOurs(f"belongs to {_named(status.st_uid)}, not to {_named(os.geteuid())}", path)
    if open_to_all and (made is None or not made.st_mode & stat.S_IWOTH):
        raise NotOurs("may be written to by every user", path)


def _made_in(descriptor: int) -> os.stat_result | None:
    """What a folder is said to be that we make just now, for us alone; it is gone again."""
    name = f".{uuid.uuid4().hex}"
    try:
        os.mkdir(name, 0o700, dir_fd=descriptor)
        try:
            return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        finally:
            os.rmdir(name, dir_fd=descriptor)
    except OSError:
        return None


def _named(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (user {uid})"
    except KeyError:
        return f"user {uid}"


def empty_folder(descriptor: int) -> None:
    """Empty a folder, however deep it is: `shutil.rmtree` gives up a thousand folders down, a hostile zip does not.

    Each folder is opened from the one above it and left by `..`, whose identity is known: nothing that somebody swaps
    for a link meanwhile leads out. Workers that share a disk may be at the same one: what is gone is no failure.

    Raises:
        OSError: something cannot be removed.
    """
    here = os.open(".", _FOLDER, dir_fd=descriptor)
    waiting = [_without_files(here)]
    above: list[tuple[str, tuple[int, int]]] = []  # the name of each folder that we are in, and what it lies in
    try:
        while waiting[-1] or above:
            if waiting[-1]:
                name = waiting[-1].pop()
                with contextlib.suppress(FileNotFoundError):
                    below = os.open(name, _FOLDER, dir_fd=here)
                    above.append((name, _identity(here)))
                    here, done = below, here
                    os.close(done)
                    waiting.append(_without_files(here))
                continue
            waiting.pop()
            name, known = above.pop()
            here, done = os.open("..", _FOLDER, dir_fd=here), here
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


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, however deep; harmless where there is none, or others do so too."""
    try:
        descriptor = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return
    try:
        empty_folder(descriptor)
    finally:
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)
