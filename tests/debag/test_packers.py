"""Zips of one bag as packers really make them, into a file and into a pipe: what they agree on is accepted."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from pipeline.debag import FaultKind as Kind
from tests.world.bags import bag_members
from tests.world.verdicts import accepted, assert_unpacked

FILES = {
    "images/I1/I10001.jpg": b"first image" * 100,
    "images/I1/头 ཀ.jpg": b"a name that is not ASCII" * 20,
    "images/I1/noise.jpg": bytes(range(256)) * 3 + os.urandom(3000),
    "images/I1/empty.jpg": b"",
    "archive/I1/I10001.tif": b"first master" * 300,
}
CHANGED = 1686830463  # 2023-06-15 12:01:03 UTC; odd, so that MS-DOS cannot tell it
FAR_AWAY = "Asia/Kolkata"


@dataclass(frozen=True)
class Packer:
    """A way to make a zip of the folder `W1.bag`.

    Attributes:
        command: `{out}` stands for the zip; without it the zip comes out of a pipe.
        warned: what debag may find odd.
        utc: whether it tells times in UTC.
    """

    command: tuple[str, ...]
    warned: Collection[Kind] = ()
    utc: bool = True


UNFLAGGED, PADDED = Kind.NAME_CP437, Kind.APPENDED_BYTES  # Info-ZIP flags no name; libarchive fills up a block of tape
PACKERS = {
    "Info-ZIP into a file": Packer(("zip", "-qr", "{out}", "W1.bag"), {UNFLAGGED}),
    "Info-ZIP into a pipe": Packer(("zip", "-qr", "-", "W1.bag"), {UNFLAGGED}),
    "Info-ZIP into a pipe without zip64": Packer(("zip", "-qr", "-fz-", "-", "W1.bag"), {UNFLAGGED}),
    "Info-ZIP into a pipe, stored": Packer(("zip", "-qr0", "-", "W1.bag"), {UNFLAGGED}),
    "Info-ZIP without extra fields": Packer(("zip", "-qrX", "{out}", "W1.bag"), {UNFLAGGED}, utc=False),
    "7-Zip into a file": Packer(("7z", "a", "-bd", "-tzip", "{out}", "W1.bag")),
    "7-Zip, stored": Packer(("7z", "a", "-bd", "-tzip", "-mx0", "{out}", "W1.bag")),
    "bsdtar into a file": Packer(("bsdtar", "--format=zip", "-cf", "{out}", "W1.bag")),
    "bsdtar into a pipe": Packer(("bsdtar", "--format=zip", "-cf", "-", "W1.bag"), {PADDED}),
    "bsdtar into a pipe, stored": Packer(
        ("bsdtar", "--format=zip", "--options=zip:compression=store", "-cf", "-", "W1.bag"), {PADDED}
    ),
    "jar into a file": Packer(("jar", "--create", "--no-manifest", "--file={out}", "W1.bag"), utc=False),
    "jar into a pipe": Packer(("jar", "--create", "--no-manifest", "W1.bag"), utc=False),
    "jar, stored": Packer(("jar", "--create", "--no-manifest", "--no-compress", "--file={out}", "W1.bag"), utc=False),
}


def bag_folder(folder: Path) -> Path:
    """The folder above an unpacked `W1.bag`."""
    for name, content in bag_members(files=FILES).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (CHANGED, CHANGED))
    return folder


@pytest.mark.parametrize("how", PACKERS)
def test_a_bag_is_accepted_that_was_packed_by(tmp_path: Path, how: str) -> None:
    packer = PACKERS[how]
    tool = shutil.which(packer.command[0])
    if tool is None:
        pytest.skip(f"{packer.command[0]} is not installed")
    made = tmp_path / "made.zip"
    command = [tool, *(word.format(out=made) for word in packer.command[1:])]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": FAR_AWAY}
    done = subprocess.run(command, cwd=bag_folder(tmp_path / "bag"), env=environment, capture_output=True, check=True)
    result = accepted(tmp_path / "there", made.read_bytes() if made.exists() else done.stdout)
    assert_unpacked(result, {"W1": FILES})
    assert {warning.kind for warning in result.warnings} <= set(packer.warned)
    if packer.utc:
        times = {(result.works[0].path / name).stat().st_mtime for name in FILES}
        assert times == {CHANGED}, "the time zone of the packer was lost"


class Unseekable:
    """A stream that can only be written to, as a socket is."""

    def __init__(self, file: BinaryIO) -> None:
        self.write: Callable[[bytes], int] = file.write
        self.flush = file.flush


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("seekable", [True, False], ids=["file", "stream"])
@pytest.mark.parametrize("wide", [True, False], ids=["zip64", "plain"])
def test_a_bag_is_accepted_that_python_packed(tmp_path: Path, *, method: int, seekable: bool, wide: bool) -> None:
    made = tmp_path / "made.zip"
    with made.open("wb") as file:
        out = file if seekable else Unseekable(file)
        with zipfile.ZipFile(out, "w", method) as zip_file:  # type: ignore[call-overload]  # asks for no more than this
            for name, content in bag_members(files=FILES).items():
                with zip_file.open(name, "w", force_zip64=wide) as member:
                    member.write(content)
    result = accepted(tmp_path / "there", made.read_bytes())
    assert_unpacked(result, {"W1": FILES})
    assert not result.warnings
