"""Fixity check: an archived work is read again and matched with the proof that was kept with it; nothing is written."""

import hashlib
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pipeline.foundation import fixity, guarded
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.fixity import Fixity
from pipeline.foundation.work import Pulse, no_pulse
from pipeline.sync import kept_manifests
from pipeline.sync.proof import Proof, numbered
from pipeline.sync.readback import Brake, Comparison, Difference, compare
from pipeline.sync.trees import Tree, scan


class Verdict(StrEnum):
    """What a fixity check found."""

    PASSED = "passed"
    FAILED = "failed"
    NO_PROOF = "no-proof"
    BUSY = "busy"


@dataclass(frozen=True)
class Verified:
    """What an archived work was found to be.

    Attributes:
        verdict: passed, failed, or no proof was kept.
        against: what it was matched with: names of the kept proof or the folder of the kept manifests.
        wrong: everything that is missing, differs or cannot be read; the proof itself as well.
        found: the comparison with the proof.
        bytes: size of the files that were to be read.
        seconds: how long it took.
    """

    verdict: Verdict
    against: str = ""
    wrong: tuple[Difference, ...] = ()
    found: Comparison = field(default_factory=Comparison)
    bytes: int = 0
    seconds: float = 0


def verify(
    folder: Path,
    *,
    work_rid: str,
    recorded: Proof | None = None,
    brake: Brake | None = None,
    threads: int = 0,
    pulse: Pulse = no_pulse,
) -> Verified:
    """Read every file of an archived work and match it, in every algorithm, with the proof kept beside it.

    The proof is the digests that the pipeline keeps, and where it kept none, the bag's manifests. Names that the proof
    does not have are told, and not wrong.

    Args:
        folder: the work in the archive.
        work_rid: the work.
        recorded: what the record says of the kept digests; those then have to be there, unchanged.
        brake: slows the reading down.
        threads: how many files are read at a time; 0 = as many as there are processors.
        pulse: as for `compare`; it may raise.
    """
    started = time.monotonic()
    try:
        if folder.is_symlink() or not folder.is_dir():
            wrong = Difference(str(folder), "is not in the archive")
            return Verified(Verdict.FAILED, wrong=(wrong,))
        tree = scan(folder)
        against, known, wrong_proof = _proof(folder, tree, work_rid, recorded)
        if known is None:
            verdict = Verdict.FAILED if wrong_proof else Verdict.NO_PROOF
            return Verified(verdict, against, wrong_proof, seconds=time.monotonic() - started)
        found = compare(folder, known, threads=threads, pulse=pulse, brake=brake)
    except OSError as error:
        unreadable = Difference(str(error.filename or folder), f"cannot be read: {error.strerror}")
        return Verified(Verdict.FAILED, wrong=(unreadable,), seconds=time.monotonic() - started)
    every = (*wrong_proof, *found.wrong)
    verdict = Verdict.FAILED if every else Verdict.PASSED
    return Verified(verdict, against, every, found, known.size_bytes, time.monotonic() - started)


def _proof(
    folder: Path, tree: Tree, work_rid: str, recorded: Proof | None
) -> tuple[str, Fixity | None, tuple[Difference, ...]]:
    """What the work is to be matched with: its name, its content, and what is wrong with the proof itself."""
    wrong: list[Difference] = []
    name = recorded.name if recorded else _latest(tree, work_rid)
    if name:
        known, problem = _digests(folder / name, work_rid, recorded)
        if problem:
            wrong.append(Difference(name, problem))
        if known is not None:
            return name, known, tuple(wrong)
    kept = kept_manifests.kept_folder(work_rid, tree)
    if not kept:
        return "", None, tuple(wrong)
    try:
        return f"{kept}/manifest-*.txt", kept_manifests.read(folder, kept, tree, work_rid=work_rid), tuple(wrong)
    except kept_manifests.Unreadable as error:
        return kept, None, (*wrong, Difference(kept, str(error)))


def _latest(tree: Tree, work_rid: str) -> str:
    """The name of the digests that were kept last; empty if none were."""
    found, number = "", 1
    while (folder := numbered(work_rid, number)) in tree.folders:
        name = f"{folder}/{fixity.digests_name(work_rid)}"
        found = name if name in tree.files else found
        number += 1
    return found


def _digests(file: Path, work_rid: str, recorded: Proof | None) -> tuple[Fixity | None, str]:
    """The kept digests, if they can be trusted; and what is wrong with them."""
    if not file.is_file():
        return None, "the kept digests are missing"
    if recorded and hashlib.sha512(guarded.read_file(file)).hexdigest() != recorded.sha512:
        return None, "the kept digests are not those that the record knows"
    try:
        known = fixity.load(file)
    except StagingDamaged:
        return None, "the kept digests cannot be read"
    foreign = {name for digests in known.files.values() for name in digests.digests} - hashlib.algorithms_available
    if known.work_rid != work_rid or foreign or not known.files:
        return None, "the kept digests are not this work's"
    return known, ""
