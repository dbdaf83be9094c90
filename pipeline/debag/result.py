"""The folder beside the target in which a result grows, unseen, until one rename makes it the target.

Its marker `debag.json` is written before it is published: it says what the result must hold.
"""

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.debag.policy import Debagged, DebaggedWork
from pipeline.debag.zip_source import ZipSource
from pipeline.foundation import abilities, failpoints, guarded, owners, removal
from pipeline.foundation import durable as disk
from pipeline.foundation.errors import Fault, InvalidRid, NoRoom, StagingDamaged, WorkBusy
from pipeline.foundation.work import checked_rid, json_bytes

MARKER = "debag.json"
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TOOL = "debag 1"
_PRIVATE = 0o700
_TRIES = 100


@dataclass
class Staging:
    """A locked, empty, private folder on the target's file system.

    Attributes:
        path: where it lies: `.{name}.staging` beside the target.
        descriptor: open on it since before anything was written, so that syncfs(2) reports every failed write.
        target: what it will become.
        published: whether it is.
    """

    path: Path
    descriptor: int
    target: Path
    published: bool = False

    def check_room(self, size: int, files: int, *, reserve_bytes: int) -> None:
        """See that so many bytes in so many files fit on the disk.

        Raises:
            NoRoom: they do not.
        """
        facts = os.fstatvfs(self.descriptor)
        needed = size + files * facts.f_frsize + reserve_bytes
        free = disk.free_bytes(self.descriptor)
        if free is not None and free < needed:
            raise NoRoom(
                f"{needed} bytes are needed at {self.target.parent}, {free} are free",
                kept="the zip is untouched",
                by_hand="free some disk, then again",
                facts={"needed_bytes": needed, "free_bytes": free},
            )
        if facts.f_files and facts.f_favail < files:
            raise NoRoom(f"{files} inodes are needed at {self.target.parent}, {facts.f_favail} are free")

    def make_folders(self, folders: Iterable[str]) -> None:
        """Make folders, given relative to this one, those above first, all before any file."""
        for folder in folders:
            os.mkdir(folder, dir_fd=self.descriptor)

    def set_folder_times(self, folders: Iterable[tuple[str, float | None]]) -> None:
        """Give the folders their times, once nothing is written into them any more."""
        for folder, seconds in folders:
            if seconds is not None:
                abilities.set_times(Path(folder), seconds, at=self.descriptor)

    def write(self, name: str, pieces: Iterable[bytes | bytearray]) -> int:
        """Write a file, relative to this folder; durable once `publish` is through. Tells its bytes."""
        with os.fdopen(os.open(name, NEW_FILE, 0o666, dir_fd=self.descriptor), "wb") as file:
            return sum(map(file.write, pieces))

    def publish(self, *, durable: bool) -> None:
        """Make it the target: everything to disk with one syncfs(2), one rename, the folder's names to disk.

        Raises:
            OSError: something could not be written; nothing was published.
            StagingDamaged: something lies at the target.
        """
        abilities.set_mode(self.descriptor, self._public_mode())
        if durable:
            disk.sync_file_system(self.path, descriptor=self.descriptor)
        failpoints.see_allowed()
        try:
            disk.rename_to_free(self.path, self.target)
        except FileExistsError as error:
            raise StagingDamaged(f"{self.target} appeared while {self.path} was made") from error
        self.published = True
        if not os.path.samestat(os.fstat(self.descriptor), self.target.lstat()):
            raise StagingDamaged(
                f"{self.target} is not what was made: somebody put another folder in place of {self.path}"
            )
        if durable:
            disk.fsync_folder(self.target.parent)

    def _public_mode(self) -> int:
        """The mode that the umask gives a new folder; asking for the umask itself would change it for all threads."""
        with os.scandir(self.descriptor) as entries:
            modes = [stat.S_IMODE(entry.stat().st_mode) for entry in entries if entry.is_dir(follow_symlinks=False)]
        return modes[0] if modes else 0o755


def staging_path(target: Path) -> Path:
    """Where the result for `target` grows."""
    return target.with_name(f".{target.name}.staging")


@contextmanager
def staged(target: Path) -> Iterator[Staging]:
    """A staging folder for `target`, locked against other processes; removed at the end unless it was published.

    Raises:
        WorkBusy: somebody else is making `target`.
        OSError: it could not be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = staging_path(target)
    descriptor = _locked(path)
    staging = Staging(path, descriptor, target)
    try:
        removal.empty_folder(descriptor)
        yield staging
    finally:
        try:
            if not staging.published:
                removal.empty_folder(descriptor)
                path.rmdir()
        finally:
            os.close(descriptor)


def _locked(path: Path) -> int:
    """The staging folder, made if need be, and locked.

    Its lock is on the folder itself: when the folder is renamed or removed, whoever waited holds a lock on something
    that lies elsewhere, sees that, and begins anew.
    """
    for _ in range(_TRIES):
        try:
            path.mkdir(_PRIVATE)
        except FileExistsError:
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with ExitStack() as closing:
            closing.callback(os.close, descriptor)
            owners.see_ours(descriptor, path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WorkBusy(f"another process is at work in {path}") from error
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    closing.pop_all()
                    return descriptor
    raise WorkBusy(f"{path} comes and goes: others are at work there")


def discard(target: Path) -> None:
    """Remove a result that does not hold any more, at one stroke: renamed away first, so no half of it is ever seen.

    Raises:
        WorkBusy: somebody is at work there.
    """
    with staged(target) as staging:
        if os.path.lexists(target):
            failpoints.see_allowed()
            os.rename(target, staging.path / "discarded")


def marker_bytes(result: Debagged, source: ZipSource) -> bytes:
    """The marker of what a zip became."""
    facts = {
        "tool": _TOOL,
        "zip": {"name": source.path.name, "bytes": source.size, "mtime_ns": source.mtime_ns},
        "members": result.members,
        "works": [{name: value for name, value in vars(work).items() if name != "path"} for work in result.works],
        "algorithms": list(result.algorithms),
        "warnings": [warning.as_dict() for warning in result.warnings],
        "seconds": result.seconds,
    }
    return json_bytes(facts)


def load_marker(
    into: Path, *, of: Path | None = None, whole: bool = True, home: Callable[[str], Path] | None = None
) -> Debagged:
    """What `unpack` made of `into`, if all of it is still there: every work, with its files and bytes.

    Args:
        into: the result.
        of: the zip that it should have been made of; not asked for if it is gone, as it may once the marker stands.
        whole: False believes the marker alone: works may have been moved elsewhere since.
        home: where a work lies, by its RID, that is moved as a whole when it is brought home: who syncs it looks there.

    Raises:
        StagingDamaged: there is no marker, or something is not as it says.
    """
    try:
        facts = json.loads((into / MARKER).read_bytes())
        if of is not None:
            _check_zip(into, facts["zip"], of)
        works = tuple(DebaggedWork(path=into / checked_rid(work["rid"]), **work) for work in facts["works"])
        for work in works if whole else ():
            _check_work(work, None if home is None else home(work.rid))
        return Debagged(
            works=works,
            warnings=tuple(Fault(**warning) for warning in facts["warnings"]),
            algorithms=tuple(facts["algorithms"]),
            zip_bytes=int(facts["zip"]["bytes"]),
            seconds=float(facts["seconds"]),
            members=int(facts["members"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidRid) as error:
        raise StagingDamaged(f"{into / MARKER} cannot be trusted: {error}") from error


def _check_zip(into: Path, facts: Mapping[str, Any], bag_zip: Path) -> None:
    try:
        zip_facts = bag_zip.lstat()
    except FileNotFoundError:
        return
    if (zip_facts.st_size, zip_facts.st_mtime_ns) != (facts["bytes"], facts["mtime_ns"]):
        raise StagingDamaged(f"{into} was made of another zip than {bag_zip}, or it was changed since")


def _check_work(work: DebaggedWork, home: Path | None) -> None:
    moved = home is not None and not os.path.lexists(work.path) and home.is_dir()
    expected = work.files_on_disk, work.bytes_on_disk
    found = expected if moved else count(work.path)
    if found != expected:
        raise StagingDamaged(
            f"{work.path} has {found[0]} files of {found[1]} bytes, not {expected[0]} of {expected[1]}"
        )
    if work.digests.stat().st_size != work.digests_bytes:
        raise StagingDamaged(f"{work.digests} is not {work.digests_bytes} bytes")


def count(folder: Path) -> tuple[int, int]:
    """Files below a folder, and their bytes; links are not followed.

    Raises:
        OSError: the folder is not there.
    """
    files = (entry for _, entry in guarded.below(folder) if not entry.is_dir(follow_symlinks=False))
    sizes = [entry.stat(follow_symlinks=False).st_size for entry in files]
    return len(sizes), sum(sizes)
