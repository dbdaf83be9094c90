"""What a failure says of how to go on leads out: each command is run, quoted, in the situation it is told in."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.foundation import errors
from pipeline.foundation.work import archive_dir, staging_key
from tests.world import faulty
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines
from tests.world.works import put

IMAGE = "images/I1/I10001.jpg"
OTHER = {"images/I1/I10001.jpg": b"another scan"}
BY_HAND = "--local-scheduler"
WORK_OPTIONS = "config/sync.yml"


@dataclass
class Day:
    """A site, a work with a blank in its name, and what is undone when the test is over."""

    site: Site
    folder: Path
    until_end: ExitStack
    rid: str

    @property
    def key(self) -> str:
        return staging_key(self.rid)

    @property
    def local_zip(self) -> Path:
        return self.folder / f"of {self.rid}" / f"{self.rid}.bag.zip"

    @property
    def archived(self) -> Path:
        return archive_dir(self.site.home / "archive", self.rid)

    def put(self, **bag: object) -> None:
        self.site.put(make_bag_zip(self.folder, self.rid, **bag), key=self.key)  # type: ignore[arg-type]  # as its builder says

    def fail(self, target: str = "", **settings: str) -> None:
        """Bring it home by hand, which fails."""
        ended = self.site.call("work", target or self.rid, BY_HAND, **settings)
        assert ended.returncode != 0, ended.stderr

    def script(self, text: str) -> dict[str, str]:
        """The site's own sync script."""
        script = self.folder / "own-sync.sh"
        script.write_text(text)
        return {"PIPELINE_SYNC_SCRIPT": str(script)}

    def ways(self, kind: str) -> list[str]:
        """How to go on, as the failure itself says and as `explain` does: each command alone."""
        row = next(row for row in self.site.rows("bags") if row["work_rid"] == self.rid and row["error_kind"])
        assert row["error_kind"] == kind, row["error"]
        explained = self.site.call("explain", self.rid, "--json")
        assert explained.returncode == 0, explained.stderr
        then = json.loads(explained.stdout)["next"]
        told = [row["error"].partition("; go on with: ")[2], then["command"]]
        told += re.findall(r"run_pipeline\.py [^);]+", then["by_hand"])
        named = [way for way in dict.fromkeys(told) if way]
        # `retry` is told of all that may pass: where there is another way, that one alone is tried, but once.
        others = [way for way in named if " retry " not in way or kind == "sync-failed"]
        return others or named

    def follow(self, way: str) -> None:
        """Do what is told, as it is told."""
        variables, asked = way.split("run_pipeline.py ")
        words = shlex.split(asked)
        yes = ["--yes"] if words[0] in {"skip", "restore"} else []
        scheduler = [BY_HAND] if words[0] == "work" and BY_HAND not in words else []
        ended = self.site.call(*words, *yes, *scheduler, **dict(one.split("=") for one in variables.split()))
        assert ended.returncode == 0, f"{way}: {ended.stderr}"
        if words[0] == "retry":
            self.site.call("run", "--lanes", "1")
        elif words[0] == "restore":
            self.restore()

    def restore(self) -> None:
        """The next run asks S3, which restores what it was asked for, and tells so when it is done."""
        self.site.call("run", "--lanes", "1")
        found = self.site.s3.head_object(Bucket=self.site.bucket, Key=self.key)
        event = self.site.event(self.key.replace(" ", "+"), found["ETag"].strip('"'), found["ContentLength"])
        self.site.send({"Records": [event]})
        self.site.call("run", "--lanes", "1")

    def is_over(self) -> bool:
        """Whether nobody has to think of the work any more."""
        stages = {work.stage for work in self.site.works().values() if work.work_rid == self.rid}
        return stages <= {"done", "skipped", "superseded"}


@dataclass(frozen=True)
class Trouble:
    """A failure: how it comes about, and what a person does before she types what is told.

    Attributes:
        kind: its name.
        happens: makes it happen.
        mend: what the sentence asks of her besides the command.
    """

    kind: str
    happens: Callable[[Day], None]
    mend: Callable[[Day], object] = lambda _day: None


TROUBLES: dict[str, Trouble] = {}
Happens = Callable[[Day], None]


def trouble(kind: str, *, mend: Callable[[Day], object] = lambda _day: None) -> Callable[[Happens], Happens]:
    """The function makes the failure happen."""

    def register(function: Happens) -> Happens:
        TROUBLES[function.__name__] = Trouble(kind, function, mend)
        return function

    return register


def put_again(day: Day) -> None:
    day.put()


@trouble("object-replaced")
def another_bag_under_its_key(day: Day) -> None:
    day.put(files=OTHER)
    etag = day.site.s3.head_object(Bucket=day.site.bucket, Key=day.key)["ETag"].strip('"')
    day.put()
    day.site.send({"Records": [day.site.event(day.key.replace(" ", "+"), etag, 1)]})
    day.site.call("run", "--lanes", "1")


@trouble("object-replaced")
def another_zip_at_its_path(day: Day) -> None:
    make_bag_zip(day.local_zip.parent, day.rid, files=OTHER)
    day.fail(str(day.local_zip), PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 60))
    make_bag_zip(day.local_zip.parent, day.rid)
    day.fail()


@trouble("object-gone", mend=put_again)
def nothing_under_its_key(day: Day) -> None:
    day.put()
    day.fail(PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 60))
    day.site.s3.delete_object(Bucket=day.site.bucket, Key=day.key)
    day.fail()


@trouble(
    "object-gone",
    mend=lambda day: put(day.local_zip.parent, {day.local_zip.name: (day.folder / f"away {day.rid}").read_bytes()}),
)
def nothing_at_its_path(day: Day) -> None:
    make_bag_zip(day.local_zip.parent, day.rid)
    day.fail(str(day.local_zip), PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 60))
    day.local_zip.rename(day.folder / f"away {day.rid}")
    day.fail()


@trouble("not-restored")
def frozen(day: Day) -> None:
    day.put()
    where = {"Bucket": day.site.bucket, "Key": day.key}
    day.site.s3.copy_object(**where, CopySource=where, StorageClass="DEEP_ARCHIVE")  # type: ignore[arg-type]  # as typed
    day.fail()


def announced_mended(day: Day) -> None:
    day.put()
    found = day.site.s3.head_object(Bucket=day.site.bucket, Key=day.key)
    day.site.send({"Records": [day.site.event(day.key.replace(" ", "+"), found["ETag"].strip('"'), 1)]})
    day.site.call("run", "--lanes", "1")


@trouble("invalid-bag", mend=announced_mended)
def one_bit_wrong(day: Day) -> None:
    day.put(corrupt=IMAGE)
    day.fail()


@trouble("archive-conflict")
def an_older_scan_in_the_archive(day: Day) -> None:
    put(day.archived, OTHER)
    day.put()
    day.fail()


@trouble("archive-conflict", mend=lambda day: day.archived.rename(day.folder / f"moved {day.rid}"))
def a_link_where_it_belongs(day: Day) -> None:
    day.archived.parent.mkdir(parents=True, exist_ok=True)
    day.archived.symlink_to(day.folder)
    day.put()
    day.fail()


@trouble("options-not-understood")
def strange_words_in_its_options(day: Day) -> None:
    day.put(files={**SMALL_WORK, WORK_OPTIONS: b"sink: {archive: true}"})
    day.fail()


@trouble("not-to-be-archived")
def kept_out_by_its_options(day: Day) -> None:
    day.put(files={**SMALL_WORK, WORK_OPTIONS: b"sync: {archive: false}"})
    day.fail()


@trouble("audit-failed")
def a_test_fails(day: Day) -> None:
    day.put()
    day.fail(**day.script('echo "pre failed" > "$syncLogDateTimeDir/audits.txt"; exit 1'))


@trouble("sync-failed")
def the_script_fails(day: Day) -> None:
    day.put()
    day.fail(**day.script("exit 7"))


@trouble("tried-too-long")
def fails_for_too_long(day: Day) -> None:
    at_once = {"PIPELINE_QUEUE_BACKOFF_SECONDS": "0", "PIPELINE_QUEUE_BACKOFF_LIMIT_SECONDS": "0"}
    day.put()
    day.fail(**day.script("exit 7"), **at_once)
    day.site.call("run", "--lanes", "1", PIPELINE_QUEUE_RETRY_DAYS="0.000001", **at_once)


@trouble("read-back-failed")
def the_script_copies_nothing(day: Day) -> None:
    day.put()
    day.fail(**day.script("exit 0"))


@trouble("archive-missing", mend=lambda day: put(day.site.home / "archive/Archive0", {".mounted": b""}))
def not_mounted(day: Day) -> None:
    day.site.settings["PIPELINE_SYNC_MOUNT_MARKER"] = ".mounted"
    (day.site.home / "archive/Archive0/.mounted").unlink(missing_ok=True)
    day.put()
    day.fail()


@trouble("no-room")
def no_room(day: Day) -> None:
    day.put()
    day.fail(PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 60))


@trouble("staging-damaged")
def digests_that_cannot_be_read(day: Day) -> None:
    the_script_fails(day)
    (digests,) = (day.site.home / "staging").glob(f"{day.rid}-*/debag/*.digests.json")
    digests.write_bytes(b"?" * digests.stat().st_size)
    day.fail()


@trouble("zip-unreadable", mend=lambda day: (day.folder / f"unmounted {day.rid}").rename(day.local_zip.parent))
def a_folder_that_is_not_mounted(day: Day) -> None:
    make_bag_zip(day.local_zip.parent, day.rid)
    day.fail(str(day.local_zip), PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 60))
    day.local_zip.parent.rename(day.folder / f"unmounted {day.rid}")
    day.fail()


@trouble("access-denied")
def no_right(day: Day) -> None:
    def fault(_method: str, path: str) -> str:
        return "AccessDenied" if day.site.bucket in path else ""

    day.put()
    day.fail(PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 60))
    url = day.until_end.enter_context(faulty.faulty(day.site.moto_url, fault))
    day.fail(PIPELINE_SOURCE_TEST_ENDPOINT_URL=url)


@trouble("look-alike")
def another_work_in_small_letters(day: Day) -> None:
    other = replace(day, rid=day.rid.lower())
    other.put()
    assert day.site.call("work", other.rid, BY_HAND).returncode == 0
    day.put()
    day.fail()


def rotten(site: Site, folder: Path) -> None:
    """The work W 1 is home, and its archive copy failed its check."""
    site.put(make_bag_zip(folder, "W 1"))
    assert site.call("work", "W 1", BY_HAND).returncode == 0
    put(archive_dir(site.home / "archive", "W 1"), {IMAGE: b"rotten"})
    assert site.call("verify", "W 1").returncode == 1


def test_a_rotten_archive_copy_is_told_in_commands_that_mend_it(site: Site, tmp_path: Path) -> None:
    rotten(site, tmp_path)
    needed = [one["go_on"] for one in json.loads(site.call("status", "--json").stdout)["needs_you"]]
    day = Day(site, tmp_path, ExitStack(), "W 1")

    day.follow(json.loads(site.call("explain", "W 1", "--json").stdout)["next"]["command"])

    assert needed == ["run_pipeline.py explain 'W 1'"]
    assert site.archived("W 1") == SMALL_WORK
    assert json.loads(site.call("status", "--json").stdout)["needs_you"] == []


def test_a_work_that_is_home_stays_so_when_its_bag_is_not_there_to_be_brought_home_again(
    site: Site, tmp_path: Path
) -> None:
    rotten(site, tmp_path)
    site.s3.delete_object(Bucket=site.bucket, Key=staging_key("W 1"))

    ended = site.call("work", "W 1", "--from", "sync", "--replace", BY_HAND)

    assert ended.returncode == 1
    assert lines(ended.stderr, "not in the bucket", "nothing was changed", "put its bag there again")
    assert site.works()["W 1"].stage == "done"
    assert len(site.rows("syncs")) == 1


ELSEWHERE = {
    "credentials-expired": "as access-denied",
    "download-mismatch": "its bytes are wrong twice: tests/download/test_faults.py",
    "fixity-failed": "of a copy in the archive: tests/line/test_second_copies.py",
    "folder-unreachable": "of a folder, not of a work: looked at again by itself",
    "invalid-rid": "of a file, in docs/operations.md, chapter 10",
    "lane-died": "tests/lanes/test_turns.py",
    "lease-lost": "by itself",
    "not-processed": "by itself: tests/lanes/test_given_to_nobody.py",
    "not-understood": "of a message, in docs/operations.md, chapter 3",
    "replica-conflict": "tests/replicate/test_upload.py",
    "replica-unproved": "by itself: tests/replicate/test_upload.py",
    "restore-expired": "stands as not-restored",
    "scheduler-unreachable": "of no work, in docs/operations.md, chapter 11",
    "database-unavailable": "of no work: run_pipeline.py check",
    "stopping": "by itself",
    "storage-unreachable": "by itself: it is only waited for",
    "unexpected": "a defect: tests/tasks/test_graph.py",
    "tried-too-long": "tests/lanes/test_fair_turns.py",
    "work-busy": "by itself, in docs/operations.md, chapter 12",
}


def kinds_of_a_work() -> Iterator[str]:
    for one in vars(errors).values():
        bases = (errors.TransientError, errors.PermanentError)
        if isinstance(one, type) and issubclass(one, bases) and one not in bases:
            yield one("", faults=()).kind if one is errors.InvalidBag else one("").kind


def test_no_kind_of_failure_is_left_out() -> None:
    assert {one.kind for one in TROUBLES.values()} | ELSEWHERE.keys() == set(kinds_of_a_work())


@pytest.mark.parametrize("name", TROUBLES)
def test_every_way_on_that_a_failure_tells_leads_out(site: Site, tmp_path: Path, name: str) -> None:
    one = TROUBLES[name]
    ways: list[str] = []
    with ExitStack() as until_end:
        for rid in ("W 0", "W 1", "W 2", "W 3"):
            day = Day(site, tmp_path, until_end, rid)
            one.happens(day)
            ways = ways or day.ways(one.kind)
            way = ways[int(rid[-1])].replace("W 0", rid)
            one.mend(day)
            day.follow(way)
            assert day.is_over(), way
            if int(rid[-1]) == len(ways) - 1:
                break
