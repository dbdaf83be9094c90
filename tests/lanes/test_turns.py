"""Whose turn it is: works of lanes that died are taken up soon, by whoever is there, and nothing of them is left."""

import json
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.errors import NotRestored, StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.intake import Message, Queue
from pipeline.lanes import lane as lane_module
from pipeline.lanes.lane import Lane
from pipeline.lanes.parcel import Parcel
from pipeline.lanes.queue_source import MessageParcel
from pipeline.record import Leases, Phase, Record, lanes, turns, views
from pipeline.settings import Source
from pipeline.tasks import context as site_module
from tests.line.test_killed import IN_ONE_PROCESS
from tests.record.test_superseded import bring_home
from tests.tasks.test_room import half_a_download
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import SHORT_LEASE, Site, lines

BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=7)
HOUR = 3600


def dead_lane(engine: Engine, *, seconds_ago: int, host: str = "gone") -> None:
    """A lane of this host took the work, and its lease ended so long ago."""
    assert Leases(engine, owner=f"{host}/1/1/x", seconds=-seconds_ago).take("W1", BAG.bag_id)


@pytest.mark.parametrize(
    ("ended_seconds_ago", "by"), [(40, {"gone", "other"}), (5, {"gone"}), (-5, set())], ids=["long", "just", "not yet"]
)
@pytest.mark.parametrize("failed_before", [True, False])
def test_what_a_lane_died_of_waits_for_its_lease_and_a_little_and_for_nothing_else(
    engine: Engine, ended_seconds_ago: int, by: set[str], *, failed_before: bool
) -> None:
    gone = Record(engine, agent="gone/1/1", host="gone")
    gone.see(BAG)
    gone.finished(Phase.DOWNLOAD, BAG, {})
    if failed_before:  # and was begun again by another delivery of its message, before its time
        gone.failed(BAG, "debag", StorageUnreachable("reset"), retry_seconds=HOUR)
    dead_lane(engine, seconds_ago=ended_seconds_ago)

    found = {
        host
        for host in ("gone", "other")
        if turns.unfinished(engine, host=host, others_after_seconds=2 * HOUR, dead_after_seconds=30)
    }

    assert found == by


def test_what_a_host_gave_back_in_order_is_left_to_it_for_longer(engine: Engine) -> None:
    gone = Record(engine, agent="gone/1/1", host="gone")
    gone.see(BAG)
    gone.finished(Phase.DOWNLOAD, BAG, {})

    def found(host: str, seconds: int) -> list[str]:
        return turns.unfinished(engine, host=host, others_after_seconds=seconds, dead_after_seconds=0)

    assert (found("gone", HOUR), found("other", HOUR), found("other", 0)) == ([BAG.bag_id], [], [BAG.bag_id])


def test_the_lease_of_a_lane_that_died_stays_until_its_work_is_taken_over(engine: Engine, book: Record) -> None:
    book.see(BAG)
    dead_lane(engine, seconds_ago=5)
    mine = Leases(engine, owner="host/2/1/y", seconds=60)

    assert (mine.clear_expired(), mine.take("W1", BAG.bag_id)) == (0, True)
    mine.release("W1")
    book.done(BAG)
    dead_lane(engine, seconds_ago=5)

    assert mine.clear_expired() == 1


def moments(engine: Engine) -> dict[str, float]:
    """In how many seconds each work is taken up, as `status` has it."""
    now = datetime.now(UTC)
    return {
        work.work_rid: round((datetime.fromisoformat(work.taken_up_on) - now).total_seconds(), -1)
        for work in views.works(engine)
        if work.taken_up_on
    }


@pytest.mark.parametrize(
    ("lease_seconds", "retry_seconds", "seconds"),
    [(None, None, 0), (None, HOUR, HOUR), (60, None, 60), (60, HOUR, 60), (-20, HOUR, 0)],
    ids=["waiting", "failed", "running", "running after a failure", "its lane died"],
)
def test_status_knows_from_when_on_a_work_is_taken_up(
    engine: Engine, book: Record, lease_seconds: int | None, retry_seconds: int | None, seconds: int
) -> None:
    book.see(BAG)
    if retry_seconds is not None:
        book.failed(BAG, "download", StorageUnreachable("reset"), retry_seconds=retry_seconds)
    if lease_seconds is not None:
        Leases(engine, owner="host/2/1/y", seconds=lease_seconds).take("W1", BAG.bag_id)

    assert moments(engine) == {"W1": pytest.approx(seconds, abs=10)}


def test_what_no_lane_takes_up_by_itself_has_no_turn(engine: Engine, book: Record) -> None:
    book.see(BAG)
    book.failed(BAG, "download", NotRestored("frozen"))

    assert moments(engine) == {}


def test_status_shows_a_person_when_a_work_is_taken_up(site: Site) -> None:
    site.works()  # makes the tables
    engine = record.connect(site.database_url)
    try:
        book = Record(engine, agent="host/1/1", host="host")
        for rid, wait in (("W1", HOUR), ("W2", -1), ("W3", 0)):
            bag = replace(BAG, work_rid=rid, etag=rid)
            book.see(bag)
            book.failed(bag, "download", StorageUnreachable("reset"), retry_seconds=wait)
        Leases(engine, owner="host/2/1/y", seconds=60).take("W3", replace(BAG, work_rid="W3", etag="W3").bag_id)
    finally:
        engine.dispose()

    told = site.call("status").stdout
    works = {one["work_rid"]: one for one in json.loads(site.call("status", "--json").stdout)["works"]}

    def shown(rid: str) -> str:
        return f" after {works[rid]['taken_up_on'][11:19]}Z"

    assert lines(told, "W1 ", "failed", shown("W1"))
    assert lines(told, "W2 ", "failed", " next ")
    assert lines(told, "host/2/1", "W3", shown("W3"))


@dataclass
class FakeQueues:
    """SQS, as far as hiding a message asks for it."""

    hidden: list[int] = field(default_factory=list)

    def change_message_visibility(self, *, VisibilityTimeout: int, **_: Any) -> None:  # noqa: N803  # boto3's name
        self.hidden.append(VisibilityTimeout)


@pytest.mark.parametrize(("receives", "most"), [(1, 10), (2, 20), (3, 40)])
def test_a_message_that_an_outage_gave_back_comes_again_soon(here: site_module.Site, receives: int, most: int) -> None:
    """The record may not know it yet: then nothing else brings its works up again."""
    queues, source = FakeQueues(), Source("test", region="us-east-1", bucket="b", queue="q")
    here._sqs = cast("Any", {("us-east-1", "", "", False): queues})
    message = Message(Queue("test", "url", "", 5), "m", "r", "{}", receives, datetime.now(UTC).timestamp())

    MessageParcel(here, source, message).give_back()

    assert 0 < queues.hidden[0] <= most


def test_an_idle_lane_clears_what_came_home_elsewhere_before_it_ends(here: site_module.Site) -> None:
    elsewhere = Record(here.engine, agent="other/1/1", host="other")
    elsewhere.see(BAG)
    part = half_a_download(here, BAG)
    elsewhere.done(BAG)

    here.local_scheduler = True
    Lane(here).run()

    assert not part.exists()
    assert list(here.settings.staging.iterdir()) == []


def test_a_watch_looks_whenever_it_is_idle(here: site_module.Site) -> None:
    elsewhere = Record(here.engine, agent="other/1/1", host="other")
    elsewhere.see(BAG)
    part = half_a_download(here, BAG)
    elsewhere.done(BAG)
    here.local_scheduler = True
    lane = Lane(here, watch=True)

    assert not lane._once()

    assert not part.exists()


def test_what_was_home_before_its_message_came_again_is_not_counted_as_brought_home(here: site_module.Site) -> None:
    bags = [replace(BAG, work_rid=f"W{number}", etag=f"e{number}") for number in range(12)]
    for bag in bags:
        bring_home(here.engine, bag)

    class Announced(Parcel):
        """More than have their turn at once."""

        def open(self) -> list[Bag]:
            return bags

    lane = Lane(here)
    lane._process(Announced())

    assert (lane.tally.done, lane.tally.failed) == (0, 0)


def test_what_a_lane_waits_for_after_an_outage_keeps_recovery_within_a_minute_of_the_lease() -> None:
    """Its pause after an outage, its look, and how long another host's work is left to that host."""
    after = lane_module._LONGEST_OUTAGE_SECONDS
    look = lane_module._LOOK_AGAIN_SECONDS
    assert after + look <= 60
    assert lane_module._DEAD_LANE_SECONDS + 2 * look <= 60


def die(engine: Engine, number: int, *, host: str = "gone") -> None:
    """Another lane takes the work over from the one before, and is never heard of again."""
    assert Leases(engine, owner=f"{host}/{number}/1/x", seconds=-1).take("W1", BAG.bag_id)


def test_lanes_that_die_of_a_bag_are_counted_until_a_step_ends_in_order(engine: Engine, book: Record) -> None:
    counted = []
    book.see(BAG)
    for number in range(4):
        die(engine, number)
        counted.append(turns.deaths(engine, BAG))
    book.note("debag", "stopping", {}, work_rid="W1", bag_id=BAG.bag_id)  # stopped before it could die of it
    counted.append(turns.deaths(engine, BAG))
    alive = Record(engine, agent="gone/2/1", host="gone")
    alive.note("debag", "lease-lost", {}, work_rid="W1", bag_id=BAG.bag_id)  # it only stood still
    counted.append(turns.deaths(engine, BAG))
    lanes.seen(engine, "gone/1/1/x", host="gone")  # so did this one
    counted.append(turns.deaths(engine, BAG))

    assert counted == [0, 1, 2, 3, 3, 2, 1]


@pytest.mark.parametrize("end", ["done", "failed", "asked"])
def test_what_ends_in_order_begins_the_count_anew(engine: Engine, book: Record, end: str) -> None:
    book.see(BAG)
    for number in range(4):
        die(engine, number)

    if end == "done":
        book.finished(Phase.DOWNLOAD, BAG, {})
    elif end == "failed":
        book.failed(BAG, "download", StorageUnreachable("reset"))
    else:
        book.reopen(BAG, reason="handed back")

    assert turns.deaths(engine, BAG) == 0


def test_a_work_of_which_three_lanes_die_is_set_aside_until_a_person_asks_again(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    for _ in range(3):
        killed = site.call(*IN_ONE_PROCESS, PIPELINE_TEST_KILL_AT="downloaded, not vouched for", **SHORT_LEASE)
        assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
        time.sleep(2.1)  # its lease

    ended = site.call(*IN_ONE_PROCESS)
    told, kinds = site.call("explain", "W1").stdout, [one["error_kind"] for one in site.rows("bags")]
    again = site.call(*IN_ONE_PROCESS)
    handed_back = site.call("retry", "W1")
    home = site.call(*IN_ONE_PROCESS)

    assert ended.returncode == 1, ended.stderr
    assert lines(ended.stderr, "W1: the lanes that worked on it died 3 times", "download", "run_pipeline.py retry W1")
    assert kinds == ["lane-died"]
    assert lines(told, "run_pipeline.py retry W1")
    assert lines(again.stderr, "ended: 0 done")
    assert [one["MessageAttributes"]["ErrorKind"]["StringValue"] for one in site.dead_letters()] == ["lane-died"]
    assert handed_back.returncode == 0, handed_back.stderr
    assert home.returncode == 0, home.stderr
    assert site.archived("W1") == SMALL_WORK
