"""How the line stands, as `status --json` tells it: see docs/status.md, which scripts rely on."""

import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import attention, staging
from pipeline.ages import Ages, Told
from pipeline.errors import PipelineError
from pipeline.presence import silent_seconds
from pipeline.settings import Folder, Source
from pipeline.site import Site
from pipeline.sources.folder import look_at
from pipeline.steps import intake, record
from pipeline.steps.record import overview, roll, views
from pipeline.steps.record.overview import AtWork
from pipeline.steps.record.roll import HostLanes

# A queue that nobody asked for anything for six hours wakes up for CloudWatch only after some minutes.
NOTHING_YET = "CloudWatch knows nothing of the last 15 minutes"


def document(here: Site, *, within_hours: int, ages: Ages, most_ended: int) -> dict[str, Any]:
    """Everything; queues and folders that do not answer are told as such, the record has to.

    Args:
        here: this site.
        within_hours: restored copies that end within so long are at risk.
        ages: asks how old messages are; kept by who looks again and again.
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
        "queues": _queues(here, ages),
        "folders": [_folder(folder) for folder in here.settings.folders],
        "bags": views.counts(here.engine),
        **_since("oldest_unfinished", overview.oldest_unfinished(here.engine), now),
        **_since("oldest_refused", overview.oldest_refused(here.engine), now),
        "hosts": [_host(one) for one in roll.hosts(here.engine, silent_seconds=silent_seconds(here))],
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
    return {"needs_you": attention.needs_you(told), **told}


def _since(name: str, moment: datetime | None, now: datetime) -> dict[str, Any]:
    seconds = moment and max(0, round((now - moment).total_seconds()))
    return {name: moment and _rfc3339(moment), f"{name}_seconds": seconds}


def _queues(here: Site, ages: Ages) -> list[dict[str, Any]]:
    """The queues; CloudWatch is asked once for all, and only about those in which there is something."""
    found = [(source, *_queue(here, source)) for source in here.settings.sources]
    wanted = [(source, name) for source, _, names in found for name in names.values() if name]
    told = ages.of(wanted)
    return [{**queue, **_ages(source, names, told)} for source, queue, names in found]


def _queue(here: Site, source: Source) -> tuple[dict[str, Any], dict[str, str]]:
    """A queue; and the queues that hold what `oldest` and `oldest_dead_letter` are asked of, empty where nothing is."""
    named = {"source": source.name, "queue": source.queue}
    try:
        sqs = here.sqs(source)
        queue = intake.find_queue(sqs, source=source.name, queue=source.queue)
        depth = intake.depth(sqs, queue.url)
        dead = intake.depth(sqs, queue.dead_letter_url) if queue.dead_letter_url else None
    except PipelineError as error:
        return {**named, "error": str(error)}, {}
    asked = {
        "oldest": queue.url if any(depth.values()) else "",
        "oldest_dead_letter": queue.dead_letter_url if dead and any(dead.values()) else "",
    }
    return {**named, **depth, "dead_letters": dead and dead["waiting"]}, asked


def _ages(source: Source, names: dict[str, str], told: dict[tuple[Source, str], Told]) -> dict[str, Any]:
    if not names:
        return {}
    found: dict[str, Any] = {}
    silent: list[str] = []
    for field, name in names.items():
        answer = told.get((source, name))
        age = answer and answer.ages.get(intake.queue_name(name))
        if answer and not age:
            silent.append(answer.why_not or NOTHING_YET)
        found |= {f"{field}_seconds": age and round(age.seconds), f"{field}_told_at": age and _rfc3339(age.at)}
    return {**found, "age_not_told": silent[0] if silent else None}


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
