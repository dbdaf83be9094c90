"""Every failure has a name, and says which work it hit, what is left where, and how to go on.

Two branches decide what becomes of the message that brought the work: a `TransientError` may pass later, so the
message comes back; a `PermanentError` never will, so the message goes to the dead-letter queue with its reason.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.foundation.arguments import Command, command, way_on


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong (or only odd) with a bag: a fact, not a sentence about it.

    Attributes:
        kind: what is wrong, a word from `debag.faults.FaultKind`.
        bag: the bag's folder in the zip (`W1.bag`); empty when the zip itself is meant.
        path: the member or file meant, as the zip or the manifest names it; empty when the whole bag is meant.
        detail: what was expected and what was found, for a person.
    """

    kind: str
    bag: str = ""
    path: str = ""
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        """The fault as the command line's JSON shows it."""
        return asdict(self)

    def __str__(self) -> str:
        """One line for a person."""
        where = "/".join(part for part in (self.bag, self.path) if part)
        return ": ".join(part for part in (self.kind, where, self.detail) if part)


class PipelineError(Exception):
    """A failure with a name.

    Args:
        what: what went wrong, in a few words.
        work_rid: the work that it hit, where one is known.
        kept: what is left, and where.
        go_on: the command with which an operator goes on, or the words of a call of this program.
        by_hand: what a person has to do before, or instead, in a few words.
        facts: further facts for the record, JSON-able.
    """

    def __init__(
        self,
        what: str,
        *,
        work_rid: str = "",
        kept: str = "",
        go_on: Command | tuple[str, ...] = (),
        by_hand: str = "",
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(what)
        self.what, self.work_rid, self.kept = what, work_rid, kept
        self.go_on = command(*go_on) if isinstance(go_on, tuple) else go_on
        self.by_hand = by_hand
        self.facts: dict[str, object] = dict(facts or {})

    @property
    def kind(self) -> str:
        """The failure's name in records and reports: the class name in words, `invalid-bag`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(self).__name__).lower()

    def __str__(self) -> str:
        """What is wrong, with which work, what is left where, and how to go on."""
        head = f"{self.work_rid}: {self.what}" if self.work_rid else self.what
        return "; ".join(filter(None, (head, self.kept, way_on(self.go_on, self.by_hand))))


class SettingsError(PipelineError):
    """Settings are missing or wrong; `problems` names every one of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("wrong settings: " + "; ".join(problems), go_on=("check",))
        self.problems = tuple(problems)


class UsageError(PipelineError):
    """What was asked for on the command line cannot be meant."""


class TransientError(PipelineError):
    """The same may succeed later: the message comes back after a delay that grows."""


class StorageUnreachable(TransientError):
    """S3 or SQS did not answer, throttled, or broke off, eight times. Left: everything. Go on: by itself."""


class AccessDenied(TransientError):
    """S3 or SQS refused the credentials. Left: everything. Go on: grant what the message names."""


class CredentialsExpired(AccessDenied):
    """The credentials were good once. Left: everything, also half a download. Go on: renew them; then by itself."""


class DownloadMismatch(TransientError):
    """Twice other bytes came than S3 announced. Left: what had come. Go on: `work RID --from download`."""


class NotRestored(TransientError):
    """The object is still frozen in Glacier. Left: nothing. Go on: `restore RID`; then by itself."""


class RestoreExpired(NotRestored):
    """The restored copy went away while it was fetched. Left: what had come. Go on: `restore RID`; then by itself."""


class NoRoom(TransientError):
    """Staging is full, or would be, or cannot be written to. Left: everything. Go on: make room; then by itself."""


class FolderUnreachable(TransientError):
    """The folder of a source is not there, cannot be read or written, or holds somebody else's folder for ours.

    Left: every zip, where it was. Go on: mount it, or grant the rights; then by itself.
    """


class ZipUnreadable(TransientError):
    """A local zip cannot be read, or changes meanwhile. Left: the zip. Go on: grant the rights; then by itself."""


class StagingDamaged(TransientError):
    """Staging is not as its marker says. Left: the zip. Go on: by itself: the step is done again."""


class ArchiveMissing(TransientError):
    """The archive, or the marker of its mount, is not there. Left: everything. Go on: mount it; then by itself."""


class SyncFailed(TransientError):
    """The sync script ended with an exit status other than 0, or took too long; `log RID` shows its log.

    Left: staging, perhaps part of the copy. Go on: mend the cause; `work RID`.
    """


class ReadBackFailed(TransientError):
    """The copy in the archive is not, byte for byte, what the bag's manifests say; files are named.

    Left: staging, and the copy. Go on: look at the archive's disk; by itself: it is written again.
    """


class ReplicaUnproved(TransientError):
    """S3's checksum of a second copy is not that of what was sent. Left: the archive copy. Go on: by itself."""


class DatabaseUnavailable(TransientError):
    """The progress database did not answer, or stayed locked.

    Left: everything; nothing counts as done. Go on: start it, or see `check`; then by itself.

    Attributes:
        rolled_back: nothing was written, and the same may succeed at once: a lock, or a transaction that took too long.
        locked: somebody else held what was needed.
    """

    rolled_back = False
    locked = False


class SchedulerUnreachable(TransientError):
    """luigid does not answer, or asks for another password. Exit status 3.

    Left: everything. Go on: start it, or see to `[pipeline] scheduler_password_file`; or `--local-scheduler`.
    """


class WorkBusy(TransientError):
    """Another lane holds the lease of this bag. Left: everything. Go on: by itself."""


class LeaseLost(TransientError):
    """This lane's lease was taken over; it must stop and commit nothing. Left: everything. Go on: by itself."""


class Stopping(TransientError):
    """The run was asked to stop. Left: everything. Go on: by itself, with the next run."""


class NotProcessed(TransientError):
    """luigid gave the work to nobody. Left: everything. Go on: by itself, later; or `work RID --local-scheduler`."""


class Unexpected(TransientError):
    """A failure that nobody foresaw: most likely a defect of this program; its log has the traceback.

    Left: everything. Go on: by itself, after a delay; send the log to the maintainers.
    """


class PermanentError(PipelineError):
    """The same can never succeed: the message goes to the dead-letter queue with its reason."""


class NotUnderstood(PermanentError):
    """A message is no event of S3. Left: it, in the dead-letter queue. Go on: `dead-letters show`, then `drop`."""


class InvalidRid(PermanentError):
    """A dropped zip's name has no RID. Left: the zip, in `refused_path`. Go on: drop it again as `RID.bag.zip`."""


class LookAlike(PermanentError):
    """The work's name looks like that of one that is home: other case, Cyrillic letters, another form of Unicode.

    Left: everything; nothing was archived. Go on: give its zip the right name, or `skip RID`.
    """


class ObjectGone(PermanentError):
    """The object is not in the bucket (any more).

    Left: nothing. Go on: put its bag there again, and `work s3://BUCKET/KEY`; or `skip RID` leaves it out.
    """


class ObjectReplaced(PermanentError):
    """The bucket now holds other bytes under this key than the event announced.

    Left: nothing. Go on: the new object's event brings that one home; or `work s3://BUCKET/KEY` takes what is there.
    """


class TriedTooLong(PermanentError):
    """What may pass has failed for longer than `[queue] retry_days`; the last failure is told.

    Left: staging; a dead letter. Go on: see to the cause; `retry RID`, or `retry --kind tried-too-long`.
    """


class LaneDied(PermanentError):
    """Three lanes died one after the other in the same step of this work (memory?). No lane takes it up any more.

    Left: staging; the message, in the dead-letter queue. Go on: find out why; `retry RID`.
    """


class InvalidBag(PermanentError):
    """The bag or its zip breaks a rule; `report.txt` lists every fault.

    Left: the zip, in quarantine or `refused_path`. Go on: a mended bag; for a bad download `work RID --from download`.

    `faults` lists everything that is wrong, `warnings` what is only odd. `unlisted` tells how many more faults are of a
    kind of which there are too many to list; one fact in `faults` stands for them. `works` are those that it holds, as
    far as it tells; `misnamed` the one that everything inside names, where nothing is wrong but the zip's own name.
    """

    def __init__(
        self,
        what: str,
        *,
        faults: Sequence[Fault],
        warnings: Sequence[Fault] = (),
        unlisted: Mapping[str, int] | None = None,
        works: Sequence[str] = (),
        work_rid: str = "",
    ) -> None:
        super().__init__(what, work_rid=work_rid)
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        self.unlisted = dict(unlisted or {})
        self.works = tuple(works)
        self.misnamed = ""


class ArchiveConflict(PermanentError):
    """The archive already holds other content under the same names; each difference is listed.

    Left: everything; nothing was written. Go on: compare; `work RID --replace` replaces it, and keeps what was there.
    """


class OptionsNotUnderstood(PermanentError):
    """A work's `config/sync.yml` has words or values that are not known; each is named.

    Left: everything; nothing was written. Go on: a mended bag, or `PIPELINE_SYNC_WORK_OPTIONS=ignore … work RID`.
    """


class NotToBeArchived(PermanentError):
    """The work's own options keep it out of the archive, and the archive does not have it.

    Left: everything; nothing was written. Go on: a mended bag, or `PIPELINE_SYNC_WORK_OPTIONS=ignore … work RID`.
    """


class AuditFailed(PermanentError):
    """A test of the audit tool failed; `log RID --path` says where its logs are.

    Left: staging; after the copy also the copy. Go on: mend the work or the site's tests; `work RID`.
    """


class FixityFailed(PermanentError):
    """A file of the archive copy is not what was archived: seen when a second copy was to be made of it.

    Left: everything; nothing was sent. Go on: `verify RID` names every such file; mend the copy, then `replicate RID`.
    """


class ReplicaConflict(PermanentError):
    """A bucket for second copies holds other content under the work's key, and keeps no versions.

    Left: everything; nothing was sent. Go on: compare; `replicate RID --replace` puts this work over it.
    """
