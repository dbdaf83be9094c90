"""Is the archive there, and is the work's place in it no other's? Asked before and after something is written."""

import os
from pathlib import Path

from pipeline.foundation.work import archive_shares
from pipeline.sync.readback import Difference


def unmounted(archive_root: Path, share: Path, marker: str) -> str:
    """What shows that the archive is not mounted; empty if nothing does.

    Args:
        archive_root: the folder of the share points.
        share: the share point that is meant.
        marker: name of a file that lies in each share point of the mounted archive, and not in the folder below the
            mount; empty = such files are not used.
    """
    if not archive_root.is_dir():
        return f"the archive {archive_root} does not exist"
    if marker and not (share / marker).is_file():
        return f"{share} has no {marker}"
    return ""


def unmarked(archive_root: Path, marker: str) -> list[str]:
    """The share points that lack the marker."""
    return [share.name for share in archive_shares(archive_root) if unmounted(archive_root, share, marker)]


def not_a_place(folder: Path) -> Difference | None:
    """What keeps a work's folder in the archive from being that and no other; None if nothing does.

    A share point may be a link (that is how mounts are arranged); what lies below one may not.
    """
    share = folder.parent.parent
    meant = os.path.join(os.path.realpath(share), *folder.relative_to(share).parts)
    if os.path.realpath(folder) != meant:
        return Difference(str(folder), f"a link leads to {os.path.realpath(folder)}")
    if os.path.lexists(folder) and not folder.is_dir():
        return Difference(str(folder), "is no folder")
    return None
