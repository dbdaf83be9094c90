"""The proof of a download is the bag's own manifest; S3's digests are asked when debag doubts what came."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.download import Verify
from pipeline.embedded import embedded
from pipeline.foundation.errors import DownloadMismatch, InvalidBag, NoRoom, ObjectGone
from pipeline.foundation.work import Bag
from pipeline.operations import explain
from pipeline.record import stories
from pipeline.tasks import staging
from pipeline.tasks.context import InHand, Site
from pipeline.tasks.graph import Debag, Download
from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip
from tests.world.faulty_s3 import KMS, S3, Asked, Fault, faulty_s3
from tests.world.stack import ROOT, history, tree

# Of the renames the first two end the download, the third renews the journal, the fourth gives the mended zip its name,
# the fifth writes its marker.
INSTANTS = ("before rename 3", "after rename 3", "after rename 4", "after rename 5")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 that has a good bag of W1; a test may give it another one."""
    with faulty_s3(make_bag_zip(tmp_path / "made").read_bytes()) as s3:
        for name, value in {**embedded.CREDENTIALS, "AWS_ENDPOINT_URL_S3": s3.url}.items():
            monkeypatch.setenv(name, value)
        yield s3


@contextmanager
def in_hand(here: Site, bag: Bag) -> Iterator[None]:
    """The lane has the bag's lease."""
    here.record.see(bag)
    assert here.leases.take(bag.work_rid, bag.bag_id)
    here.in_hand = InHand(here.new_heartbeat(bag.work_rid), [bag])
    try:
        yield
    finally:
        here.leases.release(bag.work_rid)
        here.in_hand = None


def bring(here: Site, bag: Bag) -> dict[str, bytes]:
    """Download and debag, each if it is not done; returns the work as it was unpacked."""
    with in_hand(here, bag):
        for task in (Download("W1", bag.bag_id), Debag("W1", bag.bag_id)):
            if not task.complete():
                task.run()
    found = tree(here.place(bag).debag / "W1")
    return {name: content for name, content in found.items() if not name.startswith("W1.bag/")}


def choose(here: Site, verify: Verify) -> None:
    here.settings = replace(here.settings, download=replace(here.settings.download, verify=verify))


def wrong_for(times: int, position: int) -> Callable[[Asked], Fault | None]:
    """So many of the answers have a wrong byte."""
    gets: list[Asked] = []

    def script(asked: Asked) -> Fault | None:
        gets.extend([asked] * (asked.method == "GET"))
        return Fault(flip=position) if asked.method == "GET" and len(gets) <= times else None

    return script


def told(here: Site, step: str, outcome: str) -> list[dict[str, Any]]:
    """What the record says of how a step ended."""
    events = history(here.engine, "W1")
    return [event["detail"] for event in events if (event["step"], event["outcome"]) == (step, outcome)]


def report(here: Site, bag: Bag) -> dict[str, Any]:
    return dict(json.loads(here.place(bag).report.read_bytes()))


def nothing_is_refused(here: Site) -> bool:
    return not here.settings.quarantine.exists() or not list(here.settings.quarantine.iterdir())


def explained(here: Site) -> dict[str, Any]:
    story = stories.story(here.engine, "W1")
    assert story is not None
    (bag,) = explain.document(here, story)["bags"]
    return dict(bag["verification"])


def place_of(name: str, content: bytes, path: Path) -> int:
    """Where a byte of that kind is in the zip."""
    path.write_bytes(content)
    with zipfile.ZipFile(path) as read:
        infos = {info.filename: info for info in read.infolist()}
        if name == "directory":
            return read.start_dir + 44  # the first letter of the first name
        if name == "header":
            return infos["W1.bag/data/images/I1/I10001.jpg"].header_offset + 30
        if name == "end":
            return len(content) - 6  # where the directory begins
        info = infos[f"W1.bag/{name}"]
        return info.header_offset + 30 + len(info.filename) + 5


def test_a_bag_that_its_manifest_proves_is_compared_with_nothing_else(here: Site, served: S3) -> None:
    assert bring(here, served.bag) == SMALL_WORK

    assert told(here, "download", "done")[0]["verified"] == "size"
    assert told(here, "debag", "done")[0]["download"] == "manifest"
    assert told(here, "download", "proved") == []
    assert explained(here)["debag"]["download"] == "manifest"


@pytest.mark.parametrize("verify", [Verify.MANIFEST, Verify.ALWAYS])
@pytest.mark.parametrize(
    "where",
    [
        "data/images/I1/I10001.jpg",
        "manifest-sha512.txt",
        "tagmanifest-sha512.txt",
        "bag-info.txt",
        "bagit.txt",
        "directory",
        "header",
        "end",
    ],
)
def test_a_zip_that_came_wrong_is_fetched_again_and_the_work_is_as_it_should_be(
    here: Site, served: S3, tmp_path: Path, where: str, verify: Verify
) -> None:
    choose(here, verify)
    served.script = wrong_for(1, place_of(where, served.content, tmp_path / "x.zip"))

    assert bring(here, served.bag) == SMALL_WORK

    assert nothing_is_refused(here)
    assert served.sent_bytes == 2 * len(served.content)
    facts = told(here, "download", "proved" if verify is Verify.MANIFEST else "done")
    assert [one["verified"] for one in facts] == ["etag-md5"]
    assert facts[0]["refetched"] == [f"bytes 0-{len(served.content) - 1}"]
    assert told(here, "debag", "done")[0]["download"] == "etag-md5"
    assert explained(here)["download"]["verified"] == "etag-md5"


def test_a_zip_that_came_wrong_is_fetched_again_also_where_it_is_unpacked_in_the_archive(
    here: Site, served: S3
) -> None:
    here.settings.archive_root.mkdir()
    here.settings = replace(here.settings, sync=replace(here.settings.sync, copier="builtin"))
    served.script = wrong_for(1, 1000)

    assert bring(here, served.bag) == SMALL_WORK

    assert here.place(served.bag).debag.is_relative_to(here.settings.archive_root)
    assert nothing_is_refused(here)


@pytest.mark.parametrize("verify", [Verify.MANIFEST, Verify.ALWAYS])
def test_a_zip_that_comes_wrong_each_time_is_neither_refused_nor_paid_for_a_third_time(
    here: Site, served: S3, verify: Verify
) -> None:
    choose(here, verify)
    served.script = wrong_for(99, 1000)

    for _ in range(2):
        with pytest.raises(DownloadMismatch, match="--from download"):
            bring(here, served.bag)

    assert nothing_is_refused(here)
    assert served.sent_bytes == 2 * len(served.content)


@pytest.mark.parametrize(
    ("verify", "proof"), [(Verify.MANIFEST, "etag-md5"), (Verify.ALWAYS, "etag-md5"), (Verify.NEVER, "")]
)
def test_a_bag_that_is_bad_at_s3_too_is_refused_and_the_report_says_whether_the_download_was_proved(
    here: Site, served: S3, tmp_path: Path, verify: Verify, proof: str
) -> None:
    choose(here, verify)
    served.content = make_bag_zip(tmp_path / "bad", corrupt="images/I1/I10001.jpg").read_bytes()
    bag = served.bag

    with pytest.raises(InvalidBag, match="digest-differs") as caught:
        bring(here, bag)

    assert served.sent_bytes == len(served.content), "a bad bag is not paid for twice"
    assert here.place(bag).quarantined_zip.read_bytes() == served.content
    assert report(here, bag)["download"] == proof
    text = here.place(bag).quarantine.joinpath("report.txt").read_text(encoding="utf-8")
    assert ("It came right, by its etag-md5" in text) == bool(proof)
    assert ("Nothing proves how it came" in text) == (not proof)
    assert ("--from download" in caught.value.go_on) == (not proof)

    sent = served.sent_bytes
    with pytest.raises(InvalidBag):  # by an operator's word: it is taken back, and what was proved stays proved
        bring(here, bag)
    assert report(here, bag)["download"] == proof
    assert served.sent_bytes == sent


def test_where_s3_has_no_digest_a_bad_bag_is_refused_and_the_report_does_not_claim_that_it_came_right(
    here: Site, served: S3
) -> None:
    served.headers, served.script = dict(KMS), wrong_for(1, 1000)
    bag = served.bag

    with pytest.raises(InvalidBag) as caught:
        bring(here, bag)

    assert report(here, bag)["download"] == ""
    assert "--from download" in caught.value.go_on
    assert served.sent_bytes == len(served.content)


def test_never_means_that_a_bad_download_is_refused_as_a_bad_bag(here: Site, served: S3) -> None:
    choose(here, Verify.NEVER)
    served.script = wrong_for(1, 1000)

    with pytest.raises(InvalidBag, match="--from download"):
        bring(here, served.bag)


def test_what_no_manifest_lists_is_compared_with_s3_before_it_is_published(
    here: Site, served: S3, tmp_path: Path
) -> None:
    members = bag_members()
    del members["W1.bag/tagmanifest-sha512.txt"]
    served.content = write_zip(tmp_path / "other.zip", members).read_bytes()

    assert bring(here, served.bag) == SMALL_WORK

    assert told(here, "debag", "done")[0]["download"] == "etag-md5"
    assert served.sent_bytes == len(served.content)


def test_a_disk_without_room_is_not_taken_for_a_bad_download(here: Site, served: S3) -> None:
    with in_hand(here, served.bag):
        Download("W1", served.bag.bag_id).run()
    here.settings = replace(here.settings, debag=replace(here.settings.debag, reserve_bytes=1 << 60))

    with pytest.raises(NoRoom):
        bring(here, served.bag)

    assert told(here, "download", "proved") == []
    assert served.sent_bytes == len(served.content)


@pytest.mark.parametrize(("verified", "proof"), [("etag-md5-of-parts", "etag-md5-of-parts"), ("size", "")])
def test_the_marker_of_an_earlier_release_goes_on_to_vouch_for_what_it_did(
    here: Site, served: S3, tmp_path: Path, verified: str, proof: str
) -> None:
    """It has no journal beside it: what S3 said of the whole is not known any more."""
    served.content = make_bag_zip(tmp_path / "bad", corrupt="images/I1/I10001.jpg").read_bytes()
    bag = served.bag
    here.record.see(bag)
    place = here.place(bag)
    place.download.mkdir(parents=True)
    place.bag_zip.write_bytes(served.content)
    staging.vouch(place.download_marker, place.bag_zip, {"verified": verified, "etag": bag.etag, "digests": {}})

    with pytest.raises(InvalidBag):
        bring(here, bag)

    assert report(here, bag)["download"] == proof
    assert served.asked == []


_PROGRAM = """
import sys
from pipeline import settings
from pipeline.foundation.work import Bag
from pipeline.tasks import context
from tests.tasks.test_doubted_downloads import bring
bring(context.open_site(settings.load()), Bag("W1", "bucket", "W1.bag.zip", etag=sys.argv[1]))
"""


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_while_a_download_is_proved_or_mended_the_next_run_ends_the_same(
    here: Site, served: S3, instant: str
) -> None:
    served.script = wrong_for(1, 1000)
    command = [sys.executable, "-c", _PROGRAM, served.bag.etag]

    killed = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PIPELINE_TEST_KILL_AT": instant}, check=False, timeout=120
    )

    assert killed.returncode == -signal.SIGKILL
    with here.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM leases")  # it has expired
    assert bring(here, served.bag) == SMALL_WORK
    assert nothing_is_refused(here)
    assert served.sent_bytes <= 3 * len(served.content)
    assert told(here, "debag", "done")[-1]["download"] == "etag-md5"


def test_what_came_wrong_and_is_gone_from_s3_is_kept_and_not_refused(here: Site, served: S3) -> None:
    served.script = wrong_for(1, 1000)
    with in_hand(here, served.bag):
        Download("W1", served.bag.bag_id).run()
    served.script = lambda _asked: Fault(error=(404, "NoSuchKey"))

    with pytest.raises(ObjectGone, match="is kept in"):
        bring(here, served.bag)

    assert nothing_is_refused(here)
    part = here.place(served.bag).bag_zip.with_name("W1.bag.zip.part")
    assert part.stat().st_size == len(served.content)
