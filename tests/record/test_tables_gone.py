"""Tables that go, and come back, under running lanes; connections that are killed: on each kind of database."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from pipeline import record
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import SHORT_LEASE, Site, lines, wait_until

NOT_SHOWN, SHOWN_AGAIN = "`status` does not show this lane for now", "`status` shows this lane again"
BEATS = 4.0  # seconds; with this lease a lane says every second that it is alive


@pytest.fixture
def served(any_tables: str, tmp_path: Path, moto_url: str, luigid_url: str) -> Site:
    return Site.make(tmp_path / "site", moto_url, luigid_url, database_url=any_tables)


@pytest.fixture
def administrator(served: Site) -> Iterator[Engine]:
    engine = record.connect(served.database_url)
    yield engine
    engine.dispose()


def log(site: Site) -> str:
    file = site.home / "logs" / "lane-1.log"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def rename(engine: Engine, *tables: tuple[str, str]) -> None:
    with engine.begin() as connection:
        for old, new in tables:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")


def test_a_lane_waits_for_tables_that_are_gone_says_so_once_and_goes_on_when_they_are_back(
    served: Site, administrator: Engine, tmp_path: Path
) -> None:
    run = served.start("run", "--watch", "--lanes", "1", **SHORT_LEASE)
    try:
        wait_until(lambda: served.rows("lanes"))
        rename(administrator, ("lanes", "lanes_away"), ("bags", "bags_away"))
        served.announce(make_bag_zip(tmp_path, "W1"))
        wait_until(lambda: NOT_SHOWN in log(served) and lines(log(served), "the progress database", "bags"))
        with pytest.raises(AssertionError):  # four more beats in vain are told of no more
            wait_until(lambda: log(served).count(NOT_SHOWN) > 1, seconds=BEATS)
        rename(administrator, ("lanes_away", "lanes"), ("bags_away", "bags"))
        wait_until(lambda: SHOWN_AGAIN in log(served))
        wait_until(lambda: served.works().get("W1") is not None and served.works()["W1"].stage == "done", seconds=60)
        seen = served.rows("lanes")
    finally:
        run.terminate()
        _, err = run.communicate(timeout=30)

    assert run.returncode == 0, err
    assert "Traceback" not in err
    assert not lines(err, "lane 1 died")
    assert "INSERT" not in err  # nor UPDATE or SELECT: a statement is nothing for an operator
    assert len(seen) == 1
    assert served.archived("W1") == SMALL_WORK


def kill_others(connection: Connection) -> int:
    """Kill all other connections to this database; returns how many there were."""
    if connection.dialect.name == "postgresql":
        killed = connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'"
        )
        return len(killed.all())
    waiting = connection.exec_driver_sql(
        "SELECT id FROM information_schema.processlist"
        " WHERE db = database() AND id <> connection_id() AND state LIKE 'Waiting for table%%'"
    ).scalars()
    numbers = [int(number) for number in waiting]
    for number in numbers:
        with contextlib.suppress(OperationalError):  # it has ended by itself
            connection.exec_driver_sql(f"KILL {number}")
    return len(numbers)


def test_a_lane_whose_connection_is_killed_in_the_middle_of_a_statement_is_shown_again(
    served: Site, administrator: Engine
) -> None:
    if administrator.dialect.name == "sqlite":
        pytest.skip("SQLite has no connections that could be killed")
    lock = {"postgresql": "LOCK TABLE lanes IN ACCESS EXCLUSIVE MODE"}.get(
        administrator.dialect.name, "LOCK TABLES lanes WRITE"
    )
    run = served.start("run", "--watch", "--lanes", "1", **SHORT_LEASE)
    try:
        wait_until(lambda: served.rows("lanes"))
        with administrator.connect() as connection:
            connection.execute(sqlalchemy.text(lock))
            wait_until(lambda: kill_others(connection), every=0.2)
            # What was cut off has changed nothing, so the lane tries again for a while. Asking keeps this one
            # from being idle, which the server would end.
            wait_until(lambda: kill_others(connection) >= 0 and NOT_SHOWN in log(served), seconds=60, every=0.2)
            connection.rollback()
            if administrator.dialect.name != "postgresql":
                connection.exec_driver_sql("UNLOCK TABLES")
        wait_until(lambda: SHOWN_AGAIN in log(served))
    finally:
        run.terminate()
        _, err = run.communicate(timeout=30)

    assert run.returncode == 0, err
    assert "Traceback" not in err
    assert served.rows("lanes") == []
