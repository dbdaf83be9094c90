"""What operating systems leave wherever they look: left out and counted, unless a manifest lists it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.debag import FaultKind as Kind
from pipeline.debag import Policy
from tests.world.awkward import Member, members_of, zip_bytes
from tests.world.bags import SMALL_WORK, bag_members
from tests.world.verdicts import accepted, assert_unpacked, named, refused

NAMES = [
    "._I10001.jpg",
    "__MACOSX/images/._I10001.jpg",
    "__macosx/x",
    ".DS_Store",
    ".ds_store",
    "Desktop.ini",
    "desktop.ini",
    "Thumbs.db",
    "THUMBS.DB",
    "@eaDir/I10001.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".Spotlight-V100/Store-V2/x",
    ".Trashes/501/x",
    ".fseventsd/no_log",
    "System Volume Information/IndexerVolumeGuid",
    "$RECYCLE.BIN/desktop.ini",
    ".localized",
    ".SynologyWorkingDirectory/x",
    "@Recycle/I10001.jpg",
    "#snapshot/daily/x",
    "Network Trash Folder/x",
    ".nfs00000000a1b2c3d400000001",
    "lost+found/",
]
WORKS = {f"W1/{path}": content for path, content in SMALL_WORK.items()}
AT_ROOT = {name.removeprefix("W1.bag/"): content for name, content in bag_members().items()}
PLACES: Mapping[str, tuple[Mapping[str, bytes], str]] = {
    "beside a bag": (bag_members(), ""),
    "among a bag's tag files": (bag_members(), "W1.bag/"),
    "in a bag's payload, which does not list it": (bag_members(), "W1.bag/data/images/"),
    "in a bag that is the root of the zip": (AT_ROOT, ""),
    "beside a plain work": (WORKS, ""),
    "in a plain work": (WORKS, "W1/images/I1/"),
    "in a plain work that is the root of the zip": (SMALL_WORK, ""),
}


@pytest.mark.parametrize("place", PLACES)
def test_litter_is_left_out_and_counted(tmp_path: Path, place: str) -> None:
    contents, folder = PLACES[place]
    litter = [Member(folder + name, b"" if name.endswith("/") else b"litter") for name in NAMES]
    content = zip_bytes([litter[0], *members_of(contents), *litter[1:]])
    result = accepted(tmp_path, content, policy=Policy(allow_unbagged=True), work_rid="W1")
    assert_unpacked(result, {"W1": SMALL_WORK})
    kept = {path.name for path in (result.works[0].path / "W1.bag").rglob("*")}
    assert kept == {"bagit.txt", "bag-info.txt", "manifest-sha512.txt", "tagmanifest-sha512.txt"}
    warned = [warning for warning in result.warnings if warning.kind not in {Kind.UNBAGGED, Kind.CASE_TWINS}]
    assert [warning.kind for warning in warned] == [Kind.LITTER]
    assert warned[0].detail.startswith(f"{len(NAMES)} files and folders")


def test_beside_a_work_litter_of_its_own_name_is_no_second_work(tmp_path: Path) -> None:
    litter = {f"__MACOSX/W1/{path}": b"\0\5\x16\7" for path in SMALL_WORK} | {"__MACOSX/._W1": b"\0\5\x16\7"}
    result = accepted(tmp_path, zip_bytes(members_of({**litter, **WORKS})), policy=Policy(allow_unbagged=True))
    assert_unpacked(result, {"W1": SMALL_WORK})


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("/")])
def test_what_a_manifest_lists_is_payload_whatever_its_name(tmp_path: Path, name: str) -> None:
    files = {**SMALL_WORK, f"images/{name}": b"listed"}
    unlisted = {"W1.bag/data/.DS_Store": b"litter"}
    folder = Member(f"W1.bag/data/images/{name}".rpartition("/")[0] + "/", mode=0o40755)
    result = accepted(tmp_path, zip_bytes([*members_of({**bag_members(files=files), **unlisted}), folder]))
    assert_unpacked(result, {"W1": files})
    assert [(warning.kind, warning.path) for warning in result.warnings] == [(Kind.LITTER, "data/.DS_Store")]


def test_a_listed_file_that_looks_like_litter_is_missed_where_it_is_not_there(tmp_path: Path) -> None:
    contents = bag_members(files={**SMALL_WORK, ".DS_Store": b"listed"})
    faults = named(refused(tmp_path, zip_bytes(members_of({**contents, "W1.bag/data/.DS_Store": b"other"}))).faults)
    assert (Kind.DIGEST_DIFFERS, "W1.bag/data/.DS_Store") in faults
    del contents["W1.bag/data/.DS_Store"]
    faults = named(refused(tmp_path / "2", zip_bytes(members_of(contents))).faults)
    assert (Kind.FILE_MISSING, "W1.bag/data/.DS_Store") in faults


@pytest.mark.parametrize("name", ["DS_Store", "my__MACOSX/x", "Thumbs.db.txt", "x._y", "desktop.ini.jpg"])
def test_what_only_reminds_of_litter_is_no_litter(tmp_path: Path, name: str) -> None:
    contents = {**bag_members(), f"W1.bag/data/{name}": b"unlisted"}
    faults = named(refused(tmp_path, zip_bytes(members_of(contents))).faults)
    assert (Kind.FILE_UNLISTED, f"W1.bag/data/{name}") in faults


def test_a_zip_of_nothing_but_litter_holds_no_work(tmp_path: Path) -> None:
    contents = {f"__MACOSX/W1/{path}": b"x" for path in SMALL_WORK}
    refusal = refused(tmp_path, zip_bytes(members_of(contents)), policy=Policy(allow_unbagged=True))
    assert [kind for kind, _ in named(refusal.faults)] == [Kind.NO_BAG]
