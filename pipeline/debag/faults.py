"""The words for what can be wrong, or only odd, with a bag zip, and what was found of it so far.

A kind says what is the matter; whether it is a fault or a warning is decided where it is found, and some kinds can be
either, as `Policy` says. Sections are those of RFC 8493 (BagIt 1.0).
"""

import copy
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum, auto
from itertools import chain, islice
from typing import Self, TypeVar

from pipeline.foundation.errors import Fault
from pipeline.foundation.work import Pulse, no_pulse

T = TypeVar("T")


class FaultKind(StrEnum):
    """One word for each thing that can be the matter with a bag zip: its name here, in small letters and hyphens.

    Attributes:
        meaning: what it means, in a sentence for the person who has to act on it.
    """

    meaning: str

    def __new__(cls, kind: str, meaning: str = "") -> Self:
        """The word, and what it means."""
        made = str.__new__(cls, kind)
        made._value_ = kind
        made.meaning = meaning
        return made

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name.lower().replace("_", "-")

    # The zip as a whole.
    NOT_A_ZIP = auto(), "The file is missing or is no zip at all. Fetch it again."
    ZIP_TRUNCATED = auto(), "The end of the zip is missing: it was not copied whole. Fetch it again."
    ZIP_DIRECTORY_DAMAGED = auto(), "The zip's table of contents is damaged or contradicts itself. Fetch it again."
    ZIP64_LEFT_OUT = auto(), "Over 4 GiB, packed without zip64, as by macOS' own. Make it anew: fetching does not help."
    ZIP_SPLIT = auto(), "This is one part of a zip in several parts. Join them where it was made."
    ZIP_EMPTY = auto(), "The zip has nothing in it."
    TOO_MANY_MEMBERS = auto(), "The zip has more files, or folders, than the settings allow."  # Policy.max_members
    # Policy.max_ratio
    RATIO_TOO_HIGH = auto(), "Unpacked it would be far larger than any scan: a zip bomb, or the settings are too tight."
    PREPENDED_BYTES = auto(), "There are bytes before the zip. They were ignored."  # warning
    APPENDED_BYTES = auto(), "There are bytes after the zip. They were ignored."  # warning
    HIDDEN_BYTES = auto(), "There are bytes in the zip that belong to no file. They were ignored."  # warning

    # A member of the zip, whatever it stands for.
    LOCAL_HEADER_DAMAGED = auto(), "A file is not where the zip's table of contents says. The zip is damaged."
    LOCAL_HEADER_DIFFERS = auto(), "The zip describes a file in two ways, so programs would not agree on it."
    MEMBERS_OVERLAP = auto(), "Files share bytes of the zip: it is damaged, or made to attack."
    MEMBER_ENCRYPTED = auto(), "A file is encrypted; nothing here has the key."
    METHOD_UNSUPPORTED = auto(), "A file is packed in a way other than stored or deflated. Make the zip anew."
    STORED_SIZE_DIFFERS = auto(), "A file that is stored as it is has two sizes. The zip is damaged."
    MEMBER_CUT_SHORT = auto(), "A file ends before it should."
    MEMBER_TOO_LONG = auto(), "A file goes on after it should end."
    MEMBER_DAMAGED = auto(), "A file cannot be inflated."
    # either
    CRC_DIFFERS = auto(), "The zip's checksum of a file is wrong. Where the bag's digest is right the file is good."
    DUPLICATE_MEMBER = auto(), "The zip has the same name twice; nobody can say which one is meant."
    LINK = auto(), "The zip has a link, which can point anywhere. Bags hold plain files."
    SPECIAL_FILE = auto(), "The zip has a device, a pipe or the like. Bags hold plain files."
    FOLDER_WITH_CONTENT = auto(), "The zip has a folder with bytes in it: it is damaged, or made to attack."

    # The name of a member (5.1: special directory characters).
    NAME_EMPTY = auto(), "A file has no name."
    NAME_ABSOLUTE = auto(), "A name begins at the root of the disk, and would be written outside."  # 5.1
    NAME_TRAVERSAL = auto(), "A name leads out of its folder (`..`)."  # 5.1
    NAME_DOT_PART = auto(), "A name has a part `.`, which means nothing."
    NAME_EMPTY_PART = auto(), "A name has two slashes in a row."
    NAME_BACKSLASH = auto(), "A name has a backslash, which is a separator on Windows. Make the zip anew."  # 5.1
    NAME_DRIVE_LETTER = auto(), "A name begins with a drive letter of Windows."  # 5.1
    NAME_NUL = auto(), "A name has a NUL in it."
    NAME_TOO_LONG = auto(), "A name is too long for the disk, or in too many folders."
    NAME_UNDECODABLE = auto(), "A name is not in the encoding that it claims."
    NAMES_COLLIDE = auto(), "Names look and sort the same, and the manifest does not tell which is which."  # 6.1.1.2
    FILE_AND_FOLDER = auto(), "One name is a file and a folder too."
    # 6.1.1.1: warning
    CASE_TWINS = auto(), "Names are equal but for upper and lower case; Windows and macOS will confuse them."
    NAME_ODD_CHARACTERS = auto(), "A name has control characters, or ones that reverse the writing."  # warning
    NAME_TRAILING_DOT = auto(), "A name ends in a dot or blank, which Windows drops."  # 6.1.1: warning
    NAME_CP437 = auto(), "A name is UTF-8, and the zip does not say so. It was read as the manifest has it."  # warning

    # What the zip holds.
    NO_BAG = auto(), "The zip has neither a bag nor a work in it."
    UNBAGGED = auto(), "The zip has works without a bag, so nothing can prove them."  # Policy.allow_unbagged: warning
    OUTSIDE_BAG = auto(), "A file lies beside the bags, so nothing can prove it. Perhaps it was left out of its bag."
    # warning
    LITTER = auto(), "What an operating system left, and no manifest lists (`__MACOSX`, `.DS_Store`, …), was left out."
    RID_INVALID = auto(), "The bag's folder is not named after a work."
    # as Policy.rid_mismatch says
    RID_MISMATCH = (
        auto(),
        "Folder, BDRC-RID and key name different works. Find out which it is. Rename the zip if only its name differs.",
    )
    # Policy.several_works
    FOREIGN_WORK = auto(), "The zip is named for one work and holds another, which it may not touch (`several_works`)."
    SAME_WORK_TWICE = auto(), "Two bags of the zip are of the same work."
    # warning
    SHARED_BAG = auto(), "The payload is several works. Each is one of its own now, with its part of the manifests."
    OUTSIDE_WORK = auto(), "A file of the payload lies beside the works in it, so it belongs to none of them."
    # warning
    KEPT_MANIFESTS_STRANGE = auto(), "The manifests kept with a work list none of its files, so they verify nothing."
    # warning
    PROOF_LEFT_OUT = auto(), "The digests that the pipeline keeps with an archived work were left out; made anew there."
    # warning
    KEPT_NAME_TAKEN = auto(), "The work has a `.bag` folder of its own; the bag's tag files were kept beside it."

    # The declaration, `bagit.txt`.
    DECLARATION_MISSING = auto(), "`bagit.txt` is missing: it is no bag, or part of it was lost."  # 2.1.1
    DECLARATION_MALFORMED = auto(), "`bagit.txt` is not the two lines that it must be."  # 2.1.1
    DECLARATION_BOM = auto(), "`bagit.txt` begins with a byte order mark, which the standard forbids."  # 2.1.1
    VERSION_UNKNOWN = auto(), "The bag is of a version of BagIt that is not known here."  # 2.1.1
    ENCODING_UNKNOWN = auto(), "The bag's tag files are in an encoding that is not known here."  # 2.1.1

    # The payload folder and its manifests.
    PAYLOAD_MISSING = auto(), "The folder `data` is missing."  # 2.1.2
    MANIFEST_MISSING = auto(), "There is no manifest, so nothing can prove the files."  # 2.1.3
    NO_KNOWN_ALGORITHM = auto(), "No manifest has digests of a kind that is known here."  # 2.4
    # 2.4: warning
    ALGORITHM_UNKNOWN = auto(), "A manifest has digests of a kind that is not known here; others were checked."
    # 2.4: a fault unless Policy.allow_weak_digests
    ALGORITHM_WEAK = auto(), "The bag has only md5 or sha1, which tell accidents but not forgery."
    MANIFEST_MALFORMED = auto(), "A manifest has lines that are not digest and name."  # 2.1.3
    DIGEST_MALFORMED = auto(), "A manifest has a digest that cannot be one."  # 2.4
    MANIFEST_PATH_UNSAFE = auto(), "A manifest or fetch.txt names a path outside the bag."  # 5.1
    MANIFEST_PATH_MISPLACED = auto(), "A manifest names a file that it must not list."  # 2.1.3, 2.2.1
    LISTED_TWICE = auto(), "A manifest names a file twice."  # 2.1.3; warning before 1.0 where the digests agree
    MANIFESTS_DISAGREE = auto(), "A file has two different digests of one kind."  # 2.1.3
    # warning
    MD5SUM_PREFIX = auto(), "Names in a manifest have `*` or `./` before them, as of md5sum. They were read without."
    # 6.1.1.2: warning
    NAME_RESOLVED = auto(), "Manifest and zip write a name differently; one file can be meant, and its digest decides."
    FILE_MISSING = auto(), "A file that the manifest lists is not there: part of the work was lost."  # 3
    FILE_UNLISTED = auto(), "A file of the payload is in no manifest, so nothing can prove it."  # 3
    # 2.1.3, from 1.0 on
    FILE_NOT_IN_EVERY_MANIFEST = auto(), "From BagIt 1.0 on every file has to be in every manifest."
    # 3
    DIGEST_DIFFERS = (
        auto(),
        "A file is not what it was when the bag was made. Fetch the zip again, or find another copy.",
    )

    # Tag files.
    TAG_FILE_TOO_BIG = auto(), "A tag file is larger than any honest one."
    TAG_FILE_UNDECODABLE = auto(), "A tag file is not in the encoding that bagit.txt declares."  # 2.3
    TAG_FILE_BOM = auto(), "A tag file begins with a byte order mark. It was ignored."  # 2.3: warning
    # 2.2.1: optional: a warning unless Policy.require_tag_manifest
    TAG_MANIFEST_MISSING = auto(), "There is no tag manifest, so nothing proves the manifests themselves."
    TAG_FILE_MISSING = auto(), "A tag file that the tag manifest lists is not there."  # 2.2.1
    # 2.2.1: not in the tag manifest; a fault for manifests, else a warning
    TAG_FILE_UNLISTED = auto(), "A tag file is not in the tag manifest; a manifest has to be."
    TAG_DIGEST_DIFFERS = auto(), "A tag file was changed after the bag was made."  # 2.2.1
    BAG_INFO_MALFORMED = auto(), "bag-info.txt has a line that is not `Label: value`."  # 2.2.2
    OXUM_MALFORMED = auto(), "Payload-Oxum is not `bytes.files`."  # 2.2.2
    OXUM_REPEATED = auto(), "Payload-Oxum is there twice."  # 2.2.2
    OXUM_DIFFERS = auto(), "The payload has other bytes or files than Payload-Oxum says."  # 2.2.2
    FETCH_MALFORMED = auto(), "fetch.txt has a line that is not URL, length and path."  # 2.2.3
    # 2.2.3
    FETCH_NEEDED = auto(), "Part of the work lies elsewhere and would have to be fetched; nothing is ever fetched."
    FETCH_COMPLETE = auto(), "The bag was made to be fetched, and is complete."  # 2.2.3: warning

    # Where the result should go (only the command line's `debag`).
    DESTINATION_EXISTS = auto(), "Something else lies where the work should go. Nothing was changed."


MOST_LISTED = 2000
"""So many of one kind are listed; the others are counted. A zip within all limits can have a million faults."""
_ITEMS_A_PULSE = 4096
_LONGEST_PATH, _LONGEST_DETAIL = 0xFFFF, 1000


class _Listed:
    """Facts by kind: the first of each in order, and how many more there were. Threads may add at the same time."""

    def __init__(self) -> None:
        self.count = 0
        self.by_kind: dict[str, list[Fault]] = {}
        self.more: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self.count += 1
            listed = self.by_kind.setdefault(fault.kind, [])
            listed.append(fault)
            if len(listed) == 2 * MOST_LISTED:
                self._trim(fault.kind, listed)

    def _trim(self, kind: str, listed: list[Fault]) -> None:
        """Keep the first in order, so that it does not matter in which order they were found."""
        listed[:] = sorted(set(listed), key=_order)
        self.more[kind] += len(listed[MOST_LISTED:])
        del listed[MOST_LISTED:]

    def in_order(self) -> tuple[Fault, ...]:
        for kind, listed in self.by_kind.items():
            self._trim(kind, listed)
        rest = [
            Fault(kind, detail=f"{count:,} more of this kind were counted, and are not listed")
            for kind, count in self.more.items()
            if count
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
        bag, path: the bag that is meant, by its folder in the zip, empty: the zip; and the file in it, if no other is.
        doubts: what would be taken for true though no manifest proves it.
    """

    def __init__(self, pulse: Pulse = no_pulse) -> None:
        self._pulse = pulse
        self._faults, self._warnings, self.doubts = _Listed(), _Listed(), set[str]()
        self.bag = self.path = ""

    def of(self, bag: str, path: str = "") -> Self:
        """The same findings, for what is wrong with a bag, or with a file in it."""
        other = copy.copy(self)
        other.bag, other.path = bag, path
        return other

    @property
    def count(self) -> int:
        """Faults so far."""
        return self._faults.count

    @property
    def faults(self) -> list[Fault]:
        """Those that are listed, in no order."""
        return [*chain.from_iterable(self._faults.by_kind.values())]

    @property
    def unlisted(self) -> Counter[str]:
        """How many faults of a kind were only counted; known once they are in order."""
        return self._faults.more

    def fault(self, kind: FaultKind, detail: str, *, path: str = "") -> None:
        """Something that refuses the zip."""
        self.judge(kind, detail, refuse=True, path=path)

    def fatal(self, kind: FaultKind, detail: str, *, path: str = "") -> "UnreadableZip":
        """A fault after which nothing more can be known, to be raised."""
        self.fault(kind, detail, path=path)
        return UnreadableZip()

    def warn(self, kind: FaultKind, detail: str, *, path: str = "") -> None:
        """Something that is only odd."""
        self.judge(kind, detail, refuse=False, path=path)

    def judge(self, kind: FaultKind, detail: str, *, refuse: bool, path: str = "") -> None:
        """A fault if `refuse`, else a warning."""
        where = _cut(path or self.path, _LONGEST_PATH)
        (self._faults if refuse else self._warnings).add(
            Fault(str(kind), self.bag, where, _cut(detail, _LONGEST_DETAIL))
        )

    def beat(self) -> None:
        """Give the pulse once."""
        self._pulse(0, 0)

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a pulse now and then."""
        iterator = iter(items)
        while some := tuple(islice(iterator, _ITEMS_A_PULSE)):
            self._pulse(0, 0)
            yield from some

    def in_order(self) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
        """Faults and warnings, each sorted and named once: the same zip gives the same report.

        Of a kind of which there are too many to list, one more fact says how many were only counted.
        """
        return self._faults.in_order(), self._warnings.in_order()


class UnreadableZip(Exception):
    """The zip cannot be taken apart any further; what is wrong is already among the findings."""
