"""Every failure has a name, and says which work it hit, what is left where, and how to go on.

Two branches decide what becomes of the message that brought the work: a `TransientError` may pass later, so the
message comes back; a `PermanentError` never will, so the message goes to the dead-letter queue with its reason.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong (or only odd) with a bag: a fact, not a sentence about it.

    Attributes:
        kind: what is wrong, a word from `pipeline.steps.debag.faults.FaultKind`.
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
        go_on: the command (or act) with which an operator goes on.
        facts: further facts for the record, JSON-able.
    """

    def __init__(
        self,
        what: str,
        *,
        work_rid: str = "",
        kept: str = "",
        go_on: str = "",
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.work_rid = work_rid
        self.kept = kept
        self.go_on = go_on
        self.facts: dict[str, object] = dict(facts or {})

    @property
    def kind(self) -> str:
        """The failure's name in records and reports: the class name in words, `invalid-bag`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(self).__name__).lower()

    def __str__(self) -> str:
        """What is wrong, with which work, what is left where, and how to go on."""
        head = f"{self.work_rid}: {self.what}" if self.work_rid else self.what
        tail = [self.kept, f"go on with: {self.go_on}" if self.go_on else ""]
        return "; ".join([head, *(part for part in tail if part)])


class SettingsError(PipelineError):
    """Settings are missing or wrong; `problems` names every one of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("wrong settings: " + "; ".join(problems), go_on="run_pipeline.py check")
        self.problems = tuple(problems)


class UsageError(PipelineError):
    """What was asked for on the command line cannot be meant."""


class TransientError(PipelineError):
    """The same may succeed later: the message comes back after a delay that grows."""


class StorageUnreachable(TransientError):
    """S3 or SQS did not answer, throttled, or broke off."""


class AccessDenied(TransientError):
    """S3 or SQS refused the credentials; it passes when somebody grants what is missing."""


class CredentialsExpired(AccessDenied):
    """The credentials were good once; it goes on with new ones."""


class DownloadMismatch(TransientError):
    """What arrived is not what S3 said it would send."""


class NotRestored(TransientError):
    """The object is still frozen in Glacier; an event will come when it is restored."""


class RestoreExpired(NotRestored):
    """The restored copy went away while it was fetched; what had come is kept for the next restore."""


class NoRoom(TransientError):
    """The disk is full, or would be."""


class FolderUnreachable(TransientError):
    """The folder of a source is not there (not mounted?), or cannot be read or written as its settings need."""


class ZipUnreadable(TransientError):
    """A zip on a local disk cannot be read, or changes while it is; it passes when its owner sees to it."""


class StagingDamaged(TransientError):
    """Something in staging is not as its marker says; the step that made it is done again."""


class ArchiveMissing(TransientError):
    """The archive is not there; most likely it is not mounted."""


class SyncFailed(TransientError):
    """The sync script ended with an exit status other than 0, or took too long."""


class ReadBackFailed(TransientError):
    """The copy in the archive is not, byte for byte, what the bag's manifests say."""


class DatabaseUnavailable(TransientError):
    """The progress database did not answer, or stayed locked.

    Attributes:
        rolled_back: nothing was written, and the same may succeed at once: a lock, or a transaction that took too long.
        locked: somebody else held what was needed.
    """

    rolled_back = False
    locked = False


class SchedulerUnreachable(TransientError):
    """luigid did not answer."""


class WorkBusy(TransientError):
    """Somebody else holds the lease of this bag."""


class LeaseLost(TransientError):
    """This lane's lease ran out and was taken over; it must stop and commit nothing."""


class Stopping(TransientError):
    """The run was asked to stop; the step ended at a safe point and goes on next time."""


class PermanentError(PipelineError):
    """The same can never succeed: the message goes to the dead-letter queue with its reason."""


class NotUnderstood(PermanentError):
    """A message's body is not an event that this pipeline knows."""


class InvalidRid(PermanentError):
    """A name that is no work's identifier."""


class LookAlike(PermanentError):
    """A work's name looks like that of another work, and is written with other characters."""


class ObjectGone(PermanentError):
    """The object is not in the bucket (any more)."""


class ObjectReplaced(PermanentError):
    """The bucket now holds other bytes under this key than the event announced."""


class TriedTooLong(PermanentError):
    """A bag has failed for reasons that may pass for longer than the settings allow; a person has to look."""


class LaneDied(PermanentError):
    """The lanes that worked on a bag died one after the other in the same step; a person has to look."""


class InvalidBag(PermanentError):
    """A bag or its zip breaks the rules; `faults` lists everything that is wrong, `warnings` what is only odd.

    `unlisted` tells of kinds of which there are too many to list how many more faults there are; in `faults` one more
    fact stands for them. `works` are the works that it holds, as far as it tells. `misnamed` is the work
    that everything inside names, where nothing is wrong but the zip's own name.
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
        kept: str = "",
        go_on: str = "",
    ) -> None:
        super().__init__(what, work_rid=work_rid, kept=kept, go_on=go_on)
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        self.unlisted = dict(unlisted or {})
        self.works = tuple(works)
        self.misnamed = ""


class ArchiveConflict(PermanentError):
    """The archive already holds other content under the same names; `facts['differences']` lists them."""


class OptionsNotUnderstood(PermanentError):
    """A file of sync options has words or values that are not known; `facts['problems']` lists them."""


class NotToBeArchived(PermanentError):
    """The work's own options keep it out of the archive, and the archive does not have it."""


class AuditFailed(PermanentError):
    """A test of the audit tool failed for this work; it will fail again until somebody changes one or the other."""
