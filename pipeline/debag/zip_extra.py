"""The extra fields of a member: what did not fit into its header, or was thought of later (APPNOTE.TXT 4.5, 4.6)."""

import struct
import zlib
from collections.abc import Iterator

_HEAD = struct.Struct("<HH")
_ZIP64, _NTFS, _UNIX, _EXTENDED_TIME, _OLD_UNIX, _UNICODE_PATH = 0x0001, 0x000A, 0x000D, 0x5455, 0x5855, 0x7075
_BEFORE_1970 = 11_644_473_600  # seconds from 1601, where NTFS begins to count, to 1970
_LATEST = 1 << 33  # in the year 2242: what is later is no time of a file


def blocks(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields in an extra field: header and data, up to one that does not fit in."""
    position = 0
    while position + _HEAD.size <= len(extra):
        kind, length = _HEAD.unpack_from(extra, position)
        position += _HEAD.size
        if position + length > len(extra):
            return
        yield kind, extra[position : position + length]
        position += length


def name_and_time(extra: bytes, raw: bytes) -> tuple[str, float | None]:
    """The true name, where a field has it; and the time of the last change in UTC, in seconds since 1970.

    A name is told by the Unicode path field (4.6.9), and counts if its CRC-32 is that of the header's name. The time is
    told by the extended timestamp (0x5455), else by NTFS' (4.5.5), else by one of Unix' (4.5.7, 0x5855).

    Args:
        extra: the extra field of the central directory.
        raw: the name in the header.
    """
    name = ""
    times: dict[int, float] = {}
    for kind, data in blocks(extra):
        if kind == _EXTENDED_TIME and len(data) >= 5 and data[0] & 1:
            times.setdefault(0, float(int.from_bytes(data[1:5], "little", signed=True)))
        elif kind == _NTFS:
            _read_ntfs(data, times)
        elif kind in {_UNIX, _OLD_UNIX} and len(data) >= 8:
            times.setdefault(2, float(int.from_bytes(data[4:8], "little", signed=True)))
        elif kind == _UNICODE_PATH and not name:
            name = _unicode_path(data, raw)
    return name, times[min(times)] if times else None


def _read_ntfs(data: bytes, times: dict[int, float]) -> None:
    """Attribute 1 of the field, after 4 bytes for nothing: three times in units of 100 ns, first of the last change."""
    for kind, attribute in blocks(data[4:]):
        if kind == 1 and len(attribute) >= 8:
            seconds = int.from_bytes(attribute[:8], "little") / 10_000_000 - _BEFORE_1970
            if -_BEFORE_1970 < seconds < _LATEST:
                times.setdefault(1, seconds)


def _unicode_path(data: bytes, raw: bytes) -> str:
    if len(data) <= 5 or data[0] != 1 or int.from_bytes(data[1:5], "little") != zlib.crc32(raw):
        return ""
    try:
        return data[5:].decode("utf-8")
    except UnicodeDecodeError:
        return ""


def zip64_values(extra: bytes, wanted: list[bool]) -> list[int | None] | None:
    """The values of the zip64 field (4.5.3) in an extra field, for those wanted, in its fixed order.

    Returns:
        A value or None for each of `wanted` (size, packed, offset: 8 bytes, disk: 4); None if the field is damaged.
    """
    block = next((data for kind, data in blocks(extra) if kind == _ZIP64), None)
    if block is None:
        return None
    values: list[int | None] = []
    position = 0
    for index, want in enumerate(wanted):
        length = 8 if index < 3 else 4
        if want and position + length > len(block):
            return None
        values.append(int.from_bytes(block[position : position + length], "little") if want else None)
        position += length if want else 0
    return values
