"""What a member of the zip may be: its name, its kind, its place among the others.

Everything here is known before a byte is unpacked.
"""

import re
import stat
import unicodedata
from collections.abc import Iterable

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.policy import Policy
from pipeline.debag.zip_directory import DEFLATED, STORED, Directory, Member
from pipeline.debag.zip_local import check_descriptor, check_local
from pipeline.debag.zip_source import STREAMED, UTF8_FLAG, ZipSource

_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_HARMLESS = STREAMED | UTF8_FLAG
_PLAIN_MODES = frozenset({0, stat.S_IFREG >> 12})
_EMPTY_DEFLATED = 2  # what packers write for a folder when they deflate even that
_LONGEST_PART, _LONGEST_PATH = 255, 3000
_DEEPEST = 100  # folders; whoever walks the work later may do it by recursion, as Python's own rmtree does

_SUSPECT = re.compile(
    r"(?:\A|/)\.{0,2}/|(?:\A|/)\.{1,2}\Z|\A[A-Za-z]:|[. ](?:/|\Z)"
    r"|[\\\0-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
_PLAIN_UNLESS = re.compile(r"[\\\0-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069:]|/[./]|\A[./]|[. ](?:/|\Z)")
"""A quick look that lets plain names pass; what it finds is looked at closely."""
_ODD = re.compile(r"[\0-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def check_members(source: ZipSource, directory: Directory, policy: Policy, say: Findings) -> list[Member]:
    """See that every member is one that may be unpacked, and where its content begins.

    Returns:
        Members whose names are safe.

    Raises:
        UnreadableZip: they would make more folders than anybody wants.
    """
    safe = []
    for member in say.each(directory.members):
        # of a name that a field tells (0x7075), or in cp437, the disk will get other bytes than the header has
        raw = member.raw if member.other_name or member.name.isascii() else member.name.encode()
        if check_name(member.name, raw, say):
            safe.append(member)
        _check_kind(member, say)
        member.crc_doubted = check_local(source, directory, member, say)
        member.head = member.raw = b""  # they have served, and there may be many
    _check_folders(directory.members, policy, say)
    doubtful = _check_twins(directory.members, say)
    doubtful |= _check_places(source, directory, say)
    doubtful |= _check_ratio(source, directory.members, policy, say)
    if doubtful:
        for member in directory.members:
            if member.name in doubtful:
                member.data_offset = -1  # faults already: its bytes are nobody's, so all others can be read, once each
    return safe


def check_name(name: str, raw: bytes, say: Findings) -> bool:
    """5.1: nothing in a name may lead out of the folder that it is unpacked in, or read differently elsewhere."""
    if len(raw) > 63 and (len(raw) > _LONGEST_PATH or any(len(part) > _LONGEST_PART for part in raw.split(b"/"))):
        say.fault(FaultKind.NAME_TOO_LONG, f"{len(raw)} bytes", path=name)
        return False
    if len(raw) > _DEEPEST and raw.count(b"/") > _DEEPEST:
        say.fault(FaultKind.NAME_TOO_LONG, f"{raw.count(b'/')} folders; allowed are {_DEEPEST}", path=name)
        return False
    if not raw or raw == b"/":
        say.fault(FaultKind.NAME_EMPTY, "a member without a name", path=name)
        return False
    return _PLAIN_UNLESS.search(name) is None or _SUSPECT.search(name) is None or _suspect_name(name, say)


def _suspect_name(name: str, say: Findings) -> bool:
    bare = name.removesuffix("/")
    parts = bare.split("/")
    inner = bare.lstrip("/").split("/")
    found = {
        FaultKind.NAME_ABSOLUTE: name.startswith("/"),
        FaultKind.NAME_TRAVERSAL: ".." in parts,
        FaultKind.NAME_DOT_PART: "." in parts,
        FaultKind.NAME_EMPTY_PART: "" in inner,
        FaultKind.NAME_BACKSLASH: "\\" in name,
        FaultKind.NAME_DRIVE_LETTER: re.match(r"[A-Za-z]:", name) is not None,
        FaultKind.NAME_NUL: "\0" in name,
    }
    for kind, is_so in found.items():
        if is_so:
            say.fault(kind, f"unsafe name: {name!a}", path=name)
    if _ODD.search(name) and "\0" not in name:
        say.warn(FaultKind.NAME_ODD_CHARACTERS, f"control or bidirectional characters: {name!a}", path=name)
    if any(part.endswith((".", " ")) for part in parts if part not in {".", ".."}):
        say.warn(FaultKind.NAME_TRAILING_DOT, "ends in a dot or blank, which Windows drops", path=name)
    return not any(found.values())


def _check_kind(member: Member, say: Findings) -> None:
    """Only plain files and folders, only stored or deflated, never encrypted."""
    name = member.name
    plain = member.mode >> 12 in _PLAIN_MODES and not member.flags & ~_HARMLESS and not name.endswith("/")
    if plain and member.method == STORED and member.packed == member.size:
        return
    kind = stat.S_IFMT(member.mode)
    if member.is_folder and not member.size and member.packed in {0, _EMPTY_DEFLATED}:
        pass  # a folder whatever its mode, which some packers fill with garbage: it holds nothing that could lead away
    elif kind == stat.S_IFLNK:
        say.fault(FaultKind.LINK, "a symbolic link", path=name)
    elif kind == stat.S_IFDIR and not member.is_folder:
        say.fault(FaultKind.SPECIAL_FILE, "a folder by its mode, a file by its name, without a slash", path=name)
    elif kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        say.fault(FaultKind.SPECIAL_FILE, f"mode {member.mode:o} is not that of a plain file", path=name)
    if member.flags & _ENCRYPTED or member.method == 99:
        say.fault(FaultKind.MEMBER_ENCRYPTED, "encrypted", path=name)
    elif member.method not in {STORED, DEFLATED} or member.flags & 0x20:
        say.fault(FaultKind.METHOD_UNSUPPORTED, f"method {member.method}", path=name)
    if member.method == STORED and member.packed != member.size and not member.flags & _ENCRYPTED:
        detail = f"stored in {member.packed} bytes, but said to be {member.size}"
        say.fault(FaultKind.STORED_SIZE_DIFFERS, detail, path=name)
    if member.is_folder and (member.size or member.packed not in {0, _EMPTY_DEFLATED}):
        say.fault(FaultKind.FOLDER_WITH_CONTENT, f"a folder of {member.size} bytes", path=name)


def _check_folders(members: Iterable[Member], policy: Policy, say: Findings) -> None:
    """Not more folders than there may be members, and not more files and empty folders: all of them would be made.

    One long name stands for a hundred folders, and an empty folder costs as much as a file.

    Raises:
        UnreadableZip: there are; everything after this would take as much memory and time.
    """
    holding: set[str] = set()  # of files
    others: set[str] = set()
    files = size = 0
    most = policy.max_members
    for member in say.each(members):
        seen = others if member.is_folder else holding
        files += not member.is_folder
        folder = member.name.rpartition("/")[0]
        while folder and folder not in seen:
            seen.add(folder)
            size += folder.__sizeof__()
            folder = folder.rpartition("/")[0]
        if len(seen) > most or size > 2 * policy.max_name_bytes:
            break
    empty = len(others - holding)
    if len(holding) + empty > most or files + empty > most or size > 2 * policy.max_name_bytes:
        detail = f"at least {files} files, {len(holding) + empty} folders, {empty} of them empty; allowed are {most}"
        raise say.fatal(FaultKind.TOO_MANY_MEMBERS, detail)


def _check_twins(members: Iterable[Member], say: Findings) -> set[str]:
    """No name twice, none both a file and a folder; names that are equal but for case are only odd.

    Returns:
        names of which nobody knows which member is meant.
    """
    twice: set[str] = set()
    folders: set[str] = set()
    seen: set[str] = set()
    folded: set[int] = set()  # hashes, as the names would take as much memory again
    again: set[int] = set()
    for member in say.each(members):
        if member.name in seen and not member.is_folder:
            say.fault(FaultKind.DUPLICATE_MEMBER, "is in the zip more than once", path=member.name)
            twice.add(member.name)
        elif not member.is_folder:
            form = hash(member.name.casefold())
            (again if form in folded else folded).add(form)
        seen.add(member.name)
        folder = member.name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    for name in sorted(seen & folders):
        say.fault(FaultKind.FILE_AND_FOLDER, "is a file, and a folder of other members", path=name)
    if again:
        _say_case_twins(members, again, say)
    return twice


def _say_case_twins(members: Iterable[Member], again: set[int], say: Findings) -> None:
    """Name the files whose names, but for case, have hashes that were seen more than once."""
    files: dict[str, str] = {}
    for member in say.each(members):
        form = "" if member.is_folder else member.name.casefold()
        if form and hash(form) in again:
            twin = files.setdefault(form, member.name)
            if twin != member.name:
                say.warn(FaultKind.CASE_TWINS, f"equal but for case: {twin}", path=member.name)


def nfc(name: str) -> str:
    """The name in Unicode's composed form; what is too long for a name stays: many marks take quadratic time.

    Of three characters two bytes are left at least, so no member has a part that is longer than this.
    """
    if name.isascii() or (len(name) > _LONGEST_PART and max(map(len, name.split("/"))) > _LONGEST_PART * 3 // 2):
        return name
    return unicodedata.normalize("NFC", name)


def _check_places(source: ZipSource, directory: Directory, say: Findings) -> set[str]:
    """Each member ends before the next begins; bytes between them that belong to none are only odd.

    Returns:
        names of the members that share bytes with another.
    """
    sharing: set[str] = set()
    placed = sorted((m for m in directory.members if m.data_offset >= 0), key=lambda member: member.offset)
    hidden = places = 0
    for index, member in enumerate(say.each(placed)):
        end = member.data_offset + member.packed
        limit = placed[index + 1].offset if index + 1 < len(placed) else directory.start
        if end > limit:
            other = placed[index + 1].name if index + 1 < len(placed) else "the central directory"
            sharing |= {member.name, other}
            say.fault(FaultKind.MEMBERS_OVERLAP, f"shares bytes with {other}", path=member.name)
            continue
        if member.flags & STREAMED and limit > end:
            length, other_crc = check_descriptor(source, member, limit, say)
            end += length
            member.crc_doubted |= other_crc
        if limit > end:
            hidden += limit - end
            places += 1
    before = placed[0].offset - directory.shift if placed else 0
    if before > 0:
        say.warn(FaultKind.PREPENDED_BYTES, f"{before} bytes before the first member")
    if hidden:
        say.warn(FaultKind.HIDDEN_BYTES, f"{hidden} bytes at {places} places belong to no member")
    return sharing


def _check_ratio(source: ZipSource, members: Iterable[Member], policy: Policy, say: Findings) -> set[str]:
    """Nothing becomes far larger than any scan does; returns names of the members that would."""
    total = 0
    bombs = set()
    for member in members:
        if member.size > policy.ratio_floor_bytes and member.size > policy.max_ratio * member.packed:
            detail = f"{member.packed} bytes become {member.size}; allowed are {policy.max_ratio:g} for one"
            say.fault(FaultKind.RATIO_TOO_HIGH, detail, path=member.name)
            bombs.add(member.name)
        else:
            total += member.size
    if total > policy.ratio_floor_bytes and total > policy.max_ratio * source.size:
        detail = f"{source.size} bytes become {total}; allowed are {policy.max_ratio:g} for one"
        say.fault(FaultKind.RATIO_TOO_HIGH, detail)
    return bombs
