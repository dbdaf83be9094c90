"""BDRC's own tool, `bdrc-bag` on PyPI: each call in a process of its own, for it changes the working folder."""

import subprocess
import sys
from pathlib import Path

from tests.world.bags import SMALL_WORK

_MAKE = "import sys; from bag.bag_ops import bag; bag(sys.argv[1], sys.argv[2], preserve_source=True, in_daemon=True)"
_TAKE_APART = "import sys; from bag.bag_ops import debag; print(debag(sys.argv[1], sys.argv[2]))"


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


def bdrc_debag(bag_zip: Path, rid: str, *, folder: Path) -> Path:
    """Taken apart by their tool; returns the work's folder."""
    (folder / "theirs").mkdir()
    taken = subprocess.run(
        [sys.executable, "-c", _TAKE_APART, str(bag_zip), str(folder / "theirs")],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert rid in taken.stdout
    return folder / "theirs" / rid
