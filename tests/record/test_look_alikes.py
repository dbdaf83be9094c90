"""Names that look the same are told, and no two works come home under them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipeline import record
from pipeline.foundation.errors import LookAlike
from pipeline.foundation.work import mixes_alphabets, skeleton
from pipeline.record import Record
from tests.record.test_record import BAG, leases, synced
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines

NAME = "W1AÉ"
ALIKE = {
    "small letters": "w1aé",
    "fullwidth": "\uff37\uff11AÉ",
    "Cyrillic": "W1\u0410É",
    "Greek": "W1\u0391É",
    "not composed": "W1AE\u0301",
}


@pytest.mark.parametrize(
    ("alike", "plain"),
    [
        *((alike, NAME) for alike in ALIKE.values()),
        ("\u13b31\u13aa", "W1A"),  # Cherokee
        ("\uab831\uab7a", "w1a"),  # Cherokee, in small letters
        ("\ua4ea1\ua4ee", "W1A"),  # Lisu
        ("\u1d211\ua731", "W1S"),  # small capitals
        ("W1\u0493", "W1f"),
        ("W1\u043a", "W1K"),  # Cyrillic, whose capital is Latin's
        ("W\u01a71\u01bd", "W215"),
        ("W\u06f1\u0661", "W11"),
        ("W1A\u0332", "W1A"),  # underlined
        ("W1\u0410\u0332", "W1A"),
    ],
)
def test_what_looks_the_same_has_the_same_skeleton(alike: str, plain: str) -> None:
    assert alike != plain
    assert skeleton(alike) == skeleton(plain)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("W10", "W1O"),
        ("W1", "Wl"),
        ("W1", "W\u0f21"),
        ("W1A", "W1Á"),
        ("བོད", "བོད་"),
        ("W\u0f0b\u0f401", "W\u0f401"),
        ("W1\u0416", "W1"),
        ("W1\u025b\u0300", "W1\u025b"),  # open e, with an accent that Unicode does not compose
    ],
)
def test_what_a_library_tells_apart_has_two_skeletons(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@pytest.mark.parametrize(
    ("name", "mixed"),
    [
        ("W1\u2c80", True),  # Coptic
        ("W1\u0416", True),
        ("W\U000104041", True),  # Deseret
        ("W\u0f0b\u0f401", False),
        ("W1\u0915", False),
        ("W1\u6f22", False),
        ("W1É", False),
        ("\u04161", False),
    ],
)
def test_a_name_of_several_alphabets_is_told_of_unless_they_look_like_no_latin(*, name: str, mixed: bool) -> None:
    assert mixes_alphabets(name) is mixed


def test_a_work_whose_name_looks_like_that_of_one_that_is_home_is_refused_before_anything_is_fetched(
    site: Site, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, NAME))
    assert site.call("run", "--lanes", "1").returncode == 0
    site.announce(*(make_bag_zip(tmp_path, alike, files={"images/1.jpg": b"x"}) for alike in ALIKE.values()))

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    for name, alike in ALIKE.items():
        assert lines(ended.stderr, f"{alike}: its name looks like that of the work {NAME}", "run_pipeline.py skip"), (
            name
        )
    for name in ("fullwidth", "Cyrillic", "Greek", "not composed"):
        assert lines(ended.stderr, ALIKE[name], "this name is easily taken for"), name
    assert site.archived(NAME) == SMALL_WORK
    assert {row["work_rid"] for row in site.rows("syncs")} == {NAME}
    assert [
        row
        for row in site.rows("events")
        if row["step"] == "download" and row["work_rid"] != NAME and row["outcome"] != "failed"
    ] == []
    assert (site.staged(), site.rows("leases")) == ([], [])


def test_an_odd_name_that_looks_like_no_other_comes_home_with_a_warning_and_then_has_it(
    site: Site, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, ALIKE["Cyrillic"]), make_bag_zip(tmp_path, "W1\u2c80"))  # Latin and Coptic
    first = site.call("run", "--lanes", "1")
    site.announce(make_bag_zip(tmp_path, NAME))
    second = site.call("run", "--lanes", "1")

    assert (first.returncode, second.returncode) == (0, 1), first.stderr
    assert lines(first.stderr, "this name is easily taken for", NAME)
    assert lines(first.stderr, "W1\u2c80: this name is easily taken for another")
    assert lines(second.stderr, f"{NAME}: its name looks like that of the work {ALIKE['Cyrillic']}")


def test_nobody_takes_a_name_by_a_bag_that_is_refused(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, ALIKE["Cyrillic"], corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")
    site.announce(make_bag_zip(tmp_path, NAME))

    assert site.call("run", "--lanes", "1").returncode == 0
    assert site.archived(NAME) == SMALL_WORK


def test_of_many_that_take_the_same_name_at_once_one_has_it(engine: Engine) -> None:
    def take(name: str) -> str:
        try:
            record.take_name(engine, name)
        except LookAlike:
            return ""
        return name

    with ThreadPoolExecutor(6) as lanes:
        taken = list(lanes.map(take, [NAME, *ALIKE.values()]))

    (owner,) = filter(None, taken)
    record.take_name(engine, owner)
    for other in {NAME, *ALIKE.values()} - {owner}:
        with pytest.raises(LookAlike, match=owner):
            record.check_name(engine, other)


def test_works_that_were_home_before_names_were_compared_keep_theirs(engine: Engine, book: Record) -> None:
    alike = BAG.work_rid.lower()
    for rid in (BAG.work_rid, alike):
        book.see(BAG)
        owner = leases(engine)
        owner.take(rid, BAG.bag_id)
        synced(book, owner, rid)
    record.downgrade(engine, "0004")

    record.upgrade(engine)

    for rid in (BAG.work_rid, alike):
        record.take_name(engine, rid)
    with pytest.raises(LookAlike, match=BAG.work_rid):
        record.take_name(engine, "\uff37" + BAG.work_rid[1:])
