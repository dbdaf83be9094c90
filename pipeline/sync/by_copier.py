"""The archive copy made by the built-in copier: proved before any file of it has its name.

    {shelf}/.{RID}.part/   what is being brought: written, flushed, read back and matched under its own name in here
    {shelf}/{RID}/         the work: a file gets its name here when all that is brought with it is proved and durable

A work that the archive does not have gets its name by one rename; what is added to one that is there, file by file.
Killed, the next call goes on with what lies in the hidden folder, once it is read; the bundled script uses the same.
A work that was unpacked in the archive and that the archive does not have is not copied at all: see `one_copy`.
"""

import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.foundation import abilities, durable, failpoints, guarded, removal
from pipeline.foundation.fixity import Fixity
from pipeline.sync import one_copy
from pipeline.sync.audit import PASSED, Audits, audited, none_run
from pipeline.sync.bringing import bring
from pipeline.sync.call import Call
from pipeline.sync.narrowing import SyncOptions
from pipeline.sync.readback import Comparison, Difference
from pipeline.sync.trees import scan

_OWN = stat.S_IRWXU


def run(call: Call, known: Fixity, before: Comparison, chosen: SyncOptions) -> tuple[Comparison, Path | None, Audits]:
    """Audit the work, copy what is missing, prove it, publish it, audit the copy.

    Where all is there already, nothing is done; unless an audit of an earlier try did not end well, or an operator
    asked for the step again.

    Args:
        call: the work, and where it lies.
        known: its verified digests.
        before: what the archive has of it, read just now; all of it matches.
        chosen: the options.

    Returns:
        the proof of the whole copy, the log of the audits if there is one, and what became of them.

    Raises:
        AuditFailed: a test of the audit tool failed.
        SyncFailed: the audit tool took too long, or broke off.
        ReadBackFailed: what was written came back as something else; nothing of it was published.
        StagingDamaged: staging is not what debag left; the same.
        NoRoom: the archive is full; nothing was written.
        OSError: the system refused something; what is complete stays in the hidden folder.
    """
    if not (before.missing or call.has_to_run):
        return before, None, none_run("nothing was to be copied")
    if before.missing and not one_copy.fits(call):
        missing = sum(known.files[name].size_bytes for name in before.missing)
        call.see_room(missing - _brought_bytes(call.folder))
    passed = call.moved and call.unfinished.exists()  # it would not have its name otherwise
    with audited(call, chosen) as auditor:
        if passed:
            auditor.audits["pre"] = PASSED
        else:
            auditor.run("pre", call.source)
        proof = _brought(call, known, before)
        auditor.run("post", call.folder)
    return proof, auditor.log, auditor.audits


def _brought(call: Call, known: Fixity, before: Comparison) -> Comparison:
    """Copy, prove, publish; returns the proof of the whole copy."""
    if not before.missing:
        return before
    if one_copy.fits(call) and (published := one_copy.published(call, known)) is not None:
        return published
    files = replace(known, files={name: known.files[name] for name in before.missing})
    folders = sorted(scan(call.work_dir, sizes=False).folders)
    brought, damaged = _copy(call, files, folders)
    if damaged:
        raise call.staging_changed(damaged)
    proof = replace(
        brought,
        matched=before.matched + brought.matched,
        extra=before.extra,
        algorithms=tuple(known.algorithms),
        cache_dropped=brought.cache_dropped and (before.cache_dropped or not before.matched),
    )
    if not proof.whole:
        raise call.not_proved(
            proof,
            "what was written came back from the archive's disk as something else",
            kept=f"nothing of it was published; it is in {_hidden(call.folder)}",
        )
    call.check_place()
    call.journal.wrote(before.missing)
    _publish(call.work_dir, call.folder, folders)
    return proof


def _hidden(folder: Path) -> Path:
    """Where the copier of the work that belongs at `folder` writes."""
    return folder.with_name(f".{folder.name}.part")


def _copy(call: Call, files: Fixity, folders: Sequence[str]) -> tuple[Comparison, list[Difference]]:
    """Write files of a work into the hidden folder beside its place, and prove them there; `_publish` is the next.

    What is complete stays in the hidden folder, whatever happens. Returns what `bringing.bring` does.
    """
    part = _hidden(call.folder)
    durable.make_folders(part.parent)
    failpoints.see_allowed()  # made late, after another has brought the work home, nobody would sweep it
    if part.is_symlink() or (part.exists() and not part.is_dir()):
        part.unlink()  # nothing but the copiers' own has this name
    _make(call.work_dir, part)
    abilities.set_mode(part, _OWN)
    with guarded.ours(part):  # whoever could write in it could change what is proved there
        pass
    there = _tidied(part, files, folders)
    for name in folders:
        _make(call.work_dir / name, part / name)
    return bring(call.work_dir, part, files, there=there, threads=call.threads, pulse=call.pulse)


def _publish(work_dir: Path, folder: Path, folders: Sequence[str]) -> None:
    """Give what `_copy` has brought its names in the archive, durably; of the hidden folder folders are left at most.

    Raises:
        FileExistsError: somebody has put something else there meanwhile.
        OSError: it could not be renamed, or not be made durable.
    """
    part = _hidden(folder)
    names = ["", *folders]
    for name in names:
        _date(work_dir / name, part / name)
    _make_names_durable(part, names)
    if not os.path.lexists(folder):
        durable.publish(part, folder)
        return
    for name in _merged(part, folder):
        durable.fsync_folder(folder / name)


def _merged(part: Path, folder: Path) -> list[str]:
    """Move what is in `part` to `folder`; returns the folders there that got something new."""
    changed, waiting = [], [""]
    while waiting:
        below = waiting.pop()
        changed.append(below)
        for entry in sorted(os.listdir(part / below)):
            name = os.path.join(below, entry)
            if (part / name).is_dir() and (folder / name).is_dir() and not (folder / name).is_symlink():
                waiting.append(name)
            else:
                durable.rename_new(part / name, folder / name)
    return changed


def _brought_bytes(folder: Path) -> int:
    """What a killed copier has left to go on with, at most."""
    part = _hidden(folder)
    return sum(scan(part).files.values()) if part.is_dir() and not part.is_symlink() else 0


def sweep(folder: Path) -> None:
    """Take away what a killed copier, or the bundled script, left of a work of which nothing is missing any more."""
    part = _hidden(folder)
    for left in (part, part.with_suffix(".probe")):
        if left.is_symlink() or left.is_file():
            failpoints.see_allowed()
            left.unlink()
    if part.is_dir():
        failpoints.see_allowed()
        _open_up(part)
        removal.remove_tree(part)


def _make(source: Path, target: Path) -> None:
    """Make a folder with the mode of another, for a share that takes a mode then and never again; ours to write in."""
    target.mkdir(mode=stat.S_IMODE(source.stat().st_mode) & 0o755 | _OWN, exist_ok=True)


def _date(source: Path, target: Path) -> None:
    """Give a folder the mode and times of another."""
    status = source.stat()
    abilities.set_times(target, status)
    abilities.set_mode(target, stat.S_IMODE(status.st_mode))


def _make_names_durable(root: Path, names: Sequence[str]) -> None:
    """Make the names in these folders durable, with one call where that is enough."""
    if durable.synced_at_once(root):
        durable.sync_file_system(root)
        return
    for name in names:
        durable.fsync_folder(root / name)


def _tidied(part: Path, files: Fixity, wanted: Collection[str]) -> set[str]:
    """Leave in the hidden folder only what may be of use; returns the files whose size is right."""
    _open_up(part)
    tree = scan(part)
    known = files.files
    there = {name for name, size in tree.files.items() if name in known and known[name].size_bytes == size}
    for name in (*tree.files, *tree.others):
        if name not in there:
            failpoints.see_allowed()
            (part / name).unlink()
    for name in sorted(tree.folders - set(wanted), reverse=True):
        (part / name).rmdir()
    return there


def _open_up(part: Path) -> None:
    """Let us write into the folders of a copy that was killed after they got the modes of the work's own."""
    abilities.set_mode(part, _OWN)
    for below, names, _ in os.walk(part):
        for name in names:
            path = Path(below, name)
            if not path.is_symlink():
                abilities.set_mode(path, _OWN)
