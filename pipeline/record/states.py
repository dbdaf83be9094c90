"""The words of the record: steps that are dated, states of a bag, what is known of one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import accumulate
from typing import Any, Literal

from sqlalchemy import Row

from pipeline.foundation.errors import PipelineError
from pipeline.foundation.work import Bag

_MANY = 100
_MOST_BYTES = 1 << 20
# What a bag and its row call the same.
_AS_TOLD = ("work_rid", "source", "bucket", "etag", "version_id", "size_bytes")
_MOMENTS_TOLD = ("event_time", "restore_expires_on")


class Phase(StrEnum):
    """The steps that leave a date with the work, in order."""

    RESTORE = "restore"
    DOWNLOAD = "download"
    DEBAG = "debag"
    SYNC = "sync"

    @property
    def column(self) -> str:
        """The column of `glacier_sync_progress` that says when the step was done."""
        return f"{self}_complete_on"


Step = (
    Literal[
        "restore",
        "intake",
        "download",
        "debag",
        "sync",
        "replicate",
        "verify",
        "verify-replica",
        "work",
        "lease",
        "quarantine",
        "callback",
    ]
    | Phase
)
"""What an event is of: a step, a fixity check, an operator's word, a lease taken over, what is kept of refused bags,
what a receiver of callbacks was not told."""


def step_after(phase: str) -> Phase:
    """The step that a lane is at when this is the last one that is done; empty: none is."""
    return {"": Phase.DOWNLOAD, Phase.DOWNLOAD: Phase.DEBAG}.get(phase, Phase.SYNC)


SUPERSEDED = "superseded"
"""How a bag is told of that is stuck, while a later one brought its works home; its state stays what it was."""


class BagState(StrEnum):
    """What is to be done about a bag."""

    UNFINISHED = "unfinished"
    FAILED = "failed"
    NOT_RESTORED = "not-restored"
    REFUSED = "refused"
    SKIPPED = "skipped"
    DONE = "done"


def stage_of(row: Any, *, held: bool, superseded: bool, home: bool = False) -> str:
    """How far a bag, or a work of it, is: `done`, the running step, `superseded`, `waiting`, or else the bag's state.

    Args:
        row: of `bags`, with `state` and `phase`.
        held: whether a lane has it.
        superseded: whether a later bag brought its works home.
        home: whether the work is home.
    """
    if row.state == BagState.DONE or (home and not superseded):
        return str(BagState.DONE)
    if held:
        return str(step_after(row.phase))
    if superseded:
        return SUPERSEDED
    return "waiting" if row.state == BagState.UNFINISHED else str(row.state)


@dataclass(frozen=True)
class BagRow:
    """What is known of a bag; see the table `bags`."""

    bag: Bag
    state: BagState
    phase: str
    works: tuple[str, ...]
    failures: int
    error_kind: str
    error: str
    host: str


def failure_facts(error: PipelineError) -> dict[str, Any]:
    """A failure as the events table, the dead-letter queue and reports tell it."""
    facts: dict[str, Any] = {"kind": error.kind, "error": str(error), **error.facts}
    facts |= {"go_on": error.go_on, "by_hand": error.by_hand}
    faults = getattr(error, "faults", ())
    if faults:
        facts["faults"] = [fault.as_dict() for fault in faults]
    return facts


def storable(text: str) -> str:
    """Text from outside as every database holds it: halves of characters and NUL are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def bounded(facts: Mapping[str, Any], *, list_bytes: int = _MOST_BYTES) -> dict[str, Any]:
    """The facts, with lists that would be too much for a database cut off, and how much in `NAME_left_out`.

    A bag of 200,000 members can have as many faults, and servers take no more than 16 MiB at once (MariaDB) by default.

    Args:
        facts: JSON-able.
        list_bytes: about what each list may take, as JSON; escaped, it may be several times as much.
    """
    kept = dict(facts)
    for name, value in facts.items():
        if isinstance(value, list) and len(value) > _MANY:
            sizes = accumulate(len(json.dumps(one, default=str)) for one in value)
            most = sum(1 for size in sizes if size <= list_bytes)
            if most < len(value):
                kept |= {name: value[:most], f"{name}_left_out": len(value) - most}
    return kept


def naive(moment: datetime | None) -> datetime | None:
    """A moment as the tables hold it: UTC, without a zone."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def aware(told: Any) -> Any:
    """A moment of the tables, or of the database's own clock, which SQLite tells as text, with its zone; None stays."""
    moment = datetime.fromisoformat(told) if isinstance(told, str) else told
    return moment and moment.replace(tzinfo=UTC)


def bag_columns(bag: Bag) -> dict[str, Any]:
    """What the table `bags` holds of what was told of a bag."""
    told = {name: getattr(bag, name) for name in ("bag_id", *_AS_TOLD)}
    return told | {"object_key": bag.key, **{name: naive(getattr(bag, name)) for name in _MOMENTS_TOLD}}


def bag_row(row: Row[Any]) -> BagRow:
    """A row of the table `bags`."""
    told = {name: getattr(row, name) for name in _AS_TOLD}
    return BagRow(
        bag=Bag(key=row.object_key, **told, **{name: aware(getattr(row, name)) for name in _MOMENTS_TOLD}),
        state=BagState(row.state),
        phase=row.phase,
        works=tuple(row.works or ()),
        failures=row.failures,
        error_kind=row.error_kind or "",
        error=row.error or "",
        host=row.host,
    )
