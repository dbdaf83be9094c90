"""How the line stands, as `status --json` tells it: see docs/status.md, which scripts rely on."""

import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import intake, record
from pipeline.foundation.errors import PipelineError
from pipeline.operations import needs_you
from pipeline.record import lanes, overview, views
from pipeline.record.lanes import HostLanes
from pipeline.record.overview import AtWork
from pipeline.settings import Folder, Source, WhenDone
from pipeline.tasks import staging
from pipeline.tasks.context import Site
from pipeline.tasks.presence import silent_seconds


def document(here: Site, *, within_hours: int, most_ended: int) -> dict[str, Any]:
    """Everything; queues and folders that do not answer are told as such, the record has to.

    Args:
        here: this site.
        within_hours: restored copies that end within so long are at risk.
        most_ended: of the bags that are done or skipped, so many, the latest.

    Raises:
        DatabaseUnavailable: the record cannot be read.
    """
    now, pause = datetime.now(UTC), record.pause_of(here.engine)
    works, left_out = views.latest_works(here.engine, most_ended=most_ended)
    told = {
        "at": _rfc3339(now),
        "host": here.host,
        "paused": pause and {"by": pause.by, "since": _rfc3339(pause.since), "reason": pause.reason},
        "queues": [_queue(here, source) for source in here.settings.sources],
        "folders": [_folder(folder) for folder in here.settings.folders],
        "bags": views.counts(here.engine),
        **_since("oldest_unfinished", overview.oldest_unfinished(here.engine), now),
        **_since("oldest_refused", overview.oldest_refused(here.engine), now),
        "hosts": [_host(one) for one in lanes.hosts(here.engine, silent_seconds=silent_seconds(here))],
        "lanes": [_lane(one) for one in overview.holders(here.engine)],
        "at_risk": [
            {**asdict(one), "expires_on": _rfc3339(one.expires_on)}
            for one in overview.at_risk(here.engine, within_hours=within_hours)
        ],
        "fixity_failed": [{**asdict(one), "failed_on": _rfc3339(one.failed_on)} for one in record.broken(here.engine)],
        "disk": [_disk(name, getattr(here.settings, name)) for name in ("staging", "quarantine", "archive_root")],
        "works": [asdict(work) for work in works],
        "works_left_out": left_out,
        "messages_not_understood": overview.unreadable_messages(here.engine),
    }
    return {"needs_you": needs_you.needs_you(told), **told}


def _since(name: str, moment: datetime | None, now: datetime) -> dict[str, Any]:
    seconds = moment and max(0, round((now - moment).total_seconds()))
    return {name: moment and _rfc3339(moment), f"{name}_seconds": seconds}


def _queue(here: Site, source: Source) -> dict[str, Any]:
    named = {"source": source.name, "queue": source.queue}
    try:
        sqs = here.sqs(source)
        queue = intake.find_queue(sqs, source=source.name, queue=source.queue)
        depth = intake.depth(sqs, queue.url)
        dead = intake.depth(sqs, queue.dead_letter_url) if queue.dead_letter_url else None
    except PipelineError as error:
        return {**named, "error": str(error)}
    return {**named, **depth, "dead_letters": dead and dead["waiting"]}


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
        "lease_until": _rfc3339(one.until),
    }


def _disk(name: str, folder: Path) -> dict[str, Any]:
    named = {"what": name, "path": str(folder)}
    there = next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
    if there != folder and name == "archive_root":
        return {**named, "error": "not there; is it mounted?"}
    try:
        usage = shutil.disk_usage(there)
        ours = None if name == "archive_root" else staging.used_bytes(folder)  # the archive is too large to be counted
    except OSError as error:
        return {**named, "error": str(error.strerror)}
    return {**named, "free_bytes": usage.free, "total_bytes": usage.total, "used_by_pipeline_bytes": ours}


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


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
