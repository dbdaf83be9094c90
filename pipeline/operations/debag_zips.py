"""The verb `debag`: zips into a folder of works, without AWS and without a database; returns data, prints nothing.

Each zip is unpacked into a hidden folder of the destination, and its works are then renamed into place one by one; a
run that was killed in between is completed by the next.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import debag
from pipeline.debag import Debagged, DebaggedWork, FaultKind, Policy
from pipeline.foundation import durable, fixity, guarded
from pipeline.foundation.errors import Fault, InvalidBag, StagingDamaged, WorkBusy
from pipeline.foundation.work import Pulse, no_pulse
from pipeline.sync.readback import compare


@dataclass(frozen=True)
class Debagging:
    """What became of some zips.

    Attributes:
        works: the works that lie in the destination, verified.
        faults: why zips were refused, or their works not published.
        warnings: what was odd and was accepted.
        already_there: RIDs that lay there before, and are what the zip says.
    """

    works: tuple[DebaggedWork, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    already_there: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 only if nothing is at fault."""
        return 1 if self.faults else 0

    def as_dict(self) -> dict[str, object]:
        """The document of `--json`."""
        return {
            "works": [
                {"rid": work.rid, "path": str(work.path), "files": work.files, "bytes": work.bytes}
                for work in self.works
            ],
            "faults": [fault.as_dict() for fault in self.faults],
            "warnings": [warning.as_dict() for warning in self.warnings],
        }


def debag_zips(
    zips: Sequence[Path], into: Path, *, policy: Policy | None = None, threads: int = 0, pulse: Pulse = no_pulse
) -> Debagging:
    """Verify and unpack zips, so that each work lies at `{into}/{RID}`.

    A work that lies there already is compared, file by file, with the zip's verified digests: the same is success,
    anything else a fault that changes nothing. The works of one zip are published all or none.

    Args:
        zips: the zips; they are only read.
        into: the destination; made if need be.
        policy: limits and switches.
        threads: how many work at once; 0: as many as there are CPUs.
        pulse: called with bytes done and in all, of one zip after the other.

    Raises:
        TransientError: the disk is full, reading or writing failed, or another process is at work on the same zip.
    """
    outcome = Debagging()
    for given in zips:
        one = _debag_zip(given, into, policy or Policy(), threads, pulse)
        prefix = f"{given.name}: " if len(zips) > 1 else ""
        outcome = Debagging(
            works=outcome.works + one.works,
            faults=outcome.faults + tuple(replace(fault, detail=prefix + fault.detail) for fault in one.faults),
            warnings=outcome.warnings + tuple(replace(fault, detail=prefix + fault.detail) for fault in one.warnings),
            already_there=outcome.already_there + one.already_there,
        )
    return outcome


def _debag_zip(given: Path, into: Path, policy: Policy, threads: int, pulse: Pulse) -> Debagging:
    bag_zip = given.resolve()
    if not bag_zip.is_file():
        detail = "no plain file" if bag_zip.exists() else "no such file"
        return Debagging(faults=(Fault(str(FaultKind.NOT_A_ZIP), path=str(given), detail=detail),))
    hidden = _hidden_folder(bag_zip, into)
    try:
        if not os.path.lexists(hidden):
            debag.unpack(bag_zip, into=hidden, policy=policy, threads=threads, pulse=pulse)
        with _locked(hidden):
            return _publish(hidden, into)
    except InvalidBag as refusal:
        return Debagging(faults=refusal.faults, warnings=refusal.warnings)


def _hidden_folder(bag_zip: Path, into: Path) -> Path:
    """Where a zip is unpacked before its works are renamed: of another zip, or a changed one, it is another folder."""
    facts = bag_zip.stat()
    identity = f"{bag_zip}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}"
    return into / f".debag-{hashlib.sha256(identity.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with guarded.opened(folder) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkBusy(f"another process is publishing from {folder}") from error
        yield


def _publish(hidden: Path, into: Path) -> Debagging:
    """Rename the works of a hidden folder into place: all of them, or none if one is there and differs."""
    made = _read(hidden)
    there, faults = [], []
    for work in made.works:
        if not os.path.lexists(into / work.rid):
            continue
        difference = _difference(into / work.rid, work.digests)
        if difference:
            detail = f"{into / work.rid} is not what the zip holds: {difference}; nothing was changed"
            faults.append(Fault(str(FaultKind.DESTINATION_EXISTS), bag=work.rid, path=work.rid, detail=detail))
        elif os.path.lexists(work.path):
            there.append(work.rid)
    if not faults:
        for work in made.works:
            if work.rid not in there and os.path.lexists(work.path):
                durable.rename_to_free(work.path, into / work.rid)
        durable.fsync_folder(into)
    debag.discard(hidden)
    if faults:
        return Debagging(faults=tuple(faults), warnings=made.warnings)
    works = tuple(replace(work, path=into / work.rid) for work in made.works)
    return Debagging(works=works, warnings=made.warnings, already_there=tuple(there))


def _read(hidden: Path) -> Debagged:
    """What the hidden folder was made of; works that a killed run has published already need not be in it.

    Raises:
        StagingDamaged: the folder is not what debag makes; it was removed, so the next run begins anew.
    """
    try:
        made = debag.load_marker(hidden, whole=False)
        _check_present(made, hidden.parent)
    except StagingDamaged as error:
        debag.discard(hidden)
        raise StagingDamaged(f"{error}; it was removed", by_hand="the same again") from error
    return made


def _check_present(made: Debagged, into: Path) -> None:
    """Every work is in the hidden folder, or was published.

    Raises:
        StagingDamaged: one is in neither place.
    """
    for work in made.works:
        if not os.path.lexists(work.path) and not os.path.lexists(into / work.rid):
            raise StagingDamaged(f"{work.path} is gone")


def _difference(folder: Path, digests: Path) -> str:
    """In what a folder differs from verified digests, in words; empty if it is the same, byte for byte."""
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        return "it is no folder"
    found = compare(folder, fixity.load(digests))
    return next(iter([*map(str, found.wrong), *(f"{name} is not in the zip" for name in found.extra)]), "")
