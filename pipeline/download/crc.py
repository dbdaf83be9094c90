"""Checksums that can be taken range by range, in any order, and joined: CRC-32, and CRC-64/NVME where awscrt is there.

Joining is multiplication by a power of x modulo the polynomial, as zlib's `crc32_combine` does it.
"""

import importlib
import zlib
from collections.abc import Callable
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


def with_crc64nvme(whole: int, value: int, size_bytes: int) -> int:
    """The CRC-64/NVME of what has the CRC `whole`, followed by so many bytes that have the CRC `value`."""
    checksums: Any = crt()
    return int(checksums.combine_crc64nvme(whole, value, size_bytes))


def with_crc32(whole: int, value: int, size_bytes: int) -> int:
    """The CRC-32 of what has the CRC `whole`, followed by so many bytes that have the CRC `value`."""
    return _times(_x_to(8 * size_bytes), whole) ^ value


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
