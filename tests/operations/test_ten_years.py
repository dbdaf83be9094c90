"""Ten years of nights over a small archive: each work is verified as often as promised, and what rots is found.

A night in which nothing is due changes neither rows nor files: that is seen in ten nights, one after the other, and in
one of each year. `tidy` only takes away, and what it was not called for it takes the next time. So the other nights are
not played: what is due is reckoned here, from what was told.
"""

import gzip
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import func, select, update

from pipeline.foundation.work import archive_dir
from pipeline.record import tables
from tests.world.clock import future
from tests.world.library import IMAGE, Library

DUE_DAYS, MARGIN = 90, 2
YEAR = 365
CAME_ON = {"W1": -30, "W2": -30, "W3": 0, "W4": 0}
ROTTEN, ROTS_ON, MENDED_AFTER = "W3", 6 * YEAR + 100, 30
LOG_BYTES, LOG_FILES = 10 << 20, 6  # as logs are rotated


@pytest.fixture
def old_house(library: Library) -> Library:
    """An archive whose works came on those days, and whose logs are as long as they ever get."""
    library.environment |= {"PIPELINE_FIXITY_DUE_DAYS": str(DUE_DAYS), "PIPELINE_RETENTION_EVENTS_YEARS": "1"}
    now = datetime.now(UTC).replace(tzinfo=None)
    for rid, day in CAME_ON.items():
        library.bring_home(rid)
        row = update(tables.syncs).where(tables.syncs.c.work_rid == rid)
        with library.here.engine.begin() as connection:
            connection.execute(row.values(synced_on=now + timedelta(days=day)))
    for name in (f"{verb}.log{number}" for verb in ("verify", "tidy") for number in ("", *range(-1, -LOG_FILES, -1))):
        with (library.home.logs / name.replace("-", ".")).open("wb") as log:
            log.truncate(LOG_BYTES - 1)
    return library


def grown(library: Library) -> dict[str, int]:
    """What could grow: rows of each table, files of each folder, and how often the logs hold what one file may."""
    with library.here.engine.connect() as connection:
        counts = {name: select(func.count()).select_from(table) for name, table in tables.metadata.tables.items()}
        found = {name: connection.scalar(count) or 0 for name, count in counts.items()}
    put_away = set(library.home.logs.glob("events/*"))  # what leaves the record, which a site keeps
    for folder in (library.home.root, library.home.logs, library.home.staging):
        found[f"files in {folder.name}"] = sum(1 for one in folder.rglob("*") if one.is_file() and one not in put_away)
    found["full logs"] = sum(one.stat().st_size for one in library.home.logs.glob("*.log*")) // LOG_BYTES
    return found


def events_put_away(library: Library) -> int:
    return sum(len(gzip.decompress(one.read_bytes()).splitlines()) for one in library.home.logs.glob("events/*"))


def is_idle(day: int) -> bool:
    """A night that is played though nothing is due."""
    return 48 < day <= 58 or day % YEAR == 45


def test_in_ten_years_each_work_is_verified_in_time_and_what_rots_is_found_and_nothing_grows(
    old_house: Library,
) -> None:
    looks: dict[str, list[tuple[int, str]]] = {rid: [(day, "came")] for rid, day in CAME_ON.items()}
    image = archive_dir(old_house.home.root, ROTTEN) / IMAGE
    whole, after, alarms, found_on = image.read_bytes(), dict[int, dict[str, int]](), dict[int, list[str]](), 0
    away: dict[int, int] = {}
    with future(old_house.environment) as nights:
        for day in range(10 * YEAR + 1):
            due = any(day - seen[-1][0] >= DUE_DAYS - MARGIN for seen in looks.values())
            if day == ROTS_ON:
                image.write_bytes(b"R" + whole[1:])
            if found_on and day == found_on + MENDED_AFTER:
                image.write_bytes(whole)
                nights.call(day, "verify", ROTTEN)
                looks[ROTTEN].append((day, "passed"))
            elif due or is_idle(day):
                before = grown(old_house)
                status, told = nights.call(day, "verify", "--due", "--max-hours", "5", "--json")
                works = {one["work_rid"]: one["verdict"] for one in json.loads(told)["works"]}
                assert (status, bool(works), day) == ("failed" in works.values(), due, day)
                assert due or grown(old_house) == before
                before = grown(old_house)
                tidied, _ = nights.call(day, "tidy", "--yes")
                assert tidied == 0
                assert {name for name, count in grown(old_house).items() if count > before[name]} == set()
                for rid, verdict in works.items():
                    looks[rid].append((day, verdict))
                    found_on = found_on or (day if verdict == "failed" else 0)
            if day in {5 * YEAR, 10 * YEAR, found_on, found_on + MENDED_AFTER}:
                document = json.loads(nights.call(day, "status", "--json")[1])
                alarms[day] = [one["what"] for one in document["needs_you"]]
                after[day], away[day] = grown(old_house), events_put_away(old_house)

    for seen in looks.values():
        assert max(later - earlier for (earlier, _), (later, _) in pairwise(seen)) <= DUE_DAYS
    failed = [(rid, day) for rid, seen in looks.items() for day, verdict in seen if verdict == "failed"]
    assert failed == [(ROTTEN, found_on)]
    assert ROTS_ON <= found_on <= ROTS_ON + DUE_DAYS
    assert alarms.pop(found_on) == ["1 archived work failed the last fixity check"]
    assert set(map(tuple, alarms.values())) == {()}
    five, ten = after[5 * YEAR], after[10 * YEAR]
    checks = sum(day > 5 * YEAR for seen in looks.values() for day, _ in seen)
    assert ten["events"] + away[10 * YEAR] == five["events"] + away[5 * YEAR] + checks  # none of them is lost
    # In one year a work is looked at four times or five, and one look failed, which its story keeps.
    assert ten["events"] <= five["events"] + len(looks) + 1
    assert {name: count for name, count in ten.items() if name != "events" and count > five[name]} == {}
