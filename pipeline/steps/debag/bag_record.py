"""A bag as its tag files describe it: read from the zip, parsed, matched with the members."""

import hashlib
import zlib
from dataclasses import dataclass, field

from pipeline.steps.debag.faults import FaultKind, Findings
from pipeline.steps.debag.layout import FoundBag, is_litter
from pipeline.steps.debag.matching import match_names, settle_cp437
from pipeline.steps.debag.policy import Policy
from pipeline.steps.debag.tag_files import (
    Declaration,
    Manifest,
    decode,
    manifest_name,
    read_declaration,
    read_fetch,
    read_manifest,
    read_metadata,
)
from pipeline.steps.debag.zip_directory import Member
from pipeline.steps.debag.zip_members import DEFLATED, STORED
from pipeline.steps.debag.zip_source import ZipSource

_METADATA_NAMES = ("bag-info.txt", "package-info.txt")  # before 0.96 it was package-info.txt
_SMALL = 1 << 22
_BYTES_FOR_A_MEMBER = 2048
_SLACK = 4096  # what a packer may add to bytes that it cannot make fewer


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
        contents: of the tag files that were read.
        crc_wrong: tag files whose CRC-32 in the zip is not theirs.
    """

    found: FoundBag
    declaration: Declaration = field(default_factory=Declaration)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    tag_manifests: list[Manifest] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)
    to_fetch: list[str] | None = None
    contents: dict[str, bytes] = field(default_factory=dict)
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

    def digests_of(self, content: bytes) -> dict[str, str]:
        """Digests of a tag file in every algorithm of the bag."""
        return {name: hashlib.new(name, content, usedforsecurity=False).hexdigest() for name in self.algorithms}


def read_bag(source: ZipSource, found: FoundBag, policy: Policy, say: Findings, members: int) -> BagRecord:
    """Read and parse the tag files of a bag."""
    record = BagRecord(found)
    _read_contents(source, record, policy, say, members)
    if "bagit.txt" in record.contents:
        record.declaration = read_declaration(record.contents["bagit.txt"], say, found.folder)
    _read_metadata(record, say, members)
    _read_manifests(record, say, members)
    _match(record, say)
    if found.has_litter:
        listed, listed_tags = (
            {path for manifest in manifests for path in manifest.entries if is_litter(path)}
            for manifests in (record.manifests, record.tag_manifests)
        )
        found.leave_litter_out(listed, listed_tags, say)
    return record


def _is_parsed(path: str) -> bool:
    return path in {"bagit.txt", "fetch.txt", *_METADATA_NAMES} or manifest_name(path) is not None


def _read_contents(source: ZipSource, record: BagRecord, policy: Policy, say: Findings, members: int) -> None:
    """The bytes of the tag files that are parsed, as long as they are of a size that honest ones have."""
    total = 0
    for path, member in record.found.tag_files.items():
        if not _is_parsed(path):
            continue
        limit = _SMALL + (0 if path in _METADATA_NAMES else _BYTES_FOR_A_MEMBER * members)
        if member.size > limit or total + member.size > policy.max_tag_bytes:
            detail = f"{member.size} bytes; {min(limit, policy.max_tag_bytes)} are the most that is read"
            say.fault(FaultKind.TAG_FILE_TOO_BIG, bag=record.name, path=path, detail=detail)
            continue
        total += member.size
        content = read_member(source, member, say, record.name, path)
        if content is not None:
            record.contents[path] = content
            if zlib.crc32(content) != member.crc:
                record.crc_wrong.add(path)


def read_member(source: ZipSource, member: Member, say: Findings, bag: str, path: str) -> bytes | None:
    """The content of a small member; None if it is damaged, which is then a fault."""
    if member.data_offset < 0 or member.flags & 1 or member.method not in {STORED, DEFLATED}:
        return None  # named already
    if member.packed > member.size + member.size // 8 + _SLACK or (
        member.method == STORED != member.packed - member.size
    ):
        detail = f"{member.packed} bytes in the zip for {member.size}"
        say.fault(FaultKind.MEMBER_TOO_LONG, bag=bag, path=path, detail=detail)
        return None
    packed = source.read(member.data_offset, member.packed)
    if len(packed) < member.packed:
        say.fault(FaultKind.MEMBER_CUT_SHORT, bag=bag, path=path, detail=f"{len(packed)} bytes of {member.packed}")
        return None
    if member.method == STORED:
        return packed
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    content = b""
    try:
        content = inflate.decompress(packed, member.size + 1)
    except zlib.error as error:
        say.fault(FaultKind.MEMBER_DAMAGED, bag=bag, path=path, detail=str(error))
    else:
        return _whole(content, inflate, member, say, bag, path)
    return None


def _whole(
    content: bytes, inflate: "zlib._Decompress", member: Member, say: Findings, bag: str, path: str
) -> bytes | None:
    if len(content) > member.size or inflate.unused_data:
        say.fault(FaultKind.MEMBER_TOO_LONG, bag=bag, path=path, detail=f"more than its {member.size} bytes")
    elif len(content) < member.size or not inflate.eof:
        say.fault(FaultKind.MEMBER_CUT_SHORT, bag=bag, path=path, detail=f"{len(content)} bytes of {member.size}")
    else:
        return content
    return None


def _read_metadata(record: BagRecord, say: Findings, members: int) -> None:
    for path in _METADATA_NAMES:
        if path in record.contents:
            text = decode(record.contents[path], record.declaration, say, record.name, path)
            record.metadata += read_metadata(text or "", say, record.name, path)
    if "fetch.txt" in record.contents:
        text = decode(record.contents["fetch.txt"], record.declaration, say, record.name, "fetch.txt")
        record.to_fetch = list(read_fetch(text or "", say, record.name, most_entries=2 * members + _SLACK))


def _read_manifests(record: BagRecord, say: Findings, members: int) -> None:
    for path in sorted(record.found.tag_files):
        kind = manifest_name(path)
        if kind is None:
            continue
        algorithm, of_tags = kind
        manifest = Manifest(path, algorithm, of_tags)
        (record.tag_manifests if of_tags else record.manifests).append(manifest)
        if path in record.contents:
            text = decode(record.contents[path], record.declaration, say, record.name, path)
            manifest.whole = text is not None
            version = record.declaration.version
            read_manifest(text or "", manifest, version, say, record.name, most_entries=2 * members + _SLACK)


def _match(record: BagRecord, say: Findings) -> None:
    """Bring the names in the manifests and those in the zip together."""
    found = record.found
    prefix = f"{found.folder}/" if found.folder else ""
    if found.kept:
        prefix = ""  # its paths are not those in the zip, so names in cp437 stay as they are
    for manifests, files in ((record.manifests, found.payload), (record.tag_manifests, found.tag_files)):
        if any(member.other_name for member in files.values()):
            listed = [path for manifest in manifests for path in manifest.entries]
            settle_cp437(files, listed, say, bag=record.name, folder=prefix)
        for manifest in manifests:
            version = record.declaration.version
            record.missing[manifest.file_name] = match_names(manifest, files, version, say, bag=record.name)
