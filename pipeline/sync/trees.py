"""What lies in a folder, by name; links are never followed. And whether staging is still what debag left."""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.foundation import guarded
from pipeline.foundation.fixity import Fixity
from pipeline.foundation.work import human_count

_SAME_TIME_NS = 2_000_000_000
_LOOKED_AT_FIRST = 1000  # files at most, evenly spread
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Tree:
    """The content of a folder; names are relative to it, with `/`, byte for byte as on disk.

    Attributes:
        files: sizes in bytes of the regular files.
        folders: the folders below it.
        others: what is neither, and what it is instead, for a person.
    """

    files: dict[str, int] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    others: dict[str, str] = field(default_factory=dict)


def scan(folder: Path, *, sizes: bool = True) -> Tree:
    """Everything in `folder`; without the sizes of files it is much cheaper where there are many.

    Raises:
        OSError: it, or a folder in it, cannot be read.
    """
    tree = Tree()
    with closing(guarded.below(folder)) as entries:
        for name, entry in entries:
            if entry.is_dir(follow_symlinks=False):
                tree.folders.add(name)
            elif entry.is_file(follow_symlinks=False):
                tree.files[name] = entry.stat(follow_symlinks=False).st_size if sizes else 0
            else:
                mode = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                tree.others[name] = _KINDS.get(mode, "no regular file")
    return tree


def shown(name: str) -> str:
    """A name as records and terminals can carry it: bytes that are not UTF-8 become escapes, the rest stays."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def staging_faults(work_dir: Path, known: Fixity, *, work_rid: str, sizes: bool = True) -> list[str]:
    """In what the work's folder has not exactly the files that debag left, by name and size; bytes are proved later.

    A file that no digest vouches for is a fault as well: the script would carry it into the archive unverified.
    Without sizes it is half as long; whoever reads all files back before one has its name finds those as well.
    """
    return _wrong_from_the_start(work_dir, known, work_rid) or _wrong_files(work_dir, known, sizes=sizes)


def _wrong_from_the_start(work_dir: Path, known: Fixity, work_rid: str) -> list[str]:
    """What makes it senseless to look at files: another work's folder or digests, a link, digests without proof."""
    if known.work_rid != work_rid:
        return [f"the digests are those of {known.work_rid!r}"]
    if work_dir.name != work_rid:
        return [f"{work_dir} is the folder of another work"]
    try:
        mode = work_dir.lstat().st_mode
    except OSError as error:
        return [f"{work_dir}: {error.strerror}"]
    if not stat.S_ISDIR(mode):
        return [f"{work_dir} is {'a link' if stat.S_ISLNK(mode) else 'no folder'}"]
    if not known.files:
        return ["the digests name no file"]
    foreign = [name for name in known.algorithms if name not in hashlib.algorithms_available]
    bare = sorted(name for name, file in known.files.items() if not file.digests)
    return [f"unknown algorithm {name}" for name in foreign] + [f"{name} has no digest" for name in bare]


def _wrong_files(work_dir: Path, known: Fixity, *, sizes: bool) -> list[str]:
    """What is missing, has another size, or should not be there."""
    try:
        tree = scan(work_dir, sizes=sizes)
        expected = {name: file.size_bytes if sizes else 0 for name, file in known.files.items()}
        if not tree.others and tree.files == expected:
            return []
        tree = scan(work_dir)
    except OSError as error:
        return [f"{error.filename}: {error.strerror}"]
    problems = [f"{name} is missing" for name in known.files if name not in tree.files]
    problems += [
        f"{name} has {wrong}"
        for name, file in known.files.items()
        if (wrong := file.differs(tree.files.get(name, file.size_bytes), {}))
    ]
    problems += [f"{shown(name)} has no digest" for name in tree.files if name not in known.files]
    problems += [f"{shown(name)} is {what}" for name, what in tree.others.items()]
    return sorted(problems)


def not_kept(source: Path, copy: Path, names: Sequence[str]) -> tuple[str, ...]:
    """What of the files' metadata a copy does not have, for a person: some shares refuse or forget it.

    Of many files some are looked at first, and all where one of them lacks something: a share treats all alike, and its
    server is asked for each. Times within two seconds are equal: FAT and some servers keep no better ones.

    Raises:
        OSError: a file cannot be looked at.
    """
    some = names[:: max(1, -(-len(names) // _LOOKED_AT_FIRST))]
    if len(some) < len(names) and not any(_lost(source, copy, some)):
        return ()
    times, modes = _lost(source, copy, names)
    files = human_count(len(names), "file")
    return tuple(f"{what} of {many:,} of {files}" for what, many in (("times", times), ("modes", modes)) if many)


def _lost(source: Path, copy: Path, names: Sequence[str]) -> tuple[int, int]:
    """Of how many files the copy has another time, and of how many another mode."""
    times = modes = 0
    wanted_at, has_at = f"{source}/", f"{copy}/"
    for name in names:
        wanted, has = os.lstat(wanted_at + name), os.lstat(has_at + name)
        times += abs(wanted.st_mtime_ns - has.st_mtime_ns) > _SAME_TIME_NS
        modes += stat.S_IMODE(wanted.st_mode) != stat.S_IMODE(has.st_mode)
    return times, modes


def wrong_at_sight(tree: Tree, fixity: Fixity) -> dict[str, str]:
    """The names where something else is than a file of the bag, or one of another size, and what, for a person."""
    above = _folders_above(fixity.files)
    found = {name: f"is {what}" for name, what in tree.others.items() if name in fixity.files or name in above}
    found |= dict.fromkeys(fixity.files.keys() & tree.folders, "is a folder")
    found |= dict.fromkeys(above & tree.files.keys(), "is a file where the bag has a folder")
    return found | {
        name: wrong
        for name, file in fixity.files.items()
        if (wrong := file.differs(tree.files.get(name, file.size_bytes), {}))
    }


def _folders_above(names: Iterable[str]) -> set[str]:
    """All folders that have to be there for files of these names."""
    above: set[str] = set()
    for name in names:
        parent = name.rpartition("/")[0]
        while parent and parent not in above:
            above.add(parent)
            parent = parent.rpartition("/")[0]
    return above
