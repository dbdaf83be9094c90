"""The download as a whole: which file it is, and nobody else's; `attempt` does the rest."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.download.attempt import Attempt
from pipeline.download.fetch_options import Fetched, FetchOptions
from pipeline.download.plan import Verify
from pipeline.foundation import failpoints
from pipeline.foundation.errors import NoRoom, WorkBusy
from pipeline.foundation.work import Bag, Pulse, no_pulse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ADVICE = dict.fromkeys([errno.ENOSPC, errno.EDQUOT, errno.EFBIG], "make room on the staging disk") | dict.fromkeys(
    [errno.EACCES, errno.EPERM, errno.EROFS], "let this user write to the staging disk"
)


def fetch(
    s3: "S3Client", bag: Bag, *, to: Path, options: FetchOptions | None = None, pulse: Pulse = no_pulse
) -> Fetched:
    """Bring the object that `bag` identifies to the file `to`; it appears under that name only when whole and verified.

    What an earlier try brought is not fetched again. The journal of what came stays beside the file until `settle`.

    Raises:
        NotRestored: it is still frozen in Glacier; RestoreExpired: it is so again, half-way.
        ObjectGone: it is not there (any more).
        ObjectReplaced: the bucket now holds other bytes under the key.
        DownloadMismatch: what came is not what S3 has, twice.
        NoRoom: the disk is full, or cannot be written to.
        WorkBusy: another process of this host still writes the file.
        PipelineError: S3 cannot be reached, or refuses; or what the pulse raised.
    """
    started = time.monotonic()
    part, journal = to.with_name(f"{to.name}.part"), _journal_of(to)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if journal.exists() and to.exists() and not part.exists():
            failpoints.see_allowed()
            os.replace(to, part)  # killed before anything vouched for the file: it is looked at again, not paid again
        with _locked(part, bag) as file:
            return Attempt(s3, bag, to, journal, part, file, options or FetchOptions(), pulse).run(started)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "see to the staging disk")
        raise NoRoom(f"{to}: {error.strerror}", work_rid=bag.work_rid, by_hand=advice) from error


def prove(
    s3: "S3Client", bag: Bag, *, at: Path, options: FetchOptions | None = None, pulse: Pulse = no_pulse
) -> Fetched | None:
    """Compare a file that `fetch` brought with S3's digests; if it came wrong, mend it, once.

    Meanwhile it has not its name: killed, `fetch` goes on with it.

    Returns:
        The file, of which `fetched_bytes` came anew; None: what S3 said of it is not known any more.

    Raises:
        DownloadMismatch: it is still not what S3 has.
        PipelineError: as `fetch`; S3 is asked only if it came wrong.
    """
    if not _journal_of(at).exists():
        return None
    chosen = replace(options or FetchOptions(), verify=Verify.ALWAYS)
    return fetch(s3, bag, to=at, options=chosen, pulse=pulse)


def settle(path: Path) -> None:
    """The downloaded file is vouched for, and was compared: its journal is not needed any more."""
    failpoints.see_allowed()
    _journal_of(path).unlink(missing_ok=True)


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


@contextlib.contextmanager
def _locked(part: Path, bag: Bag) -> Iterator[int]:
    """The `.part` file, open, and nobody else's meanwhile: a lane that lost its lease may still be writing it.

    Raises:
        WorkBusy: it is somebody else's.
    """
    while True:
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, whoever had it may have given it its name, or removed it.
            if part.exists() and part.stat().st_ino == os.fstat(file).st_ino:
                yield file
                return
        except BlockingIOError as error:
            raise WorkBusy(
                f"another process on this host still writes {part}", work_rid=bag.work_rid, kept="what has come stays"
            ) from error
        finally:
            os.close(file)
