"""The proof that stays with an archived work: its verified digests, so that any later copy can be proved without a bag.

`{RID}.bag/{RID}.digests.json` in the archive, beside the manifests, as `fixity` writes it. It is the one file
there that is the pipeline's own: it is written after the read-back, replaced when it has become another, and its digest
goes into the record, so that a proof that was changed together with its files is seen.
"""

import contextlib
import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation import abilities, durable, fixity, guarded
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.fixity import FileFixity, Fixity


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


def earlier(folder: Path, work_rid: str, *, brought: Collection[str]) -> Fixity | None:
    """What the proofs that are kept with an archived work say; None where none is, or none can be used.

    The later one counts, but takes no algorithm away: it may be a file that a bag brought in its payload.

    Args:
        folder: the work in the archive; it need not be there.
        work_rid: the work.
        brought: names that this call's bag has put there itself; a file of such a name is no proof of ours.
    """
    found, number = None, 1
    while (below := folder / numbered(work_rid, number)).is_dir() and not below.is_symlink():
        name = fixity.digests_name(work_rid)
        if f"{below.name}/{name}" not in brought:
            with contextlib.suppress(StagingDamaged):
                later = fixity.load(below / name)
                if later.work_rid == work_rid:
                    found = _on_top(found, _usable(later))
        number += 1
    return found


def _on_top(before: Fixity | None, later: Fixity) -> Fixity:
    files = dict(before.files) if before is not None else {}
    for name, file in later.files.items():
        known = files.get(name)
        same = known is not None and known.size_bytes == file.size_bytes
        files[name] = FileFixity(file.size_bytes, {**known.digests, **file.digests}) if known and same else file
    return Fixity(later.work_rid, later.verified, files)


def _usable(found: Fixity) -> Fixity:
    """Without what is no digest: what lies in an archive may have become anything."""
    files = {
        name: FileFixity(
            file.size_bytes,
            {
                algorithm: digest
                for algorithm, digest in file.digests.items()
                if isinstance(digest, str) and algorithm in fixity.ALGORITHMS
            },
        )
        for name, file in found.files.items()
    }
    return Fixity(found.work_rid, found.verified, files)


def joined(known: Fixity, proved: Fixity | None, *, but: Collection[str]) -> Fixity:
    """The bag's digests, and for each of its files those in other algorithms that were proved earlier.

    A bag with md5 alone must not take away what a bag with sha512 once proved: both have to match.

    Args:
        known: the bag's verified digests.
        proved: what `earlier` found.
        but: names whose content an operator lets the bag replace.
    """
    if proved is None:
        return known
    files = {
        name: FileFixity(file.size_bytes, {**proved.files[name].digests, **file.digests})
        if name in proved.files and name not in but
        else file
        for name, file in known.files.items()
    }
    return Fixity(known.work_rid, known.verified, files)


def contradicted(known: Fixity, proved: Fixity, names: Collection[str]) -> dict[str, str]:
    """Of these names, those of which an earlier proof says something else than the bag does, and what."""
    told = {}
    for name in names:
        file, before = known.files[name], proved.files[name]
        other = [one for one, digest in before.digests.items() if file.digests.get(one, digest) != digest]
        if file.size_bytes != before.size_bytes:
            told[name] = f"{file.size_bytes:,} bytes instead of {before.size_bytes:,}"
        elif other:
            told[name] = f"other {', '.join(sorted(other))}"
    return told


def keep(folder: Path, known: Fixity, *, proved: Fixity | None, extra: Collection[str]) -> Proof:
    """Keep the proof with the archived work, durably; where it is there already, nothing is written.

    Args:
        folder: the archived work, read back and matched.
        known: its digests, `joined` with those that were proved earlier.
        proved: what `earlier` found.
        extra: names in the archive that are not in `known`; what the earlier proof says of them stays in force.

    Raises:
        OSError: it could not be written.
    """
    name = names(known.work_rid, known.files)
    content = fixity.dumps(_with_earlier(known, proved, extra))
    if content != _bytes(folder / name):
        _write(folder, name, content)
    return Proof(name, hashlib.sha512(content).hexdigest())


def _bytes(file: Path) -> bytes | None:
    try:
        return guarded.read_file(file)
    except OSError:
        return None


def _with_earlier(known: Fixity, proved: Fixity | None, extra: Collection[str]) -> Fixity:
    """The digests, and those that an earlier proof has of files that this bag did not bring."""
    others = {name: digests for name, digests in proved.files.items() if name in extra} if proved else {}
    if proved is None or not others:
        return known
    verified = known.verified if proved.verified == known.verified else "none"
    return Fixity(known.work_rid, verified, {**others, **known.files})


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write it through no link, and leave the times of the folders as the bag had them."""
    below, _, last = name.rpartition("/")
    with guarded.opened(folder) as work:
        times = os.fstat(work)
        with contextlib.suppress(FileExistsError):
            os.mkdir(below, dir_fd=work)
            durable.fsync_folder(work)
            abilities.set_times(work, times)
        with guarded.opened(folder / below, at=work) as place:
            times = os.fstat(place)
            durable.write_file(last, content, at=place)
            abilities.set_times(place, times)
