"""What the archive gives way with: files are moved aside on the same file system, and kept; nothing is deleted.

    {share}/.replaced/{RID}/{date and time, UTC}/…    other content that an operator's word let the bag replace
    {share}/.replaced/{RID}/proved-wrong/…            the last copy of ours, not committed, that was proved wrong

A shelf is two digits, a work lies on a shelf: nothing takes `.replaced` for either. What is in progress is in a journal
beside the work in staging, written before the act, so that a call that was killed is finished by the next one.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline.foundation import durable, failpoints

logger = logging.getLogger(__name__)

FOLDER, _PROVED_WRONG = ".replaced", "proved-wrong"


@dataclass
class ArchiveJournal:
    """What this pipeline has done with a work's archive copy since the work was unpacked.

    Attributes:
        file: where it is kept; it goes with the work's staging folder.
        ours: names that the archive did not have before something was written for this work.
        replaced: names that an operator's word lets the bag replace.
        to: where those are moved; empty as long as there are none.
    """

    file: Path
    ours: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    to: str = ""

    @classmethod
    def load(cls, file: Path) -> "ArchiveJournal":
        """The journal, empty where none was begun; one that cannot be read is none, which is the careful side."""
        try:
            facts = json.loads(file.read_bytes())
            return cls(file, set(facts["ours"]), set(facts["replaced"]), str(facts["to"]))
        except FileNotFoundError:
            return cls(file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read, and is begun again: %s", file, error)
            return cls(file)

    def wrote(self, names: Iterable[str]) -> None:
        """Note, before they are written, names that the archive does not have."""
        if not self.ours.issuperset(names):
            self.ours.update(names)
            self._save()

    def may_replace(self, names: Iterable[str], *, below: Path) -> None:
        """Note, before they are moved, names that an operator lets the bag replace."""
        if not self.to or not self.replaced.issuperset(names):
            self.to = self.to or str(_new_folder(below))
            self.replaced.update(names)
            self._save()

    def _save(self) -> None:
        durable.write_json(self.file, {"to": self.to, "replaced": sorted(self.replaced), "ours": sorted(self.ours)})


def place(folder: Path) -> Path:
    """Where what gives way is kept, for the work that lies at `folder`."""
    return folder.parent.parent / FOLDER / folder.name


def move_replaced(folder: Path, journal: ArchiveJournal, names: Iterable[str]) -> None:
    """Move other content of the archive copy at `folder` to where the journal says; what is moved already is left.

    Raises:
        OSError: something could not be moved; the rest is where it was, or there.
    """
    _move(folder, Path(journal.to), names, durable.rename_new)


def move_wrong(folder: Path, names: Iterable[str]) -> Path:
    """Move files that are ours and were proved wrong out of the archive copy; one of each name is kept.

    However often a failing disk makes us write a file again, it fills no second place with wrong copies.

    Raises:
        OSError: something could not be moved.
    """
    below = place(folder) / _PROVED_WRONG
    _move(folder, below, names, _replace)
    return below


def _replace(source: Path, target: Path) -> None:
    failpoints.see_allowed()
    os.replace(source, target)


def _move(folder: Path, below: Path, names: Iterable[str], rename: Callable[[Path, Path], None]) -> None:
    changed = set()
    for name in sorted(names):
        source, target = folder / name, below / name
        if os.path.lexists(source):
            durable.make_folders(target.parent)
            rename(source, target)
            changed |= {source.parent, target.parent}
    for path in changed:
        durable.fsync_folder(path)


def _new_folder(below: Path) -> Path:
    """A name of its own for a replacement that begins now; it is made with its first file."""
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H.%M.%SZ}"
    number = 1
    while (folder := below / (stamp if number == 1 else f"{stamp}-{number}")).exists():
        number += 1
    return folder
