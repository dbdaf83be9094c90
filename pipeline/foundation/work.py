"""The words of the line: a work's identifier, a bag's identity, where a work lies. Pure: nothing here touches a world.

Names of keys, folders and the archive tree are those that BDRC uses.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from pipeline.foundation.errors import InvalidRid, UsageError

Pulse = Callable[[int, int], None]
"""Called by a step often, with (bytes done, bytes in all); it may raise to stop the step there, which is safe."""

MAX_RID_BYTES = 200
"""Leaves room for `.bag.zip.part` and a bag identity in a file name of 255 bytes."""

_NOT_ASCII = re.compile(r"[^\n -~]+")
# What words of Armenian, Hebrew, Tibetan (tsheg) and Japanese are written with besides letters: UAX #31, table 3.
_WITHIN_WORDS = "\u058a\u05f3\u05f4\u0f0b\u30a0\u30fb"
# Letters and marks that nobody sees (Unicode: Default_Ignorable_Code_Point): with them one name looks like another.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# Letters that look like a Latin letter or a digit, a part of the table of UTS #39: Cyrillic, Greek and Arabic ones,
# each before that; Cherokee and Lisu, by what each of their block looks like. Small letters go by their capitals, if
# they are not here themselves, and those of Latin by their names.
_LOOKS = (
    "\u0410A\u0412B\u0415E\u0405S\u0406I\u0408J\u041aK\u041cM\u041dH\u041eO\u0420P\u0421C\u0422T\u0423Y\u0425X\u04aeY"
    "\u051aQ\u051cW\u0474V\u04c0I\u04173\u04bbh\u0501d\u04cfl\u0391A\u0392B\u0395E\u0396Z\u0397H\u0399I\u039aK\u039cM"
    "\u039dN\u039fO\u03a1P\u03a4T\u03a5Y\u03a7X\u03f9C\u037fJ\u03b3y\u03bdv\u03c3o\u03c5u\u0492F\u06611\u06f11"
)
_BLOCKS = {
    0x13A0: "DRT  i   YAJE      W   M   H Y  G hZ          4b  R WS   VS   LC  P   Kd      6    GB",
    0xA4D0: "BPdDT GK JC ZF MNLSR  VH  WXY A E IOU",
}
_PLAIN = dict(zip(_LOOKS[::2], _LOOKS[1::2], strict=True)) | {
    chr(first + at): seen for first, block in _BLOCKS.items() for at, seen in enumerate(block) if seen != " "
}
_VARIANT = re.compile(r"LATIN .*(?:SMALL CAPITAL|DOTLESS|SCRIPT|INSULAR|TONE) (?:([A-Z])|(TWO|FIVE|SIX))")
# Marks that Unicode composes with no letter before them: an underline is no accent.
_LOOSE_MARKS = re.compile("(?<=[!-~])[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")


def no_pulse(_done: int, _total: int) -> None:
    """For callers that neither watch nor stop a step."""


def stamp_of(status: os.stat_result) -> str:
    """What tells a file from another of the same name, or from itself after a change: inode, bytes, and both times.

    The time of the last status change is among them because nobody can set it back.
    """
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def rfc3339(moment: datetime) -> str:
    """A moment of UTC for machines, with a Z."""
    return moment.isoformat().replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """A moment of UTC for people, to the second."""
    return f"{moment:%F %T} UTC"


def human_bytes(size_bytes: float) -> str:
    """A size for people: `15.8 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def human_count(count: int, one: str, many: str = "") -> str:
    """So many of something, for people: `1 work`, `1,200 works`; `many` where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def human_seconds(seconds: float) -> str:
    """A time for people, in two units at most: `42 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    for size, name, smaller, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"


def exact_seconds(seconds: float) -> str:
    """How long something took, which was measured: `41.3`, `0.042`; what took time is never told as none."""
    return f"{seconds:.1f}" if seconds >= 1 else f"{max(seconds, 0.001):.2g}"


def printable(text: str) -> str:
    """Text from outside, without what a terminal, a mail reader or a browser would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def json_bytes(value: object, *, indent: int | None = None) -> bytes:
    """A JSON document for a file: names keep their script, what a terminal would obey is written by its number."""
    return inert_json(json.dumps(value, ensure_ascii=False, indent=indent) + "\n").encode()


def inert_json(text: str) -> str:
    """JSON text in which what a terminal would obey is written by its number."""
    if text.replace("\n", "").isprintable():  # nearly always, and found out twenty times as fast
        return text
    return _NOT_ASCII.sub(
        lambda found: "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in found[0]), text
    )


def checked_rid(text: str, *, source: str = "") -> str:
    """`text`, if it can be a work's identifier, and so may name a folder.

    Letters, marks and digits of any script that can be seen, with what the words of some are written with, as the
    Tibetan tsheg; `_` and `-`, single blanks inside; begins with a letter or digit. So it is one plain path component:
    no separator, no dot, no control character, no leading dash, nothing a shell would read.

    Args:
        text: what should be an identifier, such as `W1FPL2251`.
        source: where it was read, for the error.

    Raises:
        InvalidRid: it is not.
    """
    sane = (
        0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_RID_BYTES
        and unicodedata.category(text[0])[0] in "LN"
        and all(unicodedata.category(char)[0] in "LMN" or char in f"_- {_WITHIN_WORDS}" for char in text)
        and "  " not in text
        and not text.endswith(" ")
        and _UNSEEN.search(text) is None
    )
    if not sane:
        raise InvalidRid(f"{text[:80]!r} is no work identifier" + (f" (from {source[:200]!r})" if source else ""))
    return text


def written_plainly(work_rid: str) -> str:
    """The identifier as most people would type what they see: W1 for one in fullwidth or Cyrillic letters."""
    seen = "".join(map(_plain, unicodedata.normalize("NFKC", work_rid)))
    return _LOOSE_MARKS.sub("", unicodedata.normalize("NFKC", seen))


def _plain(char: str) -> str:
    variant = _VARIANT.fullmatch(unicodedata.name(char, ""))
    if variant is not None:
        return unicodedata.lookup(f"DIGIT {variant[2]}" if variant[2] else f"LATIN SMALL LETTER {variant[1]}")
    capital = _PLAIN.get(char.upper(), "")
    return _PLAIN.get(char) or capital.lower() or char


def mixes_alphabets(work_rid: str) -> bool:
    """Whether Latin letters stand beside those of another script that has capitals, as Coptic: such look alike.

    What has none, as Tibetan or Devanagari, looks like no Latin, and may stand beside it.
    """
    cased = [char for char in work_rid if unicodedata.category(char) in {"Lu", "Ll"}]
    scripts = {unicodedata.name(char, "").partition(" ")[0] for char in cased}
    return "LATIN" in scripts and len(scripts) > 1


def skeleton(work_rid: str) -> str:
    """The same for identifiers that look the same, in upper or lower case; 32 characters that mean nothing else.

    UTS #39 calls it so; of its table only what looks Latin is taken, and case is left out besides.
    """
    seen = unicodedata.normalize("NFKC", written_plainly(work_rid).casefold())
    return hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def asked_rid(text: str) -> str:
    """The work that an operator names.

    Raises:
        UsageError: it is no RID.
    """
    try:
        return checked_rid(text)
    except InvalidRid as error:
        raise UsageError(f"{error.what}: a RID was expected") from error


def rid_from_name(name: str) -> str:
    """The RID that a key or a path names: its last component up to the first dot.

    Raises:
        InvalidRid: what stands there is no identifier, or the name is not UTF-8, which no database would hold.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidRid(f"{name[:200]!a} is not UTF-8") from error
    return checked_rid(PurePosixPath(name).name.split(".", 1)[0], source=name)


def is_bag_zip(key: str) -> bool:
    """Whether a key has the suffix that the bucket notifications filter on."""
    return key.lower().endswith(".bag.zip")


def shelf(work_rid: str) -> str:
    """The two digits under which a work lies: the RID's last two characters if both are digits, else `00`."""
    return work_rid[-2:] if re.fullmatch(r"[0-9]{2}", work_rid[-2:]) else "00"


def staging_key(work_rid: str) -> str:
    """The key of a work's bag in the staging buckets: `Archive{n}/{dd}/{RID}/{RID}.bag.zip`, n = dd // 50."""
    digits = shelf(work_rid)
    return f"Archive{int(digits) // 50}/{digits}/{work_rid}/{work_rid}.bag.zip"


def archive_dir(archive_root: Path, work_rid: str) -> Path:
    """Where a work lies in the archive: `{root}/Archive{dd // 25}/{dd}/{RID}`."""
    digits = shelf(work_rid)
    return archive_root / f"Archive{int(digits) // 25}" / digits / work_rid


SCHEDULER_USER = "pipeline"
DOOR_KEY_FILE = "var/scheduler.password"
"""Who may ask luigid, and where the password lies unless something else is said; meant from the project's folder."""


def without_users(text: str) -> str:
    """A text as people may see it: without user and password of the URLs in it."""
    return re.sub(r"(?<=://)[^/\s@'\"]+@", "", text)


def without_user(url: str) -> str:
    """The URL as people may see it: without the user and password that it may hold."""
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def archive_shares(archive_root: Path) -> list[Path]:
    """The share points of the archive, `Archive0` to `Archive3`."""
    return [archive_root / f"Archive{number}" for number in range(4)]


@dataclass(frozen=True)
class Bag:
    """A bag zip to bring home, and what identifies its bytes.

    Attributes:
        work_rid: the checked RID; the only thing about a bag that names local paths.
        bucket: the S3 bucket; empty for a zip on a local disk.
        key: the decoded S3 key, or the absolute path of a local zip.
        etag: the ETag without quotes, or the SHA-256 of a local zip; empty while not known.
        version_id: the S3 version, where the event tells it; of a local zip the file's stamp.
        source: the name of the source that it came from; chooses region and profile.
        size_bytes: the zip's size; 0 while not known.
        event_time: when S3 says that it happened.
        restore_expires_on: when the restored copy goes away.
        only_created: the event says no more than that it was put to S3: it may be frozen.
    """

    work_rid: str
    bucket: str
    key: str
    etag: str = ""
    version_id: str = ""
    source: str = ""
    size_bytes: int = 0
    event_time: datetime | None = None
    restore_expires_on: datetime | None = None
    only_created: bool = False

    @property
    def is_identified(self) -> bool:
        """Whether it is known which bytes are meant."""
        return bool(self.etag or self.version_id)

    @property
    def bag_id(self) -> str:
        """A short hash of what identifies the bytes: bucket, key and ETag (or version where there is no ETag).

        Raises:
            ValueError: neither is known yet, so the bytes are not identified.
        """
        if not self.is_identified:
            raise ValueError(f"{self.key}: neither ETag nor version is known")
        identity = "\0".join([self.bucket, self.key, self.etag or f"version {self.version_id}"])
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    @property
    def is_local(self) -> bool:
        """Whether the zip lies on a local disk instead of in S3."""
        return not self.bucket

    @property
    def address(self) -> str:
        """Where the zip lies, for a person: `s3://bucket/key` or a path."""
        return self.key if self.is_local else f"s3://{self.bucket}/{self.key}"
