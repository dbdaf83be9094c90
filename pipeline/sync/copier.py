"""The built-in copier: a work into the archive without a script.

    {shelf}/.{RID}.part/   what is being brought: written, flushed, read back and matched under its own name in here
    {shelf}/{RID}/         the work: a file gets its name here when all that is brought with it is proved and durable

A work that the archive does not have gets its name by one rename; what is added to one that is there, file by file.
Killed, the next call goes on with what lies in the hidden folder, once it is read; the bundled script uses the same.
"""

import os
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.foundation import abilities, durable, failpoints, guarded
from pipeline.foundation.fixity import FileFixity
from pipeline.foundation.work import Pulse
from pipeline.sync.copying import Job, Outcome, bring
from pipeline.sync.trees import folders, scan

_OWN = stat.S_IRWXU


def hidden(folder: Path) -> Path:
    """Where the copier of the work that belongs at `folder` writes."""
    return folder.with_name(f".{folder.name}.part")


def copy(work_dir: Path, folder: Path, files: Mapping[str, FileFixity], *, threads: int = 0, pulse: Pulse) -> Outcome:
    """Write files of a work into the hidden folder beside `folder`, and prove them there; `publish` is the next.

    Args:
        work_dir: the work in staging.
        folder: the work's place in the archive.
        files: what is to be brought, with its digests; `folder` has nothing under these names.
        threads: how many files at a time; 0 = as many as suit the machine.
        pulse: called several times a second with (bytes proved, bytes in all); it may raise to stop, which is safe.

    Raises:
        OSError: staging could not be read, or the archive not written; what is complete stays in the hidden folder.
    """
    part = hidden(folder)
    durable.make_folders(part.parent)
    if part.is_symlink() or (part.exists() and not part.is_dir()):
        failpoints.see_allowed()
        part.unlink()  # nothing but the copiers' own has this name
    _make(work_dir, part)
    abilities.set_mode(part, _OWN)
    with guarded.ours(part):  # whoever could write in it could change what is proved there
        pass
    wanted = folders(work_dir)
    there = _tidied(part, files, wanted)
    for name in sorted(wanted):
        _make(work_dir / name, part / name)
    jobs = [Job(name, expected, there=name in there) for name, expected in sorted(files.items())]
    return bring(work_dir, part, jobs, threads=threads, pulse=pulse)


def publish(work_dir: Path, folder: Path) -> None:
    """Give what `copy` has brought its names in the archive, durably; the hidden folder is gone then.

    Raises:
        FileExistsError: somebody has put something else there meanwhile.
        OSError: it could not be renamed, or not be made durable.
    """
    part = hidden(folder)
    names = ["", *sorted(folders(work_dir))]
    for name in names:
        _date(work_dir / name, part / name)
    _make_names_durable(part, names)
    if not os.path.lexists(folder):
        durable.publish(part, folder)
        return
    for name in _merged(part, folder):
        durable.fsync_folder(folder / name)
    sweep(folder)


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


def brought_bytes(folder: Path) -> int:
    """What a killed copier has left to go on with, at most."""
    part = hidden(folder)
    return sum(scan(part).files.values()) if part.is_dir() and not part.is_symlink() else 0


def sweep(folder: Path) -> None:
    """Take away what a killed copier left of a work of which nothing is missing any more."""
    part = hidden(folder)
    if part.is_dir() and not part.is_symlink():
        failpoints.see_allowed()
        _open_up(part)
        guarded.remove_tree(part)


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


def _tidied(part: Path, files: Mapping[str, FileFixity], wanted: Collection[str]) -> set[str]:
    """Leave in the hidden folder only what may be of use; returns the files whose size is right."""
    _open_up(part)
    tree = scan(part)
    there = {name for name, size in tree.files.items() if name in files and files[name].size_bytes == size}
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
