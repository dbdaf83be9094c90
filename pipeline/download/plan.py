"""Which ranges an object is fetched in, and how far its bytes can be compared with what S3 has.

The ladder, best first: a CRC-64/NVME of the whole object (needs awscrt), the ETag of a multipart upload (the MD5 of
its parts' MD5s), the ETag of a single upload (its MD5), a CRC-32 of the whole, the size. With SSE-KMS or SSE-C an ETag
is no digest (Amazon S3 API Reference, "Object"). Every byte of a bag is compared with its manifests later, so most
downloads climb no further than the size, until debag doubts them: `Verify`.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.download import crc

_INLINE_PARTS = 4  # a part of up to so many chunks is fetched in one range, so that it is digested while it comes
_PARTS_ETAG = re.compile(r"[0-9a-f]{32}-([0-9]+)")
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")


class Level(StrEnum):
    """How the whole object was compared with what S3 has."""

    CRC64NVME = "crc64nvme"
    PARTS = "etag-md5-of-parts"
    MD5 = "etag-md5"
    CRC32 = "crc32"
    SIZE = "size"


class Verify(StrEnum):
    """When a download is compared with S3's digests.

    `manifest`: when debag finds what wrong bytes could explain, or what no manifest proves; at once by a CRC-64, which
    costs next to nothing. `always`: at once. `never`: the size alone is compared.
    """

    MANIFEST = "manifest"
    ALWAYS = "always"
    NEVER = "never"


class By(StrEnum):
    """What is taken of each range while it comes, and stands in the journal."""

    MD5 = "md5"
    CRC64NVME = "crc64nvme"
    CRC32 = "crc32"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Remote:
    """What S3 says of an object.

    Attributes:
        etag: without quotes.
        version_id: empty where the bucket keeps no versions.
        digest_etag: whether the ETag is made of MD5s; not with SSE-KMS and SSE-C.
        crc64nvme: of the whole object, base64 as S3 tells it; empty where there is none.
        crc32: likewise.
        part_bytes: of each part of a multipart upload but the last; 0: not known, or not of one size.
    """

    size_bytes: int
    etag: str
    version_id: str = ""
    digest_etag: bool = True
    crc64nvme: str = ""
    crc32: str = ""
    part_bytes: int = 0

    @property
    def parts(self) -> int:
        """The number of parts that the ETag tells; 0: it tells none."""
        told = _PARTS_ETAG.fullmatch(self.etag) if self.digest_etag else None
        return int(told[1]) if told else 0


class Digest:
    """What is taken of a range, block by block; by itself nothing."""

    def update(self, block: memoryview, /) -> None:
        """Take one more block, the next in order."""

    def values(self) -> list[str]:
        """What was taken so far."""
        return []


class _Crc(Digest):
    def __init__(self, update: crc.Update) -> None:
        self._update = update
        self._value = 0

    def update(self, block: memoryview, /) -> None:
        self._value = self._update(block, self._value)

    def values(self) -> list[str]:
        return [f"{self._value:x}"]


class _Md5s(Digest):
    """An MD5 of each part that the range holds."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._room = part_bytes
        self._part = hashlib.md5(usedforsecurity=False)
        self._parts: list[str] = []

    def update(self, block: memoryview, /) -> None:
        while block:
            piece = block[: self._room]
            self._part.update(piece)
            self._room -= len(piece)
            block = block[len(piece) :]
            if not self._room:
                self._parts.append(self._part.hexdigest())
                self._part = hashlib.md5(usedforsecurity=False)
                self._room = self._part_bytes

    def values(self) -> list[str]:
        if self._room < self._part_bytes or not self._parts:
            return [*self._parts, self._part.hexdigest()]
        return list(self._parts)


@dataclass(frozen=True)
class Plan:
    """The ranges of a download, and how it is verified.

    Attributes:
        chunk_bytes: of each range but the last.
        level: what the whole will be compared by.
        by: what is taken of each range.
    """

    remote: Remote
    chunk_bytes: int
    level: Level
    by: By

    @property
    def chunks(self) -> int:
        """The number of ranges; an empty object has one, which is empty."""
        return max(1, -(-self.remote.size_bytes // self.chunk_bytes))

    def span(self, number: int) -> tuple[int, int]:
        """First byte of a range, and the one after its last."""
        start = number * self.chunk_bytes
        return start, min(start + self.chunk_bytes, self.remote.size_bytes)

    def named(self, number: int) -> str:
        """A range for a person, as HTTP counts: the last byte is meant too."""
        start, end = self.span(number)
        return f"bytes {start}-{end - 1}"

    def digest(self) -> Digest:
        """What takes the digests of a range."""
        if self.by is By.MD5:
            return _Md5s(self._md5_bytes)
        if self.by is By.NOTHING:
            return Digest()
        return _Crc(crc.crc64nvme if self.by is By.CRC64NVME else crc.crc32)

    @property
    def can_be_taken(self) -> bool:
        """Whether this machine can take the digests: awscrt may have been there when the plan was made, and no more."""
        return self.by is not By.CRC64NVME or crc.crt() is not None

    @property
    def in_sequence(self) -> bool:
        """Whether the MD5s cannot be taken range by range, but only of the bytes in their order, on the disk."""
        return self.level in {Level.PARTS, Level.MD5} and self.by is not By.MD5

    def sequence(self) -> Digest:
        """What takes the MD5s of the whole in order."""
        return _Md5s(self._md5_bytes)

    @property
    def _md5_bytes(self) -> int:
        return self.remote.part_bytes if self.level is Level.PARTS else max(1, self.remote.size_bytes)

    def found(self, taken: Mapping[int, Sequence[str]], in_sequence: Sequence[str] = ()) -> str:
        """What the bytes that came amount to, in the words in which S3 tells it; empty: nothing can be compared.

        Args:
            taken: the digests of each range.
            in_sequence: what `sequence` took, where it was needed.
        """
        if self.level in {Level.PARTS, Level.MD5}:
            md5s = in_sequence or [value for number in range(self.chunks) for value in taken[number]]
            if self.level is Level.MD5:
                return md5s[0]
            joined = b"".join(map(bytes.fromhex, md5s))
            return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(md5s)}"
        if self.by is By.NOTHING:
            return ""
        wide, whole = self.by is By.CRC64NVME, 0
        join = crc.with_crc64nvme if wide else crc.with_crc32
        for number in range(self.chunks):
            start, end = self.span(number)
            whole = join(whole, int(taken[number][0], 16), end - start)
        return base64.b64encode(whole.to_bytes(8 if wide else 4)).decode()

    @property
    def expected(self) -> str:
        """What S3 says of the whole, to be compared with `found`; empty: nothing that could be."""
        told = {
            Level.CRC64NVME: self.remote.crc64nvme,
            Level.CRC32: self.remote.crc32,
            Level.PARTS: self.remote.etag,
            Level.MD5: self.remote.etag,
        }
        return told.get(self.level, "")

    def is_not(self, found: str) -> bool:
        """Whether S3 says something else of the whole than was found."""
        return bool(self.expected) and found != self.expected

    def digests(self, found: str) -> dict[str, str]:
        """What the record keeps of the whole, by name."""
        if not found:
            return {}
        return {str(self.level if self.expected else self.by): found}


def plan(remote: Remote, *, chunk_bytes: int, verify: Verify) -> Plan:
    """The ranges for an object, and the highest level that it allows and that is wanted.

    Args:
        remote: the object.
        chunk_bytes: the size of a range to aim at; ranges are whole parts where the parts' MD5s are needed.
        verify: when the whole is compared with S3's digests.
    """
    level = _level(remote)
    if verify is Verify.NEVER or (verify is Verify.MANIFEST and level is not Level.CRC64NVME):
        return Plan(remote, chunk_bytes, Level.SIZE, By.NOTHING)
    if level is Level.PARTS and remote.part_bytes <= _INLINE_PARTS * chunk_bytes:
        whole_parts = max(1, chunk_bytes // remote.part_bytes)
        return Plan(remote, whole_parts * remote.part_bytes, level, By.MD5)
    if level is Level.MD5 and remote.size_bytes <= chunk_bytes:
        return Plan(remote, chunk_bytes, level, By.MD5)
    by = By.CRC32 if level is Level.CRC32 or crc.crt() is None else By.CRC64NVME
    return Plan(remote, chunk_bytes, level, by)


def _level(remote: Remote) -> Level:
    if remote.crc64nvme and crc.crt() is not None:
        return Level.CRC64NVME
    if remote.parts:
        # Parts of different lengths cannot be told from the first one: then the number of parts does not fit.
        if remote.part_bytes > 0 and -(-remote.size_bytes // remote.part_bytes) == remote.parts:
            return Level.PARTS
    elif remote.digest_etag and _MD5_ETAG.fullmatch(remote.etag):
        return Level.MD5
    return Level.CRC32 if remote.crc32 else Level.SIZE
