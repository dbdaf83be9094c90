"""Another user of the same machine, without rights: what is called here is done by a process of hers."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65_534
KEPT = b"what only its owner may change"


@contextmanager
def shared_place() -> Iterator[Path]:
    """A folder that both users reach, as /tmp is: sticky, and every user may write in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    place = Path(tempfile.mkdtemp(prefix="pipeline-attack-"))
    place.chmod(0o1777)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def attack(script: str, *arguments: str | Path, folder: Path) -> None:
    """Run a shell script as the other user, in `folder`."""
    done = subprocess.run(
        ["bash", "-euc", script, "attack", *map(str, arguments)],
        cwd=folder,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def place() -> Iterator[Path]:
    with shared_place() as folder:
        yield folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of ours, elsewhere, that no attack may change."""
    path = tmp_path / ".bashrc"
    path.write_bytes(KEPT)
    return path
