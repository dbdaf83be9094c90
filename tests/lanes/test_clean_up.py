"""Bringing one work home clears its own staging folder and touches nothing else, whatever its name or zip is like."""

import zipfile
from pathlib import Path

import pytest

from pipeline.foundation.work import Bag
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, tree
from tests.world.works import put

NEIGHBOURS = ("W1", "W10", "W1-I1", "W", "W1 1")


@pytest.fixture
def neighbours(site: Site) -> dict[str, bytes]:
    """Works in the middle of their steps, and what somebody else put into the staging root."""
    staging = site.home / "staging"
    for rid in NEIGHBOURS:
        other = Bag(work_rid=rid, bucket="elsewhere", key=f"{rid}.bag.zip", etag="of another bag")
        put(staging / f"{rid}-{other.bag_id}", {f"debag/{rid}/images/1.jpg": rid.encode(), "download/x": b"half"})
    put(staging / "somebody's", {"file": b"not ours"})
    (staging / "a link").symlink_to(site.home / "outside")
    put(site.home / "outside", {"precious": b"x"})
    return tree(staging) | tree(site.home / "outside")


def left(site: Site) -> dict[str, bytes]:
    return tree(site.home / "staging") | tree(site.home / "outside")


@pytest.mark.parametrize("copier", ["script", "builtin"])
def test_works_whose_names_begin_alike_and_what_is_not_ours_stay_untouched(
    site: Site, tmp_path: Path, neighbours: dict[str, bytes], copier: str
) -> None:
    before = put(site.home / "archive/Archive0/10/W10", {"images/1.jpg": b"of W10"})
    site.announce(make_bag_zip(tmp_path, "W1"))

    done = site.call("run", "--lanes", "1", PIPELINE_SYNC_COPIER=copier)

    assert done.returncode == 0, done.stderr
    assert site.archived("W1") == SMALL_WORK
    assert left(site) == neighbours
    assert (site.home / "staging/a link").is_symlink()
    assert tree(before) == {"images/1.jpg": b"of W10"}


def test_a_zip_without_a_top_folder_is_refused_and_takes_nothing_with_it(
    site: Site, tmp_path: Path, neighbours: dict[str, bytes]
) -> None:
    bare = tmp_path / "W1.bag.zip"
    with zipfile.ZipFile(bare, "w") as file:
        for name, content in SMALL_WORK.items():
            file.writestr(name, content)
    site.announce(bare)

    done = site.call("run", "--lanes", "1")

    assert done.returncode == 1, done.stderr
    assert site.works()["W1"].error_kind == "invalid-bag"
    assert left(site) == neighbours
