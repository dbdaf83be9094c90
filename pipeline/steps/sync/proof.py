"""The proof that stays with an archived work: its verified digests, so that any later copy can be proved without a bag.

`{RID}.bag/{RID}.digests.json` in the archive, beside the manifests, as `pipeline.fixity` writes it. It is the one file
there that is the pipeline's own: it is written after the read-back, replaced when it has become another, and its digest
goes into the record, so that a proof that was changed together with its files is seen.
"""

import errno
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline import abilities, durable, fixity
from pipeline.errors import StagingDamaged
from pipeline.fixity import Fixity


@dataclass(frozen=True)
class Proof:
    """A proof that is kept: its name, relative to the archived work, and its own digest."""

    name: str
    sha512: str


def names(work_rid: str, taken: Collection[str] = ()) -> str:
    """The proof's name in a work that has files under the names `taken`.

    Where the work brings such a file itself (it was archived, and bagged from there again), a numbered folder is taken,
    as debag does for the tag files.
    """
    number = 1
    while True:
        folder = numbered(work_rid, number)
        name = f"{folder}/{fixity.digests_name(work_rid)}"
        if folder not in taken and name not in taken:
            return name
        number += 1


def numbered(work_rid: str, number: int) -> str:
    """The folder of tag files and proof: `{RID}.bag`, then `{RID}.bag.2`."""
    return f"{work_rid}.bag" if number == 1 else f"{work_rid}.bag.{number}"


def keep(folder: Path, known: Fixity, *, extra: Collection[str]) -> Proof:
    """Keep the proof with the archived work, durably; where it is there already, nothing is written.

    Args:
        folder: the archived work, read back and matched.
        known: its verified digests.
        extra: names in the archive that are not in `known`; what an earlier proof says of them stays in force.

    Raises:
        OSError: it could not be written.
    """
    name = names(known.work_rid, known.files)
    file = folder / name
    before = _bytes(file)
    content = fixity.dumps(_with_earlier(file, known, extra))
    if content != before:
        _write(file, content)
    return Proof(name, hashlib.sha512(content).hexdigest())


def _bytes(file: Path) -> bytes | None:
    if file.is_symlink() or not file.is_file():
        return None
    return file.read_bytes()


def _with_earlier(file: Path, known: Fixity, extra: Collection[str]) -> Fixity:
    """The digests, and those that an earlier proof has of files that this bag did not bring."""
    if not extra or not file.is_file():
        return known
    try:
        earlier = fixity.load(file)
    except StagingDamaged:
        return known
    others = {name: digests for name, digests in earlier.files.items() if name in extra}
    if not others:
        return known
    verified = known.verified if earlier.verified == known.verified else "none"
    return Fixity(known.work_rid, verified, {**others, **known.files})


def _write(file: Path, content: bytes) -> None:
    """Write it, and leave the times of the folders as the bag had them."""
    if file.parent.is_symlink():
        raise OSError(errno.ELOOP, "is a link; nothing is written through it", str(file.parent))
    times = file.parent.parent.stat()
    if not file.parent.exists():
        file.parent.mkdir()
        durable.fsync_folder(file.parent.parent)
        abilities.set_times(file.parent.parent, times)
    times = file.parent.stat()
    durable.write_file(file, content)
    abilities.set_times(file.parent, times)
