"""What luigid does for a work, by how many tasks it remembers: Luigi's own scheduler, with tasks shaped as ours.

It remembers what waits or runs, which is what lanes have in hand; and what is done, for `[scheduler] remove_delay`.
"""

import time
from dataclasses import dataclass

import luigi.scheduler
from luigi.scheduler import DONE, PENDING

_FAMILIES = ("Download", "Debag", "Sync", "ProcessMessage")
_LANES = 20


@dataclass(frozen=True)
class Asked:
    """CPU-s of luigid's scheduler for one work.

    Attributes:
        remembered: tasks that it remembered.
        status: of these: waiting, or done.
        add_task: for all tasks of the work together.
        get_work: each time that it was asked.
        get_works: how often that was.
    """

    remembered: int
    status: str
    add_task: float
    get_work: float
    get_works: int


def growth(sizes: tuple[int, ...]) -> list[Asked]:
    """The cost with so many tasks remembered, waiting ones and done ones."""
    return [_asked(size, status) for status in (PENDING, DONE) for size in sizes]


def _asked(remembered: int, status: str) -> Asked:
    scheduler = luigi.scheduler.Scheduler(
        prune_on_get_work=True,
        record_task_history=False,
        remove_delay=86_400,
        worker_disconnect_delay=15,
        stable_done_cooldown_secs=0,
    )
    for number in range(remembered // len(_FAMILIES)):
        _put(scheduler, number, worker=f"lane-{number % _LANES}", status=status)
    scheduler.prune()
    costs = [_one_work(scheduler, number) for number in (-1, -2, -3)]
    add_task, get_work, get_works = sorted(costs, key=lambda cost: cost[1])[1]
    return Asked(remembered, status, add_task, get_work, get_works)


def _put(scheduler: luigi.scheduler.Scheduler, number: int, *, worker: str, status: str) -> None:
    before: list[str] = []
    for family in _FAMILIES:
        task_id = f"{family}_{number}_0123456789"
        scheduler.add_task(
            worker=worker,
            task_id=task_id,
            status=status,
            deps=before,
            family=family,
            module="pipeline.tasks.graph",
            params={"work_rid": f"W{number}", "bag_id": "0123456789abcdef"},
        )
        before = [task_id]


def _one_work(scheduler: luigi.scheduler.Scheduler, number: int) -> tuple[float, float, int]:
    worker = f"new-{number}"
    began = time.process_time()
    _put(scheduler, number, worker=worker, status=PENDING)
    added, asked, times = time.process_time() - began, 0.0, 0
    while True:
        began = time.process_time()
        told = scheduler.get_work(worker=worker, host="host", current_tasks=[])
        asked, times = asked + time.process_time() - began, times + 1
        if told["task_id"] is None:
            return added, asked / times, times
        scheduler.add_task(worker=worker, task_id=told["task_id"], status=DONE)
