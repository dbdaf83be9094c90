"""Bags made by the tool that BDRC uses (`bdrc-bag` on PyPI) come home."""

import zipfile
from pathlib import Path

from tests.world.bags import SMALL_WORK
from tests.world.bdrc import bdrc_bag, bdrc_debag
from tests.world.stack import Site


def test_a_bag_made_by_bdrc_s_own_tool_comes_home(site: Site, tmp_path: Path) -> None:
    bag_zip = bdrc_bag(tmp_path, "W1FPL2251")
    with zipfile.ZipFile(bag_zip) as members:
        assert {info.compress_type for info in members.infolist()} == {zipfile.ZIP_STORED}
        manifest = members.read("W1FPL2251.bag/manifest-sha512.txt")
    site.announce(bag_zip)

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 0, ended.stderr
    assert site.archived("W1FPL2251") == SMALL_WORK
    kept = site.home / "archive" / "Archive2" / "51" / "W1FPL2251" / "W1FPL2251.bag" / "manifest-sha512.txt"
    assert kept.read_bytes() == manifest


def test_what_our_bag_maker_makes_their_tool_takes_apart(site: Site, tmp_path: Path) -> None:
    bdrc_bag(tmp_path, "W1FPL2251")
    made = site.call("bag", str(tmp_path / "W1FPL2251"), "--into", str(tmp_path / "ours"))
    assert made.returncode == 0, made.stderr
    work = bdrc_debag(tmp_path / "ours" / "W1FPL2251.bag.zip", "W1FPL2251", folder=tmp_path)
    assert {name: (work / name).read_bytes() for name in SMALL_WORK} == SMALL_WORK
