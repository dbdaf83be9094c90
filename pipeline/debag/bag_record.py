"""A bag as its tag files describe it: read from the zip, parsed, matched with the members."""

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import FoundBag, is_litter
from pipeline.debag.manifests import Manifest, ManifestReader, Names, manifest_name
from pipeline.debag.matching import match_names, settle_cp437
from pipeline.debag.policy import Policy
from pipeline.debag.streams import BUFFER_BYTES, BadMember, HashesHere, content
from pipeline.debag.tag_files import (
    Declaration,
    LineTooLong,
    decode,
    read_declaration,
    read_fetch,
    read_metadata,
    text_blocks,
)
from pipeline.debag.zip_directory import Member
from pipeline.debag.zip_members import DEFLATED, STORED
from pipeline.debag.zip_source import ZipSource
from pipeline.foundation.fixity import hash_makers

_METADATA_NAMES = ("bag-info.txt", "package-info.txt")  # before 0.96 it was package-info.txt
_HELD_WHOLE = {"bagit.txt", *_METADATA_NAMES}
_SMALL = 1 << 22
_BYTES_FOR_A_MEMBER = 2048
_SLACK = 4096  # what a packer may add to bytes that it cannot make fewer
_MANIFESTS_IN_FULL = 3  # so many may list as many files as a zip may have


@dataclass(slots=True)
class BagRecord:
    """What the rules judge.

    Attributes:
        found: the bag's files in the zip.
        declaration: what bagit.txt says.
        metadata: labels and values of bag-info.txt.
        manifests: payload manifests, entries by the zip's names.
        tag_manifests: tag manifests, the same.
        missing: by manifest, listed paths that the zip does not have.
        to_fetch: paths that fetch.txt lists; None without a fetch.txt.
        digests: of the tag files that were read, in every algorithm of the bag, in their order.
        crc_wrong: tag files whose CRC-32 in the zip is not theirs.
    """

    found: FoundBag
    declaration: Declaration = field(default_factory=Declaration)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    tag_manifests: list[Manifest] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)
    to_fetch: list[str] | None = None
    digests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    crc_wrong: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The bag as reports name it: its folder."""
        return self.found.folder

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Every known algorithm that a manifest names."""
        named = {manifest.algorithm for manifest in (*self.manifests, *self.tag_manifests)}
        return tuple(sorted(named - {""}))


class BagReader:
    """Reads the tag files of a zip's bags, each once and in pieces: they are unpacked with the payload, later.

    Args:
        source: the zip.
        policy: limits.
        say: takes what is wrong.
        members: how many there are in the zip: so long may manifests be.
    """

    def __init__(self, source: ZipSource, policy: Policy, say: Findings, members: int) -> None:
        self._source = source
        self._policy = policy
        self._say = say
        self._members = members
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._most_entries = 2 * members + _SLACK
        self._names = Names(most=_MANIFESTS_IN_FULL * policy.max_members + _SLACK, most_bytes=policy.max_name_bytes)

    def read(self, found: FoundBag) -> BagRecord:
        """Read and parse the tag files of a bag, and bring names in its manifests and those in the zip together."""
        record = BagRecord(found)
        for path in sorted(found.tag_files):
            kind = manifest_name(path)
            if kind is not None:
                manifest = Manifest(path, *kind)
                (record.tag_manifests if manifest.of_tags else record.manifests).append(manifest)
        self._names.begin((*found.payload, *found.tag_files))
        readable = self._readable(record)
        self._read_declaration_and_metadata(record, readable)
        if "fetch.txt" in readable:
            self._read_fetch(record)
        self._read_manifests(record, readable)
        _match(record, self._say)
        if found.has_litter:
            listed, listed_tags = (
                {path for manifest in manifests for path in manifest.entries if is_litter(path)}
                for manifests in (record.manifests, record.tag_manifests)
            )
            found.leave_litter_out(listed, listed_tags, self._say)
        return record

    def _readable(self, record: BagRecord) -> set[str]:
        """The tag files that are parsed, as long as they are of a size that honest ones have."""
        readable: set[str] = set()
        total = 0
        for path, member in record.found.tag_files.items():
            if path not in _HELD_WHOLE and path != "fetch.txt" and manifest_name(path) is None:
                continue
            limit = _SMALL + (0 if path in _HELD_WHOLE else _BYTES_FOR_A_MEMBER * self._members)
            if member.size > limit or total + member.size > self._policy.max_tag_bytes:
                detail = f"{member.size} bytes; {min(limit, self._policy.max_tag_bytes)} are the most that is read"
                self._say.fault(FaultKind.TAG_FILE_TOO_BIG, bag=record.name, path=path, detail=detail)
                continue
            total += member.size
            if _can_be_read(member, self._say, record.name, path):
                readable.add(path)
        return readable

    def _pieces(self, record: BagRecord, path: str) -> Iterator[bytes]:
        """The bytes of a tag file; when all were taken its digests are in the record, unless it is damaged."""
        member = record.found.tag_files[path]
        hashes = HashesHere(hash_makers(record.algorithms), self._buffer)
        crc = 0
        try:
            for piece, occupied in content(self._source.descriptor, member, self._buffer, hashes):
                self._say.beat()
                hashes.feed(piece, occupied)
                crc = zlib.crc32(piece, crc)
                yield bytes(piece)
        except BadMember as error:
            self._say.fault(error.kind, bag=record.name, path=path, detail=error.detail)
            return
        record.digests[path] = hashes.finish()
        if crc != member.crc:
            record.crc_wrong.add(path)

    def _read_declaration_and_metadata(self, record: BagRecord, readable: set[str]) -> None:
        say, name = self._say, record.name
        for path in ("bagit.txt", *_METADATA_NAMES):
            if path not in readable:
                continue
            whole = b"".join(self._pieces(record, path))
            if path not in record.digests:
                continue
            if path == "bagit.txt":
                record.declaration = read_declaration(whole, say, name)
            else:
                text = decode(whole, record.declaration, say, name, path)
                record.metadata += read_metadata(text or "", say, name, path)

    def _read_fetch(self, record: BagRecord) -> None:
        blocks = _Text(self._pieces(record, "fetch.txt"), record, "fetch.txt", self._say)
        paths = read_fetch(blocks, self._say, record.name, most_entries=self._most_entries)
        record.to_fetch = [self._names.of(path) for path in takewhile(lambda _: not self._names.full, paths)]
        if self._names.full:
            self._say.fault(FaultKind.FETCH_MALFORMED, bag=record.name, path="fetch.txt", detail="not read to its end")
        blocks.drain()

    def _read_manifests(self, record: BagRecord, readable: set[str]) -> None:
        version = record.declaration.version
        for manifest in (*record.manifests, *record.tag_manifests):
            if manifest.file_name not in readable:
                continue
            manifest.whole = True
            path = manifest.file_name
            blocks = _Text(self._pieces(record, path), record, path, self._say)
            reader = ManifestReader(
                manifest, version, self._say, record.name, names=self._names, most_entries=self._most_entries
            )
            reader.read(blocks)
            blocks.drain()
            if not blocks.sound:
                manifest.whole = False
                manifest.entries.clear()


class _Text:
    """The text of a tag file in blocks of whole lines, up to where it cannot be read, which is then a fault."""

    def __init__(self, pieces: Iterator[bytes], record: BagRecord, path: str, say: Findings) -> None:
        self._pieces = pieces
        self._record = record
        self._path = path
        self._say = say
        self._undecodable = False

    def __iter__(self) -> Iterator[str]:
        where = {"bag": self._record.name, "path": self._path}
        declaration = self._record.declaration
        try:
            yield from text_blocks(self._pieces, declaration, self._say, **where)
        except UnicodeDecodeError as error:
            self._undecodable = True
            detail = f"is not {declaration.encoding}, as bagit.txt declares: {error.reason}"
            self._say.fault(FaultKind.TAG_FILE_UNDECODABLE, **where, detail=detail)
        except LineTooLong:
            self._undecodable = True
            kind = FaultKind.FETCH_MALFORMED if self._path == "fetch.txt" else FaultKind.MANIFEST_MALFORMED
            self._say.fault(kind, **where, detail="has a line that is too long to be read")

    def drain(self) -> None:
        """Read what the parser left, so that the digests are known."""
        deque(self._pieces, maxlen=0)

    @property
    def sound(self) -> bool:
        """Whether all of it, once it is drained, was what it should be."""
        return not self._undecodable and self._path in self._record.digests


def _can_be_read(member: Member, say: Findings, bag: str, path: str) -> bool:
    """Whether the bytes of a small member are to be had, and not many more in the zip than it has; else it is named."""
    if member.data_offset < 0 or member.flags & 1 or member.method not in {STORED, DEFLATED}:
        return False  # named already
    if member.packed > member.size + member.size // 8 + _SLACK or (
        member.method == STORED and member.packed != member.size
    ):
        detail = f"{member.packed} bytes in the zip for {member.size}"
        say.fault(FaultKind.MEMBER_TOO_LONG, bag=bag, path=path, detail=detail)
        return False
    return True


def _match(record: BagRecord, say: Findings) -> None:
    """Bring the names in the manifests and those in the zip together."""
    found = record.found
    prefix = f"{found.folder}/" if found.folder else ""
    if found.kept:
        prefix = ""  # its paths are not those in the zip, so names in cp437 stay as they are
    for manifests, files in ((record.manifests, found.payload), (record.tag_manifests, found.tag_files)):
        if any(member.other_name for member in files.values()):
            settle_cp437(files, manifests, say, bag=record.name, folder=prefix)
        for manifest in manifests:
            version = record.declaration.version
            record.missing[manifest.file_name] = match_names(manifest, files, version, say, bag=record.name)
