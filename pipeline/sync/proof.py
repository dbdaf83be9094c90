"""The proof that stays with an archived work: its verified digests, so that any later copy can be proved without a bag.

`{RID}.bag/{RID}.digests.json` in the archive, beside the manifests, as `fixity` writes it. It is the one file
there that is the pipeline's own: it is written after the read-back, replaced when it has become another, and its digest
goes into the record, so that a proof that was changed together with its files is seen.
"""

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path

from pipeline.foundation import abilities, durable, fixity, guarded
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.fixity import FileFixity, Fixity


@dataclass(frozen=True)
class Proof:
    """A proof that is kept: its name, relative to the archived work, and its own digest."""

    name: str
    sha512: str


def folders(work_rid: str) -> Iterator[str]:
    """The folders of tag files and proof, without end: `{RID}.bag`, then `{RID}.bag.2` and so on."""
    yield f"{work_rid}.bag"
    yield from (f"{work_rid}.bag.{number}" for number in count(2))


def _free_name(work_rid: str, taken: Collection[str]) -> str:
    """The proof's name in a work that has files under the names `taken`.

    Where the work brings such a file itself (it was archived, and bagged from there again), a numbered folder is taken,
    as debag does for the tag files.
    """
    last = fixity.digests_name(work_rid)
    free = (folder for folder in folders(work_rid) if folder not in taken and f"{folder}/{last}" not in taken)
    return f"{next(free)}/{last}"


def earlier(folder: Path, work_rid: str, *, brought: Collection[str]) -> Fixity | None:
    """What the proofs that are kept with an archived work say; None where none is, or none can be used.

    The later one counts, but takes no algorithm away: it may be a file that a bag brought in its payload.

    Args:
        folder: the work in the archive; it need not be there.
        work_rid: the work.
        brought: names that this call's bag has put there itself; a file of such a name is no proof of ours.
    """
    found, last = None, fixity.digests_name(work_rid)
    there = takewhile(lambda name: (folder / name).is_dir() and not (folder / name).is_symlink(), folders(work_rid))
    for name in (f"{below}/{last}" for below in there):
        if name not in brought:
            with contextlib.suppress(StagingDamaged):
                later = fixity.load(folder / name)
                if later.work_rid == work_rid:
                    found = _on_top({} if found is None else found.files, later)
    return found


def _on_top(before: Mapping[str, FileFixity], later: Fixity) -> Fixity:
    """The later digests; without what is no digest, for what lies in an archive may have become anything."""
    files = dict(before)
    for name, file in later.files.items():
        usable = {
            algorithm: digest
            for algorithm, digest in file.digests.items()
            if isinstance(digest, str) and algorithm in fixity.ALGORITHMS
        }
        known = files.get(name)
        same = known.digests if known is not None and known.size_bytes == file.size_bytes else {}
        files[name] = FileFixity(file.size_bytes, {**same, **usable})
    return replace(later, files=files)


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
    return replace(known, files=files)


def contradicted(known: Fixity, proved: Fixity, names: Collection[str]) -> dict[str, str]:
    """Of these names, those of which an earlier proof says something else than the bag does, and what."""
    told = {}
    for name in names:
        file, before = known.files[name], proved.files[name]
        if wrong := before.differs(file.size_bytes, dict(sorted(file.digests.items()))):
            told[name] = wrong
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
    name = _free_name(known.work_rid, known.files)
    content = fixity.dumps(_with_earlier(known, proved, extra))
    with contextlib.suppress(OSError):  # it is not there yet, or cannot be read: it is written anew
        if guarded.read_file(folder / name) == content:
            return Proof(name, hashlib.sha512(content).hexdigest())
    _write(folder, name, content)
    return Proof(name, hashlib.sha512(content).hexdigest())


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
