"""The zip's own table of contents: end record, zip64, central directory (APPNOTE.TXT 4.3).

A reader of its own and not `zipfile`: that one lets the last of duplicates win, takes the local headers' word for
nothing, changes hostile names unnoticed and, before 3.11.8, does not see members that overlap (gh-109858).
"""

import struct
from dataclasses import dataclass

from pipeline.debag.faults import FaultKind, Findings, UnreadableZip
from pipeline.debag.policy import Policy
from pipeline.debag.zip_extra import name_and_time, zip64_values
from pipeline.debag.zip_source import FULL32, LOCAL_MARK, UTF8_FLAG, ZipSource, say_what_it_is

_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_MARK = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_MARK = b"PK\x06\x06"
_ENTRY = struct.Struct("<4s6H3L5H2L")
_ENTRY_MARK = b"PK\x01\x02"
_FULL16 = 0xFFFF
_WRAP = 1 << 32  # packers without zip64 write of a position only what 32 bits hold
_LONGEST_COMMENT = 0xFFFF
STORED, DEFLATED = 0, 8
_ENCRYPTED = 0x0001
_UNIX_HOSTS = frozenset({3, 19})  # Unix, macOS: of others the upper half of the attributes is no mode (4.4.2, 4.4.15)


@dataclass(slots=True)
class Member:
    """One entry of the central directory.

    Attributes:
        name: as this pipeline reads it; folders end in `/`.
        raw: the bytes of the name.
        other_name: what `raw` would be as UTF-8, where the zip does not say that it is; else empty.
        head: bytes 6 to 30 of the entry, which its local header should repeat.
        flags: the general purpose bits.
        method: `STORED`, `DEFLATED`, or one that is not known here.
        crc: CRC-32 of the content.
        packed: bytes in the zip.
        size: bytes of the content.
        offset: where its local header begins in the file.
        mode: the Unix mode, or 0.
        date, time: of its last change, in MS-DOS form, without a time zone.
        modified: the same in seconds since 1970, UTC, where a field tells it.
        crc_doubted: whether its local header or data descriptor has another CRC-32.
        data_offset: where its content begins; known once its local header was read.
    """

    name: str
    raw: bytes
    other_name: str
    head: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int
    date: int
    time: int
    modified: float | None = None
    crc_doubted: bool = False
    data_offset: int = -1

    @property
    def is_folder(self) -> bool:
        """Whether the entry stands for a folder."""
        return self.name.endswith("/")

    @property
    def is_readable(self) -> bool:
        """Whether its content can be read; else it is a fault already."""
        known = self.method == DEFLATED or (self.method == STORED and self.packed == self.size)
        return known and self.data_offset >= 0 and not self.flags & _ENCRYPTED


@dataclass(frozen=True)
class Directory:
    """The central directory: where it lies, and what is in it.

    Attributes:
        members: in the order of the directory.
        start: where the directory begins in the file; members end before it.
        shift: bytes that stand before the zip and are no part of it.
    """

    members: list[Member]
    start: int
    shift: int


@dataclass(frozen=True)
class _End:
    """What the end records say."""

    entries: int
    size: int
    start: int
    shift: int
    counts_wrap: bool
    end: int


def read_directory(source: ZipSource, policy: Policy, say: Findings) -> Directory:
    """Read the table of contents.

    Raises:
        UnreadableZip: there is none that can be trusted; `say` has the reason.
    """
    end = _find_end(source, say)
    if end.end < source.size:
        say.warn(FaultKind.APPENDED_BYTES, f"{source.size - end.end} bytes after the end of the zip")
    if end.shift:
        say.warn(FaultKind.PREPENDED_BYTES, f"{end.shift} bytes before the zip")
    if end.entries > policy.max_members:
        raise say.fatal(FaultKind.TOO_MANY_MEMBERS, f"{end.entries}; allowed are {policy.max_members}")
    if end.size > policy.max_directory_bytes:
        raise say.fatal(FaultKind.TOO_MANY_MEMBERS, f"central directory of {end.size} bytes")
    members = _entries(source.read(end.start, end.size), end, policy, say)
    if not members:
        raise say.fatal(FaultKind.ZIP_EMPTY, "no members")
    return Directory(members, end.start, end.shift)


def _broken(say: Findings, detail: str) -> UnreadableZip:
    return say.fatal(FaultKind.ZIP_DIRECTORY_DAMAGED, detail)


def _find_end(source: ZipSource, say: Findings) -> _End:
    """The end record: the one whose comment ends with the file, else (bytes were appended) the last one that fits."""
    tail_start = max(0, source.size - _END.size - _LONGEST_COMMENT)
    tail = source.read(tail_start, source.size - tail_start)
    places = []
    place = tail.rfind(_END_MARK)
    while place >= 0:
        if place + _END.size <= len(tail):
            places.append(place)
        place = tail.rfind(_END_MARK, 0, place + len(_END_MARK) - 1)
    exact = [place for place in places if place + _END.size + _END.unpack_from(tail, place)[-1] == len(tail)]
    found: list[_End] = []
    reasons = Findings()
    for place in exact or places:
        try:
            found.append(_read_end(source, tail_start + place, reasons))
        except UnreadableZip:
            continue
        if not exact:
            break
    if len(found) == 1:
        return found[0]
    if found:
        raise _broken(say, f"{len(found)} end records fit, so readers would not agree on what is in the zip")
    if not reasons.faults:
        raise say_what_it_is(source, say)
    first = reasons.faults[0]
    raise say.fatal(FaultKind(first.kind), first.detail, path=first.path)


def _read_end(source: ZipSource, place: int, say: Findings) -> _End:
    """The end record at `place`, with the zip64 one if there is one."""
    _, disk, first_disk, here, entries, size, start, comment = _END.unpack(source.read(place, _END.size))
    end = place + _END.size + comment
    if end > source.size:
        raise say.fatal(FaultKind.ZIP_TRUNCATED, f"{end - source.size} bytes are missing", path=source.path.name)
    below = told = place
    locator = source.read(place - _LOCATOR.size, _LOCATOR.size) if place >= _LOCATOR.size else b""
    wide = locator[:4] == _LOCATOR_MARK
    if wide:
        below, told, values = _read_end64(source, place - _LOCATOR.size, locator, say)
        narrow = (disk, first_disk, here, entries, size, start)
        limits = (_FULL16, _FULL16, _FULL16, _FULL16, FULL32, FULL32)
        if any(n not in (limit, w) for n, w, limit in zip(narrow, values, limits, strict=True)):
            raise _broken(say, "the end record and its zip64 record contradict each other")
        disk, first_disk, here, entries, size, start = values
    if disk or first_disk or here != entries:
        raise say.fatal(FaultKind.ZIP_SPLIT, f"part {disk + 1} of a zip in several parts")
    shift = below - size - start
    if not wide and shift > 0 and shift % _WRAP == 0 and source.read(0, 4) == LOCAL_MARK:
        raise say.fatal(FaultKind.ZIP64_LEFT_OUT, f"{source.size} bytes, in a form that can tell {FULL32} at most")
    if wide and below - told != shift:
        raise _broken(say, f"the zip64 end record is at {below}, not where its locator says")
    if entries * _ENTRY.size > size:
        raise _broken(say, f"{entries} entries do not fit into a central directory of {size} bytes")
    if shift < 0:
        raise _broken(say, f"the central directory should be {size} bytes at {start}, and does not fit in")
    if size and source.read(start + shift, 4) != _ENTRY_MARK:
        raise _broken(say, f"no central directory at {start + shift}")
    return _End(entries, size, start + shift, shift, not wide, end)


def _read_end64(source: ZipSource, place: int, locator: bytes, say: Findings) -> tuple[int, int, tuple[int, ...]]:
    """The zip64 end record that the locator at `place` points to: where it is, where it should be, its values."""
    _, disk, offset, disks = _LOCATOR.unpack(locator)
    if disk or disks > 1:
        raise say.fatal(FaultKind.ZIP_SPLIT, f"one of {disks} parts")
    for where in (offset, place - _END64.size):
        record = source.read(where, _END64.size) if 0 <= where <= place - _END64.size else b""
        if record[:4] == _END64_MARK:
            _, length, _, _, disk, first_disk, here, entries, size, start = _END64.unpack(record)
            if where + 12 + length == place:
                return where, offset, (disk, first_disk, here, entries, size, start)
    raise _broken(say, "the zip64 end record is not where its locator says")


def _entries(table: bytes, end: _End, policy: Policy, say: Findings) -> list[Member]:
    members: list[Member] = []
    position = names = 0
    while position < len(table):
        if len(members) == policy.max_members or names > policy.max_name_bytes:
            detail = (
                f"more than the {policy.max_members}, or the {policy.max_name_bytes} bytes of names, that are allowed"
            )
            raise say.fatal(FaultKind.TOO_MANY_MEMBERS, detail)
        if not len(members) & 0xFFF:
            say.beat()
        if len(table) - position < _ENTRY.size or table[position : position + 4] != _ENTRY_MARK:
            raise _broken(say, f"entry {len(members) + 1} of the central directory is damaged")
        fields = _ENTRY.unpack_from(table, position)
        name_end = position + _ENTRY.size + fields[10]
        after = name_end + fields[11] + fields[12]
        if after > len(table):
            raise _broken(say, f"entry {len(members) + 1} of the central directory is cut off")
        raw = table[position + _ENTRY.size : name_end]
        head = table[position + 6 : position + 30]
        extra = table[name_end : name_end + fields[11]] if fields[11] else b""
        member = _member(fields, raw, head, extra, end.shift, say)
        members.append(member)
        names += member.name.__sizeof__() + (member.other_name.__sizeof__() if member.other_name else 0)
        position = after
    wrapped = end.counts_wrap and len(members) & _FULL16 == end.entries
    if len(members) != end.entries and not wrapped:
        raise _broken(say, f"has {len(members)} entries, and says {end.entries}")
    return members


def _member(fields: tuple[int, ...], raw: bytes, head: bytes, extra: bytes, shift: int, say: Findings) -> Member:
    _, made_by, _, flags, method, time, date, crc, packed, size, _, _, _, disk, _, attributes, offset = fields
    told, modified = name_and_time(extra, raw) if extra else ("", None)
    name, other = (told, "") if told and not flags & UTF8_FLAG else _name(raw, flags, say)
    if FULL32 in (packed, size, offset) or disk == _FULL16:
        wide = zip64_values(extra, [size == FULL32, packed == FULL32, offset == FULL32, disk == _FULL16])
        if wide is None:
            raise _broken(say, f"{name!r}: its zip64 field is damaged")
        size, packed, offset, disk = (
            narrow if value is None else value for narrow, value in zip((size, packed, offset, disk), wide, strict=True)
        )
    if disk:
        say.fault(FaultKind.ZIP_SPLIT, f"lies in part {disk + 1}", path=name)
    mode = attributes >> 16 if made_by >> 8 in _UNIX_HOSTS else 0
    return Member(name, raw, other, head, flags, method, crc, packed, size, offset + shift, mode, date, time, modified)


def _name(raw: bytes, flags: int, say: Findings) -> tuple[str, str]:
    """The name, and what it would be as UTF-8 if the zip does not say that it is."""
    if raw.isascii():
        return raw.decode("ascii"), ""
    try:
        utf8 = raw.decode("utf-8")
    except UnicodeDecodeError:
        utf8 = ""
    if flags & UTF8_FLAG:
        if not utf8:
            say.fault(FaultKind.NAME_UNDECODABLE, "is not UTF-8", path=raw.decode("utf-8", "backslashreplace"))
            return raw.decode("cp437"), ""
        return utf8, ""
    return raw.decode("cp437"), utf8
