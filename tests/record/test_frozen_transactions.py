"""A process that is frozen in the middle of a transaction holds up nobody else's work, and its own not for long."""

import importlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
import sqlalchemy
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation import failpoints
from pipeline.foundation.errors import LeaseLost, StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.record import Leases, Phase, Record, lanes
from pipeline.record.engine import lift_limits
from tests.world.servers import forking
from tests.world.stack import wait_until

BAG, OTHER = (Bag(rid, "bucket", f"a/{rid}.bag.zip", etag=rid, size_bytes=7) for rid in ("W1", "W2"))
IDLE_SECONDS = 10  # as the servers are told
COMMITS = {
    1: "its sign of life",
    2: "taking a lease",
    3: "seeing a bag",
    4: "a step",
    5: "a sync row",
    6: "a bag's end",
}
COMMITS_OF = {what: number for number, what in COMMITS.items()}


@pytest.fixture
def server(tables_on_server: str) -> Iterator[Engine]:
    """A database on a server, where the server can end what nobody goes on with."""
    engine = record.connect(tables_on_server)
    yield engine
    engine.dispose()


def _live(url: str, lease_seconds: int, limits: bool, freeze_at: dict[str, str], told: Connection) -> None:  # noqa: FBT001  # of another process
    """All that a lane writes while it brings a work home, in a process that freezes itself meanwhile."""
    os.environ.update(freeze_at)
    importlib.reload(failpoints)
    engine = record.connect(url)
    if not limits:
        sqlalchemy.event.listen(engine, "begin", lift_limits)
    mine = Leases(engine, owner="frozen/1/1/x", seconds=lease_seconds)
    book = Record(engine, agent="frozen/1/1", host="frozen", leases=mine)
    lanes.seen(engine, "frozen/1/1/x", host="frozen")
    words = []
    try:
        words.append("taken" if mine.take("W1", BAG.bag_id) else "busy")
        book.see(BAG)
        book.finished(Phase.DEBAG, BAG, {}, works=("W1",))
        book.commit_sync(BAG, "W1", archive_path="/a", files=1, size_bytes=1, facts={}, leases=mine)
        book.done(BAG)
        words.append("home")
    except LeaseLost:
        words.append("lost")
    lanes.ended(engine, "frozen/1/1/x")
    told.send(words)


@contextmanager
def frozen(
    engine: Engine, commit: int, folder: Path, *, lease_seconds: int, for_ever: bool = False
) -> Iterator[Callable[[], list[str]]]:
    """A process that is frozen before a commit; yields what wakes it, and tells how it ended.

    One that is frozen for ever has told the server not to end its transactions.
    """
    instant, url = f"before commit {commit}", engine.url.render_as_string(hide_password=False)
    freeze_at = {"PIPELINE_TEST_FREEZE_AT": instant, "PIPELINE_TEST_LOG_ACTS": str(folder / "acts")}
    hears, tells = multiprocessing.Pipe(duplex=False)
    process = forking().Process(target=_live, args=(url, lease_seconds, not for_ever, freeze_at, tells))
    process.start()
    tells.close()

    def wake() -> list[str]:
        os.kill(process.pid or 0, signal.SIGCONT)
        words: list[str] = hears.recv()
        process.join(60)
        assert process.exitcode == 0
        return words

    try:
        wait_until(lambda: not process.is_alive() or (folder / f"acts.{instant}").exists())
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        yield wake
    finally:
        process.kill()
        process.join()
        hears.close()


def live(engine: Engine, bag: Bag) -> None:
    """All that another lane writes while it brings a work home."""
    owner = f"other/1/1/{bag.work_rid}"
    mine = Leases(engine, owner=owner, seconds=60)
    book = Record(engine, agent="other/1/1", host="other", leases=mine)
    lanes.clear_silent(engine, host="frozen", silent_seconds=-1)
    lanes.seen(engine, owner, host="other")
    mine.clear_expired()
    assert mine.take(bag.work_rid, bag.bag_id)
    book.see(bag)
    book.failed(bag, "download", StorageUnreachable("reset"))
    book.finished(Phase.DEBAG, bag, {}, works=(bag.work_rid,))
    mine.renew(bag.work_rid)
    book.commit_sync(bag, bag.work_rid, archive_path="/a", files=1, size_bytes=1, facts={}, leases=mine)
    book.done(bag)
    mine.release(bag.work_rid)
    lanes.ended(engine, owner)


@pytest.mark.parametrize("commit", COMMITS, ids=list(COMMITS.values()))
def test_no_transaction_holds_a_row_that_another_work_needs(server: Engine, tmp_path: Path, commit: int) -> None:
    with frozen(server, commit, tmp_path, lease_seconds=600, for_ever=True) as wake:
        theirs = Leases(server, owner="other/1/1/x", seconds=60)
        live(server, OTHER)  # else it would wait for ever, and be told so
        if commit == COMMITS_OF["taking a lease"]:
            assert not theirs.take("W1", BAG.bag_id)
        said = wake()

    assert said[-1] in {"home", "lost"}


@pytest.mark.parametrize("what", ["taking a lease", "a step", "a sync row"])
def test_the_work_of_one_that_is_frozen_in_a_transaction_is_soon_another_s(
    server: Engine, tmp_path: Path, what: str
) -> None:
    with frozen(server, COMMITS_OF[what], tmp_path, lease_seconds=1) as wake:
        theirs = Leases(server, owner="other/1/1/W1", seconds=60)
        wait_until(lambda: theirs.take("W1", BAG.bag_id), seconds=60)
        live(server, BAG)
        with theirs_again(server):
            said = wake()

    assert said[-1] in {"lost", "busy"}
    with server.connect() as connection:
        done = "SELECT agent FROM events WHERE step = 'sync' AND outcome = 'done'"
        assert connection.exec_driver_sql(done).scalars().all() == ["other/1/1"]


@contextmanager
def theirs_again(engine: Engine) -> Iterator[None]:
    """The work is another's: whoever comes late has lost it."""
    theirs = Leases(engine, owner="other/1/1/W1", seconds=60)
    assert theirs.take("W1", BAG.bag_id)
    yield
    theirs.release("W1")


def test_a_transaction_that_the_server_ended_is_done_again_while_its_lease_is_ours(
    server: Engine, tmp_path: Path
) -> None:
    with frozen(server, COMMITS_OF["a step"], tmp_path, lease_seconds=600) as wake:
        time.sleep(IDLE_SECONDS + 1)
        said = wake()

    assert said == ["taken", "home"]
    with server.connect() as connection:
        told = connection.exec_driver_sql("SELECT step, outcome FROM events ORDER BY id").all()
    assert [tuple(one) for one in told] == [("intake", "seen"), ("debag", "done"), ("sync", "done")]
