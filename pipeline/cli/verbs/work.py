"""`run_pipeline.py work TARGET…`: process works by hand; what is done is not done again unless `--from` says so."""

import logging
import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from pipeline import debag, download, settings
from pipeline.foundation import logs
from pipeline.foundation.errors import InvalidRid, ObjectGone, ObjectReplaced, UsageError
from pipeline.foundation.signals import stopping_on_signals
from pipeline.foundation.work import Bag, checked_rid, rid_from_name, staging_key
from pipeline.lanes import processes
from pipeline.lanes.bring_home import bring_home
from pipeline.lanes.builds import scheduler_paused
from pipeline.lanes.parcel import Outcome, Verdict
from pipeline.operations import repair
from pipeline.record import BagState, Phase, rebuilt, views
from pipeline.tasks import context, staging
from pipeline.tasks.context import Site
from pipeline.tasks.step_task import tell_way_on

_log = logging.getLogger("pipeline.foundation.work")


def main(options: Namespace) -> int:
    """Find each target's bag, and bring it home in this process.

    Raises:
        UsageError: a target is none.
        PipelineError: something it depends on is out of reach.
    """
    chosen = settings.load(working=True)
    logs.log_to(chosen.lane_logs, "work", verbose=options.verbose, json_lines=chosen.log_json)
    here = context.open_site(chosen, lane="work", local_scheduler=options.local_scheduler)
    here.replace = options.replace
    if not options.local_scheduler:
        scheduler_paused(chosen.scheduler.url)  # only to see that it answers, before anything is begun
    bags = [_bag(here, target, again=bool(options.from_step)) for target in options.targets]
    worst = processes.EXIT_DONE
    with stopping_on_signals(here.stopping.set):
        for bag in bags:
            _again(here, bag, options.from_step)
            (verdict,) = bring_home(here, [bag])
            _tell(verdict)
            if verdict.outcome is not Outcome.DONE:
                worst = processes.EXIT_FAILED
            if here.stopping.is_set():
                break
    return worst


def _tell(verdict: Verdict) -> None:
    if verdict.outcome is Outcome.BUSY:
        _log.warning("%s: %s; try again in %d s", verdict.work_rid, verdict.reason, verdict.wait_seconds)
    elif verdict.outcome is Outcome.DONE:
        _log.info("%s: home", verdict.work_rid)


def _bag(here: Site, target: str, *, again: bool) -> Bag:
    """The bag that a target means.

    Raises:
        UsageError: it means none.
        ObjectGone: it means one that is not there.
    """
    try:
        if address := re.fullmatch(r"s3://([^/]+)/(.+)", target):
            bucket, key = address.groups()
            source = here.settings.source_of_bucket(bucket)
            bag = Bag(work_rid=rid_from_name(key), bucket=bucket, key=key, source=source.name)
            return download.identify(here.s3(bag), bag)
        if target.lower().endswith(".zip"):
            path = Path(target).expanduser().resolve()
            folder = here.settings.folder_of_zip(path)
            found = download.identify_local(path, rid_from_name(path.name))
            return replace(found, source=folder.name if folder else "")
        work_rid = checked_rid(target)
    except InvalidRid as error:
        raise UsageError(f"{target}: a RID, s3://bucket/key or a local .zip was expected ({error.what})") from error
    return _bag_of_rid(here, work_rid, again=again)


def _bag_of_rid(here: Site, work_rid: str, *, again: bool) -> Bag:
    """The newest bag known of a work; else the one in the buckets, where a work of that name would lie.

    What stands for a bag in a record that was rebuilt has no zip, and is none that could be brought home `again`.
    """
    known = here.record.bags_of(work_rid)
    if known and not (again and known[0].bag.bag_id == rebuilt.stand_in(work_rid).bag_id):
        return known[0].bag
    for source in here.settings.sources:
        bag = Bag(work_rid=work_rid, bucket=source.bucket, key=staging_key(work_rid), source=source.name)
        try:
            return download.identify(here.s3(bag), bag)
        except ObjectGone:
            continue
    buckets = ", ".join(source.bucket for source in here.settings.sources) or "none, as no source is set"
    raise UsageError(
        f"{work_rid}: not known to the record{views.other_spelling(here.engine, work_rid)}, "
        f"and there is no {staging_key(work_rid)} in the buckets ({buckets})",
        by_hand=f"the same with s3://BUCKET/KEY, or with the path of a zip, {work_rid}.bag.zip",
    )


def _again(here: Site, bag: Bag, from_step: str | None) -> None:
    """Undo what the operator wants done again; a bag that failed is simply tried again."""
    row = here.record.see(bag)
    again = {BagState.REFUSED, BagState.FAILED, BagState.NOT_RESTORED, BagState.SKIPPED}
    if from_step is None and row.state not in again:
        return
    with repair.leased(here, bag.work_rid, bag.bag_id):
        if from_step is None:
            here.record.reopen(row.bag, reason="tried again by hand")
            return
        if row.state is BagState.DONE:
            _see_zip(here, row.bag)
        here.record.reopen(row.bag, reason=f"asked for again from {from_step}", undo_syncs=True)
        place = here.place(row.bag)
        if from_step in {Phase.DOWNLOAD, Phase.DEBAG}:
            debag.discard(place.debag)
        if from_step == Phase.DOWNLOAD:
            staging.clear(place)
            staging.set_aside(place)
        staging.ask_for_sync(place)


def _see_zip(here: Site, bag: Bag) -> None:
    """A work that is home stays home where there is nothing to bring home once more.

    Raises:
        ObjectGone: its zip is not there.
        ObjectReplaced: another one is.
    """
    try:
        if bag.is_local:
            download.adopt(bag)
        else:
            download.look(here.s3(bag), bag)
    except (ObjectGone, ObjectReplaced) as error:
        error.kept = "nothing was changed: the work stays home as it is"
        if isinstance(error, ObjectGone):
            error.by_hand = "put its bag there again, then the same again"
        tell_way_on(bag, error)
        raise
