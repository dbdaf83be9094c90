"""Where bags come from: what a lane asks of a queue and of a folder alike.

A source hands out parcels: a message, or a dropped zip. The lane opens one, brings its bags home, and settles it by
what became of them. Until then it stays where it is, so that whoever comes after a killed lane finds it again.
"""

from collections.abc import Sequence
from typing import Protocol

from pipeline.foundation.work import Bag
from pipeline.lanes.bring_home import Verdict

MOST_AT_ONCE = 10
"""So many bags of one parcel are worked on in its turn; S3 announces one in each message."""


class Parcel(Protocol):
    """What a source hands over at a time; it is ours until it is settled or given back."""

    @property
    def name(self) -> str:
        """The parcel for people."""
        ...

    @property
    def again(self) -> str:
        """Why a bag that was refused before is to be tried once more; empty: it is not."""
        ...

    def open(self) -> Sequence[Bag]:
        """What it carries, each bag once; that it carries nothing is recorded.

        Raises:
            PipelineError: why it cannot be worked on; it is to be settled with a verdict that says so.
            DatabaseUnavailable: nothing could be recorded; it is to be given back.
        """
        ...

    def extend(self) -> None:
        """Keep it from others for longer; called while it is worked on."""
        ...

    def settle(self, verdicts: Sequence[Verdict]) -> None:
        """Do with it what became of its bags asks for.

        Raises:
            PipelineError: it could not be done; the parcel comes again, which is harmless.
        """
        ...

    def give_back(self) -> None:
        """Nothing could be done or recorded: it comes again, as if it had never been received."""
        ...


class Source(Protocol):
    """Hands out parcels."""

    @property
    def name(self) -> str:
        """The name that the settings give it."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether it waits for something to come right now, in a call that may be broken off."""
        ...

    def receive(self) -> Parcel | None:
        """The next parcel; None when there is none.

        Raises:
            PipelineError: the source cannot be reached, or refuses.
        """
        ...

    def pause_seconds(self) -> float | None:
        """After how long another look may find what the last one did not; None: nothing is known to come."""
        ...
