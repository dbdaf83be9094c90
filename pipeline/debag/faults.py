"""The words for what can be wrong, or only odd, with a bag zip.

A kind says what is the matter; whether it is a fault or a warning is decided where it is found, and some kinds can be
either, as `Policy` says. Sections are those of RFC 8493 (BagIt 1.0). Their meaning for a person: `docs/bags.md`.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain, islice
from typing import TypeVar

from pipeline.foundation.errors import Fault
from pipeline.foundation.work import Pulse, no_pulse

T = TypeVar("T")


class FaultKind(StrEnum):
    """One word for each thing that can be the matter with a bag zip."""

    # The zip as a whole.
    NOT_A_ZIP = "not-a-zip"  # missing, no plain file, or neither begins nor ends as a zip does
    ZIP_TRUNCATED = "zip-truncated"  # begins as a zip, but its end (the central directory) is not there
    ZIP_DIRECTORY_DAMAGED = "zip-directory-damaged"  # the central directory contradicts itself or lies elsewhere
    ZIP64_LEFT_OUT = "zip64-left-out"  # over 4 GiB, by a packer that does not know zip64
    ZIP_SPLIT = "zip-split"  # one part of a zip in several parts
    ZIP_EMPTY = "zip-empty"  # has no members
    TOO_MANY_MEMBERS = "too-many-members"  # more than Policy.max_members
    RATIO_TOO_HIGH = "ratio-too-high"  # expands more than Policy.max_ratio: a zip bomb
    PREPENDED_BYTES = "prepended-bytes"  # warning: bytes before the first member
    APPENDED_BYTES = "appended-bytes"  # warning: bytes after the end of the zip
    HIDDEN_BYTES = "hidden-bytes"  # warning: bytes between members that belong to none

    # A member of the zip, whatever it stands for.
    LOCAL_HEADER_DAMAGED = "local-header-damaged"  # where the directory points there is no local header
    LOCAL_HEADER_DIFFERS = "local-header-differs"  # it, or the data descriptor, has not what the directory has
    MEMBERS_OVERLAP = "members-overlap"  # two members share bytes of the zip
    MEMBER_ENCRYPTED = "member-encrypted"
    METHOD_UNSUPPORTED = "method-unsupported"  # neither stored nor deflated
    STORED_SIZE_DIFFERS = "stored-size-differs"  # stored, yet its two sizes are not the same
    MEMBER_CUT_SHORT = "member-cut-short"  # ends, or stops inflating, before its declared size
    MEMBER_TOO_LONG = "member-too-long"  # goes on after its declared size
    MEMBER_DAMAGED = "member-damaged"  # cannot be inflated
    CRC_DIFFERS = "crc-differs"  # fault where no digest covers the bytes; warning where the manifest's digest is right
    DUPLICATE_MEMBER = "duplicate-member"  # the same name twice, even with the same bytes
    LINK = "link"  # a symbolic link
    SPECIAL_FILE = "special-file"  # a device, socket or pipe
    FOLDER_WITH_CONTENT = "folder-with-content"  # an entry for a folder that carries bytes

    # The name of a member (5.1: special directory characters).
    NAME_EMPTY = "name-empty"
    NAME_ABSOLUTE = "name-absolute"  # 5.1
    NAME_TRAVERSAL = "name-traversal"  # 5.1: a part that is `..`
    NAME_DOT_PART = "name-dot-part"  # a part that is `.`
    NAME_EMPTY_PART = "name-empty-part"  # `a//b`
    NAME_BACKSLASH = "name-backslash"  # 5.1
    NAME_DRIVE_LETTER = "name-drive-letter"  # 5.1
    NAME_NUL = "name-nul"
    NAME_TOO_LONG = "name-too-long"  # a part over 255 bytes, or a path over what the file system takes
    NAME_UNDECODABLE = "name-undecodable"  # said to be UTF-8 and is not
    NAMES_COLLIDE = "names-collide"  # 6.1.1.2: equal in NFC, and the manifest cannot tell them apart
    FILE_AND_FOLDER = "file-and-folder"  # one name is a file here and a folder there
    CASE_TWINS = "case-twins"  # 6.1.1.1: warning: equal but for case
    NAME_ODD_CHARACTERS = "name-odd-characters"  # warning: control or bidirectional characters
    NAME_TRAILING_DOT = "name-trailing-dot"  # 6.1.1: warning: ends in a dot or blank, which Windows drops
    NAME_CP437 = "name-cp437"  # warning: read as UTF-8 because the manifest has that name, though not so flagged

    # What the zip holds.
    NO_BAG = "no-bag"  # neither a bag nor a work
    UNBAGGED = "unbagged"  # works without a bag; fault unless Policy.allow_unbagged, then a warning
    OUTSIDE_BAG = "outside-bag"  # a member that is in no bag, beside bags
    LITTER = "litter"  # warning: `__MACOSX`, `.DS_Store` and the like, listed by no manifest; not unpacked
    RID_INVALID = "rid-invalid"  # the bag's folder names no work
    RID_MISMATCH = "rid-mismatch"  # folder, BDRC-RID or the zip's key name different works; as Policy.rid_mismatch says
    FOREIGN_WORK = "foreign-work"  # a work beside the one that the zip is named for; fault unless Policy.several_works
    SAME_WORK_TWICE = "same-work-twice"  # two bags of one zip would become the same work
    SHARED_BAG = "shared-bag"  # warning: the payload of one bag is several works
    OUTSIDE_WORK = "outside-work"  # a payload file that is in none of the works in its bag
    KEPT_MANIFESTS_STRANGE = "kept-manifests-strange"  # warning: a work's kept manifests list none of its files
    PROOF_LEFT_OUT = "proof-left-out"  # warning: `{RID}.digests.json` of an archived work; made anew
    KEPT_NAME_TAKEN = "kept-name-taken"  # warning: the payload has a `{RID}.bag/` of its own; tag files go beside it

    # The declaration, `bagit.txt`.
    DECLARATION_MISSING = "declaration-missing"  # 2.1.1
    DECLARATION_MALFORMED = "declaration-malformed"  # 2.1.1: not exactly the two lines
    DECLARATION_BOM = "declaration-bom"  # 2.1.1: begins with a byte order mark
    VERSION_UNKNOWN = "version-unknown"  # 2.1.1: not 0.93 to 1.0
    ENCODING_UNKNOWN = "encoding-unknown"  # 2.1.1: not on the short list of encodings

    # The payload folder and its manifests.
    PAYLOAD_MISSING = "payload-missing"  # 2.1.2: no folder `data`
    MANIFEST_MISSING = "manifest-missing"  # 2.1.3: no payload manifest
    NO_KNOWN_ALGORITHM = "no-known-algorithm"  # 2.4: payload manifests only of algorithms not known here
    ALGORITHM_UNKNOWN = "algorithm-unknown"  # 2.4: warning: beside a known one
    ALGORITHM_WEAK = "algorithm-weak"  # 2.4: only md5 or sha1; fault unless Policy.allow_weak_digests
    MANIFEST_MALFORMED = "manifest-malformed"  # 2.1.3: a line that is not digest, blank, path
    DIGEST_MALFORMED = "digest-malformed"  # 2.4: wrong length for the algorithm, or not hexadecimal
    MANIFEST_PATH_UNSAFE = "manifest-path-unsafe"  # 5.1: a manifest names a path outside the bag
    MANIFEST_PATH_MISPLACED = "manifest-path-misplaced"  # 2.1.3: outside `data/`; 2.2.1: in it, or a tag manifest
    LISTED_TWICE = "listed-twice"  # 2.1.3: one manifest names one file twice; warning before 1.0 where digests agree
    MANIFESTS_DISAGREE = "manifests-disagree"  # 2.1.3: one manifest gives one file two digests
    MD5SUM_PREFIX = "md5sum-prefix"  # warning: `*name` or `./name`, as md5sum writes them
    NAME_RESOLVED = "name-resolved"  # 6.1.1.2: warning: manifest and zip spell a name differently (NFC, `%`, blanks)
    FILE_MISSING = "file-missing"  # 3: listed, and not in the zip
    FILE_UNLISTED = "file-unlisted"  # 3: in the payload, and in no manifest
    FILE_NOT_IN_EVERY_MANIFEST = "file-not-in-every-manifest"  # 2.1.3, from 1.0 on
    DIGEST_DIFFERS = "digest-differs"  # 3: a payload file is not what its manifest says

    # Tag files.
    TAG_FILE_TOO_BIG = "tag-file-too-big"  # more bytes than any honest tag file
    TAG_FILE_UNDECODABLE = "tag-file-undecodable"  # 2.3: not in the declared encoding
    TAG_FILE_BOM = "tag-file-bom"  # 2.3: warning: UTF-8 that begins with a byte order mark
    TAG_MANIFEST_MISSING = "tag-manifest-missing"  # 2.2.1: optional: a warning unless Policy.require_tag_manifest
    TAG_FILE_MISSING = "tag-file-missing"  # 2.2.1: listed, and not in the zip
    TAG_FILE_UNLISTED = "tag-file-unlisted"  # 2.2.1: not in the tag manifest; a fault for manifests, else a warning
    TAG_DIGEST_DIFFERS = "tag-digest-differs"  # 2.2.1: a tag file is not what a tag manifest says
    BAG_INFO_MALFORMED = "bag-info-malformed"  # 2.2.2
    OXUM_MALFORMED = "oxum-malformed"  # 2.2.2: Payload-Oxum is not bytes.files
    OXUM_REPEATED = "oxum-repeated"  # 2.2.2: Payload-Oxum twice
    OXUM_DIFFERS = "oxum-differs"  # 2.2.2: the payload has other bytes or files
    FETCH_MALFORMED = "fetch-malformed"  # 2.2.3
    FETCH_NEEDED = "fetch-needed"  # 2.2.3: part of the payload is elsewhere; nothing is ever fetched
    FETCH_COMPLETE = "fetch-complete"  # 2.2.3: warning: there is a fetch.txt, and all it lists is here

    # Where the result should go (only the command line's `debag`).
    DESTINATION_EXISTS = "destination-exists"  # something else lies there


MOST_LISTED = 2000
"""So many of one kind are listed; the others are counted. A zip within all limits can have a million faults."""
_ITEMS_A_PULSE = 4096
_LONGEST_PATH, _LONGEST_DETAIL = 0xFFFF, 1000


class _Listed:
    """Facts by kind: the first of each in order, and how many more there were. Threads may add at the same time."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[Fault]] = {}
        self.more: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, bag: str, path: str, detail: str) -> None:
        with self._lock:
            listed = self.by_kind.setdefault(kind, [])
            listed.append(Fault(kind, bag, _cut(path, _LONGEST_PATH), _cut(detail, _LONGEST_DETAIL)))
            if len(listed) == 2 * MOST_LISTED:
                self._trim(kind, listed)

    def _trim(self, kind: str, listed: list[Fault]) -> None:
        """Keep the first in order, so that it does not matter in which order they were found."""
        listed[:] = sorted(set(listed), key=_order)
        if len(listed) > MOST_LISTED:
            self.more[kind] += len(listed) - MOST_LISTED
            del listed[MOST_LISTED:]

    def in_order(self) -> tuple[Fault, ...]:
        for kind, listed in self.by_kind.items():
            self._trim(kind, listed)
        rest = [
            Fault(kind, detail=f"{count:,} more of this kind were counted, and are not listed")
            for kind, count in self.more.items()
        ]
        return (*sorted(chain.from_iterable(self.by_kind.values()), key=_order), *sorted(rest, key=_order))


def _order(fault: Fault) -> tuple[str, str, str, str]:
    """As facts are ordered by themselves, in a third of the time."""
    return fault.kind, fault.bag, fault.path, fault.detail


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


class Findings:
    """What was found so far: faults refuse the zip, warnings go into the record.

    Args:
        pulse: called often in long loops while judging, before the payload is read; if it raises, all stops.

    Attributes:
        count: faults so far.
        misnamed: the work that the bag names in every way, where the zip's key or name alone says another.
    """

    def __init__(self, pulse: Pulse = no_pulse) -> None:
        self.count = 0
        self.misnamed = ""
        self._pulse = pulse
        self._faults = _Listed()
        self._warnings = _Listed()

    @property
    def faults(self) -> list[Fault]:
        """Those that are listed, in no order."""
        return [*chain.from_iterable(self._faults.by_kind.values())]

    @property
    def warnings(self) -> list[Fault]:
        """Those that are listed, in no order."""
        return [*chain.from_iterable(self._warnings.by_kind.values())]

    @property
    def unlisted(self) -> Counter[str]:
        """How many faults of a kind were only counted; known once they are in order."""
        return self._faults.more

    def fault(self, kind: FaultKind, *, bag: str = "", path: str = "", detail: str = "") -> None:
        """Something that refuses the zip."""
        self.count += 1
        self._faults.add(str(kind), bag, path, detail)

    def warn(self, kind: FaultKind, *, bag: str = "", path: str = "", detail: str = "") -> None:
        """Something that is only odd."""
        self._warnings.add(str(kind), bag, path, detail)

    def beat(self) -> None:
        """Give the pulse once."""
        self._pulse(0, 0)

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a pulse now and then."""
        iterator = iter(items)
        while some := tuple(islice(iterator, _ITEMS_A_PULSE)):
            self._pulse(0, 0)
            yield from some

    def judge(self, kind: FaultKind, *, refuse: bool, bag: str = "", path: str = "", detail: str = "") -> None:
        """A fault if `refuse`, else a warning."""
        (self.fault if refuse else self.warn)(kind, bag=bag, path=path, detail=detail)

    def in_order(self) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
        """Faults and warnings, each sorted and named once: the same zip gives the same report.

        Of a kind of which there are too many to list, one more fact says how many were only counted.
        """
        return self._faults.in_order(), self._warnings.in_order()


class UnreadableZip(Exception):
    """The zip cannot be taken apart any further; what is wrong is already among the findings."""
