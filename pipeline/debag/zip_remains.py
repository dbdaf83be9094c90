"""What can still be told of a file that should be a zip and has no end record."""

import struct

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.zip_source import ZipSource

_LOCAL_MARK = b"PK\x03\x04"


def say_what_it_is(source: ZipSource, say: Findings) -> None:
    """Name the fault of a file without any end record."""
    if source.size and source.read(0, 4) == _LOCAL_MARK:
        say.fault(
            FaultKind.ZIP_TRUNCATED,
            path=source.path.name,
            detail=f"begins as a zip, but its end is missing: {source.size} bytes are here{_salvage(source)}",
        )
    else:
        detail = "the file is empty" if not source.size else f"{source.size} bytes, neither begin nor end of a zip"
        say.fault(FaultKind.NOT_A_ZIP, path=source.path.name, detail=detail)


def _salvage(source: ZipSource) -> str:
    """What local headers still tell of a zip that was cut off: how many members are whole, and the one that is not."""
    offset, whole, name = 0, 0, ""
    while whole < 1_000_000:
        head = source.read(offset, 30)
        if len(head) < 30 or head[:4] != _LOCAL_MARK:
            break
        _, _, flags, _, _, _, _, packed, _, name_length, extra_length = struct.unpack("<4s5H3L2H", head)
        name = source.read(offset + 30, name_length).decode("utf-8", "replace")
        if flags & 8 or packed == 0xFFFFFFFF:
            return f"; the last member that could be followed is {name[:200]!r}"
        offset += 30 + name_length + extra_length + packed
        if offset > source.size:
            return f"; {whole} members are whole, {name[:200]!r} is cut off"
        whole += 1
    return f"; {whole} members are whole, the last is {name[:200]!r}" if whole else ""
