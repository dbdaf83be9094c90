"""Folders and files that others may reach too: opened, made, checked and removed without ever following a link.

A drop folder may be shared, and belong to somebody else; then each name in it can become another thing between two
calls. What is done by a descriptor is done where it was opened. The kernel's `fs.protected_symlinks` is not relied on.
"""

import contextlib
import errno
import os
import secrets
import shlex
import stat
from collections.abc import Generator, Iterator
from pathlib import Path

from pipeline.foundation import owners
from pipeline.foundation.owners import NotOurs

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_LINKS = 40  # as many as the kernel follows


def open_file(path: Path | str, *, at: int | None = None, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a regular file that others may have put there; a pipe is not waited for.

    Args:
        path: the file; a link is not followed.
        at: the descriptor of the folder that `path` is relative to.
        flags: as for `os.open`, for whoever writes it.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, flags | _FILE, 0o644, dir_fd=at)
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


def read_secret(path: Path) -> bytes:
    """The content of a file that we, root, or whom the program belongs to, keep from all other users.

    Raises:
        NotOurs: it belongs to somebody else, others may read or change it, or put another in its place.
        OSError: it cannot be read, or is no regular file.
    """
    path = behind_our_links(path)
    owners.see_way_is_ours(path)
    with os.fdopen(open_file(path), "rb") as file, opened(Path(os.path.realpath(path.parent))) as folder:
        status = os.fstat(file.fileno())
        wide = status.st_mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP)
        why = f"may be read or changed by others: chmod 600 {shlex.quote(str(path))}"
        owners.see(status, path, folder, wide=why if wide else "")
        return file.read()


def secret_of(file: Path) -> str:
    """The secret that a file holds; where there is no such file, a new one, which its owner alone may read.

    Raises:
        NotOurs: others could read it, or decide what it is.
        OSError: it can neither be read nor made.
    """
    if not file.exists():
        owners.see_way_is_ours(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        # Whole when it gets its name, for somebody else may read it, or make one, at the same moment.
        part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as made:
                made.write(f"{secrets.token_urlsafe(32)}\n")
            with contextlib.suppress(FileExistsError):
                os.link(part, file)
        finally:
            part.unlink()
    return read_secret(file).decode().strip()


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
        link, theirs = stat.S_ISLNK(status.st_mode), status.st_uid not in owners.trusted()
        if theirs and not stat.S_ISREG(status.st_mode):
            raise NotOurs(
                f"is {'a link' if link else 'no file, and'} of {owners.named(status.st_uid)}: not written to", path
            )
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
            owners.see_ours(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def see_nobody_can_swap(folder: Path) -> None:
    """See that a folder is ours alone, if it is there, and that no other user can put another in its place.

    Raises:
        NotOurs: it is not, or somebody can; the sentence names the folder that decides it.
        OSError: it cannot be looked at.
    """
    uids, gids = set[int](), set[int]()
    with contextlib.suppress(FileNotFoundError), ours(folder) as descriptor:
        status = os.fstat(descriptor)
        who = owners.others_who_write(status)
        why = f"may be written to by {who}: chmod go-w {shlex.quote(str(folder))}"
        owners.see(status, folder, descriptor, wide=why if who else "")
        # A file system that gives all to one user and group gives them what is above too.
        uids.add(status.st_uid)
        gids.add(status.st_gid)
    owners.see_way_is_ours(folder, uids=uids, gids=gids)


def make_ours_alone(folder: Path) -> None:
    """Make a folder, and those above it, where nobody else decides what lies in it.

    Raises:
        NotOurs: somebody does; see `see_nobody_can_swap`.
        OSError: it cannot be made.
    """
    see_nobody_can_swap(folder)
    with ours(folder, make=True):
        see_nobody_can_swap(folder)  # what was put there meanwhile too


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
        return os.open(name, FOLDER, dir_fd=above)
    except OSError as error:
        error.filename = str(path)
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
        raise NotOurs("is a link, which is not followed" if link else "is no folder", path) from error


def below(folder: Path | str) -> Generator[tuple[str, os.DirEntry[str]], None, None]:
    """Everything below a folder, each with its path relative to it, with `/`; links are not followed.

    Raises:
        OSError: it, or a folder in it, cannot be read.
    """
    waiting = [""]
    while waiting:
        within = waiting.pop()
        with os.scandir(os.path.join(folder, within)) as entries:
            for entry in entries:
                yield within + entry.name, entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{within}{entry.name}/")
