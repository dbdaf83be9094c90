"""What an operator wants restored: how it stands in S3, what it would cost; then it is put in the line."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import record, restore
from pipeline.foundation.errors import InvalidRid, ObjectGone, UsageError
from pipeline.foundation.work import Bag, Pulse, asked_rid, is_bag_zip, rfc3339, rid_from_name, staging_key
from pipeline.record import Want, campaign, stages, wants
from pipeline.restore import Copy, Found
from pipeline.tasks import restoring
from pipeline.tasks.context import Site

_AT_ONCE = 16  # looks at S3
TO_BE_ASKED, HOME, WANTED, NOT_THERE = "to-be-asked", "home", "wanted", "not-there"
_ADDRESS = re.compile(r"s3://([^/]+)/(.+)")


@dataclass(frozen=True)
class Planned:
    """One object that is meant.

    Attributes:
        name: as the operator called it.
        state: `to-be-asked`, `home`, `wanted` (in the line already), `not-there`, or how its copy stands in S3.
        cost: of asking for it; None: it costs nothing, or nobody knows.
        looked_at: where it was looked for, if it is not there.
    """

    name: str
    state: str
    found: Found | None = None
    tier: str = ""
    cost: float | None = None
    looked_at: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestorePlan:
    """What a call would do, before it does it.

    Attributes:
        restore_cost: requests, retrieval and temporary copies; None: a price that it needs is not set.
        egress_cost: what leaves S3 for it; None: the price is not set.
        ready_seconds: until S3 has restored what is asked for first.
        home_seconds: to bring all of it home, at the rate measured lately; None: nothing was measured.
    """

    objects: Sequence[Planned]
    days: int
    restore_cost: float | None
    egress_cost: float | None
    ready_seconds: int
    home_seconds: float | None

    @property
    def to_ask(self) -> list[Planned]:
        """What S3 is to be asked for."""
        return [one for one in self.objects if one.state == TO_BE_ASKED]

    @property
    def to_come(self) -> list[Planned]:
        """All that is to come home by it, what need not be asked for too."""
        return [one for one in self.objects if one.state in {TO_BE_ASKED, *_THERE}]

    @property
    def bytes(self) -> int:
        """Of all that is to come home."""
        return sum(one.found.bag.size_bytes for one in self.to_come if one.found)

    @property
    def cost(self) -> float | None:
        """Of all; None: a price is not set."""
        return None if self.restore_cost is None or self.egress_cost is None else self.restore_cost + self.egress_cost

    def document(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {
            "counts": dict(Counter(one.state for one in self.objects)),
            "objects": [_facts(one) for one in self.objects],
            "requests": len(self.to_ask),
            "bytes": self.bytes,
            "days": self.days,
            "ready_seconds": self.ready_seconds,
            "home_seconds": self.home_seconds and round(self.home_seconds),
            "cost": {"restore": self.restore_cost, "egress": self.egress_cost, "all": self.cost},
        }


# When it is looked at; nobody knows when somebody else asked for what is being restored.
_LOOKED_AT = {Copy.RESTORING: 3600, Copy.RESTORED: 0, Copy.NOT_FROZEN: 0}
_THERE = (Copy.RESTORING, Copy.RESTORED, Copy.NOT_FROZEN)


def _facts(one: Planned) -> dict[str, Any]:
    bag, told = one.found and one.found.bag, one.found
    return {
        "wanted": one.name,
        "work_rid": bag.work_rid if bag else "",
        "state": one.state,
        "from": bag.address if bag else "",
        "bytes": bag.size_bytes if bag else 0,
        "storage_class": told.storage_class if told else "",
        "expires_on": told.expires_on.isoformat() if told and told.expires_on else None,
        "tier": one.tier,
        "cost": one.cost,
    }


def named(here: Site, targets: Sequence[str]) -> Iterator[tuple[str, list[Bag]]]:
    """What operators call a RID or `s3://bucket/key`, each with the objects that it may mean.

    A RID alone is looked for where the record knows its bag, then under its staging key in the sources' buckets; what
    is neither raises UsageError.
    """
    for target in targets:
        if address := _ADDRESS.fullmatch(target):
            yield target, [_bag(here, *address.groups())]
            continue
        rid = asked_rid(target)
        known = [row.bag for row in here.record.bags_of(rid) if not row.bag.is_local][:1]
        sources = here.settings.sources
        staged = [Bag(rid, source.bucket, staging_key(rid), source=source.name) for source in sources]
        yield (
            target,
            [*known, *(bag for bag in staged if (bag.bucket, bag.key) not in {(k.bucket, k.key) for k in known})],
        )


def _bag(here: Site, bucket: str, key: str) -> Bag:
    try:
        return Bag(rid_from_name(key), bucket, key, source=here.settings.source_of_bucket(bucket).name)
    except InvalidRid as error:
        raise UsageError(f"s3://{bucket}/{key}: {error.what}") from error


def listed_in(here: Site, file: Path) -> Iterator[tuple[str, list[Bag]]]:
    """What a list means: a RID or an address a line, or BDRC's CSV of work, bucket and key, without a header.

    Raises:
        UsageError: it cannot be read, or a line is neither.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    for number, row in enumerate(rows, 1):
        if len(row) == 1:
            yield from named(here, row)
        elif len(row) == 3:
            bag = _bag(here, row[1], row[2])
            if bag.work_rid != row[0]:
                raise UsageError(f"{file}: entry {number}: the key {row[2]} is of {bag.work_rid}, not of {row[0]}")
            yield row[0], [bag]
        else:
            raise UsageError(f"{file}: entry {number}: neither a RID nor work, bucket and key")


def below(here: Site, address: str) -> Iterator[tuple[str, list[Bag]]]:
    """Every bag zip under `s3://bucket/prefix`.

    Raises:
        UsageError: it is no such address.
        PipelineError: S3 cannot be asked.
    """
    found = re.fullmatch(r"s3://([^/]+)(?:/(.*))?", address)
    if found is None:
        raise UsageError(f"{address}: s3://bucket/prefix was expected")
    bucket, prefix = found[1], found[2] or ""
    s3 = here.s3(Bag("", bucket, prefix, source=here.settings.source_of_bucket(bucket).name))
    for key in restore.listed(s3, bucket, prefix):
        if is_bag_zip(key):
            yield f"s3://{bucket}/{key}", [_bag(here, bucket, key)]


def never_asked(here: Site, count: int) -> list[tuple[str, list[Bag]]]:
    """The next works of BDRC's table that nobody asked for, and that are not in the line."""
    waiting = {one.bag.work_rid for one in campaign.wanted(here.engine, open_only=True)}
    found = [one for one in stages.never_asked(here.engine) if one[0] not in waiting]
    return [(rid, [_bag(here, bucket, key)]) for rid, bucket, key in found[:count]]


def plan(
    here: Site, meant: Iterable[tuple[str, list[Bag]]], *, tier: str = "", days: int = 0, pulse: Pulse
) -> RestorePlan:
    """Look at everything that is meant, several at a time, and reckon what it takes.

    Args:
        here: this site.
        meant: what operators call it, and the objects that it may mean.
        tier: instead of the settings' own.
        days: the same.
        pulse: told how many were looked at, of how many.

    Raises:
        PipelineError: S3 cannot be asked.
    """
    chosen, asked = here.settings.restore, list(meant)
    tier, days = tier or chosen.tier, days or chosen.days
    for _, bags in asked:
        for bag in bags:
            here.s3(bag)  # made here: threads share clients, and must not make them
    looked: list[Found | None] = []
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look")
    try:
        for found in pool.map(lambda one: _stands(here, one[1]), asked):
            looked.append(found)
            pulse(len(looked), len(asked))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # whoever is interrupted does not look at all the others first
    return _reckoned(here, asked, looked, tier=tier, days=days)


def _stands(here: Site, bags: Sequence[Bag]) -> Found | None:
    """How the first of these stands that is there."""
    for bag in bags:
        try:
            return restore.look(here.s3(bag), bag)
        except ObjectGone:
            continue
    return None


def _reckoned(
    here: Site, asked: Sequence[tuple[str, list[Bag]]], looked: Sequence[Found | None], *, tier: str, days: int
) -> RestorePlan:
    home = campaign.home(here.engine, [found.bag.bag_id for found in looked if found])
    waiting = {wants.object_id(one.bag) for one in campaign.wanted(here.engine, open_only=True)}
    objects: dict[str, Planned] = {}
    for (name, bags), found in zip(asked, looked, strict=True):
        if found is None:
            state = HOME if any(_is_home(here, one.work_rid) for one in bags) else NOT_THERE
            objects[name] = Planned(name, state, looked_at=tuple(bag.address for bag in bags))
            continue
        known = wants.object_id(found.bag)
        if found.bag.bag_id in home:
            objects[known] = Planned(name, HOME, found)
        elif known in waiting:
            objects[known] = Planned(name, WANTED, found)
        elif found.copy is not Copy.FROZEN:
            objects[known] = Planned(name, found.copy, found, restore.tier_for(found.storage_class, tier))
        else:
            has = restore.tier_for(found.storage_class, tier)
            prices = here.settings.prices_in(found.bag.source)
            cost = prices.asking(found.storage_class, has, size_bytes=found.bag.size_bytes, days=days)
            objects[known] = Planned(name, TO_BE_ASKED, found, has, cost)
    made = RestorePlan(list(objects.values()), days, None, None, 0, None)
    rate = restoring.bytes_per_second(here)
    to_ask = [(one.found, one.tier) for one in made.to_ask if one.found]
    return replace(
        made,
        restore_cost=_sum(one.cost for one in made.to_ask),
        egress_cost=_sum(
            here.settings.prices_in(one.found.bag.source).leaving(one.found.bag.size_bytes)
            for one in made.to_come
            if one.found
        ),
        ready_seconds=max((restore.ready_seconds(found.storage_class, has) for found, has in to_ask), default=0),
        home_seconds=made.bytes / rate if rate else None,
    )


def _is_home(here: Site, work_rid: str) -> bool:
    """Whether a work is home whose object is not (any more) where it was looked for."""
    known = record.archived(here.engine, work_rid=work_rid).get(work_rid)
    return known is not None and known.is_home


def _sum(costs: Iterable[float | None]) -> float | None:
    """None where one of them is not known."""
    known = list(costs)
    return None if None in known else sum(cost for cost in known if cost is not None)


def put(here: Site, made: RestorePlan, *, first: bool) -> int:
    """Put what a plan found into the line; how many are new in it. What need not be asked for is only looked after."""
    new = [
        Want(
            one.found.bag,
            one.found.storage_class,
            one.tier,
            made.days,
            wait_seconds=_LOOKED_AT.get(one.found.copy),
        )
        for one in made.objects
        if one.found and one.state != HOME  # what waits in the line already may have to go first
    ]
    return wants.want(here.engine, new, first=first)


def facts(one: Want) -> dict[str, Any]:
    """A want as `restore list --json` tells it."""
    return {
        "work_rid": one.bag.work_rid,
        "from": one.bag.address,
        "bag_id": one.bag.bag_id,
        "state": one.state,
        "bytes": one.bag.size_bytes,
        "storage_class": one.storage_class,
        "tier": one.tier,
        "days": one.days,
        "attempts": one.attempts,
        "cost": one.cost,
        "asked_on": one.asked_on and rfc3339(one.asked_on),
        "expires_on": one.expires_on and rfc3339(one.expires_on),
        "error": one.error,
    }
