"""What lies in a folder, by name; links are never followed."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

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


def scan(folder: Path) -> Tree:
    """Everything in `folder`.

    Raises:
        OSError: it, or a folder in it, cannot be read.
    """
    tree = Tree()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                name = below + entry.name
                if entry.is_dir(follow_symlinks=False):
                    tree.folders.add(name)
                    waiting.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    tree.files[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    mode = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                    tree.others[name] = _KINDS.get(mode, "no regular file")
    return tree


def folders(folder: Path) -> set[str]:
    """The folders below `folder`; much cheaper than `scan` where there are many files.

    Raises:
        OSError: it, or a folder in it, cannot be read.
    """
    found: set[str] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            names = [below + entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        found.update(names)
        waiting += [f"{name}/" for name in names]
    return found


def shown(name: str) -> str:
    """A name as records and terminals can carry it: bytes that are not UTF-8 become escapes, the rest stays."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
