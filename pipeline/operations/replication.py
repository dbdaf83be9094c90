"""Second copies: which are owed, making them by hand, and looking at those that are there."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline import record, replicate
from pipeline.foundation.errors import UsageError, WorkBusy
from pipeline.foundation.work import Pulse, human_bytes, human_count, rfc3339
from pipeline.record import Archived, replicas
from pipeline.record.replicas import SecondCopy
from pipeline.replicate import CopyVerdict, Replica
from pipeline.tasks import second_copies
from pipeline.tasks.context import Site


@dataclass(frozen=True)
class Owed:
    """A second copy that a work is to have."""

    work: Archived
    replica: Replica


def wanted(here: Site, works: list[Archived], *, to: str = "") -> list[Owed]:
    """The second copies that these works are to have, by the settings.

    Args:
        here: the site.
        works: archived works.
        to: in the replica of that name alone.

    Raises:
        UsageError: no replica is set, or none of that name.
        DatabaseUnavailable: the database is out of reach.
    """
    chosen = [one for one in here.settings.replicas if to in {"", one.name}]
    if not chosen:
        named = f"no [replica {to}] is set" if to else "no [replica NAME] is set"
        raise UsageError(f"{named}; nothing was sent", by_hand="set one: docs/replicas.md")
    sources = record.sources(here.engine)
    return [Owed(work, replica) for work in works for replica in chosen if replica.wants(sources.get(work.bag_id, ""))]


def lacking(here: Site, asked: list[Owed]) -> list[Owed]:
    """Those of them that are not there, by the record."""
    there = {(one.work_rid, one.bag_id, one.replica) for one in replicas.copies(here.engine) if one.sent_on}
    return [one for one in asked if (one.work.work_rid, one.work.bag_id, one.replica.name) not in there]


def plan(here: Site, asked: list[Owed]) -> str:
    """What sending them takes, for a person: bytes, requests, and the cost where its prices are set."""
    size = sum(one.work.bytes for one in asked)
    once = month = 0.0
    for one in asked:
        prices = here.settings.prices_of(one.replica.region)
        costs = prices.keeping(requests=replicate.requests(one.work.bytes), size_bytes=one.work.bytes)
        if costs is None:
            told = f"what it costs is not known: [prices {one.replica.region}] second_copy is not set"
            break
        once, month = once + costs[0], month + costs[1]
    else:
        currency = here.settings.restore.currency
        told = f"{once:.2f} {currency} to send, {month:.2f} {currency} a month to keep"
    copies = human_count(len(asked), "second copy", "second copies")
    requests = sum(replicate.requests(one.work.bytes) for one in asked)
    return f"{copies} of {human_bytes(size)}, {human_count(requests, 'request')}; {told}"


def send(here: Site, owed: Owed, *, replace: bool, pulse: Pulse) -> None:
    """Make a second copy, under the work's lease.

    Raises:
        WorkBusy: a lane works on it.
        PipelineError: as `second_copies.make` has it.
    """
    rid, bag_id = owed.work.work_rid, owed.work.bag_id
    with here.leased(rid, bag_id) as ours:
        if not ours:
            raise WorkBusy("a lane works on it; its second copy was not made", work_rid=rid)
        heartbeat = here.new_heartbeat(rid)
        with heartbeat:

            def told(done: int, total: int) -> None:
                heartbeat.check(rid)
                pulse(done, total)

            second_copies.make(here, owed.replica, rid, bag_id=bag_id, held={rid}, replace=replace, pulse=told)


@dataclass(frozen=True)
class Looked:
    """A look at a second copy, and what was wrong with it."""

    copy: SecondCopy
    verdict: CopyVerdict
    wrong: str

    @property
    def passed(self) -> bool:
        """Whether it is as it was made."""
        return self.verdict is CopyVerdict.PASSED

    def as_data(self) -> dict[str, object]:
        """For `--json`."""
        seen = self.copy.seen_on
        return {
            "work_rid": self.copy.work_rid,
            "replica": self.copy.replica,
            "key": self.copy.object_key,
            "bytes": self.copy.bytes,
            "verdict": self.verdict,
            "wrong": self.wrong,
            "last": rfc3339(seen) if seen else None,
        }


def see_rights(here: Site, replica: Replica) -> str:
    """Try what a second copy takes; returns what was found, for a person.

    Raises:
        StorageUnreachable, AccessDenied: as of every call of S3.
    """
    return replicate.see_rights(here.s3_at(replica), replica)


def look(here: Site, copies: list[SecondCopy], *, until: float = math.inf) -> Iterator[Looked]:
    """Look at second copies, one after the other; what is found goes into the record.

    Args:
        here: the site.
        copies: which.
        until: when to stop, by the monotonic clock.

    Raises:
        StorageUnreachable, AccessDenied: as of every call of S3.
        DatabaseUnavailable: the database is out of reach.
    """
    named = {one.name: one for one in here.settings.replicas}
    for one in copies:
        replica = named.get(one.replica)
        if replica is None or here.stopping.is_set() or time.monotonic() > until:
            continue
        place = {"Bucket": replica.bucket, "Key": one.object_key}
        verdict, wrong = replicate.look(
            here.s3_at(replica), place, version_id=one.version_id, checksum=one.checksum, size_bytes=one.bytes
        )
        facts = {"key": one.object_key, "bytes": one.bytes, "wrong": wrong}
        if verdict is CopyVerdict.FAILED:
            facts |= {"kind": "replica-failed", "error": f"{one.work_rid}: its copy in {one.replica} {wrong}"}
        replicas.looked(here.engine, one, verdict, facts, agent=here.agent)
        yield Looked(one, verdict, wrong)


def newest(here: Site, *, rids: list[str]) -> list[SecondCopy]:
    """The latest copy of each work in each replica that is proved to be there; the one not seen for longest first.

    Args:
        here: the site.
        rids: of these works alone; empty: of all.

    Raises:
        UsageError: a work of these has none.
        DatabaseUnavailable: the database is out of reach.
    """
    latest = {(one.work_rid, one.replica): one for one in replicas.copies(here.engine) if one.sent_on}
    if without := set(rids) - {rid for rid, _ in latest}:
        raise UsageError(
            f"{', '.join(sorted(without))}: no second copy is known; nothing was looked at",
            go_on=("replicate", "--owed"),
        )
    chosen = [one for one in latest.values() if not rids or one.work_rid in rids]
    return sorted(chosen, key=lambda one: (str(one.seen_on), one.work_rid))
