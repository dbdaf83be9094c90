"""The manifests that were kept with an archived work, read as what it should hold.

For works that came before the pipeline kept digests of its own: BDRC keeps `*manifest*.txt` in `{RID}.bag/`. They were
judged when the bag came; here they are only read, and a line that is none is an error.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.foundation import guarded
from pipeline.foundation.fixity import FileFixity, Fixity
from pipeline.sync.proof import numbered
from pipeline.sync.trees import Tree

_NAME = re.compile(r"(?P<tag>tag)?manifest-(?P<algorithm>[A-Za-z0-9_-]+)\.txt")
_LINE = re.compile(r"(?P<digest>[0-9A-Fa-f]+)[ \t]+[*]?(?:\./)?(?P<path>\S.*)")
_ESCAPE = re.compile(r"%(0[AaDd]|25)")
_ENCODING = re.compile(rb"Tag-File-Character-Encoding:[ \t]*([A-Za-z0-9_-]+)")
_ENCODINGS = ("utf-8", "utf-16", "utf-16le", "utf-16be", "us-ascii", "iso-8859-1", "windows-1252")
_ALGORITHMS = {name.replace("_", ""): name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")}
_PAYLOAD = "data/"


class Unreadable(Exception):
    """A kept manifest cannot be read."""


def kept_folder(work_rid: str, tree: Tree) -> str:
    """The folder of the work's kept manifests, relative to the work: the latest one; empty if there is none."""
    found, number = "", 1
    while (folder := numbered(work_rid, number)) in tree.folders:
        if any(_is_manifest(name, folder) for name in tree.files):
            found = folder
        number += 1
    return found


def read(work: Path, kept: str, tree: Tree, *, work_rid: str) -> Fixity:
    """What the manifests in `kept` say of the work, in every known algorithm; sizes are those in the archive.

    Raises:
        Unreadable: a manifest is not text, or a line of it is none; or no algorithm is known.
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
                raise Unreadable(f"{name}: {path[:200]!r} is not in {_PAYLOAD}")
            digests.setdefault(finder.name(told), {})[algorithm] = digest
    if not digests:
        raise Unreadable(f"{kept}: no manifest of a known algorithm")
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
        raise Unreadable(f"{manifest.name} is no text in {encoding}: {error.reason}") from error
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or len(match["digest"]) != length:
            raise Unreadable(f"{manifest.name}, line {number}: {line[:120]!r} is no digest with a name")
        yield match["digest"].lower(), match["path"]


class _Finder:
    """Names in manifests to names on disk: as written, else percent-decoded, else what is the same in NFC."""

    def __init__(self, tree: Tree) -> None:
        self._files: Mapping[str, int] = tree.files
        self._composed: dict[str, list[str]] = {}

    def name(self, path: str) -> str:
        """The file meant, as it is called on disk; `path` decoded where there is none."""
        if path in self._files:
            return path
        decoded = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), path)
        if decoded in self._files:
            return decoded
        if not self._composed:
            for name in self._files:
                self._composed.setdefault(unicodedata.normalize("NFC", name), []).append(name)
        same = self._composed.get(unicodedata.normalize("NFC", decoded), [])
        return same[0] if len(same) == 1 else decoded
