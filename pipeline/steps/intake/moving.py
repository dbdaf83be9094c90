"""Zips on their way out of the folder into which they were dropped: never over another file, nor in another's stead.

{folder}/W1.bag.zip                 dropped by a person or a feeder
{folder}/.settling/{token}-{name}   on its way out, for an instant: nobody can replace it there unnoticed
"""

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline import durable, plug
from pipeline.errors import FolderUnreachable
from pipeline.steps.intake.folders import Dropped, look_again, unreachable
from pipeline.work import stamp_of

_SETTLING = ".settling"
_TOKEN, _TOKEN_LENGTH = re.compile(r"[0-9a-f]{8}-"), 9
_NAMES_TRIED = 10_000


def move_out(dropped: Dropped, into: Path) -> Path | None:
    """Move a zip out of its folder, durably, never over another file: where a name is taken, a number is put in.

    Returns:
        where it lies now; None: it was not that file any more, and was left alone.

    Raises:
        FolderUnreachable: it cannot be moved; it is where it was.
    """
    aside = _set_aside(dropped)
    if aside is None:
        return None
    try:
        into.mkdir(parents=True, exist_ok=True)
        for target in _names(into / dropped.path.name):
            if durable.publish_new(aside, target):
                return target
    except OSError as error:
        _put_back(aside, dropped.path)
        raise unreachable(into, error) from error
    _put_back(aside, dropped.path)
    raise FolderUnreachable(f"{into} holds {_NAMES_TRIED} files named like {dropped.shown} already")


def remove(dropped: Dropped) -> bool:
    """Delete a zip; False: it was not that file any more, and was left alone.

    Raises:
        FolderUnreachable: it cannot be deleted; it is where it was.
    """
    aside = _set_aside(dropped)
    if aside is None:
        return False
    try:
        plug.before(plug.Act.DELETE)
        aside.unlink()
        durable.fsync_folder(aside.parent)
        plug.after(plug.Act.DELETE)
    except OSError as error:
        _put_back(aside, dropped.path)
        raise unreachable(dropped.path.parent, error) from error
    return True


def clock_ahead_seconds(folder: Path) -> float:
    """By how much this host's clock is ahead of the one that dates the folder's files: a file server has its own.

    A folder that is made in it, and removed again, tells; 0 where none can be made.
    """
    mark = folder / f"{_SETTLING}-{uuid.uuid4().hex[:8]}"
    try:
        mark.mkdir()
        try:
            return time.time() - mark.stat().st_mtime
        finally:
            mark.rmdir()
    except OSError:
        return 0.0


def left_aside(folder: Path) -> Iterator[Dropped]:
    """Zips that a lane, killed just then, had set aside; each is to be put back by whoever can claim it.

    Raises:
        FolderUnreachable: the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder / _SETTLING))
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreachable(folder, error) from error
    for name in names:
        if _TOKEN.match(name):
            yield Dropped(folder / name[_TOKEN_LENGTH:], name, 0, 0.0)


def put_back(left: Dropped) -> bool:
    """Give a zip that was left aside its name back; False: another has it now, or somebody else was faster.

    Raises:
        FolderUnreachable: it cannot be moved.
    """
    try:
        return durable.publish_new(left.path.parent / _SETTLING / left.stamp, left.path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreachable(left.path.parent, error) from error


def _set_aside(dropped: Dropped) -> Path | None:
    """Take the file out of everybody's reach, and see that it is still the one that was meant."""
    folder = dropped.path.parent / _SETTLING
    aside = folder / f"{uuid.uuid4().hex[:8]}-{dropped.path.name}"
    current = look_again(dropped)
    if current is None or _content(current.stamp) != _content(dropped.stamp):
        return None
    try:
        folder.mkdir(exist_ok=True)
        durable.publish(dropped.path, aside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreachable(dropped.path.parent, error) from error
    plug.point("zip set aside")
    if _content(stamp_of(aside.stat())) != _content(dropped.stamp):
        _put_back(aside, dropped.path)
        return None
    return aside


def _content(stamp: str) -> str:
    """A stamp without the time of the last status change, which a rename sets."""
    return stamp.rpartition("-")[0]


def _put_back(aside: Path, path: Path) -> None:
    # If this fails too, it is found among what was left aside.
    with contextlib.suppress(OSError):
        durable.publish_new(aside, path)


def _names(target: Path) -> Iterator[Path]:
    """The target, then with a number after the RID: `W1.2.bag.zip`, which is still a zip of the same work."""
    yield target
    head, dot, tail = target.name.partition(".")
    for number in range(2, _NAMES_TRIED):
        yield target.with_name(f"{head}.{number}{dot}{tail}")
