"""The line of what is wanted, on each kind of database: claimed once, within its limits, by however many at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from pipeline.foundation.work import Bag
from pipeline.record import Limits, Record, Want, WantState, campaign, wants
from tests.world.stack import history

FREE = Limits(1000, 1 << 40, None)


def wanted(number: int, *, size: int = 10, days: int = 14) -> Want:
    bag = Bag(f"W{number}", "vault", f"a/W{number}.bag.zip", etag=f"e{number}", source="cold", size_bytes=size)
    return Want(bag, "DEEP_ARCHIVE", "bulk", days)


def claimed(engine: Engine, limits: Limits) -> list[str]:
    found = []
    while one := wants.claim(engine, limits):
        found.append(one.bag.work_rid)
    return found


def test_many_hosts_at_once_claim_each_object_once_and_pass_no_limit(engine: Engine) -> None:
    wants.want(engine, [wanted(number) for number in range(20)])
    limits, together = Limits(9, 75, None), threading.Barrier(4)

    def host(_number: int) -> list[str]:
        together.wait(30)
        return claimed(engine, limits)

    with ThreadPoolExecutor(4) as hosts:
        found = sorted(rid for mine in hosts.map(host, range(4)) for rid in mine)

    assert found == [f"W{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (FREE, ["W0", "W1", "W2"]),
        (Limits(2, 1000, None), ["W0", "W1"]),
        (Limits(9, 25, None), ["W0"]),
        (Limits(9, 19, None), ["W0", "W2"]),
        (Limits(9, 1000, 1.5), ["W0"]),
        (Limits(9, 1000, 0.001), ["W0"]),
    ],
    ids=["all", "two works", "in order", "one that never fits", "as much as comes home in time", "never none at all"],
)
def test_so_much_is_asked_for_as_there_is_room_and_time(engine: Engine, limits: Limits, found: list[str]) -> None:
    wants.want(engine, [wanted(0, days=14), wanted(1, size=20), wanted(2, size=5)])

    assert claimed(engine, limits) == found


def test_what_was_asked_is_dated_as_bdrc_s_reports_expect_and_costs_add_up(engine: Engine) -> None:
    book = Record(engine, agent="host/1/1", host="host")
    wants.want(engine, [wanted(1)])
    book.see(Bag("W1", "other", "k", etag="e", event_time=datetime(2026, 4, 6, tzinfo=UTC)))
    for cost in (0.5, 0.25):
        one = wants.claim(engine, FREE)
        assert one is not None
        wants.asked(engine, one, cost=cost, look_seconds=100, agent="host/1/1")
        wants.asked(engine, one, cost=cost, look_seconds=100, agent="host/1/1")  # by who thought it dead: not twice
        (row,) = campaign.wanted(engine)
        wants.give_back(engine, row)

    (row,) = campaign.wanted(engine)
    dates = {event["outcome"]: event["detail"] for event in history(engine, "W1") if event["step"] == "restore"}
    with engine.connect() as connection:
        told = connection.exec_driver_sql(
            "SELECT restore_requested_on, restore_complete_on FROM glacier_sync_progress WHERE object_name = 'W1'"
        ).one()
    assert (row.state, row.attempts, row.cost) == (WantState.WANTED, 2, 0.75)
    assert dates["requested"]["cost"] == 0.25
    assert told[0] is not None
    assert told[1] is None


def test_what_becomes_of_a_bag_becomes_of_what_was_wanted(engine: Engine) -> None:
    book = Record(engine, agent="host/1/1", host="host")
    wants.want(engine, [wanted(number) for number in range(3)])
    claimed_ones = [one for _ in range(3) if (one := wants.claim(engine, FREE))]
    for one in claimed_ones:
        wants.asked(engine, one, cost=1.0, look_seconds=100, agent="host/1/1")
    until = datetime.now(UTC) + timedelta(days=3)
    bags = [Bag(**{**vars(one.bag), "restore_expires_on": until}) for one in claimed_ones]
    for bag in bags:
        book.see(bag)
    book.done(bags[0])
    book.skip(bags[1], reason="not now", by="her")

    for _ in range(2):
        campaign.settle(engine, home=lambda _one: 0.5)

    found = {one.bag.work_rid: one for one in campaign.wanted(engine)}
    assert {rid: one.state for rid, one in found.items()} == {"W0": "home", "W1": "failed", "W2": "ready"}
    assert found["W0"].cost == 1.5
    assert found["W2"].expires_on is not None
    assert abs(found["W2"].expires_on - until) < timedelta(seconds=1)


def test_a_look_is_had_by_one_and_again_only_later(engine: Engine) -> None:
    wants.want(engine, [wanted(1)])
    one = wants.claim(engine, FREE)
    assert one is not None
    wants.asked(engine, one, cost=None, look_seconds=-1, agent="host/1/1")

    (due,) = campaign.due(engine, limit=10)

    assert [wants.look_later(engine, due, seconds=60) for _ in range(2)] == [True, False]
    assert campaign.due(engine, limit=10) == []


def test_who_was_frozen_since_an_earlier_request_changes_nothing_of_the_next(engine: Engine) -> None:
    wants.want(engine, [wanted(1)])
    claimed_once = wants.claim(engine, FREE)
    assert claimed_once is not None
    wants.asked(engine, claimed_once, cost=1.0, look_seconds=0, agent="host/1/1")
    (frozen,) = campaign.wanted(engine)
    wants.give_back(engine, frozen)
    again = wants.claim(engine, FREE)
    assert again is not None
    wants.asked(engine, again, cost=1.0, look_seconds=0, agent="host/1/1")

    wants.give_back(engine, frozen)
    wants.failed(engine, frozen, "gone")

    (row,) = campaign.wanted(engine)
    assert (row.state, row.attempts) == ("asked", 2)
