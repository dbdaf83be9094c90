"""What is asked of a bag zip, what comes out of it, and how many threads may work on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.foundation.declared import at_least, setting
from pipeline.foundation.errors import Fault
from pipeline.foundation.fixity import digests_name

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Policy:
    """`[debag]`: what a bag may be.

    The defaults are meant for strangers' bags.

    Attributes:
        max_ratio: unpacked bytes for each byte in the zip, of a member and of all, before it counts as a bomb.
        ratio_floor_bytes: up to so many unpacked bytes the ratio does not matter.
        max_directory_bytes: bytes of the central directory, which is held in memory.
        max_name_bytes: memory that the names of members, or of folders, may take.
        max_tag_bytes: bytes of the tag files of a bag that are parsed.
        several_works: whether a zip may hold other works than the one that its key names, if it holds several.
        allow_unbagged: accept plain zips with works but no bag; they are recorded as not verified.
        reserve_bytes: disk that has to stay free.
    """

    threads: int = setting(0, "threads a bag; 0: the CPUs available to the process", at_least(0))
    max_ratio: float = setting(50.0, "largest expansion of a compressed member over 8 MB")
    ratio_floor_bytes: int = 8 * _MEBIBYTE
    max_members: int = setting(200_000, "most members of a zip")
    max_directory_bytes: int = 64 * _MEBIBYTE
    max_name_bytes: int = 48 * _MEBIBYTE
    max_tag_bytes: int = 64 * _MEBIBYTE
    allow_weak_digests: bool = setting(default=True, meaning="accept bags with md5 or sha1 alone")
    require_tag_manifest: bool = setting(default=False, meaning="refuse bags without a tag manifest")
    rid_mismatch: Literal["warn", "refuse"] = setting(
        "refuse",
        "when BDRC-RID, folder and key name different works",
        choices=("warn", "refuse"),
    )
    several_works: bool = True
    allow_unbagged: bool = False
    reserve_bytes: int = 64 * _MEBIBYTE


@dataclass(frozen=True)
class DebaggedWork:
    """A work that was verified and unpacked.

    Attributes:
        rid: the work.
        path: its folder.
        files: payload files.
        bytes: bytes of the payload.
        verified: `manifest` if every byte matched the bag's manifests; `none` if there was no bag.
        files_on_disk: its files, with the kept tag files.
        bytes_on_disk: the bytes of those.
        digests_bytes: the size of the file with its digests.
    """

    rid: str
    path: Path
    files: int
    bytes: int
    verified: Literal["manifest", "none"]
    files_on_disk: int
    bytes_on_disk: int
    digests_bytes: int

    @property
    def digests(self) -> Path:
        """The file with its digests (`fixity`)."""
        return self.path.with_name(digests_name(self.rid))


@dataclass(frozen=True)
class Debagged:
    """What a zip became.

    Attributes:
        works: the works, by RID.
        warnings: what was odd and is accepted.
        algorithms: names of the digests that were computed, as hashlib has them.
        zip_bytes: size of the zip.
        seconds: time it took, of a clock that only goes forward.
        members: members of the zip.
    """

    works: tuple[DebaggedWork, ...]
    warnings: tuple[Fault, ...]
    algorithms: tuple[str, ...]
    zip_bytes: int
    seconds: float
    members: int

    @property
    def bytes(self) -> int:
        """Payload bytes of all works."""
        return sum(work.bytes for work in self.works)

    @property
    def files(self) -> int:
        """Payload files of all works."""
        return sum(work.files for work in self.works)

    def facts(self) -> dict[str, Any]:
        """What the record keeps of it."""
        return {
            "works": [work.rid for work in self.works],
            "files": self.files,
            "bytes": self.bytes,
            "algorithms": list(self.algorithms),
            "verified": sorted({work.verified for work in self.works}),
            "warnings": [fault.as_dict() for fault in self.warnings],
            "seconds": round(self.seconds, 3),
        }
