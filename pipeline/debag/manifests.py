"""Reads manifests and tag manifests (RFC 8493, 2.1.3, 2.2.1, 2.4): line by line, in memory that is bounded.

A bag may have a manifest for each algorithm, each of them as long as the bag has files. A name is held once,
however many manifests have it.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.tag_files import LONGEST_LINE, MOST_FAULTS, is_unsafe, lines, plain_path, unescape

WEAK_ALGORITHMS = frozenset({"md5", "sha1"})
_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_224", "sha3_256", "sha3_384", "sha3_512")
ALGORITHMS = {name.replace("_", ""): name for name in (*_HASHES, "blake2b", "blake2s")}
ALGORITHMS |= {"blake2b512": "blake2b", "blake2s256": "blake2s"}
"""hashlib's names, by the names in manifests' file names: lower case, only letters and digits (2.4)."""

_MANIFEST_NAME = re.compile(r"(?P<tag>tag)?manifest-(?P<algorithm>[A-Za-z0-9_-]+)\.txt")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_ODD = ("%", "\r", "\\", "\0", "/../", "/..\n")


@dataclass(slots=True)
class Manifest:
    """A manifest or tag manifest.

    Attributes:
        file_name: such as `manifest-sha512.txt`.
        algorithm: hashlib's name; empty if the algorithm is not known.
        of_tags: whether it is a tag manifest.
        entries: digests, lower-case hexadecimal, by path as it is written (once matched: by the path in the zip).
        raw: by path in `entries`, how it was written before percent-decoding, where that differs.
        missing: paths that it lists and the zip does not have; they stay in `entries`.
        whole: whether all of it could be read; else nothing can be said of what it does not list.
    """

    file_name: str
    algorithm: str
    of_tags: bool
    entries: dict[str, str] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    whole: bool = False


def manifest_of(path: str) -> Manifest | None:
    """The manifest that a tag file is by its name, with nothing in it; None: it is none."""
    match = _MANIFEST_NAME.fullmatch(path)
    if match is None:
        return None
    algorithm = re.sub(r"[^a-z0-9]", "", match["algorithm"].lower())
    return Manifest(path, ALGORITHMS.get(algorithm, ""), match["tag"] is not None)


class Names:
    """Names of files: those of a bag in the zip, and others that its manifests list; each held once.

    Args:
        most: so many entries may all manifests of a zip have together.
        most_bytes: so much memory may the names take that the zip does not have.
    """

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self.left = most
        self._bytes_left = most_bytes
        self._known: dict[str, str] = {}

    def begin(self, files: Iterable[str]) -> None:
        """Begin with another bag, which has these names."""
        self._known = {path: path for path in files}

    def of(self, path: str) -> str:
        """The name, as it is held already."""
        known = self._known.get(path)
        if known is None:
            self._known[path] = known = path
            self._bytes_left -= path.__sizeof__()
        return known

    @property
    def full(self) -> bool:
        """Whether no more should be read."""
        return self._bytes_left < 0


class ManifestReader:
    """2.1.3: fills in the entries of a manifest; every line that is none is a fault, up to a thousand of them.

    Args:
        manifest: what to fill in.
        version: of BagIt.
        say: takes what is wrong with it.
        names: names that are known already.
        most_entries: what has more lines is no manifest of this bag.
    """

    def __init__(
        self, manifest: Manifest, version: tuple[int, int], say: Findings, *, names: Names, most_entries: int
    ) -> None:
        self.manifest = manifest
        self.version = version
        self.say = say
        self.names = names
        self.most_entries = min(most_entries, names.left)
        self._length = hashlib.new(manifest.algorithm).digest_size * 2 if manifest.algorithm else 0
        self._plain = re.compile(f"^([0-9a-f]{{{self._length}}})  (data/[^\\n]*\\S|[a-z][a-z0-9.-]*)$", re.MULTILINE)
        self._most_faults = say.count + MOST_FAULTS
        self._prefixed = 0
        self._before = 0

    def read(self, blocks: Iterable[str]) -> None:
        """Read it, in blocks of whole lines."""
        self.manifest.whole = True
        for block in blocks:
            if not self._quickly(block) and not self._closely(block):
                self.manifest.whole = False
                break
            self._before += block.count("\n")
        self.names.left -= len(self.manifest.entries)
        if self._prefixed:
            detail = f"{self._prefixed} names have `*` or `./` before them, as md5sum writes it"
            self.say.warn(FaultKind.MD5SUM_PREFIX, detail)

    def _quickly(self, block: str) -> bool:
        """Read lines in which nothing is out of the ordinary, as the bagit package writes them, in a fifth of the time.

        Returns:
            False if there is anything that wants a closer look; nothing was read then.
        """
        entries = self.manifest.entries
        if not self._length or self.names.full or any(odd in block for odd in _ODD) or not block.endswith("\n"):
            return False
        pairs = self._plain.findall(block)
        if len(pairs) != block.count("\n") or len(entries) + len(pairs) > self.most_entries:
            return False
        of = self.names.of
        found = {of(path): digest for digest, path in pairs}
        if len(found) != len(pairs) or not entries.keys().isdisjoint(found):
            return False
        entries.update(found)
        return True

    def _closely(self, block: str) -> bool:
        """Read lines of any kind; False if no more should be read."""
        for number, line in lines(block):
            too_many = len(self.manifest.entries) > self.most_entries or self.names.full
            if too_many or self.say.count > self._most_faults:
                detail = f"not read beyond line {self._before + number}: it can be no manifest of this bag"
            elif len(line) > LONGEST_LINE:
                detail = f"line {self._before + number} is too long, so no more was read"
            else:
                self._line(line, self._before + number)
                continue
            self.say.fault(FaultKind.MANIFEST_MALFORMED, detail)
            return False
        return True

    def _line(self, line: str, number: int) -> None:
        manifest = self.manifest
        parts = line.split(None, 1)
        if len(parts) != 2 or line[0] == "#" or _separator(line, parts[0]) not in " \t":
            comment = line.startswith("#")
            detail = f"line {number} is {'a comment' if comment else 'no digest and path'}: {line[:120]!r}"
            self.say.judge(FaultKind.MANIFEST_MALFORMED, detail, refuse=not comment)
            return
        digest, written = parts
        path = written
        if path[0] in "*." or "%" in path:
            path = plain_path(written)
            self._prefixed += path != written
            if self.version >= (1, 0) and "%" in path:
                written, path = path, unescape(path)
                manifest.raw[path] = written
        if not _HEX.fullmatch(digest) or (self._length and len(digest) != self._length):
            detail = f"line {number}: {digest[:140]!r} is no {manifest.algorithm or 'hexadecimal'} digest"
            self.say.fault(FaultKind.DIGEST_MALFORMED, f"{manifest.file_name}, {detail}", path=path)
        path = self.names.of(path)
        if is_unsafe(path):
            detail = f"{manifest.file_name} names a path outside the bag"
            self.say.fault(FaultKind.MANIFEST_PATH_UNSAFE, detail, path=path)
        elif path in manifest.entries:
            repeated(manifest, path, digest.lower(), self.version, self.say)
        else:
            manifest.entries[path] = digest.lower()


def _separator(line: str, digest: str) -> str:
    """The character after the digest: `str.split` takes more for blanks than a manifest may have."""
    return line[len(digest)] if line.startswith(digest) else line.lstrip(" \t")[len(digest) : len(digest) + 1]


def repeated(manifest: Manifest, path: str, digest: str, version: tuple[int, int], say: Findings) -> None:
    """2.1.3: a manifest names a file a second time; harmless before 1.0 if it gives the same digest."""
    if manifest.entries[path] != digest:
        say.fault(FaultKind.MANIFESTS_DISAGREE, f"{manifest.file_name} gives it two digests", path=path)
    else:
        detail = f"{manifest.file_name} names it more than once"
        say.judge(FaultKind.LISTED_TWICE, detail, refuse=version >= (1, 0), path=path)
