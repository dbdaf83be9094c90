"""What lies in the archive beside its works: what killed copies left, and what gave way.

{shelf}/.{RID}.part, {shelf}/.{RID}-{bag_id}.staging    see `by_copier` and `one_copy`
{share}/.replaced/{RID}/…                               see `replaced`
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.foundation import removal
from pipeline.foundation.errors import InvalidRid
from pipeline.foundation.work import archive_dir, archive_shares, checked_rid
from pipeline.sync import replaced

_HIDDEN = re.compile(r"\.+(?P<rid>[^.]+?)(?:\.part|-[0-9a-f]+\.staging)")


@dataclass(frozen=True)
class Leftover:
    """A folder beside the works.

    Attributes:
        folder: where it lies.
        share: the share point that it is in, behind links: from there on no folder is one.
        work_rid: whose it is.
        since: when it came there, or last changed.
        gave_way: an operator let a bag replace what it holds: nobody else has it.
    """

    folder: Path
    share: Path
    work_rid: str
    since: datetime
    gave_way: bool = False


def leftovers(archive_root: Path) -> Iterator[Leftover]:
    """All of them, also half removed ones; what is no folder of ours by its name and place is passed over.

    Raises:
        OSError: a folder cannot be listed.
    """
    for share in archive_shares(archive_root):
        real = Path(os.path.realpath(share))
        for shelf in _folders(real):
            for folder in _folders(shelf):
                match = _HIDDEN.fullmatch(folder.name.removesuffix(removal.REMOVED))
                if match and _shelf_of(match["rid"], archive_root) == share / shelf.name:
                    yield Leftover(folder, real, match["rid"], _changed(folder))
        for work in _folders(real / replaced.FOLDER):
            if _shelf_of(work.name, archive_root).parent == share:
                yield from (Leftover(one, real, work.name, _moved_on(one), gave_way=True) for one in _folders(work))


def _shelf_of(name: str, archive_root: Path) -> Path:
    """Where the work of that name belongs; where it is no work's, the archive itself."""
    try:
        return archive_dir(archive_root, checked_rid(name)).parent
    except InvalidRid:
        return archive_root


def _moved_on(folder: Path) -> datetime:
    """By its name, or what it was before it was half removed; a name without a date: when something last came there."""
    name = folder.name.removesuffix(removal.REMOVED).lstrip(".")
    with suppress(ValueError):
        return datetime.strptime(name[: len("2026-01-01T00.00.00Z")], "%Y-%m-%dT%H.%M.%SZ").replace(tzinfo=UTC)
    return _changed(folder)


def _changed(folder: Path) -> datetime:
    return datetime.fromtimestamp(folder.lstat().st_mtime, UTC)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
