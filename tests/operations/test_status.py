"""`status`: how the line stands, for people and, documented, for machines."""

import json
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import record
from pipeline.foundation.work import Bag
from pipeline.record import Leases, Record, turns
from tests.world.bags import make_bag_zip
from tests.world.stack import ROOT, Site, lines


def known(site: Site, *bags: Bag) -> None:
    engine = record.connect(site.database_url)
    for bag in bags:
        Record(engine, agent="other/1/1", host="other").see(bag)
    engine.dispose()


def told(site: Site, *words: str) -> dict[str, Any]:
    return dict(json.loads(site.call("status", "--json", *words).stdout))


def bag_that_ends(rid: str, *, hours: float | None) -> Bag:
    ends = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
    return Bag(work_rid=rid, bucket="b", key=rid, etag="e", restore_expires_on=ends)


def test_every_field_is_documented_and_every_documented_field_is_there(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1")

    document = told(site)

    text = (ROOT / "docs" / "status.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", "".join(rows))) == set(document)
    for part in (document["works"][0], document["queues"][0], document["disk"][0]):
        assert [name for name in part if f"`{name}`" not in text] == []


def test_works_whose_restored_copy_ends_soon_are_shown_with_the_hours_left(site: Site) -> None:
    known(site, bag_that_ends("W1", hours=30), bag_that_ends("W2", hours=5), bag_that_ends("W3", hours=100))

    document, plain = told(site), site.call("status").stdout

    assert [(one["work_rid"], round(one["hours_left"])) for one in document["at_risk"]] == [("W2", 5), ("W1", 30)]
    assert len(told(site, "--expiring", "10")["at_risk"]) == 1
    assert lines(plain, "at risk: W2", "ends in 5.0 h")


def test_what_was_left_unfinished_is_taken_up_in_the_order_in_which_restored_copies_end(any_tables: str) -> None:
    engine = record.connect(any_tables)
    try:
        bags = [bag_that_ends(rid, hours=hours) for rid, hours in (("W1", None), ("W2", 9), ("W3", 3), ("W4", None))]
        for bag in bags:
            Record(engine, agent="here/1/1", host="here").see(bag)

        order = turns.unfinished(engine, host="here")
    finally:
        engine.dispose()

    assert order == [bags[number].bag_id for number in (2, 1, 0, 3)]


def test_a_lane_at_work_is_shown_with_its_step_rate_and_time_left(site: Site) -> None:
    bag = bag_that_ends("W1", hours=None)
    known(site, bag)
    engine = record.connect(site.database_url)
    leases = Leases(engine, owner="far/7/2/x", seconds=60)
    leases.take("W1", bag.bag_id)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE leases SET taken_on = datetime('now', '-100 seconds') || '.000000'")
        connection.exec_driver_sql("UPDATE bags SET updated_on = datetime('now', '-100 seconds') || '.000000'")
    leases.renew("W1", step="download", done_bytes=100 << 20, total_bytes=400 << 20)
    engine.dispose()

    (lane,), plain = told(site)["lanes"], site.call("status").stdout

    assert (lane["lane"], lane["host"], lane["work_rid"], lane["step"]) == ("far/7/2", "far", "W1", "download")
    assert lane["bytes_per_second"] == pytest.approx(1 << 20, rel=0.2)
    assert lane["seconds_left"] == pytest.approx(300, rel=0.2)
    assert lines(plain, "far/7/2", "W1", "download", "25% of 400.0 MiB", "/s", "min")


def test_a_pause_and_disks_are_shown(site: Site) -> None:
    site.call("pause", "--reason", "a new disk")

    document, plain = told(site), site.call("status").stdout

    assert document["paused"]["reason"] == "a new disk"
    assert {disk["what"]: disk["free_bytes"] > 0 for disk in document["disk"]} == dict.fromkeys(
        ("staging", "quarantine", "archive_root"), True
    )
    assert lines(plain, "PAUSED", "a new disk", "run_pipeline.py resume")
    assert lines(plain, "disk: staging", "free")


def test_watch_prints_one_table_after_the_other_where_no_person_looks(site: Site) -> None:
    watch = site.start("status", "--watch", "1")
    assert watch.stdout is not None
    try:
        stamps = 0
        while stamps < 2:
            line = watch.stdout.readline()
            assert line, "it ended by itself"
            stamps += line.startswith("-- ")
            assert "\x1b" not in line
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=20)
    finally:
        if watch.poll() is None:
            os.kill(watch.pid, signal.SIGKILL)
            watch.communicate()

    assert watch.returncode == 0
