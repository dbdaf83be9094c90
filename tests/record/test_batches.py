"""BDRC's table of dates, where a zip's name is no work: each work in it has its row, and no other name has one."""

import json
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Engine

from pipeline.foundation.errors import Fault, InvalidBag
from pipeline.foundation.work import Bag
from pipeline.record import Phase, Record, tables
from tests.record.test_record import BAG, leases, progress, synced
from tests.world.bags import SMALL_WORK, bag_members, write_zip
from tests.world.folders import add_folder, drop, lying_in
from tests.world.stack import Site

BATCH = Bag("batch", "bucket", "a/batch.zip", etag="b1", size_bytes=7, event_time=BAG.event_time)


def works_of(engine: Engine) -> dict[str, list[str]]:
    """The rows of BDRC's table: of which works, with the stages that they tell of."""
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.select(tables.progress)).all()
    return {row.object_name: [entry["user_data"]["stage"] for entry in row.user_data] for row in rows}


def names(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(sqlalchemy.select(tables.progress.c.object_name)))


def change(engine: Engine, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.update(tables.progress).values(**values))


def test_the_name_of_a_zip_of_several_works_does_not_stay_as_a_work(engine: Engine, book: Record) -> None:
    book.see(BATCH)
    book.finished(Phase.DOWNLOAD, BATCH, {})
    before = progress(engine, "batch")
    book.finished(Phase.DEBAG, BATCH, {}, works=("W1", "W2"))
    book.finished(Phase.DEBAG, BATCH, {}, works=("W1", "W2"))  # killed before it went on, and taken up again

    stages = [phase.column for phase in (Phase.RESTORE, Phase.DOWNLOAD, Phase.DEBAG, Phase.DEBAG)]
    assert works_of(engine) == {"W1": stages, "W2": stages}
    for work_rid in ("W1", "W2"):
        row = progress(engine, work_rid)
        assert (row.restore_complete_on, row.download_complete_on) == (
            before.restore_complete_on,
            before.download_complete_on,
        )
    book.finished(Phase.DOWNLOAD, BATCH, {}, known=("W1", "W2"))  # as an operator may ask for
    assert names(engine) == {"W1", "W2"}


def test_nor_does_it_when_the_zip_is_refused_but_tells_its_works(engine: Engine, book: Record) -> None:
    book.see(BATCH)
    refusal = InvalidBag("no", faults=[Fault("digest-differs", "W2.bag", "data/1.jpg", "")], works=["W1", "W2"])
    book.failed(BATCH, "debag", refusal)
    assert works_of(engine) == {"W1": ["restore_complete_on"], "W2": ["restore_complete_on"]}


def test_a_zip_that_is_refused_for_naming_another_work_takes_nothing_from_the_one_it_is_named_after(
    engine: Engine, book: Record
) -> None:
    book.see(BAG)
    book.failed(BAG, "debag", InvalidBag("no", faults=[Fault("rid-mismatch", "W7.bag", "", "")], works=["W7"]))
    assert names(engine) == {"W1"}


@pytest.mark.parametrize("known_by", ["another zip", "a request", "BDRC", "the archive"])
def test_a_row_that_is_not_the_zips_alone_stays(engine: Engine, book: Record, known_by: str) -> None:
    book.see(BATCH)
    if known_by == "another zip":
        book.see(Bag("batch", "bucket", "b/batch.zip", etag="b2"))
    elif known_by == "the archive":
        owner = leases(engine)
        for work_rid in ("W1", "batch"):
            owner.take(work_rid, BAG.bag_id)
        book.see(BAG)
        synced(book, owner, "batch")
    elif known_by == "a request":
        change(engine, restore_requested_on=BATCH.event_time)
    else:
        change(engine, user_data=[{"time_stamp": "2026-04-06", "user_data": {"theirs": 1}}])
    book.finished(Phase.DEBAG, BATCH, {}, works=("W1", "W2"))
    assert {"batch", "W1", "W2"} <= names(engine)


TWO = {**bag_members("W1"), **bag_members("W2", files={"images/1.jpg": b"two"})}
SHARED = bag_members(
    "batch", files={f"{rid}/{path}": content for rid in ("W1", "W2") for path, content in SMALL_WORK.items()}
)
ALL_STAGES = {"download_complete_on", "debag_complete_on", "sync_complete_on"}


def dated(site: Site) -> dict[str, set[str]]:
    """The stages that are dated, by work."""
    return {
        row["object_name"]: {name for name, value in row.items() if name.endswith("_complete_on") and value}
        for row in site.rows("glacier_sync_progress")
    }


@pytest.mark.parametrize("members", [TWO, SHARED], ids=["several bags", "one bag of several works"])
def test_a_batch_comes_home_as_its_works_from_s3_and_from_a_folder(
    site: Site, tmp_path: Path, members: dict[str, bytes]
) -> None:
    inbox = add_folder(site)
    site.settings["PIPELINE_SOURCE_TEST_SEVERAL_WORKS"] = "true"
    batch = write_zip(tmp_path / "batch.zip", members)
    etag = site.put(batch, key="a/batch.bag.zip")
    site.send({"Records": [site.event("a/batch.bag.zip", etag, batch.stat().st_size)]})
    first = site.call("run", "--lanes", "1")
    from_s3 = dated(site)
    drop(write_zip(tmp_path / "again.zip", {**members, "Thumbs.db": b"another zip"}), inbox, "batch.zip")
    second = site.call("run", "--lanes", "1")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert from_s3 == {rid: {"restore_complete_on", *ALL_STAGES} for rid in ("W1", "W2")}
    assert set(dated(site)) == {"W1", "W2"}
    assert site.archived("W1") == SMALL_WORK
    assert lying_in(inbox) == ["done/batch.zip"]
    assert sorted(site.works()) == ["W1", "W2"]
    assert (site.depth(), site.staged(), site.rows("leases")) == (0, [], [])
    for asked, works in (("W2", "W2"), ("batch", "W1 W2")):
        told = json.loads(site.call("explain", asked, "--json").stdout)["next"]["command"]
        assert told == f"run_pipeline.py verify {works}"
        assert site.call("verify", *works.split()).returncode == 0
