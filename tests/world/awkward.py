"""Builders of awkward zips: every header field can be made to lie, and members can overlap, repeat or be missing."""

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.world.bags import SMALL_WORK, bag_members, manifest

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
UTF8, DESCRIPTOR, ENCRYPTED = 0x800, 0x8, 0x1
TOO_BIG_32 = 0xFFFFFFFF
TOO_BIG_16 = 0xFFFF

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_TIME, _DATE = 12 << 11, (2024 - 1980) << 9 | 4 << 5 | 6


@dataclass(frozen=True)
class Member:
    """A member of a zip, of which `local` and `central` may override header fields, by name, to make them lie.

    Attributes:
        name: as bytes when it is not UTF-8.
        content: what it unpacks to.
        method: stored or deflated, or whatever the headers shall claim.
        flags: general purpose bits; the one for UTF-8 is set where the name needs it.
        mode: file type and permissions as unix keeps them.
        packed: the bytes in the zip, where they shall not be what `content` gives.
        local: fields of the local header: version flags method time date crc packed_size size name extra.
        central: the same fields of the central directory, and made_by comment disk internal attributes offset.
        descriptor: sizes and CRC follow the data, the local header has zeros.
        gap: bytes that stand before the local header and belong to nothing.
        after: bytes that follow the data, such as a descriptor of another form.
    """

    name: str | bytes
    content: bytes = b""
    method: int = STORED
    flags: int = 0
    mode: int = 0o100644
    packed: bytes | None = None
    local: Mapping[str, int | bytes] = field(default_factory=dict)
    central: Mapping[str, int | bytes] = field(default_factory=dict)
    descriptor: bool = False
    gap: bytes = b""
    after: bytes = b""

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode("utf-8", "surrogatepass")

    @property
    def raw_packed(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflated(self.content) if self.method == DEFLATED else self.content

    def fields(self) -> dict[str, int | bytes]:
        utf8 = UTF8 if isinstance(self.name, str) and not self.name.isascii() else 0
        return {
            "version": 20,
            "flags": self.flags | utf8 | (DESCRIPTOR if self.descriptor else 0),
            "method": self.method,
            "time": _TIME,
            "date": _DATE,
            "crc": zlib.crc32(self.content),
            "packed_size": len(self.raw_packed),
            "size": len(self.content),
            "name": self.raw_name,
            "extra": b"",
        }


def deflated(content: bytes) -> bytes:
    """`content` as a zip member holds it deflated."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def local_header(member: Member) -> bytes:
    """The local header, with what `member.local` says instead of the truth."""
    zeros = {"crc": 0, "packed_size": 0, "size": 0} if member.descriptor else {}
    of: dict[str, int | bytes] = {**member.fields(), **zeros, **member.local}
    name, extra = _bytes(of["name"]), _bytes(of["extra"])
    numbers = [of[key] for key in ("version", "flags", "method", "time", "date", "crc", "packed_size", "size")]
    return _LOCAL.pack(b"PK\x03\x04", *numbers, len(name), len(extra)) + name + extra


def central_header(member: Member, offset: int) -> bytes:
    """The entry in the central directory, with what `member.central` says instead of the truth."""
    own: dict[str, int | bytes] = {
        "made_by": 3 << 8 | 20,
        "comment": b"",
        "disk": 0,
        "internal": 0,
        "attributes": member.mode << 16,
        "offset": offset,
    }
    of = {**member.fields(), **own, **member.central}
    name, extra, comment = _bytes(of["name"]), _bytes(of["extra"]), _bytes(of["comment"])
    first = [of[key] for key in ("made_by", "version", "flags", "method", "time", "date", "crc", "packed_size", "size")]
    last = [of[key] for key in ("disk", "internal", "attributes", "offset")]
    lengths = len(name), len(extra), len(comment)
    return _CENTRAL.pack(b"PK\x01\x02", *first, *lengths, *last) + name + extra + comment


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def zip_bytes(
    members: Iterable[Member],
    *,
    comment: bytes = b"",
    end: Mapping[str, int] | None = None,
    zip64: Mapping[str, int] | None = None,
) -> bytes:
    """A whole zip of `members`.

    Args:
        members: in the order of their data and of the central directory.
        comment: of the zip.
        end: fields of the end record that shall lie: disk start_disk here entries size offset comment_size.
        zip64: when given, a zip64 end record and its locator are written too; fields of it that shall lie:
            disk start_disk here entries size offset record_at disks.
    """
    data, directory, count = bytearray(), bytearray(), 0
    for member in members:
        data += member.gap
        directory += central_header(member, len(data))
        data += local_header(member) + member.raw_packed + member.after
        if member.descriptor:
            data += struct.pack(
                "<4s3I", b"PK\x07\x08", zlib.crc32(member.content), len(member.raw_packed), len(member.content)
            )
        count += 1
    return bytes(data + directory) + end_records(count, len(directory), len(data), comment, end, zip64)


def end_records(
    count: int,
    size: int,
    offset: int,
    comment: bytes = b"",
    end: Mapping[str, int] | None = None,
    zip64: Mapping[str, int] | None = None,
) -> bytes:
    """What stands behind a central directory of `count` entries and `size` bytes that begins at `offset`."""
    truth = {"disk": 0, "start_disk": 0, "here": count, "entries": count, "size": size, "offset": offset}
    old = dict(truth, comment_size=len(comment))
    records = b""
    if zip64 is not None:
        of = {**truth, "record_at": offset + size, "disks": 1, **zip64}
        parts = [of[key] for key in ("disk", "start_disk", "here", "entries", "size", "offset")]
        records += _END64.pack(b"PK\x06\x06", _END64.size - 12, 45, 45, *parts)
        records += _LOCATOR64.pack(b"PK\x06\x07", 0, of["record_at"], of["disks"])
        old |= {"here": TOO_BIG_16, "entries": TOO_BIG_16, "size": TOO_BIG_32, "offset": TOO_BIG_32}
    old |= end or {}
    return records + _END.pack(b"PK\x05\x06", *old.values()) + comment


def extra_field(kind: int, data: bytes) -> bytes:
    """A field in an extra field."""
    return struct.pack("<2H", kind, len(data)) + data


def descriptor_of(content: bytes, packed_size: int, *, marked: bool = True, wide: bool = False) -> bytes:
    """The data descriptor of a streamed member, with or without its signature, sizes of 4 or (wide) 8 bytes."""
    mark = b"PK\x07\x08" if marked else b""
    return mark + struct.pack("<I2Q" if wide else "<3I", zlib.crc32(content), packed_size, len(content))


def zip64_extra(*numbers: int) -> bytes:
    """The extra field that carries sizes and offset of eight bytes each."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def members_of(contents: Mapping[str, bytes], *, method: int = STORED) -> list[Member]:
    """Plain members of these names and contents."""
    return [Member(name, content, method) for name, content in contents.items()]


def changed(members: Sequence[Member], name: str, **changes: object) -> list[Member]:
    """`members` with other attributes of the one called `name`."""
    assert any(member.name == name for member in members), name
    return [replace(member, **changes) if member.name == name else member for member in members]  # type: ignore[arg-type]  # one kind an attribute


def good_members(rid: str = "W1", *, method: int = STORED, version: str = "0.97") -> list[Member]:
    """The members of a small valid bag."""
    return members_of(bag_members(rid, version=version), method=method)


def write(path: Path, content: bytes) -> Path:
    """`content` as the file `path`, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_members(folder: Path, members: Iterable[Member], rid: str = "W1") -> Path:
    """`{folder}/{rid}.bag.zip` of `members`."""
    return write(folder / f"{rid}.bag.zip", zip_bytes(members))


def bag_with(
    rid: str = "W1",
    *,
    files: Mapping[str, bytes] = SMALL_WORK,
    algorithms: Sequence[str] = ("sha512",),
    version: str = "0.97",
    replaced: Mapping[str, bytes | None] | None = None,
    sealed: bool = True,
) -> dict[str, bytes]:
    """The contents of a bag by name, some of them replaced or (None) left out, under tag manifests that are right.

    Args:
        rid: names the folder.
        files: the payload, without `data/`.
        algorithms: of manifests and tag manifests.
        version: of BagIt.
        replaced: other contents by path in the bag; tag files that are new here are listed too.
        sealed: the tag manifests are made anew, so that only what was replaced is wrong.
    """
    whole = bag_members(rid, files=files, algorithms=algorithms, version=version)
    contents: dict[str, bytes | None] = {name.removeprefix(f"{rid}.bag/"): content for name, content in whole.items()}
    contents |= replaced or {}
    left = {path: content for path, content in contents.items() if content is not None}
    if sealed:
        tags = {p: c for p, c in left.items() if not p.startswith(("data/", "tagmanifest-"))}
        left |= {
            path: manifest(tags, path[len("tagmanifest-") : -len(".txt")])
            for path in left
            if path.startswith("tagmanifest-") and path not in (replaced or {})
        }
    return {f"{rid}.bag/{path}": content for path, content in left.items()}


def payload_manifest(files: Mapping[str, bytes] = SMALL_WORK, algorithm: str = "sha512") -> bytes:
    """The payload manifest of `files`, whose names are without `data/`."""
    return manifest({f"data/{path}": content for path, content in files.items()}, algorithm)


def quoted_overlap_bomb(copies: int = 40, kernel_size: int = 1 << 20) -> bytes:
    """Fifield's bomb: each member quotes the next one's local header as a deflate block and shares all that follows."""
    kernel = deflated(b"\0" * kernel_size)
    crc_at = [b"\0" * kernel_size]
    chunks = [kernel]
    members: list[Member] = []
    for number in reversed(range(copies)):
        member = Member(f"W1.bag/data/{number:03}", crc_at[0], DEFLATED, packed=b"".join(chunks))
        members.insert(0, member)
        header = local_header(member)
        quote = struct.pack("<B2H", 0, len(header), len(header) ^ 0xFFFF) + header
        chunks.insert(0, quote)
        crc_at[0] = header + crc_at[0]
    data = local_header(members[0]) + b"".join(chunks[1:])
    directory, offset = bytearray(), 0
    for member in members:
        directory += central_header(member, offset)
        offset += len(local_header(member)) + 5
    return data + bytes(directory) + end_records(copies, len(directory), len(data))


def tree(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Everything under `folder`: kind or digest, permissions and time of change, by path."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        if path.is_symlink():
            what = f"-> {os.readlink(path)}"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = "folder"
        # a folder's own time changes with staging that comes and goes beside `into`
        seen[str(path.relative_to(folder))] = (what, state.st_mode, 0 if what == "folder" else state.st_mtime_ns)
    return seen
