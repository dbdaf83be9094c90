"""Zips that leave the folder into which they were dropped: none replaces another file, none goes in another's place.

{folder}/W1.bag.zip                 dropped by a person or a feeder
{folder}/.settling/{token}-{name}   on its way out, for an instant: nobody can replace it there unnoticed
"""

import contextlib
import errno
import os
import re
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation import durable, failpoints, guarded
from pipeline.foundation.errors import FolderUnreachable
from pipeline.foundation.work import stamp_of
from pipeline.intake.folder import Dropped, look_again, unreachable

_SETTLING = ".settling"
_TOKEN, _TOKEN_LENGTH = re.compile(r"[0-9a-f]{8}-"), 9
_NAMES_TRIED = 10_000


def move_out(dropped: Dropped, into: Path, *, root: Path, report: bytes = b"") -> Path | None:
    """Move a zip out of its folder, durably. It replaces no other file: where its name is taken, a number is put in.

    Args:
        dropped: the zip.
        into: where to; made if it is not there.
        root: this folder, and each one from it down to `into`, has to be ours (`guarded.ours`).
        report: written beside it, as `report.txt`, before it is moved.

    Returns:
        where it lies now; None: it was not that file any more, and was left alone.

    Raises:
        FolderUnreachable: it cannot be moved; it is where it was.
    """
    if not _is_still(dropped):
        return None
    try:
        with guarded.ours(into, below=_above(root, dropped.path.parent), make=True) as target:
            if report:
                durable.write_file("report.txt", report, at=target)
                failpoints.point("refusal reported")
            with _set_aside(dropped) as aside:
                if aside is None:
                    return None
                for name in _names(dropped.path.name):
                    if durable.publish_new(aside.name, name, at=aside.folder, to=target):
                        return into / name
    except OSError as error:
        raise unreachable(into, error) from error
    raise FolderUnreachable(f"{into} holds {_NAMES_TRIED} files named like {dropped.shown} already")


def remove(dropped: Dropped) -> bool:
    """Delete a zip; False: it was not that file any more, and was left alone.

    Raises:
        FolderUnreachable: it cannot be deleted; it is where it was.
    """
    try:
        with _set_aside(dropped) as aside:
            if aside is None:
                return False
            failpoints.before(failpoints.Act.DELETE)
            os.unlink(aside.name, dir_fd=aside.folder)
            durable.fsync_folder(aside.folder)
            failpoints.after(failpoints.Act.DELETE)
            return True
    except OSError as error:
        raise unreachable(dropped.path.parent, error) from error


def clock_ahead_seconds(folder: Path) -> float:
    """How many seconds this host's clock is ahead of the one that dates the folder's files: a file server has its own.

    It is found by making a folder there, and removing it again; 0 where none can be made.
    """
    mark = folder / f"{_SETTLING}-{uuid.uuid4().hex[:8]}"
    try:
        mark.mkdir()
        try:
            return time.time() - mark.lstat().st_mtime
        finally:
            mark.rmdir()
    except OSError:
        return 0.0


def left_aside(folder: Path) -> Iterator[Dropped]:
    """Zips that were set aside by a lane that was then killed; whoever can claim one puts it back.

    Raises:
        FolderUnreachable: the folder cannot be read.
    """
    try:
        with guarded.ours(folder / _SETTLING) as settling:
            names = sorted(os.listdir(settling))
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreachable(folder, error) from error
    for name in names:
        if _TOKEN.match(name):
            yield Dropped(folder / name[_TOKEN_LENGTH:], name, 0, 0.0)


def put_back(left: Dropped) -> bool:
    """Give a zip that was left aside its name again; False: another file has it now, or another lane was faster.

    Raises:
        FolderUnreachable: it cannot be moved.
    """
    try:
        with durable.opened(left.path.parent) as folder, guarded.ours(left.path.parent / _SETTLING) as settling:
            return durable.publish_new(left.stamp, left.path.name, at=settling, to=folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreachable(left.path.parent, error) from error


def put_again(kept: Path, path: Path, *, root: Path) -> bool:
    """Put a zip that was moved out back into its folder; False: another file has its name there by now.

    Args:
        kept: where it lies.
        path: where it lay.
        root: as for `move_out`.

    Raises:
        OSError: it cannot be moved.
    """
    below = _above(root, path.parent)
    with durable.opened(path.parent) as folder, guarded.ours(kept.parent, below=below) as place:
        return durable.publish_new(kept.name, path.name, at=place, to=folder)


def see_ours(folder: Path, roots: Iterable[Path]) -> None:
    """See that the folders that we make in, or for, a folder of zips are ours; one that is not there yet is no fault.

    Args:
        folder: where zips are dropped; it may be anybody's.
        roots: where they are moved to.

    Raises:
        FolderUnreachable: something that belongs to another user, or a link, is in its place.
    """
    for root in (folder / _SETTLING, *roots):
        try:
            with contextlib.suppress(FileNotFoundError), guarded.ours(root, below=_above(root, folder)):
                pass
        except OSError as error:
            raise unreachable(folder, error) from error


def _above(root: Path, folder: Path) -> Path:
    """The folder above `root` that may be anybody's: that of the zips, if `root` lies in it, else what holds it."""
    return folder if root.is_relative_to(folder) else root.parent


@dataclass(frozen=True)
class _Aside:
    """A zip where nobody else can replace it: its name there, and the folder's descriptor."""

    name: str
    folder: int


@contextlib.contextmanager
def _set_aside(dropped: Dropped) -> Iterator[_Aside | None]:
    """Take the file out of everybody's reach, and see that it is still the one that was meant; None: it is not.

    What lies there still when the block ends goes back; if that fails too, it is found among what was left aside.
    """
    name, path = f"{uuid.uuid4().hex[:8]}-{dropped.path.name}", dropped.path
    if not _is_still(dropped):
        yield None
        return
    with durable.opened(path.parent) as folder, guarded.ours(path.parent / _SETTLING, make=True) as settling:
        try:
            if not durable.publish_new(path.name, name, at=folder, to=settling):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        except FileNotFoundError:
            yield None
            return
        failpoints.point("zip set aside")
        try:
            status = os.stat(name, dir_fd=settling, follow_symlinks=False)
            same = stat.S_ISREG(status.st_mode) and is_same(stamp_of(status), dropped.stamp)
            yield _Aside(name, settling) if same else None
        finally:
            with contextlib.suppress(OSError):
                os.stat(name, dir_fd=settling, follow_symlinks=False)  # not there any more: it has left
                durable.publish_new(name, path.name, at=settling, to=folder)


def is_same(stamp: str, other: str) -> bool:
    """Whether two stamps are of one file that was not written to in between.

    It may have been renamed, which sets the time of the last status change, the last of a stamp's parts.
    """
    return stamp.rpartition("-")[0] == other.rpartition("-")[0]


def _is_still(dropped: Dropped) -> bool:
    current = look_again(dropped)
    return current is not None and is_same(current.stamp, dropped.stamp)


def _names(name: str) -> Iterator[str]:
    """The name, then with a number after the RID: `W1.2.bag.zip`, which is still a zip of the same work."""
    yield name
    head, dot, tail = name.partition(".")
    for number in range(2, _NAMES_TRIED):
        yield f"{head}.{number}{dot}{tail}"
