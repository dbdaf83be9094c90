"""One copy less: debag unpacks beside the work's place in the archive, and the work gets its name by one rename.

    {shelf}/.{RID}-{bag_id}.staging/debag/{RID}/…    unpacked and verified by debag; read back here, from the disk
    {shelf}/{RID}/                                   the work: proved, and durable, before it has this name

For the built-in copier, where the archive's file system can do all that staging's has to, and where nobody else can
write in the shelf: what debag vouches for there must be what debag made.
"""

import errno
import os
import stat
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pipeline.foundation import abilities, durable, guarded
from pipeline.foundation.fixity import Fixity
from pipeline.foundation.owners import NotOurs
from pipeline.foundation.work import archive_dir
from pipeline.sync.bringing import prove
from pipeline.sync.call import Call, unmounted
from pipeline.sync.readback import Comparison
from pipeline.sync.site import ARCHIVE, BUILTIN, SyncSettings
from pipeline.sync.trees import staging_faults


def unpacking_place(archive_root: Path, work_rid: str, bag_id: str) -> Path:
    """The hidden folder beside a work's place, in which its bag may be unpacked."""
    return archive_dir(archive_root.absolute(), work_rid).with_name(f".{work_rid}-{bag_id}.staging")


def is_ours(place: Path) -> bool:
    """Whether a hidden folder is there, and nobody else can have put there what it holds."""
    try:
        guarded.see_nobody_can_swap(place)
        return stat.S_ISDIR(place.lstat().st_mode)
    except OSError:
        return False


def make_place(place: Path) -> None:
    """Make a hidden folder, for us alone.

    Raises:
        OSError: it cannot be made, or is not ours.
    """
    durable.make_folders(place.parent)
    with suppress(FileExistsError):
        place.mkdir(0o700)
    if not is_ours(place):
        raise NotOurs("is not ours alone", place)


def why_not(site: SyncSettings, place: Path) -> str:
    """Why nothing can be unpacked in a hidden folder, for a person; empty: it can.

    Args:
        site: says whether it is wanted.
        place: the folder, there or not.
    """
    shelf, share = place.parent, place.parent.parent
    if site.copier != BUILTIN or site.staging != ARCHIVE:
        return "the settings say so"
    if missing := unmounted(site.archive_root.absolute(), share, site.mount_marker):
        return missing
    if os.path.realpath(shelf) != os.path.join(os.path.realpath(share), shelf.name):
        return f"{shelf} is a link"
    there = next(folder for folder in (shelf, *shelf.parents) if folder.is_dir())
    try:
        guarded.see_nobody_can_swap(place)
        return _lacking(there, there.stat().st_dev)
    except OSError as error:
        return str(error)


@lru_cache(maxsize=256)
def _lacking(folder: Path, _device: int) -> str:
    """What the file system of a folder lacks for debag to unpack there; asked once of each that is mounted there."""
    lacks = abilities.probe(folder).lacking
    if not durable.synced_at_once(folder):
        lacks.append("is not surely synced by one syncfs")
    return f"the file system of {folder} {'; '.join(lacks)}" if lacks else ""


def fits(call: Call) -> bool:
    """Whether a work may get its name by one rename: it was unpacked beside its place, where nothing is yet.

    A bag may hold works of other shelves: a rename has to lead there, and to give what a folder made there would have.
    """
    if not call.in_archive or os.path.lexists(call.folder):
        return False
    durable.make_folders(call.folder.parent)
    here, there = os.stat(call.work_dir.parent.parent.parent), os.stat(call.folder.parent)
    return here.st_dev == there.st_dev and (here.st_gid, here.st_mode & stat.S_ISGID) == (
        there.st_gid,
        there.st_mode & stat.S_ISGID,
    )


def published(call: Call, known: Fixity) -> Comparison | None:
    """Prove a work where debag unpacked it, and give it its name; None: it has to be copied.

    Raises:
        ReadBackFailed: what was written came back as something else; it was not published.
        StagingDamaged: it is not what debag left.
        OSError: it could not be read or renamed.
    """
    with guarded.ours(call.work_dir.parent.parent):  # whoever could write in it could change what is proved there
        proof = prove(call.work_dir, known, threads=call.threads, pulse=call.pulse)
    if not proof.whole:
        raise call.not_proved(
            proof,
            "what was unpacked came back from the archive's disk as something else",
            kept="nothing of it was published; the zip is kept, and is unpacked again",
        )
    if problems := staging_faults(call.work_dir, known, work_rid=call.work_rid):
        raise call.staging_changed(problems)  # what nobody proved must not be renamed with it
    call.check_place()
    call.journal.wrote(known.files)
    try:
        if not durable.publish_new(call.work_dir, call.folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(call.folder))
    except OSError as error:
        if error.errno != errno.EXDEV:  # of two mounts of one file system
            raise
        return None
    return proof
