"""Reads tag files: the declaration, tagged metadata and fetch.txt (RFC 8493, 2.1 to 2.3); manifests: `manifests`.

Parsers of our own: the bagit package takes 0.1 s to import, accepts garbage lines, stops percent-decoding after two
matches and needs minutes for a line of 100 MB. Lines end in LF, CR or CRLF and nowhere else: `str.splitlines` would
also cut names at U+0085 or U+2028.
"""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.debag.faults import FaultKind, Findings

_UNICODE = {"utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "utf-32"}
_OF_ONE_BYTE = {"us-ascii", "ascii", "iso-8859-1", "latin1", "latin-1", "iso-8859-15", "windows-1252"}
ENCODINGS = {label: codecs.lookup(label).name for label in _UNICODE | _OF_ONE_BYTE}
"""Python's names, by those that a declaration may have."""
VERSIONS = ("0.93", "0.94", "0.95", "0.96", "0.97", "1.0")
MOST_FAULTS = 1000
LONGEST_LINE = 1 << 16
"""Characters. No path is longer than 4,096 bytes; a line without end would take all memory."""
_MOST_LABELS = 100_000
_DECLARATION = re.compile(
    r"BagIt-Version: (?P<version>[0-9]+\.[0-9]+)(?:\r\n|\n|\r)"
    r"Tag-File-Character-Encoding: (?P<encoding>[A-Za-z0-9_.:()-]+)(?:\r\n|\n|\r)?"
)
_PREFIX = re.compile(r"\A\*?(?:\./+)*")
_ESCAPE = re.compile(r"%(0[AaDd]|25)")
_UNSAFE_PATH = re.compile(r"\A/|(?:\A|/)\.\.(?:/|\Z)|\A[A-Za-z]:[\\/]|\0|(?:\A|[\\/])\.\.\\|\A\\")


@dataclass(frozen=True)
class Declaration:
    """What `bagit.txt` declares: the version as two numbers, and Python's name of the encoding of the tag files."""

    version: tuple[int, int] = (0, 97)
    encoding: str = "utf-8"


def read_declaration(content: bytes, say: Findings) -> Declaration:
    """2.1.1: exactly two lines, in UTF-8, without a byte order mark."""
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        say.fault(FaultKind.DECLARATION_BOM, "begins with a byte order mark")
        content = content.removeprefix(codecs.BOM_UTF8)
    match = _DECLARATION.fullmatch(content.decode("utf-8", "replace"))
    if match is None:
        shown = content[:200].decode("utf-8", "backslashreplace")
        say.fault(FaultKind.DECLARATION_MALFORMED, f"not its two lines: {shown!r}")
        return Declaration()
    version, encoding = match["version"], ENCODINGS.get(match["encoding"].lower())
    if version not in VERSIONS:
        say.fault(FaultKind.VERSION_UNKNOWN, f"{version[:40]}, known are {', '.join(VERSIONS)}")
        version = "1.0"
    if encoding is None:
        say.fault(FaultKind.ENCODING_UNKNOWN, f"{match['encoding'][:80]!r}")
    major, minor = version.split(".")
    return Declaration((int(major), int(minor)), encoding or "utf-8")


class LineTooLong(Exception):
    """A line of a tag file goes on for longer than any honest one."""


def text_blocks(
    pieces: Iterable[bytes], declaration: Declaration, say: Findings, *, longest: int = LONGEST_LINE
) -> Iterator[str]:
    """2.3: the text of a tag file, in blocks of whole lines that end in LF; only the last line may have no end.

    Args:
        pieces: its bytes.
        declaration: of its bag.
        say: takes what is odd.
        longest: characters that a line may have.

    Raises:
        UnicodeDecodeError: it is not in the declared encoding.
        LineTooLong: it has a line that is too long to be held in memory.
    """
    encoding = "utf-8-sig" if declaration.encoding == "utf-8" else declaration.encoding
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    head = b""
    rest: list[str] = []
    held = 0
    for piece in pieces:
        if len(head) < len(codecs.BOM_UTF8):
            head += piece[: len(codecs.BOM_UTF8)]
        text = decoder.decode(piece)
        whole, end, after = text.rpartition("\n")
        if end:
            yield "".join((*rest, whole, end))
            rest, held = [], 0
        rest.append(after)
        held += len(after)
        if held > longest:
            raise LineTooLong
    if encoding == "utf-8-sig" and head.startswith(codecs.BOM_UTF8):
        say.warn(FaultKind.TAG_FILE_BOM, "begins with a byte order mark")
    last = "".join((*rest, decoder.decode(b"", final=True)))
    if last:
        yield last


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


def read_metadata(text: str, say: Findings) -> list[tuple[str, str]]:
    """2.2.2: the labels and values of bag-info.txt, in order; a line that begins with a blank goes on with the last."""
    found: list[tuple[str, list[str]]] = []
    most = say.count + MOST_FAULTS
    for number, line in lines(text):
        if say.count > most or len(found) > _MOST_LABELS:
            say.fault(FaultKind.BAG_INFO_MALFORMED, f"not read beyond line {number}")
            break
        if line[0] in " \t" and found:
            found[-1][1].append(line.strip())
            continue
        label, colon, value = line.partition(":")
        if not colon or not label.strip():
            say.fault(FaultKind.BAG_INFO_MALFORMED, f"line {number}: {line[:120]!r}")
            continue
        found.append((label.strip(), [value.strip()]))
    return [(label, " ".join(values)) for label, values in found]


def unescape(path: str) -> str:
    """A path of a manifest with `%0A`, `%0D` and `%25` decoded, once (2.1.3)."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), path) if "%" in path else path


def is_unsafe(path: str) -> bool:
    """5.1: whether a path of a manifest leads out of the bag."""
    return _UNSAFE_PATH.search(path) is not None


def read_fetch(blocks: Iterable[str], say: Findings, *, most_entries: int) -> Iterator[str]:
    """2.2.3: the payload paths that fetch.txt would have somebody fetch.

    Args:
        blocks: its text, in blocks of whole lines.
        say: takes what is wrong.
        most_entries: so many lines are read.
    """
    most = say.count + MOST_FAULTS
    entries = before = 0
    for block in blocks:
        for number, line in lines(block):
            entries += 1
            parts = line.strip(" \t").split(None, 2)
            if say.count > most or entries > most_entries:
                say.fault(FaultKind.FETCH_MALFORMED, f"not read beyond line {before + number}")
                return
            if len(parts) != 3 or not (parts[1] == "-" or parts[1].isdigit()):
                detail = f"line {before + number} is no URL, length and path: {line[:120]!r}"
                say.fault(FaultKind.FETCH_MALFORMED, detail)
            elif is_unsafe(parts[2]):
                say.fault(FaultKind.MANIFEST_PATH_UNSAFE, "fetch.txt names a path outside the bag", path=parts[2])
            else:
                yield plain_path(parts[2])
        before += block.count("\n")


def plain_path(path: str) -> str:
    """A path without the prefixes that md5sum leaves: `*` for binary mode, `./` when started in the folder."""
    return _PREFIX.sub("", path, count=1)
