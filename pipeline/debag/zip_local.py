"""What stands beside a member's bytes: its local header before, its data descriptor after (APPNOTE.TXT 4.3.7, 4.3.9).

Readers that go through a zip from its start believe these, all others the central directory: they have to agree. Of a
member that was streamed (flag bit 3) each of CRC-32 and sizes may stand in the local header as nothing, by itself: the
packer did not know it yet. The data descriptor, where there is one, the directory and the digests prove it then.
"""

import os
import struct

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.zip_directory import Directory, Member
from pipeline.debag.zip_extra import name_and_time, zip64_values
from pipeline.debag.zip_source import FULL32, LOCAL, LOCAL_MARK, STREAMED, UTF8_FLAG, ZipSource

_DEFLATE_EFFORT = 0x0006  # how hard the packer tried: says nothing about the bytes
_DESCRIPTOR_MARK = b"PK\x07\x08"
_DESCRIPTORS = tuple((len(mark), struct.Struct(form)) for mark in (_DESCRIPTOR_MARK, b"") for form in ("<LQQ", "<LLL"))
_UNMARKED = frozenset({12, 20})
_LONGEST_DESCRIPTOR = 24


def check_local(source: ZipSource, directory: Directory, member: Member, say: Findings) -> bool:
    """See that the local header repeats the directory's entry; tells whether its CRC-32 is another."""
    raw = member.raw
    if member.offset + LOCAL.size > directory.start:
        say.fault(FaultKind.LOCAL_HEADER_DAMAGED, f"should be at {member.offset}", path=member.name)
        return False
    local = os.pread(source.descriptor, LOCAL.size + len(raw), member.offset)
    if not _tells_same_time(source, member, local):
        say.doubts.add("times that the zip tells in two ways, or once")
    if local[4:28] == member.head and local[30:] == raw and local[:4] == LOCAL_MARK and member.packed != FULL32:
        member.data_offset = member.offset + len(local) + local[28] + (local[29] << 8)
        if not member.flags & STREAMED:
            return False
    return _compare(source, member, local, say)


def _tells_same_time(source: ZipSource, member: Member, local: bytes) -> bool:
    """Whether the local header bears out when the member was last changed, which no manifest tells."""
    length = int.from_bytes(local[28:30], "little")
    extra = source.read(member.offset + len(local), length) if length else b""
    told = name_and_time(extra, member.raw)[1]
    return told == member.modified and (told is not None or local[10:14] == member.head[6:10])


def _compare(source: ZipSource, member: Member, local: bytes, say: Findings) -> bool:
    if len(local) < LOCAL.size or local[:4] != LOCAL_MARK:
        say.fault(FaultKind.LOCAL_HEADER_DAMAGED, f"no local header at {member.offset}", path=member.name)
        return False
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = LOCAL.unpack_from(local)
    member.data_offset = member.offset + LOCAL.size + name_length + extra_length
    differs = []
    if name_length != len(member.raw) or local[LOCAL.size :] != member.raw:
        differs.append(f"name {local[LOCAL.size :].decode('utf-8', 'backslashreplace')!r}")
    harmless = _DEFLATE_EFFORT | (UTF8_FLAG if member.raw.isascii() else 0)
    if (flags ^ member.flags) & ~harmless:
        differs.append(f"flags {flags:#06x}, not {member.flags:#06x}")
    if method != member.method:
        differs.append(f"method {method}, not {member.method}")
    if FULL32 in (packed, size):
        extra = source.read(member.offset + LOCAL.size + name_length, extra_length)
        wide = zip64_values(extra, [size == FULL32, packed == FULL32])
        if wide is not None:
            size = size if wide[0] is None else wide[0]
            packed = packed if wide[1] is None else wide[1]
    streamed = bool(flags & STREAMED)
    unknown = (0, FULL32) if streamed else ()
    if packed not in (member.packed, *unknown) or size not in (member.size, *unknown):
        differs.append(f"sizes {packed} and {size}, not {member.packed} and {member.size}")
    if differs:
        say.fault(FaultKind.LOCAL_HEADER_DIFFERS, "local header has " + ", ".join(differs), path=member.name)
    return crc != member.crc and not (streamed and crc == 0)


def check_descriptor(source: ZipSource, member: Member, limit: int, say: Findings) -> tuple[int, bool]:
    """See that the data descriptor of a streamed member, which may be left out, repeats the directory's entry.

    It may have a signature or not, and 4 or 8 bytes a size: nothing tells which, only what fits (APPNOTE 4.3.9).

    Args:
        source: the zip.
        member: one that was streamed.
        limit: where the next member, or the directory, begins.
        say: takes what is wrong.

    Returns:
        its bytes, 0 if there is none; and whether its CRC-32 is another.
    """
    end = member.data_offset + member.packed
    block = source.read(end, min(_LONGEST_DESCRIPTOR, limit - end))
    marked = block[:4] == _DESCRIPTOR_MARK
    seen = [
        (skip + form.size, form.unpack_from(block, skip))
        for skip, form in _DESCRIPTORS
        if (marked or not skip) and len(block) >= skip + form.size
    ]
    sizes = member.packed, member.size
    for length, values in seen:
        if values == (member.crc, *sizes):
            return length, False
    for length, values in seen:
        if values[1:] == sizes and (marked or length == limit - end):
            return length, True
    if seen and (marked or limit - end in _UNMARKED):
        detail = f"data descriptor has other sizes than {member.packed} and {member.size}"
        say.fault(FaultKind.LOCAL_HEADER_DIFFERS, detail, path=member.name)
    return 0, False
