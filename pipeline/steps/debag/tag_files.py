"""Reads tag files: the declaration, tagged metadata, manifests and fetch.txt (RFC 8493, 2.1 to 2.3).

Parsers of our own: the bagit package takes 0.1 s to import, accepts garbage lines, stops percent-decoding after two
matches and needs minutes for a line of 100 MB. Lines end in LF, CR or CRLF and nowhere else: `str.splitlines` would
also cut names at U+0085 or U+2028.
"""

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.steps.debag.faults import FaultKind, Findings

ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "utf-32": "utf-32",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "latin-1": "latin-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1252": "cp1252",
}
VERSIONS = ("0.93", "0.94", "0.95", "0.96", "0.97", "1.0")
_MOST_FAULTS = 1000
_MOST_LABELS = 100_000
WEAK_ALGORITHMS = frozenset({"md5", "sha1"})
ALGORITHMS = {
    "md5": "md5",
    "sha1": "sha1",
    "sha224": "sha224",
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
    "sha3224": "sha3_224",
    "sha3256": "sha3_256",
    "sha3384": "sha3_384",
    "sha3512": "sha3_512",
    "blake2b": "blake2b",
    "blake2b512": "blake2b",
    "blake2s": "blake2s",
    "blake2s256": "blake2s",
}
"""hashlib's names, by the names in manifests' file names: lower case, only letters and digits (2.4)."""

_DECLARATION = re.compile(
    r"BagIt-Version: (?P<version>[0-9]+\.[0-9]+)(?:\r\n|\n|\r)"
    r"Tag-File-Character-Encoding: (?P<encoding>[A-Za-z0-9_.:()-]+)(?:\r\n|\n|\r)?"
)
_MANIFEST_NAME = re.compile(r"(?P<tag>tag)?manifest-(?P<algorithm>[A-Za-z0-9_-]+)\.txt")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_ESCAPE = re.compile(r"%(0[AaDd]|25)")
_UNSAFE_PATH = re.compile(r"\A/|(?:\A|/)\.\.(?:/|\Z)|\A[A-Za-z]:[\\/]|\0|(?:\A|[\\/])\.\.\\|\A\\")


@dataclass(frozen=True)
class Declaration:
    """What `bagit.txt` declares: the version as two numbers, and Python's name of the encoding of the tag files."""

    version: tuple[int, int] = (0, 97)
    encoding: str = "utf-8"


@dataclass(slots=True)
class Manifest:
    """A manifest or tag manifest.

    Attributes:
        file_name: such as `manifest-sha512.txt`.
        algorithm: hashlib's name; empty if the algorithm is not known.
        of_tags: whether it is a tag manifest.
        entries: digests, lower-case hexadecimal, by path as it is written (once matched: by the path in the zip).
        raw: by path in `entries`, how it was written before percent-decoding, where that differs.
        whole: whether all of it could be read; else nothing can be said of what it does not list.
    """

    file_name: str
    algorithm: str
    of_tags: bool
    entries: dict[str, str] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)
    whole: bool = False


def manifest_name(path: str) -> tuple[str, bool] | None:
    """Whether a tag file is a manifest: hashlib's name of its algorithm ("" if unknown), and if it is of tag files."""
    match = _MANIFEST_NAME.fullmatch(path)
    if match is None:
        return None
    algorithm = re.sub(r"[^a-z0-9]", "", match["algorithm"].lower())
    return ALGORITHMS.get(algorithm, ""), match["tag"] is not None


def read_declaration(content: bytes, say: Findings, bag: str) -> Declaration:
    """2.1.1: exactly two lines, in UTF-8, without a byte order mark."""
    path = "bagit.txt"
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        say.fault(FaultKind.DECLARATION_BOM, bag=bag, path=path, detail="begins with a byte order mark")
        content = content.removeprefix(codecs.BOM_UTF8)
    match = _DECLARATION.fullmatch(content.decode("utf-8", "replace"))
    if match is None:
        shown = content[:200].decode("utf-8", "backslashreplace")
        say.fault(FaultKind.DECLARATION_MALFORMED, bag=bag, path=path, detail=f"not its two lines: {shown!r}")
        return Declaration()
    version, encoding = match["version"], ENCODINGS.get(match["encoding"].lower())
    if version not in VERSIONS:
        detail = f"{version[:40]}, known are {', '.join(VERSIONS)}"
        say.fault(FaultKind.VERSION_UNKNOWN, bag=bag, path=path, detail=detail)
        version = "1.0"
    if encoding is None:
        say.fault(FaultKind.ENCODING_UNKNOWN, bag=bag, path=path, detail=f"{match['encoding'][:80]!r}")
    major, minor = version.split(".")
    return Declaration((int(major), int(minor)), encoding or "utf-8")


def decode(content: bytes, declaration: Declaration, say: Findings, bag: str, path: str) -> str | None:
    """2.3: the text of a tag file; None if it is not in the declared encoding, which is a fault."""
    if content.startswith(codecs.BOM_UTF8) and declaration.encoding == "utf-8":
        say.warn(FaultKind.TAG_FILE_BOM, bag=bag, path=path, detail="begins with a byte order mark")
        content = content[len(codecs.BOM_UTF8) :]
    try:
        return content.decode(declaration.encoding)
    except UnicodeDecodeError as error:
        detail = f"is not {declaration.encoding}, as bagit.txt declares: {error.reason} at byte {error.start}"
        say.fault(FaultKind.TAG_FILE_UNDECODABLE, bag=bag, path=path, detail=detail)
        return None


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text tag file that are not blank, with their numbers; one at a time, for there may be millions."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    number, start, end = 1, 0, text.find("\n")
    while end >= 0:
        line = text[start:end]
        if line and not line.isspace():
            yield number, line
        number, start = number + 1, end + 1
        end = text.find("\n", start)
    if not text[start:].isspace() and start < len(text):
        yield number, text[start:]


def read_metadata(text: str, say: Findings, bag: str, path: str) -> list[tuple[str, str]]:
    """2.2.2: the labels and values of bag-info.txt, in order; a line that begins with a blank goes on with the last."""
    found: list[tuple[str, list[str]]] = []
    most = say.count + _MOST_FAULTS
    for number, line in lines(text):
        if say.count > most or len(found) > _MOST_LABELS:
            say.fault(FaultKind.BAG_INFO_MALFORMED, bag=bag, path=path, detail=f"not read beyond line {number}")
            break
        if line[0] in " \t" and found:
            found[-1][1].append(line.strip())
            continue
        label, colon, value = line.partition(":")
        if not colon or not label.strip():
            say.fault(FaultKind.BAG_INFO_MALFORMED, bag=bag, path=path, detail=f"line {number}: {line[:120]!r}")
            continue
        found.append((label.strip(), [value.strip()]))
    return [(label, " ".join(values)) for label, values in found]


def unescape(path: str) -> str:
    """A path of a manifest with `%0A`, `%0D` and `%25` decoded, once (2.1.3)."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), path) if "%" in path else path


def is_unsafe(path: str) -> bool:
    """5.1: whether a path of a manifest leads out of the bag."""
    return _UNSAFE_PATH.search(path) is not None


def read_manifest(
    text: str, manifest: Manifest, version: tuple[int, int], say: Findings, bag: str, *, most_entries: int
) -> None:
    """2.1.3: fill in the entries of a manifest; every line that is none is a fault, up to a thousand of them."""
    length = hashlib.new(manifest.algorithm).digest_size * 2 if manifest.algorithm else 0
    if length and _read_plain(text, manifest, length, most_entries):
        return
    prefixed = 0
    most = say.count + _MOST_FAULTS
    for number, line in lines(text):
        if say.count > most or len(manifest.entries) > most_entries:
            detail = f"not read beyond line {number}: it can be no manifest of this bag"
            say.fault(FaultKind.MANIFEST_MALFORMED, bag=bag, path=manifest.file_name, detail=detail)
            manifest.whole = False
            break
        parts = line.split(None, 1)
        if len(parts) != 2 or line[0] == "#" or _separator(line, parts[0]) not in " \t":
            _odd_line(line, number, manifest, say, bag)
            continue
        digest, written = parts
        path = written
        if path[0] in "*." or "%" in path:
            path = _plain(written)
            prefixed += path != written
            if version >= (1, 0) and "%" in path:
                written, path = path, unescape(path)
                manifest.raw[path] = written
        if not _HEX.fullmatch(digest) or (length and len(digest) != length):
            detail = f"line {number}: {digest[:140]!r} is no {manifest.algorithm or 'hexadecimal'} digest"
            say.fault(FaultKind.DIGEST_MALFORMED, bag=bag, path=path, detail=f"{manifest.file_name}, {detail}")
        _enter(manifest, path, digest.lower(), version, say, bag)
    if prefixed:
        detail = f"{prefixed} names have `*` or `./` before them, as md5sum writes it"
        say.warn(FaultKind.MD5SUM_PREFIX, bag=bag, path=manifest.file_name, detail=detail)


def _read_plain(text: str, manifest: Manifest, length: int, most_entries: int) -> bool:
    """Read a manifest in which nothing is out of the ordinary, as the bagit package writes it, in a fifth of the time.

    Returns:
        False if there is anything that wants a closer look; nothing was read then.
    """
    if any(odd in text for odd in ("%", "\r", "\\", "\0", "/../", "/..\n")) or not text.endswith("\n"):
        return False
    count = text.count("\n")
    if count > most_entries:
        return False
    pattern = f"^([0-9a-f]{{{length}}})  (data/[^\\n]*\\S|[a-z][a-z0-9.-]*)$"
    pairs = re.findall(pattern, text, re.MULTILINE)
    entries = {path: digest for digest, path in pairs}
    if not len(entries) == len(pairs) == count:
        return False
    manifest.entries = entries
    return True


def _separator(line: str, digest: str) -> str:
    """The character after the digest: `str.split` takes more for blanks than a manifest may have."""
    return line[len(digest)] if line.startswith(digest) else line.lstrip(" \t")[len(digest) : len(digest) + 1]


def _plain(path: str) -> str:
    """A path without the prefixes that md5sum leaves: `*` for binary mode, `./` when started in the folder."""
    path = path.removeprefix("*")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def _enter(manifest: Manifest, path: str, digest: str, version: tuple[int, int], say: Findings, bag: str) -> None:
    if is_unsafe(path):
        detail = f"{manifest.file_name} names a path outside the bag"
        say.fault(FaultKind.MANIFEST_PATH_UNSAFE, bag=bag, path=path, detail=detail)
    elif path in manifest.entries:
        repeated(manifest, path, digest, version, say, bag)
    else:
        manifest.entries[path] = digest


def repeated(manifest: Manifest, path: str, digest: str, version: tuple[int, int], say: Findings, bag: str) -> None:
    """2.1.3: a manifest names a file a second time; harmless before 1.0 if it gives the same digest."""
    if manifest.entries[path] != digest:
        detail = f"{manifest.file_name} gives it two digests"
        say.fault(FaultKind.MANIFESTS_DISAGREE, bag=bag, path=path, detail=detail)
    else:
        detail = f"{manifest.file_name} names it more than once"
        say.judge(FaultKind.LISTED_TWICE, refuse=version >= (1, 0), bag=bag, path=path, detail=detail)


def _odd_line(line: str, number: int, manifest: Manifest, say: Findings, bag: str) -> None:
    comment = line.startswith("#")
    detail = f"line {number} is {'a comment' if comment else 'no digest and path'}: {line[:120]!r}"
    say.judge(FaultKind.MANIFEST_MALFORMED, refuse=not comment, bag=bag, path=manifest.file_name, detail=detail)


def read_fetch(text: str, say: Findings, bag: str, *, most_entries: int) -> Iterator[str]:
    """2.2.3: the payload paths that fetch.txt would have somebody fetch."""
    most = say.count + _MOST_FAULTS
    for entries, (number, line) in enumerate(lines(text)):
        if say.count > most or entries > most_entries:
            say.fault(FaultKind.FETCH_MALFORMED, bag=bag, path="fetch.txt", detail=f"not read beyond line {number}")
            break
        parts = line.strip(" \t").split(None, 2)
        if len(parts) != 3 or not (parts[1] == "-" or parts[1].isdigit()):
            detail = f"line {number} is no URL, length and path: {line[:120]!r}"
            say.fault(FaultKind.FETCH_MALFORMED, bag=bag, path="fetch.txt", detail=detail)
        elif is_unsafe(parts[2]):
            detail = "fetch.txt names a path outside the bag"
            say.fault(FaultKind.MANIFEST_PATH_UNSAFE, bag=bag, path=parts[2], detail=detail)
        else:
            yield _plain(parts[2])
