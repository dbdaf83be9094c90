"""Builds under Luigi's scheduler, which shows and hands out the work; who may work on it, the leases say.

Luigi's worker does whatever its scheduler says: it imports the module and runs the task that is named, forks when it is
told to have more processes, runs the same task as often as it is handed out. So all that reaches the worker of an
answer is the name of a task that this lane has scheduled in this build, and that has not run yet. Anything else counts
as nothing to do, or as no answer.
"""

import http
import http.client
import json
import logging
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from functools import cache
from typing import Any

from pipeline.foundation.errors import LeaseLost, NotProcessed, PipelineError, SchedulerUnreachable, Stopping
from pipeline.foundation.work import Bag, without_user, without_users
from pipeline.tasks import graph
from pipeline.tasks.context import Failure, InHand, Site
from pipeline.tasks.lean import luigi
from pipeline.tasks.step_task import failed

_log = logging.getLogger(__name__)
_PROBE_SECONDS = 10
_TRIES = 5  # others may have put in tasks in our name, which come first
_MOST_BYTES = 16 << 20
_BLOCK_BYTES = 64 << 10
_ASK_AGAIN_SECONDS = 1.0
_PRUNING_SECONDS = 5.0
_SCHEDULER_S_FAULT_SECONDS = 10


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Luigid is where the settings say."""


class Fetcher(luigi.rpc.URLLibFetcher):  # type: ignore[misc]  # luigi has no annotations
    """Fetches answers of bounded size in bounded time from the address that was asked, by a connection that is kept.

    Luigi's own makes one for each call, and looks for proxies in the environment each time.
    """

    raises = (OSError, http.client.HTTPException)

    def __init__(self, url: str) -> None:
        at = urllib.parse.urlsplit(url)
        direct = at.scheme not in urllib.request.getproxies()
        direct = direct or bool(urllib.request.proxy_bypass(at.netloc.rpartition("@")[2]))
        self._by_proxy = None if direct else urllib.request.build_opener(_NoRedirect)
        self._kept: http.client.HTTPConnection | None = None
        self._turn = threading.Lock()  # a build has threads that tell how far a step is, and that its worker lives

    def fetch(self, full_url: str, body: dict[str, str], timeout: float) -> str:
        """The answer's text.

        Raises:
            OSError: there was none, or one without end.
            http.client.HTTPException: there was none.
        """
        request = self._create_request(full_url, body=body)
        with self._turn:
            over = time.monotonic() + timeout
            try:
                with self._answer(request, timeout) as answer:
                    told = _bounded(answer, until=over)
            except BaseException:
                self._let_go()
                raise
        if answer.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise urllib.error.HTTPError(request.full_url, answer.status, answer.reason, answer.headers, None)
        return told.decode("utf-8", "replace")

    def _answer(self, request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
        if self._by_proxy is not None:
            try:
                return self._by_proxy.open(request, timeout=timeout)  # type: ignore[no-any-return]  # of any scheme
            except urllib.error.HTTPError as error:
                error.close()
                raise
        if self._kept is not None and self._kept.sock is not None:
            self._kept.sock.settimeout(timeout)
            try:
                return _asked(self._kept, request)
            except ConnectionError:  # luigid ended it as it was idle, or is another one by now
                self._let_go()
        make = http.client.HTTPSConnection if request.type == "https" else http.client.HTTPConnection
        self._kept = make(request.host, timeout=timeout)
        return _asked(self._kept, request)

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _asked(connection: http.client.HTTPConnection, request: urllib.request.Request) -> http.client.HTTPResponse:
    headers = {"Content-Type": "application/x-www-form-urlencoded", **dict(request.header_items())}
    connection.request("POST", request.selector, request.data, headers)
    return connection.getresponse()


def _bounded(answer: http.client.HTTPResponse, *, until: float) -> bytes:
    told = bytearray()
    while block := answer.read1(_BLOCK_BYTES):
        told += block
        if len(told) > _MOST_BYTES or time.monotonic() > until:
            raise OSError("the answer has no end")
    return bytes(told)


_fetcher = cache(Fetcher)
"""One for each address, as long as the process lives."""


class OwnWorkOnly(luigi.rpc.RemoteScheduler):  # type: ignore[misc]  # as above
    """luigid, as far as it is believed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._fetcher = _fetcher(self._url)
        self._to_run: set[str] = set()

    def add_task(self, *_: object, **told: Any) -> None:
        """Tell luigid of a task; one that is to be run may be handed out, once."""
        super().add_task(**told)
        if told["status"] == luigi.scheduler.PENDING and told.get("runnable"):
            self._to_run.add(told["task_id"])

    def get_work(self, **told: Any) -> dict[str, Any]:
        """What to run next: a task of ours that has not run yet, or nothing."""
        task_id = None
        for _ in range(_TRIES):
            answer = super().get_work(**told)
            known = answer if isinstance(answer, dict) else {}
            task_id = known.get("task_id")
            if task_id is None and "batch_id" not in known:
                break
            if isinstance(task_id, str) and task_id in self._to_run:
                self._to_run.remove(task_id)
                break
            _log.warning("luigid hands out what this lane has not scheduled, which is not run: %.200r", task_id)
            task_id = None
        return {"task_id": task_id, "running_tasks": [], "n_pending_tasks": 0, "n_unique_pending": 0}

    def ping(self, **told: Any) -> dict[str, Any]:
        """Say that this lane lives; commands in luigid's answer are dropped."""
        super().ping(**told)
        return {"rpc_messages": []}

    def _request(self, url: str, data: object, attempts: int = 3, allow_null: bool = True) -> Any:  # noqa: FBT001, FBT002  # Luigi's own signature
        try:
            return super()._request(url, data, attempts, allow_null)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise luigi.rpc.RPCError("not understood", error) from error


def scheduler_paused(url: str) -> bool:
    """Whether somebody pressed the scheduler's pause button.

    Raises:
        SchedulerUnreachable: luigid does not answer.
    """
    try:
        at = url.rstrip("/")
        told = _fetcher(at).fetch(f"{at}/api/is_paused", {"data": "{}"}, _PROBE_SECONDS)
        return bool(json.loads(told)["response"]["paused"])
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.UNAUTHORIZED:
            raise _unreachable(url, error) from error
        raise SchedulerUnreachable(
            f"luigid at {without_user(url)} asks for another user or password",
            kept="no message was touched",
            go_on=("check",),
            by_hand="see to the password of its door: [pipeline] scheduler_password_file",
        ) from error
    except (*Fetcher.raises, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> SchedulerUnreachable:
    return SchedulerUnreachable(
        f"luigid at {without_user(url)} does not answer: {error}",
        kept="no message was touched",
        go_on=("check",),
        by_hand="start luigid (by ./local-services up, or as it is started here), or run with --local-scheduler",
    )


def build(here: Site, hand: InHand) -> None:
    """Build until each bag in hand is home, or `hand.failures` says why it is not.

    luigid keeps a killed worker's task as running until it misses that worker, and gives it to nobody meanwhile. The
    bags' leases are ours, so nobody works on them: luigid is asked again, until it must have missed the worker.

    Raises:
        SchedulerUnreachable: luigid stopped answering; nothing is lost.
        DatabaseUnavailable: the record cannot be read or written; nothing is lost.
    """
    left = _built(here, hand, hand.bags)
    over = time.monotonic()
    if not here.local_scheduler:
        over += here.settings.scheduler.disconnect_seconds + _PRUNING_SECONDS
    wait = 0.0  # the first build made luigid look who is gone: the second mostly is given the work
    while left and time.monotonic() < over:
        here.stopping.wait(wait)
        left = _built(here, hand, left)
        if left and not wait:
            _log.info(
                "%s: stands as running in luigid, most likely by a worker that was killed; asking again for %.0f s",
                *(", ".join(bag.work_rid for bag in left), over - time.monotonic()),
            )
            wait = _ASK_AGAIN_SECONDS
    for bag in left:
        error = NotProcessed(
            "the scheduler gave this work to nobody, as if another worker still ran it, though no lane holds its lease",
            work_rid=bag.work_rid,
            kept=f"what was done so far stays; {here.settings.scheduler.shown} shows who is said to run it",
            go_on=("work", bag.work_rid, "--local-scheduler"),
        )
        # Told as a failure: its next try is delayed, `status` shows why. But nothing is wrong with the work.
        failed(here, hand, bag, "intake", error, first_seconds=_SCHEDULER_S_FAULT_SECONDS)


def _built(here: Site, hand: InHand, bags: Sequence[Bag]) -> list[Bag]:
    """Build once. Returns the bags that are not home without a failure, and may still be begun."""
    if not here.stopping.is_set():
        _build_once(here, bags)
    left = [bag for bag in bags if bag.bag_id not in hand.failures and not here.is_home(bag)]
    paused = bool(left) and not here.local_scheduler and scheduler_paused(here.settings.scheduler.url)
    for bag in list(left):
        stopped: PipelineError | None = None
        if paused:
            stopped = Stopping("the scheduler was paused; it goes on when that is resumed", work_rid=bag.work_rid)
        try:
            hand.heartbeat.check(bag.work_rid)
        except (Stopping, LeaseLost) as error:
            stopped = error
        if stopped is not None:
            _log.warning("%s", stopped)
            hand.failures[bag.bag_id] = Failure(stopped, 0)
            left.remove(bag)
    return left


def _build_once(here: Site, bags: Sequence[Bag]) -> None:
    """As `luigi.build` does it, without its reading of settings and its summary for a terminal."""
    message = graph.ProcessMessage(bags=[(bag.work_rid, bag.bag_id) for bag in bags])
    if here.local_scheduler:
        scheduler = luigi.scheduler.Scheduler(prune_on_get_work=True, record_task_history=False)
    else:
        scheduler = OwnWorkOnly(here.settings.scheduler.url)
    try:
        # One process and no time limit: then the tasks run in this process, and nothing is forked.
        with luigi.worker.Worker(scheduler=scheduler, worker_processes=1) as worker:
            worker.add(message)
            worker.run()
    except luigi.rpc.RPCError as error:
        raise SchedulerUnreachable(
            f"luigid at {here.settings.scheduler.shown} stopped answering: "
            f"{without_users(str(error.sub_exception or 'an empty answer'))}",
            kept="what was done so far stays, and is not done again",
            go_on=("run",),
            by_hand="start luigid (by ./local-services up, or as it is started here)",
        ) from error
    finally:
        luigi.task_register.Register.clear_instance_cache()  # it keeps every task ever made
