"""What is said of how far it goes: the page is what its results come to, and the model what a person would reckon."""

import configparser
import json
from dataclasses import replace

import pytest

from benchmarks import scaling_page
from benchmarks.scaling_model import Cost, Figures, Place, most_works, plan
from tests.world.stack import ROOT

DAY = 86_400
COST = Figures(
    lane_cpu=Cost(0.2, 8.0),
    lane_seconds=Cost(0.3, 10.0),
    luigid_cpu=0.03,
    luigid_task_cpu=2e-6,
    database_cpu=0.02,
    get_works=5,
    tasks=4,
)
PLACE = Place(link_gbit=10, archive_mb=2_000, cores=8, remember_hours=1, busy=0.5)


def test_the_page_says_what_its_results_come_to() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")

    made = scaling_page.renewed(page, json.loads(scaling_page.RESULTS.read_text(encoding="utf-8")))
    assert page == made, "stale: run `make scaling SCALING=--save`"


def test_luigid_is_set_to_remember_for_as_long_as_the_tables_say() -> None:
    """What it remembers it walks through each time that a lane asks for work."""
    shipped = configparser.RawConfigParser()
    shipped.read_string((ROOT / "luigi.cfg").read_text(encoding="utf-8"))

    assert shipped.getfloat("scheduler", "remove_delay") == Place().remember_hours * 3600


def test_what_a_load_needs_is_what_its_works_take_of_a_day() -> None:
    made = plan(COST, PLACE, works=DAY, size_gb=1)  # a work of 1 GB each second

    remembered = COST.tasks * DAY / 24
    assert made.shares["link"] == pytest.approx(0.8)
    assert made.shares["archive"] == pytest.approx(1.0)  # written, and read back
    assert made.shares["luigid"] == pytest.approx(0.03 + 5 * 2e-6 * remembered)
    assert made.shares["database"] == pytest.approx(0.02)
    assert made.bound == "archive"
    assert made.lanes == 23  # (0.3 + 10 + 0.8) s of a lane for each, half of the time
    assert made.hosts == 3  # (0.2 + 8) CPU-s of 8 cores, half of the time


@pytest.mark.parametrize(
    ("place", "size_gb", "works", "bound"),
    [
        (replace(PLACE, link_gbit=1), 17, DAY * 0.5 / (17 * 8), "link"),
        (PLACE, 17, DAY * 0.5 / 17, "archive"),
        # 0.03 s and 40 µs for each of works / 24 that are remembered
        (PLACE, 0.001, 24 * (-0.03 + (0.03**2 + 4 * 40e-6 / 24 * DAY * 0.5) ** 0.5) / (2 * 40e-6), "luigid"),
        (replace(PLACE, remember_hours=0), 0.001, DAY * 0.5 / 0.03, "luigid"),
    ],
)
def test_the_most_is_where_what_is_bound_is_busy_as_long_as_it_may(
    place: Place, size_gb: float, works: float, bound: str
) -> None:
    most = most_works(COST, place, size_gb=size_gb)

    assert most == pytest.approx(works, rel=0.01)
    assert plan(COST, place, works=most, size_gb=size_gb).bound == bound
