"""CRC-64/NVME in plain Python, in the shape of `awscrt.checksums`: slow, for tests where awscrt is not installed."""

_POLYNOMIAL = 0x9A6C9329AC4BC9B5
_ALL = (1 << 64) - 1


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ _POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return table


_TABLE = _table()


def crc64nvme(block: bytes | memoryview, previous: int = 0) -> int:
    value = previous ^ _ALL
    for byte in bytes(block):
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 255]
    return value ^ _ALL


def combine_crc64nvme(first: int, second: int, second_bytes: int) -> int:
    """The first one's register run over as many zero bytes, and the second one's added."""
    for _ in range(second_bytes):
        first = (first >> 8) ^ _TABLE[first & 255]
    return first ^ second
