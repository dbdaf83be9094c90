"""The fixity check of one archived work: what it is matched with, and what it sees."""

import hashlib
import threading
import time
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.foundation.errors import Stopping
from pipeline.sync import Brake, FixityVerdict, Proof, Verified, verify
from tests.world.bags import SMALL_WORK, bag_members
from tests.world.works import Home, contents, put

IMAGE = "images/I1/I10001.jpg"
DIGESTS = "W1.bag/W1.digests.json"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def by_bdrc(home: Home, files: Mapping[str, bytes] = SMALL_WORK, **bag: object) -> Path:
    """A work as BDRC archived it: the payload, and the bag's manifests beside it."""
    members = bag_members("W1", files=files, **bag)  # type: ignore[arg-type]  # passed on as given
    tags = {name: content for name, content in members.items() if "/data/" not in name and "manifest" in name}
    tags["W1.bag/bagit.txt"] = members["W1.bag/bagit.txt"]
    return put(home.root / "Archive0/00/W1", {**files, **{name: tags[name] for name in tags if "tagm" not in name}})


def check(folder: Path, recorded: Proof | None = None, **values: object) -> Verified:
    return verify(folder, work_rid="W1", recorded=recorded, **values)  # type: ignore[arg-type]  # passed on as given


def told(found: Verified) -> dict[str, str]:
    return {difference.path: difference.detail for difference in found.wrong}


def test_a_work_that_came_home_passes_against_the_digests_kept_with_it(home: Home) -> None:
    home.stage(algorithms=("md5", "sha512"))
    synced = home.archive()
    for recorded in (synced.proof, None):
        found = check(synced.path, recorded)
        assert (found.verdict, found.against, found.wrong) == (FixityVerdict.PASSED, DIGESTS, ())
        assert (found.found.matched, found.bytes) == (3, sum(map(len, SMALL_WORK.values())))
        assert found.found.algorithms == ("md5", "sha512")


def test_a_flipped_bit_a_lost_file_and_a_file_cut_short_are_all_named(home: Home) -> None:
    home.stage()
    synced = home.archive()
    content = bytearray(SMALL_WORK[IMAGE])
    content[7] ^= 1
    (synced.path / IMAGE).write_bytes(content)
    (synced.path / "images/I1/I10002.jpg").unlink()
    (synced.path / "archive/I1/I10001.tif").write_bytes(b"short")
    before = contents(home.root)
    found = check(synced.path, synced.proof)
    assert found.verdict is FixityVerdict.FAILED
    assert told(found) == {
        IMAGE: "other sha512",
        "images/I1/I10002.jpg": "missing",
        "archive/I1/I10001.tif": f"5 bytes instead of {len(SMALL_WORK['archive/I1/I10001.tif']):,}",
    }
    assert contents(home.root) == before


def test_what_somebody_put_beside_a_work_is_told_and_not_wrong(home: Home) -> None:
    home.stage()
    synced = home.archive()
    put(synced.path, {"notes.txt": b"of the archivist"})
    found = check(synced.path, synced.proof)
    assert found.verdict is FixityVerdict.PASSED
    assert set(found.found.extra) == {"notes.txt", DIGESTS}


@pytest.mark.parametrize("damage", [None, b"", b'{"work_rid": "W1"}'])
def test_a_proof_that_is_not_the_recorded_one_fails_though_the_files_are_right(
    home: Home, damage: bytes | None
) -> None:
    home.stage()
    synced = home.archive()
    (synced.path / DIGESTS).unlink()
    if damage is not None:
        (synced.path / DIGESTS).write_bytes(damage)
    found = check(synced.path, synced.proof)
    assert found.verdict is FixityVerdict.FAILED
    assert DIGESTS in told(found)


def test_files_that_were_changed_together_with_their_proof_are_seen_by_the_record(home: Home) -> None:
    home.stage()
    synced = home.archive()
    text = (synced.path / DIGESTS).read_text()
    forged = b"F" + SMALL_WORK[IMAGE][1:]
    right, wrong = (hashlib.sha512(content).hexdigest() for content in (SMALL_WORK[IMAGE], forged))
    (synced.path / IMAGE).write_bytes(forged)
    (synced.path / DIGESTS).write_text(text.replace(right, wrong))
    assert check(synced.path).verdict is FixityVerdict.PASSED  # nobody else knows
    assert told(check(synced.path, synced.proof)) == {DIGESTS: "the kept digests are not those that the record knows"}


@pytest.mark.parametrize("algorithms", [("sha512",), ("md5", "sha256"), ("sha1",)])
def test_a_work_that_bdrc_archived_is_matched_with_its_kept_manifests(home: Home, algorithms: tuple[str, ...]) -> None:
    copy = by_bdrc(home, algorithms=algorithms)
    found = check(copy)
    assert (found.verdict, found.against) == (FixityVerdict.PASSED, "W1.bag/manifest-*.txt")
    assert (found.found.matched, found.found.algorithms) == (3, algorithms)
    (copy / IMAGE).write_bytes(b"F" + SMALL_WORK[IMAGE][1:])
    (copy / "images/I1/I10002.jpg").unlink()
    found = check(copy)
    assert told(found) == {IMAGE: f"other {', '.join(algorithms)}", "images/I1/I10002.jpg": "missing"}


def test_names_in_kept_manifests_are_found_decoded_and_in_any_normal_form(home: Home) -> None:
    files = {**SMALL_WORK, "images/e\u0301.jpg": b"d", "ཀ་ཁ.jpg": b"t", "new\nline.jpg": b"n", "50%25.jpg": b"p"}
    copy = by_bdrc(home, files)
    manifest = copy / "W1.bag/manifest-sha512.txt"
    text = unicodedata.normalize("NFC", manifest.read_text(encoding="utf-8")).replace("new\nline", "new%0aline")
    manifest.write_text(text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    found = check(copy)
    assert (found.verdict, found.found.matched, found.wrong) == (FixityVerdict.PASSED, 7, ())


@pytest.mark.parametrize("text", [b"no digest here\n", b"abc  data/x\n", b"\xff\xfe\n", b"", b"f" * 128 + b"  ../x\n"])
def test_kept_manifests_that_cannot_be_read_are_wrong_and_not_passed_over(home: Home, text: bytes) -> None:
    copy = by_bdrc(home)
    (copy / "W1.bag/manifest-sha512.txt").write_bytes(text)
    found = check(copy)
    assert found.verdict is FixityVerdict.FAILED
    assert "W1.bag" in told(found)


def test_a_manifest_cannot_make_anything_outside_the_work_be_read(home: Home) -> None:
    copy = by_bdrc(home)
    secret = put(home.folder, {"secret": b"s"}) / "secret"
    digest = hashlib.sha512(b"s").hexdigest()
    with (copy / "W1.bag/manifest-sha512.txt").open("a") as manifest:
        manifest.write(f"{digest}  data/../../../../secret\n{digest}  data/{secret}\n")
    assert check(copy).verdict is FixityVerdict.FAILED


def test_a_work_without_any_proof_is_named_as_such(home: Home) -> None:
    copy = put(home.root / "Archive0/00/W1", {**SMALL_WORK, "W1.bag/bagit.txt": b"no manifest beside it"})
    assert check(copy).verdict is FixityVerdict.NO_PROOF


@pytest.mark.parametrize("there", ["nothing", "a file", "a link"])
def test_a_work_that_is_not_there_fails(home: Home, there: str) -> None:
    home.stage()
    synced = home.archive()
    moved = home.folder / "moved"
    synced.path.rename(moved)
    if there == "a file":
        synced.path.write_bytes(b"")
    elif there == "a link":
        synced.path.symlink_to(moved)
    assert told(check(synced.path, synced.proof)) == {str(synced.path): "is not in the archive"}


def test_a_brake_keeps_the_reading_below_its_rate(home: Home) -> None:
    home.stage(files={f"{number}": b"x" * 10_000 for number in range(50)})
    synced = home.archive()
    started = time.monotonic()
    assert check(synced.path, synced.proof, brake=Brake(1_000_000), threads=4).verdict is FixityVerdict.PASSED
    assert time.monotonic() - started >= 0.45


def test_a_check_that_is_braked_stops_at_once(home: Home) -> None:
    home.stage()
    synced = home.archive()
    asked = threading.Event()
    threading.Timer(0.3, asked.set).start()

    def pulse(_done: int, _total: int) -> None:
        if asked.is_set():
            raise Stopping("asked to")

    started = time.monotonic()
    with pytest.raises(Stopping):
        check(synced.path, synced.proof, brake=Brake(1), pulse=pulse)
    assert time.monotonic() - started < 30  # at its rate it would take longer than a test may
