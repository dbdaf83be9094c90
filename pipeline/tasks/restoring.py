"""Asking S3 for what is wanted, as room comes free, and looking after what was asked for.

Every lane does it between two parcels. The record says whose turn it is; whoever is killed leaves nothing but a claim,
which is looked into later.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pipeline import restore
from pipeline.foundation import failpoints
from pipeline.foundation.errors import ObjectGone, PipelineError, RestoreExpired
from pipeline.record import Limits, Want, WantState, campaign, history, lanes, wants
from pipeline.restore import Asked, Copy, Found
from pipeline.tasks.context import Site

_AT_ONCE = 10  # requests, and looks, in a turn: the lane has works to bring home
_LATELY = timedelta(days=14)
_SHARE = 0.5  # of the time that a copy stays is counted on
_LOOK_AGAIN_SECONDS = 600
_log = logging.getLogger(__name__)


def bytes_per_second(here: Site) -> float | None:
    """What all lanes together bring home, as the record measured it lately; None: nothing was."""
    rate = history.rate(here.engine, since=datetime.now(UTC) - _LATELY)
    alive = sum(host.alive for host in lanes.hosts(here.engine, silent_seconds=here.silent_seconds))
    return None if rate is None else rate * (alive or here.settings.lanes)


def tend(here: Site) -> None:
    """One turn: follow the bags, look at what is due, ask for what there is room for.

    A refusal by S3 ends the turn, and is told: the line goes on without.

    Raises:
        DatabaseUnavailable: the record is out of reach.
    """
    if not campaign.any_open(here.engine):
        return
    campaign.settle(here.engine, home=lambda one: here.settings.prices_in(one.bag.source).leaving(one.bag.size_bytes))
    for one in campaign.due(here.engine, limit=_AT_ONCE):
        if here.stopping.is_set() or not _survived(_look, here, one):
            return
    limits = _limits(here)
    for _ in range(_AT_ONCE):
        claimed = None if here.stopping.is_set() else wants.claim(here.engine, limits)
        if claimed is None or not _survived(_ask, here, claimed):
            return


def _survived(act: Callable[[Site, Want], None], here: Site, one: Want) -> bool:
    try:
        act(here, one)
    except PipelineError as error:
        _log.warning("%s", error)
        return False
    return True


def _limits(here: Site) -> Limits:
    chosen, rate = here.settings.restore, bytes_per_second(here)
    per_day = None if rate is None else rate * 86_400 * _SHARE
    return Limits(chosen.at_most_works, chosen.at_most_bytes, per_day)


def _cost(here: Site, one: Want) -> float | None:
    prices = here.settings.prices_in(one.bag.source)
    return prices.asking(one.storage_class, one.tier, size_bytes=one.bag.size_bytes, days=one.days)


def _book(here: Site, one: Want, *, cost: float | None, seconds: float | None = None) -> None:
    """S3 was asked; it is looked at when S3 should have it, and not all that were asked together at once."""
    if seconds is None:
        seconds = restore.ready_seconds(one.storage_class, one.tier) * random.uniform(1.0, 1.25)  # noqa: S311  # spreads
    wants.asked(here.engine, one, cost=cost, look_seconds=seconds, agent=here.agent)


def _ask(here: Site, one: Want) -> None:
    """Ask for what was claimed.

    Raises:
        PipelineError: S3 refuses; it waits for its turn again.
    """
    failpoints.point("restore claimed")
    try:
        answer = restore.ask(
            here.s3(one.bag, restoring=True), one.bag, storage_class=one.storage_class, tier=one.tier, days=one.days
        )
    except ObjectGone as error:
        wants.failed(here.engine, one, str(error))
        raise
    except PipelineError as error:
        if error.facts.get("refused"):
            wants.give_back(here.engine, one, error=str(error))
        raise  # else whether S3 took it is seen when the claim is looked into
    failpoints.point("restore asked")
    if answer in {Asked.TAKEN, Asked.RUNNING}:
        _book(here, one, cost=_cost(here, one))
    else:  # the copy is there: nothing is retrieved
        _book(here, one, cost=0.0, seconds=0)
    _log.info("%s: restore asked for (%s, %d days): %s", one.bag.work_rid, one.tier, one.days, answer)


def _look(here: Site, one: Want) -> None:
    """See how an object stands of which nothing was heard in time; what is restored is taken in as if announced.

    Raises:
        PipelineError: S3 cannot be asked; it is looked at again later.
    """
    later = max(_LOOK_AGAIN_SECONDS, restore.ready_seconds(one.storage_class, one.tier) / 12)
    if not wants.look_later(here.engine, one, seconds=later * random.uniform(1.0, 2.0)):  # noqa: S311  # spreads
        return
    try:
        found = restore.look(here.s3(one.bag), one.bag)
    except ObjectGone as error:
        wants.failed(here.engine, one, str(error))
        raise
    if found.copy in {Copy.RESTORED, Copy.NOT_FROZEN}:
        _take_in(here, one, found)
    elif one.state is WantState.ASKING and found.copy is Copy.RESTORING:
        _book(here, one, cost=_cost(here, one))  # whoever claimed it asked, and died before that was booked
    elif one.state is WantState.ASKING:
        wants.give_back(here.engine, one)  # it died before it asked
    elif found.copy is Copy.FROZEN:
        _expired(here, one)


def _take_in(here: Site, one: Want, found: Found) -> None:
    if one.state is WantState.ASKING:
        _book(here, one, cost=_cost(here, one))
    bag = replace(found.bag, event_time=datetime.now(UTC), restore_expires_on=found.expires_on)
    here.record.see(bag)
    wants.ready(here.engine, one, bag=bag, expires_on=found.expires_on)
    _log.info("%s: found restored; no event was heard of it", one.bag.work_rid)


def _expired(here: Site, one: Want) -> None:
    """The copy went away before the work was home: ask again, before all others, unless that was tried too often."""
    bag, most = one.bag, here.settings.restore.most_attempts
    again = one.attempts < most
    what = f"its restored copy ended before it was home; asked for {one.attempts} times"
    cost = _cost(here, one)
    told = f", which costs {cost:.2f} {here.settings.restore.currency} more" if cost is not None else ""
    then = f"it is asked for again{told}" if again else "it is not asked for any more"
    error = RestoreExpired(
        f"{what}; {then}",
        work_rid=bag.work_rid,
        go_on=() if again else ("restore", bag.work_rid),
        facts={"attempts": one.attempts, "cost": cost},
    )
    with here.leased(bag.work_rid, bag.bag_id) as ours:
        if not ours:
            return  # a lane is at it, and finds out by itself
        if here.record.bag(bag.bag_id) is not None:
            here.record.failed(bag, "restore", error)
        else:
            here.record.note("restore", "failed", {"kind": error.kind, "error": str(error)}, work_rid=bag.work_rid)
    if again:
        wants.give_back(here.engine, one, error=str(error), first=True)
    else:
        wants.failed(here.engine, one, str(error))
    _log.warning("%s", error)
