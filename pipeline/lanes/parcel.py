"""Parcels: what queues and folders alike hand to a lane, and what became of the bags in them.

A source hands out parcels: a message, or a dropped zip. The lane opens one, brings its bags home, and settles it by
what became of them. Until then it stays where it is, so that whoever comes after a killed lane finds it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pipeline.foundation.errors import PipelineError
from pipeline.foundation.work import Bag
from pipeline.record import BagRow, BagState


class Outcome(StrEnum):
    """What became of a bag."""

    DONE = "done"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    BUSY = "busy"
    NOT_RESTORED = "not-restored"
    SKIPPED = "skipped"
    STOPPED = "stopped"


ENDED = {BagState.DONE: Outcome.DONE, BagState.REFUSED: Outcome.PERMANENT, BagState.SKIPPED: Outcome.SKIPPED}
"""The states in which nothing more is done with a bag, unless a person asks for it."""


@dataclass(frozen=True)
class Verdict:
    """What became of a bag, and when it makes sense to look again.

    Attributes:
        outcome: decides what is done with the message.
        reason: why it is not done; empty when it is.
        kind: the failure's name; empty when there is none.
        wait_seconds: after how many seconds to look again.
        already: it was home before this delivery.
    """

    work_rid: str
    bag_id: str
    outcome: Outcome
    reason: str = ""
    kind: str = ""
    wait_seconds: int = 0
    already: bool = False

    @classmethod
    def ended(cls, row: BagRow) -> Self:
        """The verdict on a bag that is in one of the states of `ENDED`."""
        done = row.state == BagState.DONE
        return cls(row.bag.work_rid, row.bag.bag_id, ENDED[row.state], row.error, row.error_kind, already=done)


class Parcel:
    """One thing that a source hands over; it is ours until it is settled or given back.

    This class itself is for a bag that comes from no source: to settle it does nothing.
    """

    name = ""

    @property
    def again(self) -> str:
        """Why a bag that was refused before is to be tried once more; empty: it is not."""
        return ""

    def open(self) -> Sequence[Bag]:
        """The bags that it carries, each once; if it carries none, that is recorded.

        Raises:
            PipelineError: why it cannot be worked on; it is to be settled with a verdict that says so.
            DatabaseUnavailable: nothing could be recorded; it is to be given back.
        """
        return ()

    def extend(self) -> None:
        """Keep it from others for longer; called while it is worked on."""

    def give_up(self, row: BagRow, error: PipelineError) -> None:
        """Called before the record says that a bag is tried no more: the last chance for a dead letter of it."""

    def settle(self, verdicts: Sequence[Verdict]) -> None:
        """Do with the parcel what the verdicts on its bags ask for.

        Raises:
            PipelineError: it could not be done; the parcel comes again, which is harmless.
        """

    def give_back(self) -> None:
        """Nothing could be done or recorded: it comes again, as if it had never been received."""
