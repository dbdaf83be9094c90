"""What a lane takes from luigid: when to run what it has scheduled itself, and nothing else.

Luigi's worker does whatever its scheduler says: it imports the module and runs the task that is named, forks when it is
told to have more processes, runs the same task as often as it is handed out. So nothing of an answer reaches the worker
but the name of a task that this lane has scheduled in this build and that has not run since. Whatever else comes, it is
as if luigid had nothing to do, or did not answer.
"""

import http.client
import logging
import time
import urllib.error
import urllib.request
from typing import Any

import luigi.rpc
import luigi.scheduler
import luigi.worker

_log = logging.getLogger(__name__)
_TRIES = 5  # others may have put in tasks in our name, which come first
_MOST_BYTES = 16 << 20
_BLOCK_BYTES = 64 << 10


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Luigid is where the settings say."""


class Fetcher(luigi.rpc.URLLibFetcher):  # type: ignore[misc]  # luigi has no annotations
    """Fetches an answer of bounded size in bounded time, from the address that was asked."""

    raises = (OSError, http.client.HTTPException)

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(_NoRedirect)

    def fetch(self, full_url: str, body: dict[str, str], timeout: float) -> str:
        """The answer's text.

        Raises:
            OSError: there was none, or one without end.
            http.client.HTTPException: there was none.
        """
        over = time.monotonic() + timeout
        told = bytearray()
        try:
            opened = self._opener.open(self._create_request(full_url, body=body), timeout=timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise
        with opened as answer:
            while block := answer.read1(_BLOCK_BYTES):
                told += block
                if len(told) > _MOST_BYTES or time.monotonic() > over:
                    raise OSError("the answer has no end")
        return told.decode("utf-8", "replace")


class OwnWorkOnly(luigi.rpc.RemoteScheduler):  # type: ignore[misc]  # as above
    """luigid, as far as it is believed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._fetcher = Fetcher()
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
        """Say that this lane lives; what luigid has to say to it is not heard."""
        super().ping(**told)
        return {"rpc_messages": []}

    def _request(self, url: str, data: object, attempts: int = 3, allow_null: bool = True) -> Any:  # noqa: FBT001, FBT002  # Luigi's own signature
        try:
            return super()._request(url, data, attempts, allow_null)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise luigi.rpc.RPCError("not understood", error) from error


class Factory:
    """Makes for `luigi.build` what it works with."""

    def create_local_scheduler(self) -> luigi.scheduler.Scheduler:
        """A scheduler in this process, which nobody else reaches."""
        return luigi.scheduler.Scheduler(prune_on_get_work=True, record_task_history=False)

    def create_remote_scheduler(self, url: str) -> OwnWorkOnly:
        """luigid, as far as it is believed."""
        return OwnWorkOnly(url)

    def create_worker(
        self,
        scheduler: object,
        worker_processes: int,
        assistant: bool = False,  # noqa: FBT001, FBT002  # Luigi's own signature
    ) -> luigi.worker.Worker:
        """Luigi's own worker, in this process; never one that runs what others have scheduled."""
        del worker_processes, assistant
        return luigi.worker.Worker(scheduler=scheduler, worker_processes=1, assistant=False)
