"""Bags made by the tool that BDRC uses (`bdrc-bag` on PyPI) come home."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.world.bags import SMALL_WORK
from tests.world.stack import Site

_MAKE = "import sys; from bag.bag_ops import bag; bag(sys.argv[1], sys.argv[2], preserve_source=True, in_daemon=True)"


def bdrc_bag(folder: Path, rid: str) -> Path:
    """Made in a process of its own: their tool changes the working folder."""
    for name, content in SMALL_WORK.items():
        path = folder / rid / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "out").mkdir()
    subprocess.run(
        [sys.executable, "-c", _MAKE, str(folder / rid), str(folder / "out")],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder / "out" / f"{rid}.bag.zip"


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
    (tmp_path / "theirs").mkdir()
    code = "import sys; from bag.bag_ops import debag; print(debag(sys.argv[1], sys.argv[2]))"
    taken = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "ours" / "W1FPL2251.bag.zip"), str(tmp_path / "theirs")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )

    assert "W1FPL2251" in taken.stdout
    work = tmp_path / "theirs" / "W1FPL2251"
    assert {name: (work / name).read_bytes() for name in SMALL_WORK} == SMALL_WORK
