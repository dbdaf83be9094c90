"""A bag as its tag files describe it: read from the zip, parsed, matched with the members."""

import zlib
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import FoundBag, is_litter
from pipeline.debag.manifests import Manifest, ManifestReader, Names, manifest_of
from pipeline.debag.matching import match_names, settle_cp437
from pipeline.debag.policy import Policy
from pipeline.debag.streams import BUFFER_BYTES, BadMember, HashesHere, content
from pipeline.debag.tag_files import (
    LONGEST_LINE,
    Declaration,
    LineTooLong,
    read_declaration,
    read_fetch,
    read_metadata,
    text_blocks,
)
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
        to_fetch: paths that fetch.txt lists; None without a fetch.txt.
        digests: of the tag files that were read, in every algorithm of the bag, in their order.
        crc_wrong: tag files whose CRC-32 in the zip is not theirs.
        damaged: tag files that could not be read to their end.
        works: the works that it holds, nearly always itself.
    """

    found: FoundBag
    declaration: Declaration = field(default_factory=Declaration)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    tag_manifests: list[Manifest] = field(default_factory=list)
    to_fetch: list[str] | None = None
    digests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    crc_wrong: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    works: list[FoundBag] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Until it is judged it counts as one work."""
        self.works = [self.found]

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
        record, say = BagRecord(found), self._say.of(found.folder)
        for path in sorted(found.tag_files):
            manifest = manifest_of(path)
            if manifest is not None:
                (record.tag_manifests if manifest.of_tags else record.manifests).append(manifest)
        self._names.begin((*found.payload, *found.tag_files))
        readable = self._readable(found, say)
        if "bagit.txt" in readable:
            self._read_declaration(record, say.of(found.folder, "bagit.txt"))
        for path in _METADATA_NAMES:
            if path in readable:
                self._read_metadata(record, say.of(found.folder, path))
        if "fetch.txt" in readable:
            self._read_fetch(record, say.of(found.folder, "fetch.txt"))
        for manifest in (*record.manifests, *record.tag_manifests):
            if manifest.file_name in readable:
                self._read_manifest(manifest, record, say.of(found.folder, manifest.file_name))
        _match(record, say)
        if found.has_litter:
            listed, listed_tags = (
                {path for manifest in manifests for path in manifest.entries if is_litter(path)}
                for manifests in (record.manifests, record.tag_manifests)
            )
            found.leave_litter_out(listed, listed_tags, self._say)
        return record

    def _readable(self, found: FoundBag, say: Findings) -> set[str]:
        """The tag files that are parsed, as long as they are of a size that honest ones have."""
        readable: set[str] = set()
        total = 0
        for path, member in found.tag_files.items():
            if path not in _HELD_WHOLE and path != "fetch.txt" and manifest_of(path) is None:
                continue
            limit = _SMALL + (0 if path in _HELD_WHOLE else _BYTES_FOR_A_MEMBER * self._members)
            if member.size > limit or total + member.size > self._policy.max_tag_bytes:
                detail = f"{member.size} bytes; {min(limit, self._policy.max_tag_bytes)} are the most that is read"
                say.fault(FaultKind.TAG_FILE_TOO_BIG, detail, path=path)
                continue
            total += member.size
            if member.is_readable and member.packed <= member.size + member.size // 8 + _SLACK:
                readable.add(path)
            elif member.is_readable:
                detail = f"{member.packed} bytes in the zip for {member.size}"
                say.fault(FaultKind.MEMBER_TOO_LONG, detail, path=path)
        return readable

    def _pieces(self, record: BagRecord, say: Findings) -> Iterator[bytes]:
        """The bytes of the tag file that is meant; afterwards the record has its digests, or that it is damaged."""
        path = say.path
        member = record.found.tag_files[path]
        hashes = HashesHere(hash_makers(record.algorithms), self._buffer)
        crc = 0
        try:
            for piece, occupied in content(self._source.descriptor, member, self._buffer, hashes):
                say.beat()
                hashes.feed(piece, occupied)
                crc = zlib.crc32(piece, crc)
                yield bytes(piece)
        except BadMember as error:
            say.fault(error.kind, error.detail)
            record.damaged.add(path)
            return
        record.digests[path] = hashes.finish()
        if crc != member.crc:
            record.crc_wrong.add(path)

    def _blocks(self, record: BagRecord, say: Findings, *, longest: int = LONGEST_LINE) -> Generator[str, None, None]:
        """The text of a tag file in blocks of whole lines, up to where it cannot be read, which is then a fault.

        When it is closed its digests are known: what was not asked for is read too.
        """
        pieces = self._pieces(record, say)
        try:
            yield from text_blocks(pieces, record.declaration, say, longest=longest)
        except UnicodeDecodeError as error:
            record.damaged.add(say.path)
            detail = f"is not {record.declaration.encoding}, as bagit.txt declares: {error.reason}"
            say.fault(FaultKind.TAG_FILE_UNDECODABLE, detail)
        except LineTooLong:
            record.damaged.add(say.path)
            kind = FaultKind.FETCH_MALFORMED if say.path == "fetch.txt" else FaultKind.MANIFEST_MALFORMED
            say.fault(kind, "has a line that is too long to be read")
        finally:
            deque(pieces, maxlen=0)

    def _read_declaration(self, record: BagRecord, say: Findings) -> None:
        whole = b"".join(self._pieces(record, say))
        if say.path not in record.damaged:
            record.declaration = read_declaration(whole, say)

    def _read_metadata(self, record: BagRecord, say: Findings) -> None:
        text = "".join(self._blocks(record, say, longest=_SMALL))
        if say.path not in record.damaged:
            record.metadata += read_metadata(text, say)

    def _read_fetch(self, record: BagRecord, say: Findings) -> None:
        with closing(self._blocks(record, say)) as blocks:
            paths = read_fetch(blocks, say, most_entries=self._most_entries)
            record.to_fetch = [self._names.of(path) for path in takewhile(lambda _: not self._names.full, paths)]
        if self._names.full:
            say.fault(FaultKind.FETCH_MALFORMED, "not read to its end")

    def _read_manifest(self, manifest: Manifest, record: BagRecord, say: Findings) -> None:
        version = record.declaration.version
        reader = ManifestReader(manifest, version, say, names=self._names, most_entries=self._most_entries)
        with closing(self._blocks(record, say)) as blocks:
            reader.read(blocks)
        if say.path in record.damaged:
            manifest.whole = False
            manifest.entries.clear()


def _match(record: BagRecord, say: Findings) -> None:
    """Bring the names in the manifests and those in the zip together."""
    found = record.found
    prefix = f"{found.folder}/" if found.folder else ""
    if found.kept:
        prefix = ""  # its paths are not those in the zip, so names in cp437 stay as they are
    for manifests, files in ((record.manifests, found.payload), (record.tag_manifests, found.tag_files)):
        if any(member.other_name for member in files.values()):
            settle_cp437(files, manifests, say, folder=prefix)
        for manifest in manifests:
            match_names(manifest, files, record.declaration.version, say)
