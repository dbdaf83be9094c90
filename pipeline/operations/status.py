"""How the line stands: asked once, and told by `status`, `metrics` and `notify`, each in its own words."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import intake, record
from pipeline.foundation.errors import PipelineError
from pipeline.foundation.work import rfc3339
from pipeline.operations import needs_you
from pipeline.record import campaign, lanes, outbox, overview, replicas, schedule, views
from pipeline.record.archived import Broken
from pipeline.record.lanes import HostLanes
from pipeline.record.overview import AtRisk, AtWork, Bags
from pipeline.settings import Folder, Source, WhenDone
from pipeline.tasks import restoring, staging
from pipeline.tasks.context import Site


@dataclass(frozen=True)
class Depths:
    """A queue and its dead-letter queue, as SQS counts them, approximately; or why it does not."""

    source: str
    queue: str
    waiting: Mapping[str, int] = field(default_factory=dict)
    dead_url: str = ""
    dead: Mapping[str, int] | None = None
    error: PipelineError | None = None


class Standing:
    """How things stand. Each part is asked for when it is first looked at, and never again.

    What is asked of the record raises `DatabaseUnavailable`; queues, folders and disks say themselves what is wrong.

    Args:
        here: this site.
        within_hours: restored copies that end within so long are at risk.
        hasty: give up soon on a queue that does not answer.
    """

    def __init__(self, here: Site, *, within_hours: int = 0, hasty: bool = False) -> None:
        self.here = here
        self._within_hours = within_hours
        self._hasty = hasty
        self.at = datetime.now(UTC)

    @cached_property
    def queues(self) -> list[Depths]:
        """The queues of all sources."""
        return [_depths(self.here, source, hasty=self._hasty) for source in self.here.settings.sources]

    @property
    def dead_letters(self) -> list[Depths]:
        """The queues with a dead-letter queue, of several that share one the first; and those that do not answer."""
        found: dict[str, Depths] = {}
        for one in self.queues:
            if one.dead_url or one.error:
                found.setdefault(one.dead_url or one.source, one)
        return list(found.values())

    @cached_property
    def folders(self) -> list[dict[str, Any]]:
        """The folders of zips."""
        return [_folder(folder) for folder in self.here.settings.folders]

    @cached_property
    def disks(self) -> list[dict[str, Any]]:
        """The disks of this host."""
        return [_disk(name, getattr(self.here.settings, name)) for name in ("staging", "quarantine", "archive_root")]

    @cached_property
    def hosts(self) -> list[HostLanes]:
        """The hosts that have lanes."""
        return lanes.hosts(self.here.engine, silent_seconds=self.here.silent_seconds)

    @cached_property
    def bags(self) -> Bags:
        """The bags by their states."""
        return overview.bags_now(self.here.engine)

    @cached_property
    def at_risk(self) -> list[AtRisk]:
        """The bags whose restored copy ends soon."""
        return overview.at_risk(self.here.engine, within_hours=self._within_hours)

    @cached_property
    def broken(self) -> list[Broken]:
        """The works whose archive copy failed its last check."""
        return record.broken(self.here.engine)

    @cached_property
    def replicas(self) -> dict[str, dict[str, int]]:
        """The replicas with their second copies, and how many of those failed the last look."""
        return replicas.counts(self.here.engine, days=self.here.settings.fixity.replica_due_days)

    @cached_property
    def fixity(self) -> dict[str, Any] | None:
        """How fixity checks keep to their schedule; None: there is none."""
        days = self.here.settings.fixity.due_days
        if not days:
            return None
        told = schedule.standing(self.here.engine, days=days)
        return {"due_days": days, **asdict(told), "oldest": told.oldest and rfc3339(told.oldest)}

    @cached_property
    def callbacks(self) -> dict[str, dict[str, Any]]:
        """The receivers of callbacks, also one that is no longer set, with what they are still to be told."""
        named, owed = [one.name for one in self.here.settings.callbacks], outbox.undelivered(self.here.engine)
        none = {"waiting": 0, "dead": 0, "due_seconds": 0}
        return {name: {**owed.get(name, none), "is_set": name in named} for name in sorted({*named, *owed})}

    @cached_property
    def restores(self) -> dict[str, Any] | None:
        """The campaign of restores; None: nothing was ever wanted."""
        told = campaign.totals(self.here.engine, within_hours=self._within_hours)
        if not told.counts:
            return None
        rate = restoring.bytes_per_second(self.here)
        left = told.bytes_to_come / rate if rate else None
        return {
            **asdict(told),
            "currency": self.here.settings.restore.currency,
            "bytes_per_second": rate and round(rate),
            "seconds_left": None if left is None else round(left),
        }

    def document(self, *, most_ended: int) -> dict[str, Any]:
        """All of it, as `status --json` tells it: see docs/status.md, which scripts rely on.

        Args:
            most_ended: of the bags that are done or skipped, so many, the latest.
        """
        engine, bags = self.here.engine, self.bags
        pause = record.pause_of(engine)
        works, left_out = views.latest_works(engine, most_ended=most_ended)
        told = {
            "at": rfc3339(self.at),
            "host": self.here.host,
            "paused": pause and {"by": pause.by, "since": rfc3339(pause.since), "reason": pause.reason},
            "queues": [_queue(one) for one in self.queues],
            "folders": self.folders,
            "bags": bags.counts,
            **_since("oldest_unfinished", bags.oldest_unfinished, self.at),
            **_since("oldest_refused", bags.oldest_refused, self.at),
            "hosts": [_host(one) for one in self.hosts],
            "lanes": [_lane(one) for one in overview.holders(engine)],
            "at_risk": [{**asdict(one), "expires_on": rfc3339(one.expires_on)} for one in self.at_risk],
            "replicas": self.replicas,
            "callbacks": self.callbacks,
            "restores": self.restores,
            "fixity": self.fixity,
            "fixity_failed": [{**asdict(one), "failed_on": rfc3339(one.failed_on)} for one in self.broken],
            "disk": [_used(disk) for disk in self.disks],
            "works": [asdict(work) for work in works],
            "works_left_out": left_out,
            "messages_not_understood": overview.unreadable_messages(engine),
        }
        return {"needs_you": needs_you.needs_you(told), **told}


def _since(name: str, moment: datetime | None, now: datetime) -> dict[str, Any]:
    seconds = moment and max(0, round((now - moment).total_seconds()))
    return {name: moment and rfc3339(moment), f"{name}_seconds": seconds}


def _depths(here: Site, source: Source, *, hasty: bool) -> Depths:
    try:
        sqs = here.sqs(source, hasty=hasty)
        queue = intake.find_queue(sqs, source=source.name, queue=source.queue)
        dead = intake.depth(sqs, queue.dead_letter_url) if queue.dead_letter_url else None
        return Depths(source.name, source.queue, intake.depth(sqs, queue.url), queue.dead_letter_url, dead)
    except PipelineError as error:
        return Depths(source.name, source.queue, error=error)


def _queue(one: Depths) -> dict[str, Any]:
    named = {"source": one.source, "queue": one.queue}
    if one.error is not None:
        return {**named, "error": str(one.error)}
    return {**named, **one.waiting, "dead_letters": one.dead and one.dead["waiting"]}


def _folder(folder: Folder) -> dict[str, Any]:
    named = {"source": folder.name, "folder": str(folder.path)}
    try:
        return {**named, **look_at(folder)}
    except PipelineError as error:
        return {**named, "error": str(error)}


def _host(one: HostLanes) -> dict[str, Any]:
    """A host; once none of its lanes was seen lately, those that it had."""
    return {
        "host": one.host,
        "lanes": one.alive or one.silent,
        "at_work": one.at_work,
        "seen_seconds": round(one.seen_seconds),
        "gone": not one.alive,
    }


def _lane(one: AtWork) -> dict[str, Any]:
    """A lane at work: rate and time left are of its step, as far as the record tells when that began."""
    rate = one.done_bytes / one.step_seconds if one.done_bytes and one.step_seconds > 0 else None
    left = (one.total_bytes - one.done_bytes) / rate if rate and one.total_bytes else None
    return {
        "lane": one.owner,
        "host": one.owner.partition("/")[0],
        "work_rid": one.work_rid,
        "bag_id": one.bag_id,
        "step": one.step,
        "done_bytes": one.done_bytes,
        "total_bytes": one.total_bytes,
        "step_seconds": round(one.step_seconds, 1),
        "bytes_per_second": rate and round(rate),
        "seconds_left": left and round(left),
        "lease_until": rfc3339(one.until),
    }


def _disk(name: str, folder: Path) -> dict[str, Any]:
    named = {"what": name, "path": str(folder)}
    there = next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
    if there != folder and name == "archive_root":
        return {**named, "error": "not there; is it mounted?"}
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        return {**named, "error": str(error.strerror)}
    return {**named, "free_bytes": usage.free, "total_bytes": usage.total}


def _used(disk: dict[str, Any]) -> dict[str, Any]:
    """A disk, with what is ours on it; the archive is too large to be counted."""
    try:
        ours = None if disk["what"] == "archive_root" else staging.used_bytes(Path(disk["path"]))
    except OSError as error:
        return {"what": disk["what"], "path": disk["path"], "error": str(error.strerror)}
    return disk if "error" in disk else {**disk, "used_by_pipeline_bytes": ours}


def look_at(folder: Folder) -> dict[str, Any]:
    """How a folder stands, for people who ask.

    Raises:
        FolderUnreachable: it is not there, or cannot be read or written as its settings need.
    """
    intake.see_usable(folder.path, writable=folder.done is not WhenDone.KEEP)
    listing = intake.look(folder.path)
    quiet = [one for one in listing.zips if one.age_seconds >= folder.settle_seconds]
    incomplete = [one for one in quiet if not one.is_whole]
    waiting = [one.age_seconds for one in quiet if one not in incomplete]
    refused = list(folder.refused_path.glob("*/*.[zZ][iI][pP]")) if folder.refused_path.is_dir() else []
    return {
        "waiting": len(waiting),
        "oldest_waiting_seconds": round(max(waiting)) if waiting else None,
        "settling": len(listing.zips) - len(quiet),
        "incomplete": [one.shown for one in incomplete],
        "passed_over": list(listing.passed_over),
        "refused": len(refused),
    }
