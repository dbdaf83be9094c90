"""The zip that is sent of an archived work: a bag that others accept, the same each time, true to the kept digests."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import bagit
import pytest

from pipeline import debag, replicate
from pipeline.foundation import fixity
from pipeline.foundation.errors import FixityFailed
from pipeline.replicate.bag_stream import Content, write
from tests.world.bags import SMALL_WORK
from tests.world.bdrc import bdrc_debag
from tests.world.stack import tree
from tests.world.works import fixity_of, put

NAMES = ("བོད་ཡིག.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg", "n" * 255, ".hidden", " blanks around .jpg", "100%.jpg")
LARGE = "images/large.tif"  # copied piece by piece; the others in batches
FILES = {**SMALL_WORK, **{f"images/{name}": name.encode() for name in NAMES}, "images/empty": b""}
FILES |= {LARGE: b"II*\0" * (1 << 19) + b"?", "images/m.tif": b"m" * (2 << 20), "images/n.tif": b"n" * (2 << 20)}
KEPT = {**FILES, "W1.bag/bag-info.txt": b"Contact-Name: A\n B\nPayload-Oxum: 1.1\n"}


def archived(folder: Path, *, algorithms: tuple[str, ...] = ("sha512",)) -> Content:
    """A work as the archive has it, its proof and an empty folder with it."""
    work, known = put(folder / "W1", KEPT), fixity_of(KEPT, algorithms=algorithms)
    (work / "images" / "no scans yet").mkdir()
    put(work / "W1.bag", {fixity.digests_name("W1"): fixity.dumps(known)})
    return replicate.content(work, known)


def zipped(sent: Content) -> bytes:
    sink = io.BytesIO()
    write(sent, Unseekable(sink))
    return sink.getvalue()


class Unseekable:
    """All that an upload can do."""

    def __init__(self, file: io.BytesIO) -> None:
        self.write = file.write

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("algorithms", [("sha512",), ("md5",), ("sha256", "md5")])
def test_it_is_a_bag_that_bagit_accepts_with_every_file_and_folder(tmp_path: Path, algorithms: tuple[str, ...]) -> None:
    sent = archived(tmp_path, algorithms=algorithms)
    with zipfile.ZipFile(io.BytesIO(zipped(sent))) as zip_file:
        zip_file.extractall(tmp_path)

    bagit.Bag(str(tmp_path / "W1.bag")).validate()
    payload = tree(tmp_path / "W1.bag" / "data")
    assert payload == {name: text for name, text in tree(tmp_path / "W1").items() if not name.startswith("W1.bag/")}
    assert (tmp_path / "W1.bag" / "data" / "images" / "no scans yet").is_dir()


def test_it_comes_apart_to_the_same_files_with_their_times(tmp_path: Path) -> None:
    sent = archived(tmp_path)
    (tmp_path / "W1.bag.zip").write_bytes(zipped(sent))

    debag.unpack(tmp_path / "W1.bag.zip", into=tmp_path / "out", work_rid="W1")

    again = tmp_path / "out" / "W1"
    found = tree(again)
    assert {name: found.get(name) for name in FILES} == FILES
    assert found["W1.bag/bag-info.txt"].startswith(b"Contact-Name: A\n B\nPayload-Oxum: ")
    image = next(iter(SMALL_WORK))
    assert int((again / image).stat().st_mtime) == int((sent.folder / image).stat().st_mtime)


def test_it_is_the_same_each_time_and_no_larger_than_was_told(tmp_path: Path) -> None:
    sent = archived(tmp_path)
    first = zipped(sent)
    again = zipped(replicate.content(sent.folder, fixity_of(KEPT)))
    assert hashlib.sha256(first).digest() == hashlib.sha256(again).digest()
    assert len(first) <= sent.most_bytes


def test_the_digest_is_of_the_work_and_not_of_its_tag_files(tmp_path: Path) -> None:
    sent = archived(tmp_path)
    put(sent.folder, {"W1.bag.2/bag-info.txt": b"it came home again"})
    assert replicate.content(sent.folder, fixity_of(KEPT)).digest == sent.digest
    other = fixity_of({**KEPT, "images/one more.jpg": b"x"})
    assert replicate.content(sent.folder, other).digest != sent.digest


def test_a_name_that_no_proof_has_is_not_sent(tmp_path: Path) -> None:
    sent = archived(tmp_path)
    put(sent.folder, {"images/Thumbs.db": b"x", "W1.bag/Thumbs.db": b"x"})
    with zipfile.ZipFile(io.BytesIO(zipped(replicate.content(sent.folder, fixity_of(KEPT))))) as zip_file:
        assert not [name for name in zip_file.namelist() if "Thumbs" in name]


@pytest.mark.parametrize("name", [next(iter(SMALL_WORK)), LARGE])
@pytest.mark.parametrize("what", ["changed", "longer", "shorter", "gone", "a link", "a pipe"])
def test_a_file_that_is_not_what_it_was_is_named(tmp_path: Path, what: str, name: str) -> None:
    sent = archived(tmp_path)
    file = sent.folder / name
    content = file.read_bytes()
    changed = {"changed": content[:-1] + b"!", "longer": content + b"!", "shorter": content[:-1]}
    if what in changed:
        file.write_bytes(changed[what])
    else:
        file.unlink()
    if what == "a link":
        file.symlink_to(sent.folder / "images" / "empty")
    if what == "a pipe":
        os.mkfifo(file)

    with pytest.raises(FixityFailed, match=str(file)):
        zipped(sent)


def test_bdrc_s_own_tool_takes_it_apart(tmp_path: Path) -> None:
    sent = archived(tmp_path)
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "W1.bag.zip").write_bytes(zipped(sent))
    work = bdrc_debag(tmp_path / "sent" / "W1.bag.zip", "W1", folder=tmp_path)

    found = {path.relative_to(work) for path in work.rglob("*.jpg")}
    assert {Path(name) for name in FILES if name.endswith(".jpg")} <= found
