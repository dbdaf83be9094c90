"""Checksums that can be taken range by range, in any order, and joined: CRC-32, and CRC-64/NVME where awscrt is there.

Joining is multiplication by a power of x modulo the polynomial, as zlib's `crc32_combine` does it.
"""

import importlib
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

_POLYNOMIAL = 0xEDB88320  # CRC-32, reflected, as zlib has it
_ONE = 1 << 31  # x^0 in reflected bits

Update = Callable[[memoryview, int], int]


@lru_cache(maxsize=1)
def crt() -> Any | None:
    """The checksums of package awscrt, or None: it is optional, and asked for only when an object has a CRC-64."""
    try:
        return importlib.import_module("awscrt.checksums")
    except ImportError:
        return None


def crc64nvme(block: memoryview, value: int) -> int:
    """CRC-64/NVME so far, with one more block; awscrt has to be there."""
    checksums: Any = crt()
    return int(checksums.crc64nvme(block, value))


crc32: Update = zlib.crc32


def joined_crc64nvme(pieces: Iterable[tuple[int, int]]) -> int:
    """The CRC-64/NVME of a whole from (CRC, bytes) of its pieces in order."""
    checksums: Any = crt()
    whole = 0
    for value, size_bytes in pieces:
        whole = int(checksums.combine_crc64nvme(whole, value, size_bytes))
    return whole


def joined_crc32(pieces: Iterable[tuple[int, int]]) -> int:
    """The CRC-32 of a whole from (CRC, bytes) of its pieces in order."""
    whole = 0
    for value, size_bytes in pieces:
        whole = _times(_x_to(8 * size_bytes), whole) ^ value
    return whole


def _times(left: int, right: int) -> int:
    product, bit = 0, _ONE
    while bit:
        if left & bit:
            product ^= right
        right = (right >> 1) ^ _POLYNOMIAL if right & 1 else right >> 1
        bit >>= 1
    return product


@lru_cache(maxsize=8)
def _x_to(exponent: int) -> int:
    power, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            power = _times(square, power)
        square = _times(square, square)
        exponent >>= 1
    return power
