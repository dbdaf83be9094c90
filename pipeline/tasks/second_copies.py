"""A second copy of one archived work: what lies in the archive, what the record knows, what goes to the bucket."""

import logging
import os
from collections.abc import Collection

from pipeline import record, replicate, sync
from pipeline.foundation.errors import ArchiveMissing, FixityFailed
from pipeline.foundation.work import Pulse, archive_dir, human_bytes, human_seconds
from pipeline.record import replicas
from pipeline.replicate import Replica
from pipeline.tasks.context import Site

_log = logging.getLogger("pipeline.tasks")


def make(
    here: Site,
    replica: Replica,
    work_rid: str,
    *,
    bag_id: str,
    held: Collection[str],
    replace: bool = False,
    pulse: Pulse,
) -> None:
    """Make a second copy of an archived work, or find that it is there, and commit its row.

    Args:
        here: the lane's site.
        replica: where to.
        work_rid: the work.
        bag_id: in which it came; empty where the record does not know.
        held: the works whose leases are ours, that one among them.
        replace: put it over other content, also where the bucket keeps no versions.
        pulse: called with payload bytes done and in all; it may raise to stop.

    Raises:
        ArchiveMissing: the archive is not there.
        FixityFailed: the archive copy is not what it was.
        LeaseLost: a work is not ours any more.
        PipelineError: as `replicate.replicate` has it.
    """
    sent = _content(here, work_rid)
    known = [one for one in replicas.copies(here.engine, work_rid=work_rid) if one.replica == replica.name]
    begun = next((one.upload_id for one in known if one.upload_id and one.content == sent.digest), "")
    row = {"work_rid": work_rid, "bag_id": bag_id, "replica": replica.name, "content": sent.digest}

    def began(upload_id: str) -> None:
        key = replicate.key_of(replica, work_rid)
        replicas.begun(here.engine, here.leases, held, {**row, "upload_id": upload_id, "object_key": key})

    made = replicate.replicate(
        here.s3_at(replica), replica, sent, upload_id=begun, began=began, replace=replace, pulse=pulse
    )
    proved = {"version_id": made.version_id, "checksum": made.checksum, "bytes": made.size_bytes}
    facts = {"bucket": replica.bucket, **made.facts()}
    replicas.sent(here.engine, here.leases, held, {**row, "object_key": made.key, **proved}, facts=facts)
    what = f"{made.parts_sent} of {made.parts} parts" if made.parts_sent else "was there already"
    size, seconds = human_bytes(made.size_bytes), human_seconds(made.seconds)
    _log.info("%s: second copy in %s, %s, %s, in %s", work_rid, replica.name, size, what, seconds)


def _content(here: Site, work_rid: str) -> replicate.Content:
    folder = archive_dir(here.settings.archive_root, work_rid)
    known = record.archived(here.engine, work_rid=work_rid).get(work_rid)
    recorded = sync.Proof(*known.proof) if known is not None and known.proof else None
    try:
        if not os.path.isdir(folder):
            raise ArchiveMissing(f"{folder} is not there; the archive may be unmounted", work_rid=work_rid)
        against, digests, wrong = sync.kept(folder, work_rid, recorded)
        if wrong or digests is None:
            told = "; ".join(map(str, wrong)) or "neither digests nor manifests are kept with it"
            raise FixityFailed(f"{folder}: {told}", work_rid=work_rid, go_on=("verify", work_rid))
        _log.debug("%s: a second copy is made by %s", work_rid, against)
        return replicate.content(folder, digests)
    except OSError as error:
        raise ArchiveMissing(f"{error.filename or folder}: {error.strerror}", work_rid=work_rid) from error
