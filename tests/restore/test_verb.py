"""`restore` as it is typed: the plan is told, nothing is wanted without a word, and the line can be changed."""

import json
from pathlib import Path

import pytest

from pipeline.foundation.work import staging_key
from tests.world.bags import make_bag_zip
from tests.world.cold_line import fill
from tests.world.cold_s3 import ColdS3
from tests.world.stack import Site, lines

PRICES = """
[prices us-east-1]
deep_archive_bulk = 2500, 25
copy_gb_month = 23000
egress_gb = 90000
"""


@pytest.fixture
def priced(site: Site, cold: ColdS3) -> Site:
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write(PRICES)
    site.settings["PIPELINE_SOURCE_TEST_ENDPOINT_URL"] = cold.url
    return site


def test_the_plan_is_told_and_only_told_until_somebody_agrees(priced: Site, cold: ColdS3) -> None:
    rids = fill(cold, 3)
    (priced.home / "list").write_text("\n".join(rids[1:]), encoding="utf-8")

    asked = [rids[0], "--list", str(priced.home / "list")]
    told = priced.call("restore", *asked, "--plan")
    nobody = priced.call("restore", *asked)
    over = priced.call("restore", *asked, "--yes", PIPELINE_RESTORE_MOST_COST="0.01")
    before = priced.rows("wants")
    agreed = priced.call("restore", "W404", *asked, "--yes", "--json")

    assert (told.returncode, nobody.returncode, over.returncode, before) == (0, 2, 2, []), told.stderr
    for words in (["wanted", "3 to-be-asked"], ["requests", "3 (3 bulk), copies for 14 days"], ["ready", "2 d"]):
        assert lines(told.stdout, *words), told.stdout
    assert lines(told.stdout, "cost", "USD: restore")
    assert lines(told.stdout, "home", "not known")
    assert lines(nobody.stderr, "the same with --yes")
    assert lines(over.stderr, "most_cost is 0.01 USD", "--over-budget")
    document = json.loads(agreed.stdout)
    assert (agreed.returncode, document["put_in_line"]) == (1, 3)
    assert document["counts"] == {"to-be-asked": 3, "not-there": 1}
    assert [row["state"] for row in priced.rows("wants")] == ["wanted"] * 3
    assert cold.asked == []


def test_without_prices_no_cost_is_guessed_and_a_budget_is_not_passed(site: Site, cold: ColdS3) -> None:
    (rid,) = fill(cold, 1)
    known = {"PIPELINE_SOURCE_TEST_ENDPOINT_URL": cold.url}

    told = site.call("restore", rid, "--plan", **known)
    over = site.call("restore", rid, "--yes", **known, PIPELINE_RESTORE_MOST_COST="5")

    assert lines(told.stdout, "cost", "not known", "[prices REGION]"), told.stdout
    assert over.returncode == 2
    assert site.rows("wants") == []


def test_what_waits_can_be_listed_paused_resumed_and_cancelled(priced: Site, cold: ColdS3) -> None:
    first, second = fill(cold, 2)
    priced.call("restore", first, second, "--yes")

    paused = priced.call("restore", "pause", first)
    listed = [priced.call("restore", "list"), priced.call("restore", "list", "--json")]
    resumed = priced.call("restore", "resume")
    unasked = priced.call("restore", "cancel")
    cancelled = priced.call("restore", "cancel", second)
    unknown = priced.call("restore", "cancel", "W404")

    assert [one.returncode for one in (paused, resumed, unasked, cancelled, unknown)] == [0, 0, 2, 0, 1]
    assert lines(listed[0].stdout, first, "paused", f"s3://{priced.bucket}/{staging_key(first)}")
    assert [one["state"] for one in json.loads(listed[1].stdout)["wants"]] == ["paused", "wanted"]
    assert {row["work_rid"]: row["state"] for row in priced.rows("wants")} == {first: "wanted", second: "cancelled"}


@pytest.mark.parametrize(
    "wrong",
    [["restore"], ["restore", "a/b"], ["restore", "--prefix", "vault"], ["restore", "--list", "/nowhere"]],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(priced: Site, wrong: list[str]) -> None:
    ended = priced.call(*wrong)

    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_work_that_is_only_wanted_can_be_explained_and_one_that_is_not_there_says_where_it_was_looked_for(
    priced: Site, cold: ColdS3, tmp_path: Path
) -> None:
    (rid,) = fill(cold, 1)
    priced.call("restore", rid, "--yes")
    home = make_bag_zip(tmp_path, "W7")
    priced.call("work", str(home))

    explained = priced.call("explain", rid)
    told = priced.call("restore", "W404", "W7", "--plan")

    assert lines(explained.stdout, f"{rid}: wanted from cold storage"), explained.stderr
    assert lines(explained.stdout, "next", "it is in the line of restores")
    assert lines(explained.stdout, "restore", "wanted; asked for 0 times")
    assert lines(told.stdout, "W404: not there, looked for at s3://", staging_key("W404"))
    assert lines(told.stdout, "wanted", "1 not-there, 1 home")
