"""`run_pipeline.py tidy`: each kind goes when it may, and never while it is the only copy, or somebody's."""

import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from pipeline import download, intake, record
from pipeline.embedded import embedded
from pipeline.foundation.errors import ArchiveConflict, AuditFailed
from pipeline.foundation.work import Bag
from pipeline.operations import tidy, verify
from pipeline.record import Leases, Phase, replicas
from pipeline.settings import Folder, Replica, Source
from pipeline.settings.retention import Retention
from pipeline.tasks import context, staging
from tests.world.attacker import KEPT
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, history, lines
from tests.world.works import Home, put

IMAGE = "images/I1/I10001.jpg"
OFF: dict[str, Any] = dict.fromkeys(tidy.KINDS, 0)
A_MONTH = 30


@dataclass
class House:
    """A site of this process whose database's clock can be put forward."""

    home: Home
    here: context.Site
    inbox: Path
    days_ahead: int = 0

    def tell(self, connection: sqlite3.Connection, _: object) -> None:
        """Let this database's clock be ahead."""
        real = sqlite3.connect(":memory:", check_same_thread=False)

        def ahead(*words: str) -> Any:
            return real.execute(f"SELECT strftime({','.join('?' * len(words))}, ?)", (*words, self._shift)).fetchone()[
                0
            ]

        connection.create_function("strftime", -1, ahead)

    @property
    def _shift(self) -> str:
        return f"+{self.days_ahead} days"

    def bring_home(self, bag: Bag, *, files: dict[str, bytes] | None = None, **facts: Any) -> Path:
        """A work of that bag, archived and recorded."""
        here, rid = self.here, bag.work_rid
        self.home.stage(rid, files=files or SMALL_WORK)
        synced = self.home.archive(rid)
        here.record.see(bag)
        with here.leased(rid, bag.bag_id):
            here.record.finished(Phase.DEBAG, bag, {}, works=(rid,))
            here.record.commit_sync(
                *(bag, rid),
                archive_path=str(synced.path),
                files=synced.files,
                size_bytes=synced.bytes,
                facts={**synced.facts(), **facts},
                leases=here.leases,
            )
            here.record.done(bag)
        return synced.path

    def dropped(self, rid: str = "W1") -> tuple[Path, Bag]:
        """A zip in the done folder, with its bag, which is home."""
        bag = download.identify_local(make_bag_zip(self.inbox, rid), rid)
        self.bring_home(replace(bag, source="inbox"))
        zip_ = next(one for one in intake.look(self.inbox).zips if one.path == Path(bag.key))
        moved = intake.move_out(zip_, self.inbox / "done", root=self.inbox / "done")
        assert moved is not None
        return moved, bag

    def refuse(self, etag: str = "e1", rid: str = "W1") -> Path:
        """A bag that was refused, and is kept; the folder."""
        here, bag = self.here, Bag(rid, "bucket", f"{rid}.bag.zip", etag=etag)
        here.record.see(bag)
        with here.leased(rid, bag.bag_id):
            here.record.failed(bag, Phase.DEBAG, ArchiveConflict("it is bad", work_rid=rid))
        kept = here.place(bag)
        staging.keep(kept, bag, report={}, text="bad")
        put(kept.quarantine, {f"{rid}.bag.zip": b"zip"})
        return kept.quarantine

    def plan(self, **kept: int) -> list[tidy.Heap]:
        self.here.settings = replace(self.here.settings, retention=replace(Retention(), **{**OFF, **kept}))
        return tidy.plan(self.here)

    def tidy(self, **kept: int) -> tuple[list[str], list[str]]:
        """What went, and why the others stayed."""
        heaps = self.plan(**kept)
        assert not [heap.error for heap in heaps if heap.error]
        tidy.take_away(self.here, heaps)
        return [one.what for heap in heaps for one in heap.going], [why for heap in heaps for _, why in heap.staying]


@pytest.fixture
def house(here: context.Site, tmp_path: Path, database: Path) -> Iterator[House]:
    shutil.copy(database, tmp_path / "pipeline.db")
    home, inbox = Home(tmp_path, copier="builtin"), tmp_path / "inbox"
    inbox.mkdir()
    folder = Folder("inbox", path=inbox, done_path=inbox / "done", refused_path=inbox / "refused")
    here.settings = replace(here.settings, archive_root=home.root, folders=(folder,))
    made = House(home, here, inbox)
    event.listen(here.engine, "connect", made.tell)
    here.engine.dispose()
    yield made
    event.remove(here.engine, "connect", made.tell)


# One of each kind, old enough and needed by nobody; each tells what is to be gone.


def a_zip_in_done(house: House) -> Path:
    return house.dropped()[0]


def a_zip_whose_removal_was_cut_short(house: House) -> Path:
    """It was set aside for an instant, and tidy was killed in it."""
    zip_, _ = house.dropped()
    aside = zip_.parent / f".settling/0123abcd-{zip_.name}"
    aside.parent.mkdir()
    zip_.rename(aside)
    return zip_


def a_superseded_bag(house: House) -> Path:
    kept = house.refuse()
    house.bring_home(Bag("W1", "bucket", "W1.bag.zip", etag="e2"))
    return kept


def a_superseded_zip_of_a_folder(house: House) -> Path:
    kept = house.here.settings.folders[0].refused_dir("W1", Bag("W1", "bucket", "W1.bag.zip", etag="e1").bag_id)
    shutil.move(a_superseded_bag(house), kept)
    return kept


def beside_a_work(house: House, name: str) -> Path:
    """What lies at this path from the shelf of W1, which is home; nobody may write into its folders."""
    archived = house.bring_home(Bag("W1", "bucket", "W1.bag.zip", etag="e1"))
    folder = put(Path(os.path.normpath(archived.parent / name)), SMALL_WORK)
    (folder / "images").chmod(0o500)
    return folder


def what_was_replaced(house: House) -> Path:
    return beside_a_work(house, f"../.replaced/W1/{datetime.now(UTC):%Y-%m-%dT%H.%M.%SZ}")


def a_copy_cut_short(house: House) -> Path:
    return beside_a_work(house, ".W1.part")


def a_work_unpacked_in_the_archive(house: House) -> Path:
    return beside_a_work(house, ".W1-0123456789ab.staging")


def a_removal_cut_short(house: House) -> Path:
    return beside_a_work(house, "..W1.part.removed")


def logs_of_a_day(house: House) -> Path:
    return put(house.here.settings.logs / f"sync-logs/{datetime.now().astimezone():%F}", {"1/sync-1.log": b"log"})


Makes = Callable[[House], Path]
OF_EACH_KIND: list[tuple[str, Makes]] = [
    ("done_days", a_zip_in_done),
    ("done_days", a_zip_whose_removal_was_cut_short),
    ("quarantined_days", a_superseded_bag),
    ("quarantined_days", a_superseded_zip_of_a_folder),
    ("replaced_days", what_was_replaced),
    ("leftovers_days", a_copy_cut_short),
    ("leftovers_days", a_work_unpacked_in_the_archive),
    ("leftovers_days", a_removal_cut_short),
    ("sync_logs_days", logs_of_a_day),
]


@pytest.mark.parametrize(("kind", "make"), OF_EACH_KIND)
def test_what_nobody_needs_goes_when_it_is_old_enough_and_nothing_else(house: House, kind: str, make: Makes) -> None:
    doomed = make(house)
    works = {path: path.read_bytes() for path in house.home.root.glob("Archive*/[0-9]*/W*/**/*") if path.is_file()}

    house.days_ahead = A_MONTH - 1
    too_young, others = house.tidy(**{kind: A_MONTH})
    house.days_ahead = A_MONTH + 2
    off, _ = house.tidy()
    still_there = doomed.exists()
    gone, staying = house.tidy(**{kind: A_MONTH})

    assert (too_young, others, off, staying) == ([], [], [], [])
    assert still_there
    assert gone == [str(doomed)]
    assert not doomed.exists()
    assert not list(doomed.parent.glob("*.removed"))
    assert {path: path.read_bytes() for path in works} == works


def test_what_has_no_copy_and_what_was_dropped_is_kept_for_ever_unless_it_is_set() -> None:
    chosen = Retention()

    assert (chosen.done_days, chosen.quarantined_days, chosen.replaced_days, chosen.dead_letters_days) == (0, 0, 0, 0)
    assert min(chosen.leftovers_days, chosen.uploads_days) >= A_MONTH


# What makes the only copy of something of each, or somebody's work.


def lose_a_file(house: House, _: Path) -> None:
    (house.home.root / "Archive0/00/W1" / IMAGE).unlink()


def lose_the_work(house: House, _: Path) -> None:
    shutil.rmtree(house.home.root / "Archive0/00/W1")


def lose_the_proof(house: House, _: Path) -> None:
    (house.home.root / "Archive0/00/W1/W1.bag/W1.digests.json").write_text("{}")


def find_it_rotten(house: House, _: Path) -> None:
    house.here.record.note("verify", "failed", {}, work_rid="W1")


def replace_it_by_another_bag(house: House, _: Path) -> None:
    house.bring_home(Bag("W1", "bucket", "W1.bag.zip", etag="e3"), replaced=[IMAGE])


def write_to_it(_: House, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def ask_for_it_again(house: House, _: Path) -> None:
    row = house.here.record.bags_of("W1")[0]
    with house.here.leased("W1", row.bag.bag_id):
        house.here.record.reopen(row.bag, reason="asked")


def announce_another_bag(house: House, _: Path) -> None:
    house.here.record.see(Bag("W1", "bucket", "W1.bag.zip", etag="e4"))


def work_on_it(house: House, _: Path) -> None:
    assert Leases(house.here.engine, owner="host/1/1/x", seconds=600).take("W1", "")


def fail_on_that_day(house: House, path: Path) -> None:
    bag = Bag("W2", "bucket", "W2.bag.zip", etag="e1")
    house.here.record.see(bag)
    error = AuditFailed("no", work_rid="W2", facts={"log": str(path / "1/sync-1.log")})
    with house.here.leased("W2", bag.bag_id):
        house.here.record.failed(bag, Phase.SYNC, error)


def only_refuse_it(house: House) -> Path:
    return house.refuse()


Spoils = Callable[[House, Path], None]
NEEDED: list[tuple[str, Makes, Spoils, str]] = [
    *(
        (kind, make, *spoilt)
        for kind, make in (
            ("done_days", a_zip_in_done),
            ("quarantined_days", a_superseded_bag),
            ("quarantined_days", a_superseded_zip_of_a_folder),
            ("replaced_days", what_was_replaced),
            ("leftovers_days", a_copy_cut_short),
        )
        for spoilt in (
            (lose_a_file, f"is not as its proof says: {IMAGE} (is missing)"),
            (find_it_rotten, "failed its last fixity check"),
            (work_on_it, "a lane works on it"),
        )
    ),
    ("done_days", a_zip_in_done, lose_the_work, "is not in the archive"),
    ("done_days", a_zip_in_done, lose_the_proof, "the kept digests are not those that the record knows"),
    ("done_days", a_zip_in_done, replace_it_by_another_bag, "it may be the only copy"),
    ("done_days", a_zip_in_done, write_to_it, "is another file by now"),
    ("done_days", a_zip_in_done, ask_for_it_again, "its bag is unfinished"),
    ("done_days", a_zip_in_done, announce_another_bag, "a bag of W1 is not home"),
    ("quarantined_days", only_refuse_it, lambda *_: None, "no later one brought the work home"),
    ("leftovers_days", a_copy_cut_short, announce_another_bag, "a bag of W1 is not home"),
    ("replaced_days", what_was_replaced, announce_another_bag, "a bag of W1 is not home"),
    ("sync_logs_days", logs_of_a_day, fail_on_that_day, "the sync of W2 failed on that day, and it is not home"),
]


@pytest.mark.parametrize(("kind", "make", "spoil", "told"), NEEDED)
def test_the_only_copy_and_what_a_lane_works_on_stays(
    house: House, kind: str, make: Makes, spoil: Spoils, told: str
) -> None:
    needed = make(house)
    house.days_ahead = A_MONTH + 2
    heaps = house.plan(**{kind: A_MONTH})
    spoil(house, needed)

    tidy.take_away(house.here, heaps)
    again = house.plan(**{kind: A_MONTH})

    assert [heap.going for heap in heaps] == [[]]
    ((_, why),) = heaps[0].staying
    assert told in why
    assert needed.exists()
    if spoil is write_to_it:
        assert "the record knows no bag that came in this very file" in again[0].staying[0][1]
    elif spoil is not work_on_it:  # a plan asks for no lease
        assert [why for _, why in again[0].staying] == [why]


ELSEWHERE: list[tuple[str, Makes, str]] = [
    ("replaced_days", what_was_replaced, ".."),
    ("replaced_days", what_was_replaced, "../.."),
    ("leftovers_days", a_copy_cut_short, ".."),
    ("sync_logs_days", logs_of_a_day, ".."),
    ("done_days", a_zip_in_done, ".."),
    ("quarantined_days", a_superseded_zip_of_a_folder, ".."),
]


@pytest.mark.parametrize(("kind", "make", "swapped"), ELSEWHERE)
def test_a_folder_that_somebody_swaps_for_a_link_after_the_plan_leads_nowhere(
    house: House, kind: str, make: Makes, swapped: str, tmp_path: Path
) -> None:
    doomed = make(house)
    house.days_ahead = A_MONTH + 2
    heaps = house.plan(**{kind: A_MONTH})
    assert len(heaps[0].going) == 1
    folder, elsewhere = Path(os.path.normpath(doomed / swapped)), tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)

    tidy.take_away(house.here, heaps)

    assert not heaps[0].going
    assert (elsewhere / doomed.relative_to(folder)).exists()


@pytest.mark.parametrize(("kind", "make"), [pair for pair in OF_EACH_KIND if pair[0] != "done_days"])
def test_a_link_inside_goes_and_what_it_leads_to_stays(
    house: House, kind: str, make: Makes, victim: Path, tmp_path: Path
) -> None:
    doomed = make(house)
    (doomed / "link").symlink_to(victim)
    (doomed / "folder").symlink_to(tmp_path)
    house.days_ahead = A_MONTH + 2

    gone, _ = house.tidy(**{kind: A_MONTH})

    assert gone == [str(doomed)]
    assert victim.read_bytes() == KEPT


@pytest.mark.parametrize(("kind", "make"), [("done_days", a_zip_in_done), ("replaced_days", what_was_replaced)])
def test_what_went_is_told_in_the_story_of_its_work(house: House, kind: str, make: Makes) -> None:
    doomed = make(house)
    house.days_ahead = A_MONTH + 2

    house.tidy(**{kind: A_MONTH})

    (told,) = [one for one in history(house.here.engine, "W1") if one["outcome"] == "tidied"]
    assert told["detail"]["what"] == str(doomed)


def test_what_is_on_its_way_is_looked_through_once_and_not_for_each_zip(house: House) -> None:
    zips = [house.dropped(rid)[0] for rid in ("W1", "W2", "W3")]
    house.here.record.see(Bag("W9", "bucket", "W9.bag.zip", etag="e1"))
    house.days_ahead = A_MONTH + 2
    asked: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(house.here.engine, "before_cursor_execute", listen)
    gone, _ = house.tidy(done_days=A_MONTH)

    assert sorted(gone) == sorted(map(str, zips))
    of_all = [one for one in asked if "bags.state != ?" in one and "bags.work_rid IN" not in one]
    assert len(of_all) <= 2  # a turn may end in between


def test_an_archive_that_is_not_there_keeps_nothing_else_from_going(house: House) -> None:
    logs = logs_of_a_day(house)
    house.days_ahead = A_MONTH + 2
    house.home.root.rename(house.home.folder / "away")

    heaps = house.plan(leftovers_days=A_MONTH, sync_logs_days=A_MONTH)
    tidy.take_away(house.here, heaps)

    assert "unmounted" in heaps[0].error
    assert not logs.exists()


# What lies at AWS.


@dataclass
class Uploads:
    """Three unfinished uploads: one that the record knows, of W1, which is home, and two of somebody else."""

    house: House
    site: Site
    ours: str = ""
    foreign: tuple[str, ...] = ()

    def begin(self) -> None:
        house, bucket = self.house, self.site.bucket
        house.bring_home(Bag("W1", "bucket", "W1.bag.zip", etag="e1"))
        keys = ("copies/W1.bag.zip", "copies/W1.bag.zip", "others.zip")
        made = [self.site.s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"] for key in keys]
        self.ours, self.foreign = made[0], tuple(made[1:])
        self.site.s3.upload_part(Bucket=bucket, Key=keys[0], UploadId=self.ours, PartNumber=1, Body=b"part")
        self.remember()
        replica = Replica("deep", bucket=bucket, region="us-east-1", endpoint_url=self.site.moto_url)
        house.here.settings = replace(house.here.settings, replicas=(replica,))

    def remember(self, **more: str) -> None:
        known = {"work_rid": "W1", "bag_id": "", "replica": "deep", "content": "x", "upload_id": self.ours}
        here = self.house.here
        with here.leased("W1", ""):
            replicas.begun(here.engine, here.leases, ["W1"], {**known, "object_key": "copies/W1.bag.zip", **more})

    def there(self) -> set[str]:
        return {one["UploadId"] for one in self.site.s3.list_multipart_uploads(Bucket=self.site.bucket)["Uploads"]}


@pytest.fixture
def uploads(house: House, site: Site, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    for name, value in embedded.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    made = Uploads(house, site)
    made.begin()
    return made


def test_an_upload_of_ours_that_never_ended_goes_and_nothing_else_in_the_bucket(uploads: Uploads) -> None:
    young, _ = uploads.house.tidy(uploads_days=36_500)  # moto has begun each in 2010
    uploads.house.days_ahead = A_MONTH + 2

    (heap,) = uploads.house.plan(uploads_days=A_MONTH)
    tidy.take_away(uploads.house.here, [heap])

    assert young == []
    assert [one.size_bytes for one in heap.going] == [4]
    assert uploads.there() == set(uploads.foreign)
    assert [one.upload_id for one in replicas.copies(uploads.house.here.engine)] == [""]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda uploads: lose_a_file(uploads.house, Path()), f"is not as its proof says: {IMAGE} (is missing)"),
        (lambda uploads: uploads.remember(upload_id="another"), "it was gone on with"),
    ],
)
def test_an_upload_that_is_gone_on_with_or_whose_work_is_not_whole_stays(
    uploads: Uploads, spoil: Callable[[Uploads], None], told: str
) -> None:
    uploads.house.days_ahead = A_MONTH + 2
    (heap,) = uploads.house.plan(uploads_days=A_MONTH)
    spoil(uploads)

    tidy.take_away(uploads.house.here, [heap])

    assert told in heap.staying[0][1]
    assert uploads.there() == {uploads.ours, *uploads.foreign}


def test_dead_letters_whose_works_are_home_go_and_what_they_said_stays(
    house: House, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in embedded.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    source = Source("test", region="us-east-1", bucket=site.bucket, queue=site.queue, endpoint_url=site.moto_url)
    house.here.settings = replace(house.here.settings, sources=(source,))
    for rid in ("W1", "W2"):
        site.sqs.send_message(
            QueueUrl=site.dead_url, MessageBody=json.dumps({"Records": [site.event(f"{rid}.bag.zip", "e1", 1)]})
        )
    site.sqs.send_message(QueueUrl=site.dead_url, MessageBody="what is not understood")
    house.bring_home(Bag("W1", site.bucket, "W1.bag.zip", etag="e1"))
    house.here.record.see(Bag("W2", site.bucket, "W2.bag.zip", etag="e1"))

    young, _ = house.tidy(dead_letters_days=10)
    house.days_ahead = 11
    gone, _ = house.tidy(dead_letters_days=10)

    assert (young, gone) == ([], ["1 dead letter of W1"])
    assert len(site.dead_letters()) == 2
    (told,) = [one for one in history(house.here.engine, "W1") if one["outcome"] == "dropped"]
    assert "W1.bag.zip" in told["detail"]["body"]


def test_twelve_years_of_checks_and_logs_take_no_more_room_than_four_and_no_event_is_lost(house: House) -> None:
    here, room = house.here, {}
    house.bring_home(Bag("W1", "bucket", "W1.bag.zip", etag="e1"))
    for half in range(2 * 12):
        house.days_ahead = 183 * half
        (work,) = verify.everything(here)
        verify.check_work(here, work)
        here.record.note("intake", "ignored", {"why": ["S3's test event"]})
        day = datetime.now().astimezone() + timedelta(days=house.days_ahead)
        put(here.settings.logs / f"sync-logs/{day:%F}", {"1/sync-1.log": b"log"})
        house.tidy(events_years=2, sync_logs_days=365)
        with here.engine.connect() as connection:
            rows = [row.outcome for row in connection.exec_driver_sql("SELECT outcome FROM events")]
        room[half] = (len(rows), len(list((here.settings.logs / "sync-logs").iterdir())))

    assert max(room[half] for half in range(8, 24)) == room[7]
    files = (here.settings.logs / "events").glob("*")
    away = [json.loads(line)["outcome"] for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert [*rows, *away].count("passed") == 24
    assert [*rows, *away].count("ignored") == 24
    checked_on = verify.everything(here)[0].checked_on
    assert checked_on is not None
    assert checked_on > datetime.now(UTC) + timedelta(days=house.days_ahead - 1)


# The verb, and events that go to a file first.


def old_events(site: Site, count: int) -> list[dict[str, Any]]:
    """Messages without a bag in them, of long ago, and one thing that happened now."""
    engine = record.connect(site.database_url)
    book = record.Record(engine, agent="host/1/1", host="host")
    for number in range(count):
        book.note("intake", "ignored", {"why": [f"{number}"]})
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET at = '2001-01-01 00:00:00.000000'")
    book.note("intake", "seen", {}, work_rid="W1")
    engine.dispose()
    return site.rows("events")


def written(site: Site) -> list[dict[str, Any]]:
    files = sorted((site.home / "logs/events").glob("events-*"))
    return [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]


@pytest.mark.parametrize("instant", ["", "before rename 1", "after rename 1", "events written, not deleted"])
def test_events_are_in_the_file_before_their_rows_go_wherever_it_is_killed(site: Site, instant: str) -> None:
    before = old_events(site, 3)

    if instant:
        killed = site.call("tidy", "--yes", PIPELINE_TEST_KILL_AT=instant)
        assert killed.returncode == -9
        assert site.rows("events") == before
    done = site.call("tidy", "--yes")

    assert done.returncode == 0, done.stderr
    assert [row["outcome"] for row in site.rows("events")] == ["seen"]
    assert [(one["id"], one["detail"]["why"]) for one in written(site)] == [(1, ["0"]), (2, ["1"]), (3, ["2"])]
    assert lines(site.call("tidy", "--yes").stdout, "0 things gone")


def test_nothing_goes_without_a_word_and_the_plan_says_why(site: Site) -> None:
    before = old_events(site, 3)

    asked, planned = site.call("tidy"), site.call("tidy", "--plan")
    document = json.loads(site.call("tidy", "--plan", "--json").stdout)

    assert asked.returncode == 2
    assert lines(asked.stderr, "nothing was done", "--yes")
    assert planned.returncode == 0
    assert lines(planned.stdout, "events", "10 years", "written to a file first")
    assert lines(planned.stdout, "goes: 3 routine events of before")
    (events,) = [one for one in document["kinds"] if one["kind"] == "events_years"]
    assert [one["what"][:16] for one in events["goes"]] == ["3 routine events"]
    assert site.rows("events") == before


def test_check_tells_for_how_long_each_kind_is_kept(site: Site) -> None:
    told = site.call("check", PIPELINE_RETENTION_DONE_DAYS="90")

    assert lines(told.stdout, "retention", "done 90 days", "replaced for ever", "events 10 years")
