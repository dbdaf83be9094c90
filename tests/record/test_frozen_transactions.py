"""A process that is frozen in the middle of a transaction holds up nobody else's work, and its own not for long."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.errors import StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.record import Leases, Phase, Record, lanes
from tests.world.stack import ROOT, wait_until

BAG, OTHER = (Bag(rid, "bucket", f"a/{rid}.bag.zip", etag=rid, size_bytes=7) for rid in ("W1", "W2"))
IDLE_SECONDS = 10  # as the servers are told
LIFE = """
import sys
import sqlalchemy
from pipeline.foundation.errors import LeaseLost
from pipeline import record
from pipeline.record import Leases, Phase, Record
from pipeline.record import lanes as roll
from pipeline.record.engine import lift_limits
from tests.record.test_frozen_transactions import BAG
engine = record.connect(sys.argv[1])
if sys.argv[3]:
    sqlalchemy.event.listen(engine, "begin", lift_limits)
mine = Leases(engine, owner="frozen/1/1/x", seconds=int(sys.argv[2]))
book = Record(engine, agent="frozen/1/1", host="frozen", leases=mine)
roll.seen(engine, "frozen/1/1/x", host="frozen")
try:
    print("taken" if mine.take("W1", BAG.bag_id) else "busy")
    book.see(BAG)
    book.finished(Phase.DEBAG, BAG, {}, works=("W1",))
    book.commit_sync(BAG, "W1", archive_path="/a", files=1, size_bytes=1, facts={}, leases=mine)
    book.done(BAG)
    print("home")
except LeaseLost:
    print("lost")
roll.ended(engine, "frozen/1/1/x")
"""
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


@contextmanager
def frozen(
    engine: Engine, commit: int, folder: Path, *, lease_seconds: int, for_ever: bool = False
) -> Iterator[Callable[[], str]]:
    """A process that is frozen before a commit; yields what wakes it, and tells how it ended.

    One that is frozen for ever has told the server not to end its transactions.
    """
    acts = folder / "acts"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LIFE,
            engine.url.render_as_string(hide_password=False),
            str(lease_seconds),
            "for ever" if for_ever else "",
        ],
        cwd=ROOT,
        env={"PIPELINE_TEST_FREEZE_AT": f"before commit {commit}", "PIPELINE_TEST_LOG_ACTS": str(acts)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def wake() -> str:
        process.send_signal(signal.SIGCONT)
        said, complained = process.communicate(timeout=60)
        assert process.returncode == 0, complained
        return said

    try:
        wait_until(lambda: process.poll() is not None or (folder / f"acts.before commit {commit}").exists())
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        yield wake
    finally:
        process.kill()
        process.communicate()


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

    assert said.splitlines()[-1] in {"home", "lost"}


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

    assert said.splitlines()[-1] in {"lost", "busy"}
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

    assert said.split() == ["taken", "home"]
    with server.connect() as connection:
        told = connection.exec_driver_sql("SELECT step, outcome FROM events ORDER BY id").all()
    assert [tuple(one) for one in told] == [("intake", "seen"), ("debag", "done"), ("sync", "done")]
