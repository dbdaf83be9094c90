"""What the one pass has to do: one job a file, with where its bytes are, where they go and what they must be."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from pipeline.debag.bag_record import BagRecord
from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.judge import Verdict
from pipeline.debag.layout import BAG_SUFFIX
from pipeline.debag.manifests import Manifest
from pipeline.debag.zip_directory import Member
from pipeline.debag.zip_members import DEFLATED, STORED

_LONGEST_PART = 255
UNBAGGED_ALGORITHMS = ("sha512",)

_Lookup = Callable[[str], tuple[str, ...]]


@dataclass(slots=True)
class Job:
    """A file to read once, hash and write.

    Attributes:
        bag: the bag's folder in the zip, for reports.
        path: the file's path in the bag, for reports.
        into: where it goes, relative to the staging folder, before the part of `path` that it keeps.
        skip: how many characters of `path` it does not keep.
        member: where its bytes are.
        algorithms: digests to compute.
        expected: what they must be, in that order; empty where no manifest tells.
        of_tags: whether it is a tag file.
        check_crc: whether the zip's CRC-32 is all that proves the bytes.
        mtime: seconds since the epoch.
        digests: what they are; filled in by the pass.
    """

    bag: str
    path: str
    into: str
    skip: int
    member: Member
    algorithms: tuple[str, ...]
    expected: tuple[str, ...]
    of_tags: bool
    check_crc: bool
    mtime: float
    digests: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """Where it goes, relative to the staging folder; put together when it is asked for, as there may be many."""
        return self.into + self.path[self.skip :]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.member.size


@dataclass(slots=True)
class WorkPlan:
    """A work to be published.

    Attributes:
        rid: the work.
        record: its bag.
        algorithms: digests that are computed for its files.
        payload: jobs of the payload files.
        tag_files: jobs of the tag files, which are kept with the work.
        folders: folders to make, relative to the staging folder, with their times where the zip has them.
        kept: the folder for the tag files, relative to the staging folder.
        verified: `manifest` if a manifest proves every file of the payload, else `none`.
    """

    rid: str
    record: BagRecord
    algorithms: tuple[str, ...]
    payload: list[Job] = field(default_factory=list)
    tag_files: list[Job] = field(default_factory=list)
    folders: dict[str, float | None] = field(default_factory=dict)
    kept: str = ""
    verified: Literal["manifest", "none"] = "none"


def plan(verdict: Verdict, say: Findings) -> list[WorkPlan]:
    """The works and their jobs; members that cannot be read are left out, as they are faults already."""
    known = _Known()
    works = []
    for record in verdict.records:
        algorithms = record.algorithms if record.found.bagged else UNBAGGED_ALGORITHMS
        work = WorkPlan(record.found.rid, record, algorithms)
        work.kept = _kept_folder(record, say)
        _plan_payload(work, known, say)
        _plan_tag_files(work, known, say)
        _plan_folders(work, known, say)
        if record.found.bagged and all(any(job.expected) for job in work.payload):
            work.verified = "manifest"
        works.append(work)
        _check_doubted(work, say)
    for record in verdict.records:  # the jobs have it all, and memory is not for two
        record.found.payload.clear()
        record.found.folders.clear()
        for manifest in (*record.manifests, *record.tag_manifests):
            manifest.entries.clear()
    return works


class _Known:
    """What is worked out once: times, which many members share, and manifests, which the works of a bag may share."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._digests: dict[int, _Lookup] = {}

    def seconds(self, member: Member) -> float:
        """When a member was last changed, in seconds since the epoch; the zip's local time where nothing else tells."""
        if member.modified is not None:
            return member.modified
        stamp = member.date << 16 | member.time
        known = self._seconds.get(stamp)
        if known is None:
            known = self._seconds[stamp] = _local_seconds(member.date, member.time)
        return known

    def digests(self, manifests: list[Manifest], algorithms: Iterable[str]) -> _Lookup:
        """What the manifests of a bag say of a file, in the order of the bag's algorithms."""
        known = self._digests.get(id(manifests))
        if known is None:
            known = self._digests[id(manifests)] = _digests_by_path(manifests, algorithms)
        return known


def _local_seconds(date: int, clock: int) -> float:
    """MS-DOS date and time, in the time zone of this machine: the zip does not say which one it was."""
    year, month, day = 1980 + (date >> 9), max(1, min(12, date >> 5 & 15)), max(1, date & 31)
    hour, minute, second = min(23, clock >> 11), min(59, clock >> 5 & 63), min(59, (clock & 31) * 2)
    try:
        return time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
    except (OverflowError, ValueError):
        return 0.0


def _kept_folder(record: BagRecord, say: Findings) -> str:
    """Where the tag files are kept: `{RID}/{RID}.bag`, unless the payload (of a work bagged before) has that name."""
    found, base = record.found, record.found.base
    if found.kept:
        return f"{found.rid}/{found.kept}"
    payload = (path for path in (*found.payload, *found.folders) if path.startswith(base))
    taken = {path[len(base) :].split("/", 1)[0].casefold() for path in payload}
    name = f"{record.found.rid}{BAG_SUFFIX}"
    number = 1
    while name.casefold() in taken:
        number += 1
        name = f"{record.found.rid}{BAG_SUFFIX}.{number}"
    if number > 1:
        detail = f"the payload has a {record.found.rid}{BAG_SUFFIX} of its own; tag files are kept in {name}"
        say.warn(FaultKind.KEPT_NAME_TAKEN, bag=record.name, path=name, detail=detail)
    return f"{record.found.rid}/{name}"


def _readable(member: Member) -> bool:
    return (
        member.data_offset >= 0
        and not member.flags & 1
        and member.method in {STORED, DEFLATED}
        and (member.method == DEFLATED or member.packed == member.size)
    )


def _digests_by_path(manifests: Iterable[Manifest], algorithms: Iterable[str]) -> _Lookup:
    """Looks up what the manifests say of a file, in the order of the algorithms."""
    tables: list[Mapping[str, str]] = []
    for algorithm in algorithms:
        named = [manifest.entries for manifest in manifests if manifest.algorithm == algorithm]
        tables.append(named[0] if len(named) == 1 else {path: d for entries in named for path, d in entries.items()})
    if len(tables) == 1:
        only = tables[0]
        return lambda path: (only.get(path, ""),)
    return lambda path: tuple(table.get(path, "") for table in tables)


def _plan_payload(work: WorkPlan, known: _Known, say: Findings) -> None:
    told = known.digests(work.record.manifests, work.algorithms)
    skip = len(work.record.found.base)
    base, bag, algorithms = f"{work.rid}/", work.record.name, work.algorithms
    for path, member in say.each(work.record.found.payload.items()):
        if _readable(member):
            expected = told(path)
            _check_length(base + path[skip:], bag, path, say)
            covered = any(expected)
            mtime = known.seconds(member)
            work.payload.append(Job(bag, path, base, skip, member, algorithms, expected, False, not covered, mtime))
            member.name = ""  # it has served


def _check_length(target: str, bag: str, path: str, say: Findings) -> None:
    if not target.isascii() and any(len(part.encode()) > _LONGEST_PART for part in target.split("/")):
        say.fault(FaultKind.NAME_TOO_LONG, bag=bag, path=path, detail="too long for a file name, as UTF-8")


def _plan_tag_files(work: WorkPlan, known: _Known, say: Findings) -> None:
    told = known.digests(work.record.tag_manifests, work.algorithms)
    record = work.record
    for path, member in record.found.tag_files.items():
        if not _readable(member):
            continue
        read = record.digests.get(path)  # rules.tag_files_match has judged those: the same bytes are to come again
        expected = told(path) if read is None else read
        into = f"{work.kept}/{record.found.shared}"
        _check_length(into + path, record.name, path, say)
        check_crc = read is None and not any(expected)
        mtime = known.seconds(member)
        job = Job(record.name, path, into, 0, member, work.algorithms, expected, True, check_crc, mtime)
        work.tag_files.append(job)


def _plan_folders(work: WorkPlan, known: _Known, say: Findings) -> None:
    found = work.record.found
    folders = work.folders
    folders[work.rid] = None
    for path, member in say.each(found.folders.items()):
        if path == found.base[:-1]:
            folders[work.rid] = known.seconds(member)
        elif path.startswith(found.base):
            folders[f"{work.rid}/{path[len(found.base) :]}"] = known.seconds(member)
        else:
            folders[f"{work.kept}/{found.shared}{path}".rstrip("/")] = known.seconds(member)
    folders.setdefault(work.kept, None)
    for job in say.each(chain(work.payload, work.tag_files)):
        folder = job.target.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = None
            folder = folder.rpartition("/")[0]
    for folder in list(folders):
        above = folder.rpartition("/")[0]
        while above and above not in folders:
            folders[above] = None
            above = above.rpartition("/")[0]


def _check_doubted(work: WorkPlan, say: Findings) -> None:
    """Two CRC-32 for one member, in directory and header or descriptor: harmless where a digest proves the bytes."""
    for job in say.each(chain(work.payload, work.tag_files)):
        if job.member.crc_doubted:
            proved = _is_listed(work, job.path) if job.of_tags else any(job.expected)
            detail = "the zip has two CRC-32 of it" + (", its digest decides" if proved else "")
            say.judge(FaultKind.CRC_DIFFERS, refuse=not proved, bag=job.bag, path=job.path, detail=detail)


def _is_listed(work: WorkPlan, path: str) -> bool:
    return any(manifest.algorithm and path in manifest.entries for manifest in work.record.tag_manifests)
