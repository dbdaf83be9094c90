"""What the one pass has to do: one plan a file, with where its bytes are, where they go and what they must be."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Literal

from pipeline.debag.bag_record import BagRecord
from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import BAG_SUFFIX, FoundBag
from pipeline.debag.manifests import Manifest
from pipeline.debag.zip_directory import Member

_LONGEST_PART = 255
UNBAGGED_ALGORITHMS = ("sha512",)

_Lookup = Callable[[str], tuple[str, ...]]


@dataclass(slots=True)
class FilePlan:
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


@dataclass(slots=True)
class WorkPlan:
    """A work to be published.

    Attributes:
        found: the work's files in the zip.
        record: its bag.
        algorithms: digests that are computed for its files.
        payload: the payload files.
        tag_files: the tag files, which are kept with the work.
        folders: folders to make, relative to the staging folder, with their times where the zip has them.
        kept: the folder for the tag files, relative to the staging folder.
        verified: `manifest` if a manifest proves every file of the payload, else `none`.
    """

    found: FoundBag
    record: BagRecord
    algorithms: tuple[str, ...]
    payload: list[FilePlan] = field(default_factory=list)
    tag_files: list[FilePlan] = field(default_factory=list)
    folders: dict[str, float | None] = field(default_factory=dict)
    kept: str = ""
    verified: Literal["manifest", "none"] = "none"

    @property
    def rid(self) -> str:
        """The work."""
        return self.found.rid

    @property
    def jobs(self) -> Iterable[FilePlan]:
        """All its files."""
        return chain(self.payload, self.tag_files)


def plan(records: Sequence[BagRecord], say: Findings) -> list[WorkPlan]:
    """The works and their files; members that cannot be read are left out, as they are faults already."""
    _local_seconds.cache_clear()  # this machine may be in another time zone now
    works = []
    for record in records:
        for manifest in (*record.manifests, *record.tag_manifests):
            for path in say.each(manifest.missing):  # they are judged, and memory is not for them and the jobs
                manifest.entries.pop(path, None)
            manifest.missing.clear()
        bagged = record.found.bagged
        algorithms = record.algorithms if bagged else UNBAGGED_ALGORITHMS
        told = _digests_by_path(record.manifests, algorithms)
        told_of_tags = _digests_by_path(record.tag_manifests, algorithms)
        here = say.of(record.name)
        for found in record.works:
            work = WorkPlan(found, record, algorithms, kept=_kept_folder(found, here))
            _plan_payload(work, told, here)
            _plan_tag_files(work, told_of_tags, here)
            _plan_folders(work, here)
            if bagged and all(any(job.expected) for job in work.payload):
                work.verified = "manifest"
            if work.verified == "none" or not _proves_tag_files(work):
                here.doubts.add("files that no manifest lists")
            works.append(work)
            _check_doubted(work, here)
    for record in records:  # the jobs have it all, and memory is not for two
        for found in (record.found, *record.works):
            found.payload.clear()
            found.folders.clear()
        for manifest in (*record.manifests, *record.tag_manifests):
            manifest.entries.clear()
    return works


def _changed(member: Member) -> float:
    """When a member was last changed, in seconds since the epoch; the zip's local time where nothing else tells."""
    return _local_seconds(member.date, member.time) if member.modified is None else member.modified


@lru_cache(maxsize=4096)
def _local_seconds(date: int, clock: int) -> float:
    """MS-DOS date and time, in the time zone of this machine: the zip does not say which one it was."""
    year, month, day = 1980 + (date >> 9), max(1, min(12, date >> 5 & 15)), max(1, date & 31)
    hour, minute, second = min(23, clock >> 11), min(59, clock >> 5 & 63), min(59, (clock & 31) * 2)
    try:
        return time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
    except (OverflowError, ValueError):
        return 0.0


def _kept_folder(found: FoundBag, say: Findings) -> str:
    """Where the tag files are kept: `{RID}/{RID}.bag`, unless the payload (of a work bagged before) has that name."""
    if found.kept:
        return f"{found.rid}/{found.kept}"
    payload = (path for path in (*found.payload, *found.folders) if path.startswith(found.base))
    taken = {path[len(found.base) :].split("/", 1)[0].casefold() for path in payload}
    name = first = f"{found.rid}{BAG_SUFFIX}"
    number = 1
    while name.casefold() in taken:
        number += 1
        name = f"{first}.{number}"
    if name != first:
        detail = f"the payload has a {first} of its own; tag files are kept in {name}"
        say.warn(FaultKind.KEPT_NAME_TAKEN, detail, path=name)
    return f"{found.rid}/{name}"


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


def _plan_payload(work: WorkPlan, told: _Lookup, say: Findings) -> None:
    skip = len(work.found.base)
    base, bag, algorithms = f"{work.rid}/", work.record.name, work.algorithms
    for path, member in say.each(work.found.payload.items()):
        if member.is_readable:
            expected = told(path)
            _check_length(base + path[skip:], path, say)
            check_crc = not any(expected)
            mtime = _changed(member)
            work.payload.append(FilePlan(bag, path, base, skip, member, algorithms, expected, False, check_crc, mtime))
            member.name = ""  # it has served


def _check_length(target: str, path: str, say: Findings) -> None:
    if not target.isascii() and any(len(part.encode()) > _LONGEST_PART for part in target.split("/")):
        say.fault(FaultKind.NAME_TOO_LONG, "too long for a file name, as UTF-8", path=path)


def _plan_tag_files(work: WorkPlan, told: _Lookup, say: Findings) -> None:
    into, bag, algorithms = f"{work.kept}/{work.found.shared}", work.record.name, work.algorithms
    for path, member in work.found.tag_files.items():
        if member.is_readable:
            read = work.record.digests.get(path)  # rules.tag_files_match has judged those: the same are to come again
            expected = told(path) if read is None else read
            _check_length(into + path, path, say)
            check_crc = read is None and not any(expected)
            mtime = _changed(member)
            work.tag_files.append(FilePlan(bag, path, into, 0, member, algorithms, expected, True, check_crc, mtime))


def _plan_folders(work: WorkPlan, say: Findings) -> None:
    found, folders = work.found, work.folders
    folders[work.rid] = None
    for path, member in say.each(found.folders.items()):
        if path == found.base[:-1]:
            folders[work.rid] = _changed(member)
        elif path.startswith(found.base):
            folders[f"{work.rid}/{path[len(found.base) :]}"] = _changed(member)
        else:
            folders[f"{work.kept}/{found.shared}{path}".rstrip("/")] = _changed(member)
    folders.setdefault(work.kept, None)
    for below in say.each(chain((job.target for job in work.jobs), list(folders))):
        folder = below.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = None
            folder = folder.rpartition("/")[0]


def _proves_tag_files(work: WorkPlan) -> bool:
    """Whether tag manifests list the tag files; a tag manifest that was altered would not fit to what it lists."""
    known = [manifest for manifest in work.record.tag_manifests if manifest.algorithm]
    own = {manifest.file_name for manifest in known}
    return all(job.path in own or any(job.path in manifest.entries for manifest in known) for job in work.tag_files)


def _check_doubted(work: WorkPlan, say: Findings) -> None:
    """Two CRC-32 for one member, in directory and header or descriptor: harmless where a digest proves the bytes."""
    listed = [manifest.entries for manifest in work.record.tag_manifests if manifest.algorithm]
    for job in say.each(work.jobs):
        if job.member.crc_doubted:
            proved = any(job.path in entries for entries in listed) if job.of_tags else any(job.expected)
            detail = "the zip has two CRC-32 of it" + (", its digest decides" if proved else "")
            say.judge(FaultKind.CRC_DIFFERS, detail, refuse=not proved, path=job.path)
