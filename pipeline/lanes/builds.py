"""Builds under Luigi's scheduler, which shows and hands out the work; who may work on it, the leases say."""

import http
import json
import logging
import shlex
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

import luigi
import luigi.rpc
import luigi.task_register

from pipeline import intake
from pipeline.foundation.errors import LeaseLost, NotProcessed, SchedulerUnreachable, Stopping
from pipeline.foundation.work import Bag, without_user, without_users
from pipeline.lanes import own_work
from pipeline.tasks import graph
from pipeline.tasks.context import Failure, Site
from pipeline.tasks.heartbeat import Heartbeat

_log = logging.getLogger(__name__)
_PROBE_SECONDS = 10
_ASK_AGAIN_SECONDS = 1.0
_PRUNING_SECONDS = 5.0
_SCHEDULER_S_FAULT_SECONDS = 10


class SchedulerPaused(Stopping):
    """Somebody pressed the scheduler's pause button after the work was begun: it goes on when that is released."""


def scheduler_paused(url: str) -> bool:
    """Whether somebody pressed the scheduler's pause button.

    Raises:
        SchedulerUnreachable: luigid does not answer.
    """
    try:
        told = own_work.Fetcher().fetch(f"{url.rstrip('/')}/api/is_paused", {"data": "{}"}, _PROBE_SECONDS)
        return bool(json.loads(told)["response"]["paused"])
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.UNAUTHORIZED:
            raise _unreachable(url, error) from error
        raise SchedulerUnreachable(
            f"luigid at {without_user(url)} asks for another user or password",
            kept="no message was touched",
            go_on="the password of its door: [pipeline] scheduler_password_file; run_pipeline.py check",
        ) from error
    except (*own_work.Fetcher.raises, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> SchedulerUnreachable:
    return SchedulerUnreachable(
        f"luigid at {without_user(url)} does not answer: {error}",
        kept="no message was touched",
        go_on="./local-services up (or what starts luigid here), or run with --local-scheduler",
    )


def build(
    here: Site,
    bags: Sequence[Bag],
    heartbeat: Heartbeat,
    *,
    local_scheduler: bool,
) -> None:
    """Build until each bag is home, or `here.failures` says why it is not.

    luigid keeps a killed worker's task as running until it misses that worker, and gives it to nobody meanwhile. The
    bags' leases are ours, so nobody works on them: luigid is asked again, until it must have missed the worker.

    Args:
        here: the lane's site.
        bags: bags whose works' leases are ours.
        heartbeat: renews them.
        local_scheduler: without luigid.

    Raises:
        SchedulerUnreachable: luigid stopped answering; nothing is lost.
        DatabaseUnavailable: the record cannot be read or written; nothing is lost.
    """
    here.failures.clear()
    _build_once(here, bags, local_scheduler=local_scheduler)
    left = _given_to_nobody(here, bags, heartbeat, local_scheduler=local_scheduler)
    over = time.monotonic() + (0.0 if local_scheduler else _patience_seconds(here))
    told, wait = False, 0.0  # the first build made luigid look who is gone: the second mostly is given the work
    while left and time.monotonic() < over:
        if not here.stopping.wait(wait):
            _build_once(here, left, local_scheduler=local_scheduler)
        left = _given_to_nobody(here, left, heartbeat, local_scheduler=local_scheduler)
        if left and not told:
            _tell_waiting(left, over - time.monotonic())
            told, wait = True, _ASK_AGAIN_SECONDS
    for bag in left:
        _give_up(here, bag)


def _build_once(here: Site, bags: Sequence[Bag], *, local_scheduler: bool) -> None:
    message = graph.ProcessMessage(bags=[(bag.work_rid, bag.bag_id) for bag in bags])
    try:
        # One worker and no time limit: then the tasks run in this process, and nothing is forked.
        luigi.build(
            [message],
            local_scheduler=local_scheduler,
            scheduler_url=here.settings.scheduler.url,
            workers=1,
            log_level="WARNING",
            worker_scheduler_factory=own_work.Factory(),
        )
    except luigi.rpc.RPCError as error:
        raise SchedulerUnreachable(
            f"luigid at {here.settings.scheduler.shown} stopped answering: "
            f"{without_users(str(error.sub_exception or 'an empty answer'))}",
            kept="what was done so far stays, and is not done again",
            go_on="./local-services up (or what starts luigid here), then run again",
        ) from error
    finally:
        luigi.task_register.Register.clear_instance_cache()  # it keeps every task ever made


def _given_to_nobody(here: Site, bags: Sequence[Bag], heartbeat: Heartbeat, *, local_scheduler: bool) -> list[Bag]:
    """The bags that are not home without a failure, and may still be begun; those that may not get their failure."""
    left = [bag for bag in bags if bag.bag_id not in here.failures and not here.record.all_synced(bag.bag_id)]
    paused = bool(left) and not local_scheduler and scheduler_paused(here.settings.scheduler.url)
    for bag in list(left):
        try:
            heartbeat.check(bag.work_rid)
            if paused:
                raise SchedulerPaused(
                    "the scheduler was paused; it goes on when that is resumed", work_rid=bag.work_rid
                )
        except (Stopping, LeaseLost) as error:
            _log.warning("%s", error)
            here.failures[bag.bag_id] = Failure(error, 0)
            left.remove(bag)
    return left


def _patience_seconds(here: Site) -> float:
    """How long luigid may hold on to a worker that was killed just now, and a little."""
    return here.settings.scheduler.disconnect_seconds + _PRUNING_SECONDS


def _tell_waiting(bags: Sequence[Bag], seconds: float) -> None:
    _log.info(
        "%s: stands as running in luigid, most likely by a worker that was killed; asking again for %.0f s",
        ", ".join(bag.work_rid for bag in bags),
        seconds,
    )


def _give_up(here: Site, bag: Bag) -> None:
    """Told as a failure: its next try is delayed, `status` shows why."""
    chosen = here.settings
    error = NotProcessed(
        "the scheduler gave this work to nobody, as if another worker still ran it, though no lane holds its lease",
        work_rid=bag.work_rid,
        kept=f"what was done so far stays; {chosen.scheduler.shown} shows who is said to run it",
        go_on=f"run_pipeline.py work {shlex.quote(bag.work_rid)} --local-scheduler",
    )
    _log.error("%s", error)
    row = here.record.bag(bag.bag_id)
    retry_seconds = intake.backoff_seconds(
        1 + (row.failures if row else 0),
        first=min(chosen.backoff_seconds, _SCHEDULER_S_FAULT_SECONDS),  # nothing is wrong with the work
        limit=chosen.backoff_limit_seconds,
    )
    here.failures[bag.bag_id] = Failure(error, retry_seconds)
    try:
        here.record.failed(bag, "intake", error, retry_seconds=retry_seconds)
    except LeaseLost as lost:
        here.failures[bag.bag_id] = Failure(lost, 0)
