"""A line whose bags lie in cold storage, and in which time passes when a test says so."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import botocore.exceptions
import pytest
from sqlalchemy import text

from pipeline import settings
from pipeline.embedded import embedded
from pipeline.foundation.errors import LeaseLost, NotRestored
from pipeline.foundation.work import Bag, no_pulse, staging_key
from pipeline.operations import restores
from pipeline.operations.restores import RestorePlan
from pipeline.record import Phase, WantState, campaign, turns
from pipeline.settings import Source
from pipeline.settings.prices import Prices, Restores
from pipeline.tasks import context
from tests.world.cold_s3 import Asked, Cold, ColdS3
from tests.world.faulty_s3 import etag_of

BUCKET = "vault"
GIB = 1 << 30
PRICES = Prices(
    "us-east-1",
    glacier_bulk=(0.0, 0.0),
    glacier_standard=(10_000.0, 50.0),
    glacier_expedited=(30_000.0, 10_000.0),
    deep_archive_bulk=(2_500.0, 25.0),
    deep_archive_standard=(20_000.0, 100.0),
    copy_gb_month=23_000.0,
    egress_gb=90_000.0,
)
"""Of Amazon's, a million times: bags of tests are small."""


def open_line(
    folder: Path, cold: ColdS3, database: Path, monkeypatch: pytest.MonkeyPatch, **chosen: object
) -> context.Site:
    """A site of this process whose only source is the cold bucket."""
    for name, value in embedded.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for name in ("staging", "quarantine", "logs", "archive_root"):
        monkeypatch.setenv(f"PIPELINE_PIPELINE_{name.upper()}", str(folder / name))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", f"sqlite:///{folder}/pipeline.db")
    shutil.copy(database, folder / "pipeline.db")
    return context.Site(with_source(settings.load(), cold.url, **chosen))


def with_source(loaded: settings.Settings, url: str, **chosen: object) -> settings.Settings:
    source = Source("cold", region="us-east-1", bucket=BUCKET, queue="q", endpoint_url=url)
    return replace(loaded, sources=(source,), prices=(PRICES,), restore=Restores(**chosen))  # type: ignore[arg-type]  # by name


def fill(cold: ColdS3, count: int, *, storage_class: str = "DEEP_ARCHIVE", size: int = 100) -> list[str]:
    """Works W1000 and so on, in the bucket; returns their RIDs."""
    rids = [f"W{number}" for number in range(1000, 1000 + count)]
    for number, rid in enumerate(rids):
        cold.objects[staging_key(rid)] = Cold(rid.encode() * size + bytes(number % 7), storage_class)
    return rids


def plan(here: context.Site, rids: Sequence[str], **how: object) -> RestorePlan:
    return restores.plan(here, restores.named(here, rids), pulse=no_pulse, **how)  # type: ignore[arg-type]  # by name


def want(here: context.Site, rids: Sequence[str], *, first: bool = False, **how: object) -> int:
    return restores.put(here, plan(here, rids, **how), first=first)


def states(here: context.Site) -> dict[str, WantState]:
    return {one.bag.work_rid: one.state for one in campaign.wanted(here.engine)}


def in_flight(here: context.Site) -> list[str]:
    return [rid for rid, state in states(here).items() if state in {"asking", "asked", "ready"}]


def pass_time(here: context.Site, cold: ColdS3, *, hours: float) -> None:
    """Let time pass, for S3 and for the record alike: whatever was noted moves into the past."""
    moved = {
        "wants": ("asked_on", "expires_on", "look_on", "wanted_on"),
        "leases": ("taken_on", "until"),
        "bags": ("restore_expires_on", "event_time", "updated_on", "retry_on"),
    }
    with here.engine.begin() as connection:
        for table, columns in moved.items():
            for name in columns:
                then = f"strftime('%Y-%m-%d %H:%M:%f000', {name}, '-{round(hours * 3600)} seconds')"
                connection.execute(text(f"UPDATE {table} SET {name} = {then} WHERE {name} IS NOT NULL"))
    cold.pass_time(hours)


def announced(key: str, one: Cold) -> Bag:
    """The bag that S3's event tells of."""
    rid = key.split("/")[2]
    told = {"event_time": datetime.now(UTC), "restore_expires_on": one.until}
    return Bag(rid, BUCKET, key, etag=etag_of(one.content), source="cold", **told)  # type: ignore[arg-type]  # moments


def bring_home(here: context.Site, *, most: int = 1000) -> list[str]:
    """What lanes do, in their order, but for the bytes: what is to come home does, if S3 has its copy."""
    came = []
    for bag_id in turns.unfinished(here.engine, host=here.host, limit=most):
        row = here.record.bag(bag_id)
        assert row is not None
        bag = row.bag
        if not here.leases.take(bag.work_rid, bag_id):
            continue
        with contextlib.suppress(LeaseLost):
            came += [bag.work_rid] if _fetched(here, bag) else []
        here.leases.release(bag.work_rid)
    return came


def _fetched(here: context.Site, bag: Bag) -> bool:
    rid = bag.work_rid
    try:
        here.s3(bag).get_object(Bucket=bag.bucket, Key=bag.key, Range="bytes=0-0")["Body"].read()
    except botocore.exceptions.ClientError:
        here.record.failed(bag, "download", NotRestored("still frozen in Glacier", work_rid=rid))
        return False
    here.record.finished(Phase.DEBAG, bag, {"files": 1}, works=(rid,))
    here.record.commit_sync(
        bag, rid, archive_path="/a", files=1, size_bytes=bag.size_bytes, facts={}, leases=here.leases
    )
    here.record.done(bag)
    return True


def counted(asked: Sequence[Asked], classes: str = "DEEP_ARCHIVE") -> float:
    """What S3 takes for these, by its price list."""
    total = 0.0
    for one in asked:
        pair = getattr(PRICES, f"{classes.lower()}_{one.tier.lower()}")
        size = one.size_bytes / GIB
        total += size * pair[0] + pair[1] / 1000 + size * 23_000.0 * one.days / 30
    return total
