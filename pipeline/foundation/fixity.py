"""The verified digests of a work: what debag found true of every file, kept so that any later copy can be proved.

One JSON file a work, `{RID}.digests.json`, beside the unpacked work:
`{"work_rid", "verified", "algorithms", "files": {path: {"bytes", "<algorithm>": hex digest, …}}}`. Paths are relative
to the work folder, with `/`, as they are on disk; the tag files kept in `{RID}.bag/` are listed too.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from pipeline.foundation import guarded
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.work import inert_json

ALGORITHMS = frozenset(name for name in hashlib.algorithms_available if not name.startswith("shake"))
"""What this machine can compute and that has a digest of one length."""
_ENTRIES_A_PIECE = 1000


@cache
def hash_makers(algorithms: tuple[str, ...]) -> tuple[Callable[..., Any], ...]:
    """Makers of hash objects; none is for security, so md5 also works where FIPS forbids it."""
    return tuple(
        partial(getattr(hashlib, name, partial(hashlib.new, name)), usedforsecurity=False) for name in algorithms
    )


@dataclass(frozen=True)
class FileFixity:
    """A file's size in bytes and its digests, lower-case hexadecimal, by algorithm as hashlib names it."""

    size_bytes: int
    digests: Mapping[str, str]

    def differs(self, size_bytes: int, digests: Mapping[str, str]) -> str:
        """In what a file of that size and those digests is another, for a person; empty if in nothing that is told."""
        if size_bytes != self.size_bytes:
            return f"{size_bytes:,} bytes instead of {self.size_bytes:,}"
        other = [name for name, digest in digests.items() if self.digests.get(name, digest) != digest]
        return f"other {', '.join(other)}" if other else ""


@dataclass(frozen=True)
class Fixity:
    """The verified digests of one work.

    Attributes:
        work_rid: the work.
        verified: `manifest` when the digests matched the bag's manifests, `none` when they were only computed here.
        files: by path relative to the work folder.
    """

    work_rid: str
    verified: str
    files: Mapping[str, FileFixity]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files.values())

    @property
    def algorithms(self) -> list[str]:
        """The names of all digests that a file of it has, sorted."""
        return sorted({name for file in self.files.values() for name in file.digests})


def digests_name(work_rid: str) -> str:
    """The name of the file that holds a work's digests."""
    return f"{work_rid}.digests.json"


def dumps(fixity: Fixity) -> bytes:
    """The file's content, the same for the same work whenever and wherever it is made."""
    files = ((path, file.size_bytes, sorted(file.digests.items())) for path, file in sorted(fixity.files.items()))
    return b"".join(pieces(fixity.work_rid, fixity.verified, fixity.algorithms, files))


def pieces(
    work_rid: str, verified: str, algorithms: Sequence[str], files: Iterable[tuple[str, int, Iterable[tuple[str, str]]]]
) -> Iterator[bytes]:
    """What `dumps` gives, piece by piece: JSON as `json.dumps(…, indent=0)` has it, which takes ten times as long.

    Args:
        work_rid: the work.
        verified: as of `Fixity`.
        algorithms: sorted.
        files: path, bytes, and digests by algorithm of each; both sorted.
    """
    told = json.dumps(
        {"work_rid": work_rid, "verified": verified, "algorithms": algorithms}, ensure_ascii=False, indent=0
    )
    yield inert_json(f'{told[:-2]},\n"files": {{').encode()
    entries: list[str] = []
    for number, (path, size, digests) in enumerate(files):
        each = "".join([f",\n{encode_basestring(name)}: {encode_basestring(digest)}" for name, digest in digests])
        entries.append(f'{"," if number else ""}\n{encode_basestring(path)}: {{\n"bytes": {size}{each}\n}}')
        if len(entries) == _ENTRIES_A_PIECE:
            yield inert_json("".join(entries)).encode()
            entries.clear()
    yield inert_json(f"{''.join(entries)}\n}}\n}}\n").encode()


def load(path: Path) -> Fixity:
    """Read what `dumps` made.

    Raises:
        StagingDamaged: the file is gone or is not what `dumps` makes.
    """
    try:
        facts = json.loads(guarded.read_file(path))
        files = {
            name: FileFixity(size_bytes=int(entry.pop("bytes")), digests=entry)
            for name, entry in facts["files"].items()
        }
        return Fixity(work_rid=facts["work_rid"], verified=facts["verified"], files=files)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise StagingDamaged(f"{path} cannot be read: {error}") from error
