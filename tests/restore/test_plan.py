"""Before S3 is asked for anything, all that is meant is found, looked at, and reckoned."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import Bag, no_pulse, staging_key
from pipeline.operations import restores
from pipeline.restore import tier_for
from pipeline.tasks.context import Site
from tests.world.cold_line import BUCKET, announced, bring_home, fill, plan, states, want
from tests.world.cold_s3 import Cold, ColdS3

INSERT = (
    "INSERT INTO glacier_sync_progress (object_name, restore_requested_on, user_data, create_time, update_time)"
    " VALUES (?, ?, ?, '2024-01-01', '2024-01-01')"
)


def test_a_plan_tells_how_each_object_stands_and_asks_for_nothing(line: Site, cold: ColdS3) -> None:
    home, running, ready, frozen, waiting = fill(cold, 5)
    cold.objects[staging_key("W9")] = Cold(b"warm", "STANDARD")
    now = datetime.now(UTC)
    cold.objects[staging_key(home)].until = cold.objects[staging_key(ready)].until = now + timedelta(days=2)
    cold.objects[staging_key(running)].ready_on = now + timedelta(hours=2)
    line.record.see(announced(staging_key(home), cold.objects[staging_key(home)]))
    bring_home(line)
    want(line, [waiting])

    found = plan(line, [home, running, ready, frozen, waiting, "W9", "W404"])

    assert [one.state for one in found.objects] == [
        *("home", "being-restored", "restored", "to-be-asked", "wanted", "not-frozen", "not-there")
    ]
    assert [one.name for one in found.to_come] == [running, ready, frozen, "W9"]
    assert not cold.asked
    assert not cold.refused


@pytest.mark.parametrize(
    ("storage_class", "tier", "told"),
    [
        ("GLACIER", "bulk", "bulk"),
        ("GLACIER", "expedited", "expedited"),
        ("DEEP_ARCHIVE", "bulk", "bulk"),
        ("DEEP_ARCHIVE", "standard", "standard"),
        ("DEEP_ARCHIVE", "expedited", "standard"),
    ],
)
def test_the_tier_is_as_the_class_allows_and_what_it_costs_is_by_its_price(
    line: Site, cold: ColdS3, storage_class: str, tier: str, told: str
) -> None:
    rids = fill(cold, 3, storage_class=storage_class)

    found = plan(line, rids, tier=tier, days=5)

    assert {one.tier for one in found.to_ask} == {told}
    prices = line.settings.prices[0]
    per_gb, per_request = getattr(prices, f"{storage_class.lower()}_{told}")
    gb = found.bytes / (1 << 30)
    assert found.restore_cost == pytest.approx(gb * per_gb + 3 * per_request / 1000 + gb * 23_000 * 5 / 30)
    assert found.egress_cost == pytest.approx(gb * 90_000)
    assert tier_for(storage_class, tier) in {"bulk", "standard", "expedited"}


def test_a_rid_is_found_where_the_record_knows_its_bag_and_a_list_is_read_in_both_forms(
    line: Site, cold: ColdS3, tmp_path: Path
) -> None:
    (first, second) = fill(cold, 2)
    cold.objects["odd/place/W7.bag.zip"] = Cold(b"odd")
    line.record.see(Bag("W7", BUCKET, "odd/place/W7.bag.zip", etag="e", source="cold"))
    (tmp_path / "rids.txt").write_text(f"\ufeff{first}\n\n {second} \nW7\n", encoding="utf-8")
    (tmp_path / "bdrc.csv").write_text(
        f"{first},{BUCKET},{staging_key(first)}\nW7, {BUCKET}, odd/place/W7.bag.zip\n", encoding="utf-8"
    )

    by_rid = restores.plan(line, restores.listed_in(line, tmp_path / "rids.txt"), pulse=no_pulse)
    by_csv = restores.plan(line, restores.listed_in(line, tmp_path / "bdrc.csv"), pulse=no_pulse)

    assert [one.found.bag.key for one in by_rid.to_ask if one.found] == [
        *(staging_key(first), staging_key(second), "odd/place/W7.bag.zip")
    ]
    assert [one.name for one in by_csv.to_ask] == [first, "W7"]


@pytest.mark.parametrize(
    "text",
    ["W1,vault\n", "W1,vault,Archive0/00/W2/W2.bag.zip\n", "no/rid\n", "W1,vault,a/.bag.zip\n"],
    ids=["two cells", "another work's key", "no RID", "no RID in the key"],
)
def test_a_list_with_a_line_that_is_neither_is_refused_whole(line: Site, tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text, encoding="utf-8")

    with pytest.raises(UsageError):
        list(restores.listed_in(line, tmp_path / "list"))


def test_a_prefix_is_listed_to_its_last_page_and_only_bag_zips_are_meant(line: Site, cold: ColdS3) -> None:
    rids = fill(cold, 8)
    cold.objects["Archive0/00/notes.txt"] = Cold(b"no bag")
    cold.objects["elsewhere/W1.bag.zip"] = Cold(b"not below")

    found = restores.plan(line, restores.below(line, f"s3://{BUCKET}/Archive"), pulse=no_pulse)

    assert sorted(one.found.bag.work_rid for one in found.to_ask if one.found) == sorted(rids)


def test_the_next_are_those_of_bdrc_s_table_that_nobody_asked_for_and_whose_place_is_known(
    line: Site, cold: ColdS3
) -> None:
    rids = fill(cold, 4)
    with line.engine.begin() as connection:
        for number, rid in enumerate([*rids, "W5NOPLACE", "W6ODD"]):
            place = {"aws_s3_bucket": BUCKET, "aws_s3_key": staging_key(rid)}
            theirs = [{"time_stamp": "2024-05-13T15:25:56-04:00", "user_data": place}]
            odd = {"W5NOPLACE": [{"time_stamp": "x", "user_data": {"by": "them"}}], "W6ODD": {"not": "a list"}}
            told: object = odd.get(rid, theirs)
            connection.exec_driver_sql(
                INSERT,
                (rid, "2024-02-02" if number == 0 else None, json.dumps(told)),
            )

    first = restores.plan(line, restores.never_asked(line, 2), pulse=no_pulse)
    restores.put(line, first, first=False)
    then = restores.plan(line, restores.never_asked(line, 5), pulse=no_pulse)

    assert [[one.name for one in found.to_ask] for found in (first, then)] == [rids[1:3], rids[3:]]


def test_what_is_wanted_is_wanted_once_in_the_order_given_and_first_goes_before_all(line: Site, cold: ColdS3) -> None:
    rids = fill(cold, 6)
    assert want(line, rids[:3]) == 3
    assert want(line, [*rids[1:3], rids[3]]) == 1
    assert want(line, [rids[5], rids[4], rids[2]], first=True) == 2

    assert list(states(line)) == [rids[5], rids[4], rids[2], rids[0], rids[1], rids[3]]
