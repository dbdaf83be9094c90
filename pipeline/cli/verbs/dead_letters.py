"""`run_pipeline.py dead-letters list|show|resend|drop`: messages that could never succeed, and what becomes of them."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console

from pipeline import intake
from pipeline.foundation.errors import UsageError, WorkBusy
from pipeline.foundation.work import human_count, rfc3339, stamp
from pipeline.operations import repair, show
from pipeline.operations.letters import Letter, drop, lying, note
from pipeline.record import SUPERSEDED, BagState, overview
from pipeline.tasks import context
from pipeline.tasks.context import Site


def main(options: Namespace) -> int:
    """Do what was asked.

    Raises:
        UsageError: a message or work that was named is not among the dead letters, or nobody agreed; nothing was
            changed.
        PipelineError: a queue is out of reach.
    """
    here = context.open_site(lane="dead-letters")
    with ExitStack() as stack:
        letters = list(lying(here, stack))
        if options.action == "list":
            return _told(options, letters, _list)
        if options.action == "show":
            return _told(options, _named(letters, options.names), _show)
        if options.all == bool(options.names):
            raise UsageError("either MESSAGE… (or RID…) or --all is needed", go_on=("dead-letters", "--help"))
        chosen = letters if options.all else _named(letters, options.names)
        if options.action == "drop":
            return _drop(here, show.console(), chosen, yes=options.yes)
        return _resend(here, show.console(), chosen)


def _named(letters: Sequence[Letter], names: Sequence[str]) -> list[Letter]:
    """The letters meant: by message identity (also the one that logs name), its beginning, or a work it announces."""
    found: list[Letter] = []
    for name in names:
        matching = [one for one in letters if name and (name in one.works or one.is_called(name))]
        if not matching:
            raise UsageError(
                f"{name}: no dead letter of that identity or work could be seen; nothing was changed",
                go_on=("dead-letters", "list"),
            )
        found += [one for one in matching if one not in found]
    return found


def _told(options: Namespace, letters: Sequence[Letter], tell: Callable[[Console, Sequence[Letter]], None]) -> int:
    document = {"dead_letters": [_document(one) for one in letters]}
    return show.result(options, document, lambda out: tell(out, letters))


def _list(out: Console, letters: Sequence[Letter]) -> None:
    if not letters:
        out.print("no dead letters")
    show.tell(out, [_row(one) for one in letters])


def _show(out: Console, letters: Sequence[Letter]) -> None:
    for one in letters:
        out.print(f"message {one.message_id}, dead since {stamp(one.letter.since)}, from queue {one.source.queue}")
        for name, value in one.letter.attributes.items():
            out.print(f"  {show.safe(name):11} {show.safe(value)}")
        if not one.letter.attributes:
            out.print(f"  SQS moved it here itself, after {one.queue.max_receives} deliveries")
        for bag, state in zip(one.bags, one.states, strict=True):
            out.print(f"  {bag.work_rid:11} {state}: {show.safe(bag.address)}")
        out.print(show.safe(one.letter.message.body))
        out.print()
        out.print(f"send it back: run_pipeline.py dead-letters resend {one.message_id}")
        out.print(f"delete it:    run_pipeline.py dead-letters drop {one.message_id}")


def _resend(here: Site, out: Console, letters: Sequence[Letter]) -> int:
    """Sent, then recorded, then deleted: killed in between a letter is in both queues, and never in none.

    What SQS moved has no seal by which a lane would know it: its refused bags are handed back here, before it is sent.

    Returns:
        1 when a lane has a work of such a letter, which stays where it is then; the others are sent.
    """
    busy = 0
    for one in letters:
        sqs = here.sqs(one.source)
        seal, work_rid = one.letter.message.seal
        if not here.record.is_dead_lettered(work_rid, seal=intake.seal_digest(seal)):
            try:
                _hand_back(here, one)
            except WorkBusy as error:
                busy += 1
                out.print(f"{one.message_id}: not sent back: {show.safe(str(error))}")
                continue
        intake.send_back(sqs, one.queue, one.letter)
        note(here, one, "resent", {} if one.bags else {"body": one.letter.message.body[: overview.SAID]})
        intake.acknowledge(sqs, one.letter.message)
        out.print(f"{one.message_id}: sent back to {one.source.queue}: {show.safe(one.carries)}")
    out.print(f"{len(letters) - busy} sent back; lanes take them up by themselves, or: run_pipeline.py run")
    return 1 if busy else 0


def _hand_back(here: Site, one: Letter) -> None:
    for bag in one.bags:
        for row in here.record.bags_of(bag.work_rid):
            meant = row.bag.bag_id == bag.bag_id if bag.etag or bag.version_id else row.bag.address == bag.address
            if meant and row.state is BagState.REFUSED:
                repair.hand_back(here, row, reason="its message was sent back from the dead-letter queue")


def _drop(here: Site, out: Console, letters: Sequence[Letter], *, yes: bool) -> int:
    for one in letters:
        out.print(f"{one.message_id}: {show.safe(one.carries)}")
    show.agreed(f"{human_count(len(letters), 'dead letter')} will be deleted. Delete?", yes=yes)
    for one in letters:
        drop(here, one)
        out.print(f"{one.message_id}: deleted; what it said stays in the record")
    return 0


def _row(one: Letter) -> dict[str, str]:
    return {
        "message": one.message_id,
        "queue": one.source.queue,
        "dead since": f"{one.letter.since:%F %T}",
        "works": ", ".join(one.works) or "not understood",
        "kind": one.letter.attributes.get("ErrorKind") or "too many deliveries",
        "now": _now(one.states),
        "reason": one.letter.attributes.get("Reason", ""),
    }


def _now(states: Sequence[str]) -> str:
    """What has become of a letter's bags, and how to clear the letter away where none of them needs it any more."""
    if states and all(state == BagState.DONE for state in states):
        return "home: resend clears it"
    if states and all(state in {BagState.DONE, SUPERSEDED} for state in states):
        return f"{SUPERSEDED}: drop clears it"
    return ", ".join(states)


def _document(one: Letter) -> dict[str, Any]:
    return {
        "message_id": one.message_id,
        "was_message_id": one.was_message,
        "source": one.source.name,
        "queue": one.source.queue,
        "since": rfc3339(one.letter.since),
        "receives": one.letter.message.receives,
        "attributes": dict(one.letter.attributes),
        "bags": [
            {"work_rid": bag.work_rid, "from": bag.address, "state": state}
            for bag, state in zip(one.bags, one.states, strict=True)
        ],
        "body": one.letter.message.body,
    }
