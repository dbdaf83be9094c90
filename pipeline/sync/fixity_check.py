"""Fixity check: an archived work is read again and matched with the proof that was kept with it; nothing is written.

For works that came before the pipeline kept digests of its own, the proof is the manifests: BDRC keeps `*manifest*.txt`
in `{RID}.bag/`. They were judged when the bag came; here they are only read, and a line that is none is an error.
"""

import hashlib
import re
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from pathlib import Path

from pipeline.foundation import fixity, guarded
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.fixity import FileFixity, Fixity
from pipeline.foundation.work import Pulse, no_pulse
from pipeline.sync.proof import Proof, folders
from pipeline.sync.readback import Brake, Comparison, Difference, compare
from pipeline.sync.trees import Tree, scan, shown, wrong_at_sight

_NAME = re.compile(r"(?P<tag>tag)?manifest-(?P<algorithm>[A-Za-z0-9_-]+)\.txt")
_LINE = re.compile(r"(?P<digest>[0-9A-Fa-f]+)[ \t]+[*]?(?:\./)?(?P<path>\S.*)")
_ESCAPE = re.compile(r"%(0[AaDd]|25)")
_ENCODING = re.compile(rb"Tag-File-Character-Encoding:[ \t]*([A-Za-z0-9_-]+)")
_ENCODINGS = ("utf-8", "utf-16", "utf-16le", "utf-16be", "us-ascii", "iso-8859-1", "windows-1252")
_ALGORITHMS = {name.replace("_", ""): name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")}
_PAYLOAD = "data/"


class FixityVerdict(StrEnum):
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

    verdict: FixityVerdict
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
        against, known, wrong_proof = kept(folder, work_rid, recorded)
        if known is None:
            verdict = FixityVerdict.FAILED if wrong_proof else FixityVerdict.NO_PROOF
            return Verified(verdict, against, wrong_proof, seconds=time.monotonic() - started)
        found = compare(folder, known, threads=threads, pulse=pulse, brake=brake)
    except OSError as error:
        unreadable = Difference(str(error.filename or folder), f"cannot be read: {error.strerror}")
        return Verified(FixityVerdict.FAILED, wrong=(unreadable,), seconds=time.monotonic() - started)
    every = (*wrong_proof, *found.wrong)
    verdict = FixityVerdict.FAILED if every else FixityVerdict.PASSED
    return Verified(verdict, against, every, found, known.size_bytes, time.monotonic() - started)


@dataclass(frozen=True)
class AtSight:
    """What an archived work is by the proof that the pipeline keeps with it, without a byte of it being read.

    Attributes:
        proof: which; None: no such proof is kept, or none that can be used.
        files: of the payload; without the tag files that are kept beside the proof.
        bytes: of those.
        algorithms: of the digests.
        kept_at: when the proof was written, as far as its file tells, in seconds as `time.time` has them.
        wrong: the names that are missing, of another size, or no files; the proof as well.
    """

    proof: Proof | None
    files: int = 0
    bytes: int = 0
    algorithms: tuple[str, ...] = ()
    kept_at: float = 0
    wrong: tuple[Difference, ...] = ()


def at_sight(folder: Path, work_rid: str, recorded: Proof | None = None) -> AtSight:
    """What the kept proof, and the names and sizes in the archive, tell of a work.

    Args:
        folder: the work in the archive.
        work_rid: the work.
        recorded: as for `verify`.

    Raises:
        OSError: the folder cannot be read.
    """
    name, known, problems = kept(folder, work_rid, recorded)
    last = fixity.digests_name(work_rid)
    if known is None or not name.endswith(f"/{last}"):
        return AtSight(None, wrong=problems)
    tree, tags = scan(folder), name.removesuffix(last)
    wrong = {**dict.fromkeys(known.files.keys() - tree.files.keys(), "is missing"), **wrong_at_sight(tree, known)}
    payload = [file.size_bytes for path, file in known.files.items() if not path.startswith(tags)]
    return AtSight(
        proof=Proof(name, hashlib.sha512(guarded.read_file(folder / name)).hexdigest()),
        files=len(payload),
        bytes=sum(payload),
        algorithms=tuple(known.algorithms),
        kept_at=min((folder / name).stat().st_mtime, time.time()),
        wrong=(*problems, *(Difference(shown(path), what) for path, what in sorted(wrong.items()))),
    )


def kept(folder: Path, work_rid: str, recorded: Proof | None) -> tuple[str, Fixity | None, tuple[Difference, ...]]:
    """What an archived work is to be matched with: its name, its content, and what is wrong with the proof itself.

    Args:
        folder: the work in the archive.
        work_rid: the work.
        recorded: what the record says of the kept digests.

    Raises:
        OSError: the folder cannot be read.
    """
    if folder.is_symlink() or not folder.is_dir():
        return "", None, (Difference(str(folder), "is not in the archive"),)
    tree = scan(folder)
    wrong: list[Difference] = []
    latest_first = list(takewhile(tree.folders.__contains__, folders(work_rid)))[::-1]
    names = [name for kept in latest_first if (name := f"{kept}/{fixity.digests_name(work_rid)}") in tree.files]
    if name := recorded.name if recorded else next(iter(names), ""):
        known, problem = _digests(folder / name, work_rid, recorded)
        if problem:
            wrong.append(Difference(name, problem))
        if known is not None:
            return name, known, tuple(wrong)
    below = next((one for one in latest_first if any(_is_manifest(name, one) for name in tree.files)), "")
    if not below:
        return "", None, tuple(wrong)
    try:
        return f"{below}/manifest-*.txt", _read_manifests(folder, below, tree, work_rid=work_rid), tuple(wrong)
    except _Unreadable as error:
        return below, None, (*wrong, Difference(below, str(error)))


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
    foreign = set(known.algorithms) - hashlib.algorithms_available
    if known.work_rid != work_rid or foreign or not known.files:
        return None, "the kept digests are not this work's"
    return known, ""


class _Unreadable(Exception):
    """A kept manifest cannot be read."""


def _read_manifests(work: Path, kept: str, tree: Tree, *, work_rid: str) -> Fixity:
    """What the manifests in `kept` say of the work, in every known algorithm; sizes are those in the archive.

    Raises:
        _Unreadable: a manifest is not text, or a line of it is none; or no algorithm is known.
        OSError: a manifest cannot be read.
    """
    digests: dict[str, dict[str, str]] = {}
    finder = _Finder(tree)
    encoding = _encoding(work / kept / "bagit.txt")
    for name in sorted(name for name in tree.files if _is_manifest(name, kept)):
        match = _NAME.fullmatch(name.rpartition("/")[2])
        assert match is not None
        algorithm = _ALGORITHMS.get(re.sub(r"[^a-z0-9]", "", match["algorithm"].lower()))
        if algorithm is None:
            continue
        for digest, path in _entries(work / name, encoding, length=hashlib.new(algorithm).digest_size * 2):
            if match["tag"]:
                told = f"{kept}/{path}"
            elif path.startswith(_PAYLOAD):
                told = path.removeprefix(_PAYLOAD)
            else:
                raise _Unreadable(f"{name}: {path[:200]!r} is not in {_PAYLOAD}")
            digests.setdefault(finder.name(told), {})[algorithm] = digest
    if not digests:
        raise _Unreadable(f"{kept}: no manifest of a known algorithm")
    files = {name: FileFixity(tree.files.get(name, 0), found) for name, found in digests.items()}
    return Fixity(work_rid, "manifest", files)


def _is_manifest(name: str, folder: str) -> bool:
    above, _, last = name.rpartition("/")
    return above == folder and _NAME.fullmatch(last) is not None


def _encoding(declaration: Path) -> str:
    """The encoding that bagit.txt declares, if it was kept and is one of those in use; else UTF-8."""
    try:
        match = _ENCODING.search(guarded.read_file(declaration)[:4096])
    except FileNotFoundError:
        match = None
    declared = match[1].decode().lower() if match else ""
    return declared if declared in _ENCODINGS else "utf-8"


def _entries(manifest: Path, encoding: str, *, length: int) -> Iterator[tuple[str, str]]:
    try:
        text = guarded.read_file(manifest).decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _Unreadable(f"{manifest.name} is no text in {encoding}: {error.reason}") from error
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or len(match["digest"]) != length:
            raise _Unreadable(f"{manifest.name}, line {number}: {line[:120]!r} is no digest with a name")
        yield match["digest"].lower(), match["path"]


class _Finder:
    """Names in manifests to names on disk: as written, else percent-decoded, else what is the same in NFC."""

    def __init__(self, tree: Tree) -> None:
        self._files = tree.files
        self._composed: dict[str, list[str]] = {}
        for name in tree.files:
            self._composed.setdefault(unicodedata.normalize("NFC", name), []).append(name)

    def name(self, path: str) -> str:
        """The file meant, as it is called on disk; `path` decoded where there is none."""
        decoded = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), path)
        for name in (path, decoded):
            if name in self._files:
                return name
        same = self._composed.get(unicodedata.normalize("NFC", decoded), [])
        return same[0] if len(same) == 1 else decoded
