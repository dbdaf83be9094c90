"""A work's whole story: what the record knows, what lies on the disks, what happens next, and the command to go on."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.foundation.arguments import PROGRAM, command
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.work import Bag, archive_dir, rfc3339, stamp
from pipeline.operations import restores, sync_logs
from pipeline.record import CHECK, ENDS_ALARM, BagRow, BagState, Phase, campaign, replicas
from pipeline.record.stories import KnownBag, WorkStory
from pipeline.tasks import staging
from pipeline.tasks.context import Site

_STEPS = (Phase.DOWNLOAD, Phase.DEBAG, Phase.SYNC)


@dataclass(frozen=True)
class Next:
    """What happens next, the command with which a person goes on, and what she does before or instead, if anything."""

    what: str
    command: str = ""
    by_hand: str = ""


@dataclass(frozen=True)
class Lying:
    """Something of a bag on a disk of this host; bytes 0: not counted."""

    what: str
    path: str
    bytes: int = 0


def next_of(here: Site, story: WorkStory, known: KnownBag) -> Next:
    """What happens to a bag next."""
    row, rid = known.row, known.row.bag.work_rid
    if known.holder is not None and row.state is not BagState.DONE:
        until = f"had it been killed, another lane could take the work up after {stamp(known.holder.until)}"
        return Next(f"{known.holder.owner} is at it; {until}", command("status", "--watch"))
    if known.superseded:
        kept = here.place(row.bag).quarantine.exists()
        return Next("nothing: a later bag brought it home", command("quarantine", "drop", rid) if kept else "")
    if row.state not in {BagState.UNFINISHED, BagState.FAILED}:
        return _once_asked(here, story, row)
    elsewhere = f" on {row.host}" if row.host not in {"", here.host} else ""
    if row.state is BagState.FAILED and known.retry_on is not None and known.retry_on > story.now:
        when = stamp(known.retry_on)
        return Next(f"it is tried again by itself{elsewhere} after {when}", command("retry", rid))
    return Next(f"the next lane that is free{elsewhere} takes it up", command("run"))


def _once_asked(here: Site, story: WorkStory, row: BagRow) -> Next:
    """Of a bag that no lane takes up by itself."""
    rid = row.bag.work_rid
    if row.state is BagState.DONE:
        works = row.works if story.work_rid not in row.works else (story.work_rid,)
        return Next("nothing: it is home, read back and recorded", command("verify", *works))
    if row.state is BagState.NOT_RESTORED:
        waiting = campaign.wanted(here.engine, work_rids=[rid], open_only=True)
        if waiting:
            return Next(f"it is {waiting[0].state}, and comes when S3 has restored it", command("restore", "list", rid))
        return Next("nothing by itself: somebody has to ask S3 to restore it", command("restore", rid))
    if row.state is BagState.SKIPPED:
        return Next("nothing: an operator left it out", command("retry", rid))
    # Whoever raised the last failure knew best how to go on.
    mine = (event["detail"] for event in reversed(story.events) if event["bag_id"] == row.bag.bag_id)
    told: dict[str, Any] = next((one for one in mine if one.get("go_on") or one.get("by_hand")), {})
    go_on, by_hand = str(told.get("go_on", "")), told.get("by_hand")
    if by_hand is None and not go_on.startswith(PROGRAM):  # release 0.1.0 told what a person does in the same field
        go_on, by_hand = "", go_on
    look = command("quarantine", "show", rid) if here.place(row.bag).report.exists() else go_on
    return Next("nothing by itself: a person has to decide", look or command("retry", rid), by_hand or "")


def lying(here: Site, bag: Bag) -> list[Lying]:
    """What there is of a bag on the disks that this host sees."""
    place = here.place(bag)
    found: list[Lying] = []
    if bag.is_local:
        if Path(bag.key).exists():
            found.append(Lying("the zip, where its owner put it", bag.key, bag.size_bytes))
    elif place.download.exists() and (size := staging.used_bytes(place.download)):
        found.append(Lying(_of_download(place), str(place.download), size))
    if place.debag.exists():
        found.append(Lying("the work, verified and unpacked", str(place.debag), staging.used_bytes(place.debag)))
    for folder, known in ((place.staging, sum(one.bytes for one in found)), (place.in_archive, 0)):
        other = staging.used_bytes(folder) - known
        if other > 0 and not (bag.is_local or place.debag.exists()):
            found.append(Lying("a work that was being unpacked", str(folder), other))
    for path, what in (
        (place.quarantined_zip, "the refused zip"),
        (place.quarantine / "report.txt", "why it was refused"),
    ):
        if path.exists():
            found.append(Lying(what, str(path), path.stat().st_size))
    return found


def _of_download(place: staging.Place) -> str:
    try:
        staging.vouched(place.download_marker)
    except StagingDamaged:
        return "part of the zip, which a download goes on from"
    return "the zip, downloaded and vouched for"


def attempts(story: WorkStory, bag_id: str) -> dict[str, dict[str, int]]:
    """How often each step of a bag ended, by outcome."""
    counted = Counter(
        (event["step"], event["outcome"])
        for event in story.events
        if event["bag_id"] == bag_id and event["step"] in _STEPS
    )
    return {
        step: {outcome: count for (of, outcome), count in counted.items() if of == step}
        for step in _STEPS
        if any(of == step for of, _ in counted)
    }


def verification(story: WorkStory, known: KnownBag) -> dict[str, Any]:
    """What vouches for a bag's bytes at each step that was done: how it was verified, and the digests."""
    told: dict[str, Any] = {}
    for event in story.events:
        if event["bag_id"] == known.row.bag.bag_id and event["outcome"] in {"done", "proved"}:
            wanted = ("verified", "etag", "digests", "algorithms", "files", "bytes", "proof", "download")
            told[event["step"]] = {name: event["detail"][name] for name in wanted if event["detail"].get(name)}
    return told


def document(here: Site, story: WorkStory) -> dict[str, Any]:
    """The story as `explain --json` tells it."""
    archive = archive_dir(here.settings.archive_root, story.work_rid)
    checks = [event for event in story.events if event["step"] == CHECK]
    return {
        "work_rid": story.work_rid,
        "at": rfc3339(story.now),
        "host": here.host,
        "dates": {name: None if at is None else rfc3339(at) for name, at in story.dates.items()},
        "next": asdict(_next(here, story)),
        "bags": [_bag(here, story, known) for known in story.bags],
        "archive_path": str(archive) if archive.is_dir() else None,
        "wanted": [restores.facts(one) for one in campaign.wanted(here.engine, work_rids=[story.work_rid])],
        "sync_logs": [asdict(one) for one in sync_logs.of(here, story.work_rid, story.events)],
        "second_copies": [
            {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in asdict(one).items()}
            for one in replicas.copies(here.engine, work_rid=story.work_rid)
        ],
        "last_check": {**checks[-1], "at": rfc3339(checks[-1]["at"])} if checks else None,
        "history": [{**event, "at": rfc3339(event["at"])} for event in story.events],
    }


def _next(here: Site, story: WorkStory) -> Next:
    if not story.bags and campaign.wanted(here.engine, work_rids=[story.work_rid], open_only=True):
        return Next("it is in the line of restores: each `run` asks for the next", command("restore", "list"))
    if not story.bags:
        return Next("nothing is on its way", command("work", story.work_rid))
    if story.bags[0].row.state is BagState.DONE and _is_rotten(story):
        return Next(
            "nothing by itself: the archive copy failed its last check; if the bag is right, bring it home again",
            command("work", story.work_rid, "--from", "sync", "--replace"),
        )
    return next_of(here, story, story.bags[0])


def _is_rotten(story: WorkStory) -> bool:
    """Whether the last that is known of the archive copy is that a fixity check failed: as `record.broken` has it."""
    mine = [(event["step"], event["outcome"]) for event in story.events if event["work_rid"] == story.work_rid]
    told = [one for one in mine if one in ENDS_ALARM or one == (CHECK, "failed")]
    return bool(told) and told[-1] == (CHECK, "failed")


def _bag(here: Site, story: WorkStory, known: KnownBag) -> dict[str, Any]:
    row, bag = known.row, known.row.bag
    error = {"kind": row.error_kind, "error": row.error} if row.error_kind else None
    return {
        "bag_id": bag.bag_id,
        "work_rid": bag.work_rid,
        "works": list(row.works),
        "stage": known.stage,
        "state": row.state,
        "phase": row.phase,
        "source": bag.source,
        "from": bag.address,
        "etag": bag.etag,
        "version_id": bag.version_id,
        "zip_bytes": bag.size_bytes,
        "seen_on": rfc3339(known.seen_on),
        "updated_on": rfc3339(known.updated_on),
        "retry_on": known.retry_on and rfc3339(known.retry_on),
        "restore_expires_on": bag.restore_expires_on and rfc3339(bag.restore_expires_on),
        "host": row.host,
        "failures": row.failures,
        "error": error,
        "running": known.holder and _plain(asdict(known.holder)),
        "attempts": attempts(story, bag.bag_id),
        "verification": verification(story, known),
        "on_disk": [asdict(one) for one in lying(here, bag)],
        "archived": [_plain(asdict(copy)) for copy in known.copies],
        "next": asdict(next_of(here, story, known)),
    }


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in facts.items()}
