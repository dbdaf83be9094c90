"""Lanes say that they are alive: `status` tells an idle host from one that is gone."""

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy
from sqlalchemy import Engine

from pipeline import record
from pipeline.record import Leases, lanes, tables
from pipeline.record.tables import utc_in
from tests.lanes.test_lanes import slow_script
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import SHORT_LEASE, Site, lines, wait_until

HOST = "line1"
NAMED = {"PIPELINE_PIPELINE_HOST": HOST}


def silent_for(engine: Engine, owner: str, seconds: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.update(tables.lanes).where(tables.lanes.c.owner == owner).values(seen_on=utc_in(-seconds))
        )


def told(engine: Engine) -> dict[str, tuple[int, int, int]]:
    return {one.host: (one.alive, one.at_work, one.silent) for one in lanes.hosts(engine, silent_seconds=600)}


def hosts(site: Site, **settings: str) -> list[dict[str, Any]]:
    return list(json.loads(site.call("status", "--json", **settings).stdout)["hosts"])


def test_lanes_are_counted_by_host_at_work_idle_or_silent(engine: Engine) -> None:
    for owner in ("a/1/1/x", "a/1/2/x", "b/7/1/x"):
        lanes.seen(engine, owner, host=owner[0])
    lanes.seen(engine, "a/1/1/x", host="a")
    leases = Leases(engine, owner="a/1/1/x", seconds=60)
    leases.take("W1", "b1")
    leases.take("W2", "b1")
    Leases(engine, owner="a/1/2/x", seconds=-1).take("W3", "b3")
    silent_for(engine, "b/7/1/x", 3600)

    assert told(engine) == {"a": (2, 1, 0), "b": (0, 0, 1)}
    a, b = lanes.hosts(engine, silent_seconds=600)
    assert a.seen_seconds < 60
    assert b.seen_seconds == pytest.approx(3600, abs=60)
    with engine.connect() as connection:
        for begun in connection.scalars(sqlalchemy.select(tables.lanes.c.begun_on)):
            assert abs(begun.timestamp() - time.mktime(time.gmtime())) < 60  # UTC


def test_a_lane_that_ends_in_order_is_told_of_no_longer(engine: Engine) -> None:
    lanes.seen(engine, "a/1/1/x", host="a")
    lanes.seen(engine, "a/1/2/x", host="a")

    lanes.ended(engine, "a/1/1/x")
    lanes.ended(engine, "a/1/1/x")

    assert told(engine) == {"a": (1, 0, 0)}


def test_a_host_that_has_a_new_lane_forgets_its_silent_ones_and_others_are_kept_for_a_day(engine: Engine) -> None:
    for owner, seconds in (("a/1/1/x", 700), ("a/1/2/x", 500), ("b/1/1/x", 86_000), ("c/1/1/x", 87_000)):
        lanes.seen(engine, owner, host=owner[0])
        silent_for(engine, owner, seconds)
    lanes.seen(engine, "a/2/1/y", host="a")

    lanes.clear_silent(engine, host="a", silent_seconds=600)

    assert told(engine) == {"a": (2, 0, 0), "b": (0, 0, 1)}


def test_a_host_whose_lanes_wait_is_shown_until_they_end(site: Site) -> None:
    run = site.start("run", "--watch", "--lanes", "2", **NAMED)
    try:
        wait_until(lambda: len(site.rows("lanes")) == 2)
        (host,), plain = hosts(site), site.call("status").stdout
    finally:
        run.terminate()
        _, err = run.communicate(timeout=30)

    assert run.returncode == 0, err
    assert (host["host"], host["lanes"], host["at_work"], host["gone"]) == (HOST, 2, 0, False)
    assert lines(plain, f"host {HOST}: 2 lanes, 0 at work, seen ", " s ago")
    assert site.rows("lanes") == []
    assert not lines(site.call("status").stdout, "host ")


def test_a_lane_is_seen_while_its_step_lasts_longer_than_its_lease(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    script = {"PIPELINE_SYNC_SCRIPT": str(slow_script(tmp_path))}
    run = site.start("run", "--watch", "--lanes", "2", **NAMED, **SHORT_LEASE, **script)
    try:
        wait_until((tmp_path / "child").exists)
        time.sleep(5)
        (host,) = hosts(site, **SHORT_LEASE)
        site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"), **SHORT_LEASE)
    finally:
        run.terminate()
        run.communicate(timeout=30)

    assert (host["lanes"], host["at_work"], host["gone"]) == (2, 1, False)
    figures = (tmp_path / "pipeline.prom").read_text(encoding="utf-8")
    for state, count in (("at_work", 1), ("idle", 1), ("gone", 0)):
        assert f'pipeline_lanes{{host="{HOST}",state="{state}"}} {count}.0' in figures


def test_a_host_whose_lanes_were_killed_is_told_as_gone_after_two_leases_until_it_runs_again(site: Site) -> None:
    run = site.start("run", "--watch", "--lanes", "2", **NAMED, **SHORT_LEASE)
    try:
        wait_until(lambda: len(site.rows("lanes")) == 2)
        parent = psutil.Process(run.pid)
        parent.suspend()  # it would start them again
        for lane in parent.children():
            lane.kill()
    finally:
        run.kill()
        run.communicate(timeout=30)
    site.send({"waits": "here"})

    wait_until(lambda: hosts(site, **SHORT_LEASE)[0]["gone"], every=0.5)
    plain = site.call("status", **SHORT_LEASE).stdout
    site.call("run", "--lanes", "1", **NAMED, **SHORT_LEASE)

    assert lines(plain, f"host {HOST}: 2 lanes not seen for ", " s: gone?")
    assert lines(plain, "no lane runs", "run_pipeline.py run")
    assert hosts(site) == []


def test_a_lane_that_cannot_say_that_it_is_alive_works_all_the_same(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    engine = record.connect(site.database_url)
    tables.lanes.drop(engine)
    engine.dispose()

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 0, ended.stderr
    assert site.archived("W1") == SMALL_WORK
    assert "Traceback" not in ended.stderr


def test_nothing_is_said_of_lanes_where_nothing_waits(site: Site) -> None:
    quiet = site.call("status").stdout
    site.send({"waits": "here"})
    waiting = site.call("status").stdout

    assert not lines(quiet, "no lane runs")
    assert lines(waiting, "no lane runs", "run_pipeline.py run")
