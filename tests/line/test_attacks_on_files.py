"""A local user without rights decides nothing: not where we write, rename or delete, and for how long we wait."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import debag, download, intake
from pipeline.foundation import durable, guarded, owners, removal
from pipeline.foundation.errors import FolderUnreachable, TransientError, ZipUnreadable
from pipeline.operations import bag
from tests.world.attacker import KEPT, NOBODY, attack
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.folders import add_folder, drop
from tests.world.stack import Site, lines
from tests.world.works import put


@pytest.fixture
def inbox(place: Path) -> Path:
    """A drop folder that belongs to the other user, and in which every user may put zips."""
    attack("mkdir inbox; chmod 1777 inbox", folder=place)
    return place / "inbox"


def dropped(inbox: Path, tmp_path: Path) -> intake.Dropped:
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    return intake.look(inbox).zips[0]


# ---------------------------------------------------------------------------------------------- writing


def test_a_file_is_never_written_through_a_link_that_somebody_put_there(place: Path, victim: Path) -> None:
    attack('ln -s "$1" .x.prom.part; ln -s "$1" x.prom', victim, folder=place)
    durable.write_file(place / "x.prom", b"ours")
    assert (victim.read_bytes(), (place / "x.prom").read_bytes()) == (KEPT, b"ours")
    assert not (place / "x.prom").is_symlink()


@pytest.mark.parametrize("verb", [("report", "--csv"), ("metrics", "--textfile")], ids=lambda verb: verb[0])
def test_what_an_operator_has_written_overwrites_no_file_that_a_link_names(
    site: Site, place: Path, victim: Path, verb: tuple[str, str]
) -> None:
    attack('ln -s "$1" out; ln -s "$1" .fresh.part; mkfifo pipe', victim, folder=place)
    (place / "ours").symlink_to(place / "out")
    for name in ("out", "ours", "pipe"):
        refused = site.call(*verb, str(place / name))
        assert refused.returncode == 2
        assert lines(refused.stderr, f"{place}/{'pipe is no file' if name == 'pipe' else 'out is a link of'}")
    fresh = site.call(*verb, str(place / "fresh"))
    assert fresh.returncode == 0, fresh.stderr
    assert (place / "fresh").stat().st_size > 0
    assert victim.read_bytes() == KEPT


def test_a_bag_is_made_in_no_file_that_somebody_else_began(place: Path, victim: Path, tmp_path: Path) -> None:
    work = put(tmp_path / "W1", SMALL_WORK)
    attack('ln -s "$1" .W1.bag.zip.part', victim, folder=place)
    with pytest.raises(TransientError):
        bag.make([work], into=place)
    os.unlink(place / ".W1.bag.zip.part")
    os.link(victim, place / ".W1.bag.zip.part")  # what another user may do where fs.protected_hardlinks is 0
    with pytest.raises(TransientError):
        bag.make([work], into=place)
    assert victim.read_bytes() == KEPT


# ---------------------------------------------------------------------------------------------- drop folders


def test_a_report_is_written_into_no_folder_that_somebody_else_made(
    site: Site, inbox: Path, victim: Path, tmp_path: Path
) -> None:
    add_folder(site)
    chosen = {"PIPELINE_SOURCE_INBOX_PATH": str(inbox)}
    attack("mkdir refused; chmod 777 refused", folder=inbox)
    drop(make_bag_zip(tmp_path, "W1", corrupt="images/I1/I10001.jpg"), inbox)
    refused = site.call("run", "--lanes", "1", **chosen)
    checked = site.call("check", **chosen)
    assert refused.returncode == 3, refused.stderr
    assert lines(refused.stderr, f"{inbox}/refused belongs to", f"user {NOBODY}")
    assert lines(checked.stdout, "folder inbox", "wrong", f"{inbox}/refused belongs to")
    assert sorted(path.name for path in inbox.iterdir()) == ["W1.bag.zip", "refused"]
    assert list((inbox / "refused").iterdir()) == []
    assert victim.read_bytes() == KEPT


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("mkdir {name}", "belongs to"),
        ("mkdir {name}; chmod 777 {name}", "belongs to"),
        ('ln -s "$1" {name}', "is a link"),
        ("touch {name}", "is no folder"),
    ],
)
@pytest.mark.parametrize("name", [".settling", "refused"])
def test_no_zip_is_moved_into_what_somebody_else_made(
    inbox: Path, tmp_path: Path, name: str, made: str, says: str
) -> None:
    zip_there = dropped(inbox, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    attack(made.format(name=name), tmp_path / "elsewhere", folder=inbox)
    into = inbox / "refused" / "W1-0"
    with pytest.raises(FolderUnreachable, match=f"{name}.*{says}"):
        intake.see_ours(inbox, [inbox / "refused"])
    with pytest.raises(FolderUnreachable, match=f"{name}.*{says}"):
        intake.move_out(zip_there, into, root=inbox / "refused", report=b"why")
    assert zip_there.path.is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_nothing_is_moved_out_of_a_folder_that_a_link_names(inbox: Path, tmp_path: Path) -> None:
    tree = put(tmp_path / "tree", {"0123abcd-W9.zip/family/photo.jpg": KEPT})
    attack('ln -s "$1" .settling', tree, folder=inbox)
    with pytest.raises(FolderUnreachable, match="settling is a link"):
        list(intake.left_aside(inbox))
    with pytest.raises(FolderUnreachable, match="settling is a link"):
        intake.put_back(intake.Dropped(inbox / "W9.zip", "0123abcd-W9.zip", 0, 0.0))
    assert (tree / "0123abcd-W9.zip/family/photo.jpg").read_bytes() == KEPT
    assert [path.name for path in inbox.iterdir()] == [".settling"]


def test_a_refused_zip_is_put_again_out_of_our_own_folder_alone(inbox: Path, tmp_path: Path) -> None:
    tree = put(tmp_path / "tree", {"W1-0/W1.bag.zip": KEPT})
    attack('ln -s "$1" refused', tree, folder=inbox)
    with pytest.raises(owners.NotOurs, match="refused is a link"):
        intake.put_again(inbox / "refused/W1-0/W1.bag.zip", inbox / "W1.bag.zip", root=inbox / "refused")
    assert (tree / "W1-0/W1.bag.zip").read_bytes() == KEPT


def test_zips_leave_a_folder_that_belongs_to_somebody_else(inbox: Path, tmp_path: Path) -> None:
    zip_there = dropped(inbox, tmp_path)
    moved = intake.move_out(zip_there, inbox / "refused" / "W1-0", root=inbox / "refused", report=b"why")
    assert moved == inbox / "refused/W1-0/W1.bag.zip"
    assert moved.is_file()
    assert (moved.parent / "report.txt").read_bytes() == b"why"
    assert intake.put_again(moved, inbox / "W1.bag.zip", root=inbox / "refused")
    assert intake.remove(intake.look(inbox).zips[0])
    assert sorted(path.name for path in inbox.iterdir()) == [".settling", "refused"]


# ---------------------------------------------------------------------------------------------- folders of the host


@pytest.mark.parametrize("name", ["staging", "quarantine", "logs"])
@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("mkdir {name}", "belongs to"),
        ('ln -s "$1" {name}', "is a link"),
        ("mkdir above; chmod 755 above", "can put another folder in its place"),
        ('ln -s "$2" above', "can put another folder in its place"),
    ],
    ids=["theirs", "link", "above", "link above"],
)
def test_no_work_is_begun_in_a_folder_that_somebody_else_decides_about(
    site: Site, place: Path, tmp_path: Path, name: str, made: str, says: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    attack(made.format(name=name), tmp_path / "elsewhere", tmp_path / "elsewhere", folder=place)
    folder = place / ("above" if "above" in made else "") / name
    refused = site.call("run", "--lanes", "1", **{f"PIPELINE_PIPELINE_{name.upper()}": str(folder)})
    assert refused.returncode == 2, refused.stderr
    assert lines(refused.stderr, f"[pipeline] {name}", says)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_share_that_gives_all_files_to_one_user_is_ours_to_write_in(place: Path) -> None:
    attack("mkdir share; chmod 755 share", folder=place)

    def opened_on_the_share() -> int:
        # As a client of CIFS sees it: what this thread makes belongs to that user, whoever the process is.
        ctypes.CDLL(None).setfsuid(NOBODY)
        with guarded.ours(place / "share" / "refused", below=place, make=True) as descriptor:
            return os.fstat(descriptor).st_uid

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(opened_on_the_share).result() == NOBODY
    with pytest.raises(owners.NotOurs), guarded.ours(place / "share"):
        pass
    assert [path.name for path in (place / "share").iterdir()] == ["refused"]


def test_a_zip_is_unpacked_into_no_folder_that_somebody_else_prepared(place: Path, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    attack("mkdir .out.staging; chmod 777 .out.staging; mkdir .out.staging/W1", folder=place)
    with pytest.raises(TransientError, match=r"out\.staging belongs to"):
        debag.unpack(bag_zip, into=place / "out")
    assert not (place / "out").exists()
    assert [path.name for path in (place / ".out.staging").iterdir()] == ["W1"]


def test_a_tree_is_emptied_without_leaving_it(place: Path, tmp_path: Path) -> None:
    put(tmp_path / "tree", {"photo.jpg": KEPT})
    path = place / "doomed"
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for _ in range(1500):  # deeper than a path can name, and than there are descriptors
            os.mkdir("deep", dir_fd=descriptor)
            below = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
            os.symlink(tmp_path / "tree", "link", dir_fd=below)
            os.close(descriptor)
            descriptor = below
    finally:
        os.close(descriptor)
    removal.remove_tree(path)
    assert not path.exists()
    assert (tmp_path / "tree/photo.jpg").read_bytes() == KEPT


# ---------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "read",
    [
        intake.ends_as_a_zip,
        lambda path: download.identify_local(path, "W1"),
        guarded.read_file,
    ],
    ids=["the look of a folder", "the digest of a zip", "the proof in an archive"],
)
def test_nobody_waits_for_a_pipe_that_somebody_put_in_place_of_a_file(
    inbox: Path, read: Callable[[Path], object]
) -> None:
    attack("mkfifo W1.bag.zip", folder=inbox)
    with pytest.raises((OSError, ZipUnreadable), match="is no regular file"):
        read(inbox / "W1.bag.zip")
