"""The words: identifiers, identities, places."""

from pathlib import Path

import pytest

from pipeline.foundation.errors import InvalidRid
from pipeline.foundation.work import (
    MAX_RID_BYTES,
    Bag,
    archive_dir,
    checked_rid,
    human_bytes,
    human_count,
    is_bag_zip,
    rid_from_name,
    staging_key,
)


@pytest.mark.parametrize(
    "rid",
    [
        "W1FPL2251",
        "W1",
        "1",
        "W1-I2",
        "W_1",
        "བཀྲ W1FPL2252",
        "ལམ་རིམ་12",
        "བོད་",
        "ג״ל1",
        "メール・1",
        "Ü1",
        "W1 x",
        "x" * MAX_RID_BYTES,
    ],
)
def test_a_rid_is_one_plain_path_component(rid: str) -> None:
    assert checked_rid(rid) == rid
    assert (Path("/staging") / rid).parent == Path("/staging")


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a/b", "a\\b", "-rf", "_a", "a\0", "a\nb", "a\u202eb", " a", "a ", "a  b", "$(x)", "a;b", "a'b",
     "a.b", "~", "*", "x" * (MAX_RID_BYTES + 1), "\ud800",
     "་W1", "W1༌", "W1།", "W1\u2019", "W1\u2010", "W1\u00b7", "W1\ufe0f", "W1\u3164", "W\u034f1", "\u115fW1"],
)  # fmt: skip
def test_what_could_be_more_than_a_name_is_no_rid(text: str) -> None:
    with pytest.raises(InvalidRid):
        checked_rid(text)


def test_the_rid_of_a_key_is_its_last_part_up_to_the_first_dot() -> None:
    assert rid_from_name("Archive0/00/W1NLM4700/W1NLM4700.bag.zip") == "W1NLM4700"
    assert rid_from_name("W1.2.bag.zip") == "W1"


@pytest.mark.parametrize(
    ("rid", "key", "place"),
    [
        ("W1NLM4700", "Archive0/00/W1NLM4700/W1NLM4700.bag.zip", "Archive0/00/W1NLM4700"),
        ("W1FPL2251", "Archive1/51/W1FPL2251/W1FPL2251.bag.zip", "Archive2/51/W1FPL2251"),
        ("W99", "Archive1/99/W99/W99.bag.zip", "Archive3/99/W99"),
        ("W1A", "Archive0/00/W1A/W1A.bag.zip", "Archive0/00/W1A"),
        ("W\u0664\u0662", "Archive0/00/W\u0664\u0662/W\u0664\u0662.bag.zip", "Archive0/00/W\u0664\u0662"),
    ],
)
def test_a_work_lies_where_bdrc_puts_it(rid: str, key: str, place: str) -> None:
    assert staging_key(rid) == key
    assert archive_dir(Path("/mnt"), rid) == Path("/mnt") / place


def test_other_bytes_another_place_or_another_version_are_another_bag() -> None:
    bags = [
        Bag("W1", "b", "k", etag="e"),
        Bag("W1", "b", "k", etag="f"),
        Bag("W1", "b", "l", etag="e"),
        Bag("W1", "c", "k", etag="e"),
        Bag("W1", "b", "k", version_id="e"),
        Bag("W1", "", "k", etag="e"),
    ]

    assert len({bag.bag_id for bag in bags}) == len(bags)


def test_a_version_told_by_one_event_and_not_by_another_is_the_same_bag() -> None:
    assert Bag("W1", "b", "k", etag="e", version_id="v").bag_id == Bag("W1", "b", "k", etag="e").bag_id


def test_a_bag_of_which_neither_etag_nor_version_is_known_has_no_identity() -> None:
    with pytest.raises(ValueError, match="neither ETag nor version"):
        _ = Bag("W1", "b", "k").bag_id


def test_only_bag_zips_are_wanted() -> None:
    assert is_bag_zip("a/W1.bag.zip")
    assert not is_bag_zip("a/W1.zip")
    assert not is_bag_zip("a/W1.bag.zip.log")


def test_one_of_something_is_told_as_one() -> None:
    assert [human_count(n, "work") for n in (0, 1, 1200)] == ["0 works", "1 work", "1,200 works"]
    assert human_count(2, "restore expires soon", "restores expire soon") == "2 restores expire soon"


def test_sizes_are_told_for_people() -> None:
    assert [human_bytes(n) for n in (0, 1023, 1024, 17017201852)] == ["0 B", "1023 B", "1.0 KiB", "15.8 GiB"]
