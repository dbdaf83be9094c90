"""What nobody needs any more in the record, in the buckets of second copies, and among the dead letters."""

import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import partial

from pipeline import replicate
from pipeline.foundation import durable, failpoints, guarded
from pipeline.foundation.errors import PipelineError, Stopping
from pipeline.foundation.work import human_count
from pipeline.operations import letters
from pipeline.operations.outlived import Old, not_proved
from pipeline.record import outdated, replicas
from pipeline.record.replicas import SecondCopy
from pipeline.tasks.context import Site

_AT_ONCE = 10_000


def routine_events(here: Site, before: datetime) -> Iterator[Old]:
    """Events that no work's story lacks, all at once."""
    if count := outdated.routine_count(here.engine, before):
        what = f"{human_count(count, 'routine event')} of before {before:%F}"
        yield Old(what, 0, lambda: "", partial(_put_away, here, before))


def _put_away(here: Site, before: datetime) -> None:
    """Write them to a file, and read it again, before the rows go.

    Killed in between, the next call finds what the last file holds, and does not write it again.
    """
    folder = here.settings.retention.events_path or here.settings.logs / "events"
    guarded.make_ours_alone(folder)
    files = sorted(folder.glob("events-*.jsonl.gz"), key=lambda file: file.stat().st_mtime)
    written = set(gzip.decompress(guarded.read_file(files[-1])).splitlines()) if files else set()
    while rows := outdated.routine_events(here.engine, before, limit=_AT_ONCE):
        if here.stopping.is_set():
            raise Stopping("stopped as asked")
        told = [(row, line) for row in rows if (line := json.dumps(row, default=str).encode()) not in written]
        if told:
            first, text = told[0][0], b"".join(line + b"\n" for _, line in told)
            file = folder / f"events-{first['at']:%Y-%m-%dT%H.%M.%S.%fZ}-{first['id']}.jsonl.gz"
            durable.write_file(file, gzip.compress(text))
            if gzip.decompress(guarded.read_file(file)) != text:
                raise PipelineError(f"{file} came back as something else", kept="no row was deleted")
        failpoints.point("events written, not deleted")
        outdated.forget_events(here.engine, [row["id"] for row in rows])


def unfinished_uploads(here: Site, before: datetime) -> Iterator[Old]:
    """Uploads of second copies that the record has as begun, and nothing else that lies in a bucket.

    Raises:
        StorageUnreachable, AccessDenied: as of every call of S3.
    """
    named = {one.name: one for one in here.settings.replicas}
    for copy in replicas.copies(here.engine):
        if not copy.upload_id or copy.replica not in named:
            continue
        s3, place = here.s3_at(named[copy.replica]), {"Bucket": named[copy.replica].bucket, "Key": copy.object_key}
        begun_on = replicate.unfinished(s3, place).get(copy.upload_id)
        if begun_on is not None and begun_on < before:
            size = replicate.sent_bytes(s3, place, copy.upload_id)
            what = f"upload of {copy.object_key} to {copy.replica}, begun on {begun_on:%F}"
            needed, go = partial(_upload_needed, here, copy), partial(_let_go, here, copy)
            yield Old(what, size, needed, go, copy.work_rid, copy.bag_id)


def _upload_needed(here: Site, copy: SecondCopy) -> str:
    known = replicas.copies(here.engine, work_rid=copy.work_rid)
    if not any((one.replica, one.upload_id) == (copy.replica, copy.upload_id) for one in known):
        return "it was gone on with"
    return not_proved(here, [copy.work_rid])


def _let_go(here: Site, copy: SecondCopy) -> None:
    replica = next(one for one in here.settings.replicas if one.name == copy.replica)
    place = {"Bucket": replica.bucket, "Key": copy.object_key}
    replicate.abandon(here.s3_at(replica), place, only=copy.upload_id)
    replicas.let_go(here.engine, copy)


def dead_letters(here: Site, before: datetime) -> Iterator[Old]:
    """Dead letters that none of their works needs, all at once: to hold them while a person thinks would hide them.

    Raises:
        PipelineError: a queue is out of reach.
    """
    with ExitStack() as stack:
        over = [one for one in letters.lying(here, stack) if one.is_over and one.letter.since < before]
    if over:
        works = sorted({rid for one in over for rid in one.works})
        what = f"{human_count(len(over), 'dead letter')} of {', '.join(works)}"
        yield Old(what, 0, lambda: "", partial(_drop, here, {one.message_id for one in over}))


def _drop(here: Site, message_ids: set[str]) -> None:
    with ExitStack() as stack:
        for one in letters.lying(here, stack):
            if one.message_id in message_ids and one.is_over:
                letters.drop(here, one)
