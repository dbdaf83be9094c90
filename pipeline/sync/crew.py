"""Threads that share some work: started, watched, and all ended before the call is."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

BEAT_SECONDS = 0.1


def run(workers: Sequence[Callable[[], None]], *, stop: threading.Event, beat: Callable[[], None]) -> None:
    """Run each worker in a thread of its own; returns, or raises what the first of them raised, when all have ended.

    Args:
        workers: each takes its share of the work until none is left or `stop` is set.
        stop: set here when a worker or `beat` raises.
        beat: called from this thread several times a second, and once at the end; if it raises, the workers stop.
    """
    with ThreadPoolExecutor(max(1, len(workers)), thread_name_prefix="sync") as pool:
        running: set[Future[None]] = {pool.submit(worker) for worker in workers}
        try:
            while running:
                finished, running = wait(running, timeout=BEAT_SECONDS)
                for future in finished:
                    future.result()
                beat()
        finally:
            stop.set()
