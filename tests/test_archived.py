"""What the record tells a fixity check, on each of the databases."""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Engine

from pipeline.steps import record
from pipeline.steps.record import CHECK, Leases, Record
from pipeline.work import Bag

BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=7)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


def synced(engine: Engine, bag: Bag, *, proof: dict[str, str] | None = None) -> None:
    book, owner = Record(engine, agent="host/1/1", host="host"), Leases(engine, owner="me", seconds=60)
    book.see(bag)
    owner.take(bag.work_rid, bag.bag_id)
    facts = {"proof": proof} if proof else {}
    book.commit_sync(bag, bag.work_rid, archive_path="/a", files=3, size_bytes=9, facts=facts, leases=owner)


def test_each_work_is_told_by_its_latest_sync_and_its_latest_check(engine: Engine) -> None:
    synced(engine, BAG)
    synced(engine, replace(BAG, etag="e2"), proof={"name": "W1.bag/W1.digests.json", "sha512": "ab"})
    synced(engine, replace(BAG, work_rid="W2"))
    book = Record(engine, agent="host/1/1", host="host")
    for outcome in ("failed", "passed"):
        book.note(CHECK, outcome, {}, work_rid="W1", bag_id=BAG.bag_id)
    book.note(CHECK, "no-proof", {}, work_rid="W3")
    found = record.archived(engine)
    assert set(found) == {"W1", "W2", "W3"}
    one, two, three = found["W1"], found["W2"], found["W3"]
    assert (one.proof, one.bag_id) == (("W1.bag/W1.digests.json", "ab"), replace(BAG, etag="e2").bag_id)
    assert (two.proof, two.bytes, two.checked_on) == (None, 9, None)
    assert (three.sync_id, three.bag_id, three.synced_on) == (0, "", None)
    assert one.checked_on
    assert one.synced_on
    assert one.seen_on == one.checked_on >= one.synced_on
    assert two.seen_on == two.synced_on
    assert abs((datetime.now(UTC) - one.seen_on).total_seconds()) < 60
    assert record.archived(engine, work_rid="W1") == {"W1": one}
    assert record.archived(engine, work_rid="W4") == {}
    assert record.Archived("W4").seen_on == LONG_AGO
