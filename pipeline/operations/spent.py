"""What nobody needs any more in the record: routine events, which go to a file first."""

import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial

from pipeline.foundation import durable, failpoints, guarded
from pipeline.foundation.errors import PipelineError, Stopping
from pipeline.foundation.work import human_count
from pipeline.operations.outlived import Old
from pipeline.record import outdated
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
