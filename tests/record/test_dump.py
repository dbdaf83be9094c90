"""The record as a file: from each database to each other, whole or not at all, at one instant, killed anywhere."""

import gzip
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, BigInteger, Column, Engine, delete, insert, select

from pipeline import record
from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import Bag, no_pulse
from pipeline.record import BagState, Leases, Record, dump, lanes, refill
from pipeline.record.tables import bags, events, leases, metadata
from tests.world import warm
from tests.world.servers import database_with_tables

TEXTS = (
    "",
    "བོད་ཡིག 中文 \U00020000",
    "cafe\u0301 'quoted' \"x\" \\ %s :name ;--",
    "blanks \n\t\r and a cafe\u0301 café",
)
DATA: tuple[Any, ...] = (
    {"z": 1, "a": ["\x00", "\\udcff", 2**62, -1, 0.1, 1e-9, None, True], "བོད": {"": []}},
    [],
    {},
    [{"error": "x" * 70_000}],
)
MOMENTS = [
    datetime.fromisoformat(told)
    for told in (
        "2026-03-08 02:30:00.000001",  # an hour that New York does not have
        "1970-01-01",
        "1999-12-31 23:59:59.999999",
        "2100-02-28 12:00:00.5",
    )
]
HERE = {"leases", "lanes"}
Rows = dict[str, list[dict[str, Any]]]


def value(of: Column[Any], number: int) -> Any:
    """An awkward value for a column; another one in each row."""
    of = next((key.column for key in of.foreign_keys), of)
    if of.nullable and number == 0:
        return None
    if isinstance(of.type, JSON):
        return DATA[number % len(DATA)]
    kind = of.type.python_type
    if kind is datetime:
        return MOMENTS[number % len(MOMENTS)] + timedelta(microseconds=number)
    if kind in {float, int}:
        first = (1 << 53) + 1 if isinstance(of.type, BigInteger) else (1 << 31) - 100
        return 0.1 + number if kind is float else first + number
    return f"{number} {TEXTS[number % len(TEXTS)]}"[: getattr(of.type, "length", None) or 5000]


def fill(engine: Engine, *, rows: int = 5) -> None:
    """Rows in every table, also in those that are yet to come."""
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            for number in range(rows):
                connection.execute(insert(table).values({one.name: value(one, number) for one in table.c}))


def rows_of(engine: Engine) -> Rows:
    with engine.connect() as connection:
        return {
            table.name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=str)
            for table in metadata.sorted_tables
        }


def export(engine: Engine, file: Path, *, pulse: Callable[[int, int], None] = no_pulse) -> dump.Contents:
    return dump.export(engine, file, product="0.2.0", silent_seconds=600, pulse=pulse)


def load(engine: Engine, file: Path) -> None:
    refill.load(engine, file, refill.look(file), pulse=no_pulse)


def lite(file: Path, database: Path | None = None) -> Engine:
    """An SQLite database; as a copy of another one, or without tables."""
    if database is not None:
        shutil.copy(database, file)
    return record.connect(f"sqlite:///{file}")


def nothing(rows: Rows) -> bool:
    return not any(rows.values())


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, database: Path) -> tuple[Path, Rows]:
    """A file with rows of all tables, and those rows."""
    folder = tmp_path_factory.mktemp("dump")
    engine = lite(folder / "a.db", database)
    fill(engine)
    export(engine, folder / "record.gz")
    rows = rows_of(engine)
    engine.dispose()
    return folder / "record.gz", rows


def expected(rows: Rows) -> Rows:
    return rows | {name: [] for name in HERE}


def test_a_record_goes_from_each_database_to_each_other_as_it_is(
    engine: Engine, tmp_path: Path, database: Path, request: pytest.FixtureRequest
) -> None:
    fill(engine)
    file, before = tmp_path / "record.gz", rows_of(engine)

    contents = export(engine, file)

    assert contents.rows == {name: len(rows) for name, rows in before.items() if name not in HERE}
    assert file.stat().st_mode & 0o777 == 0o600
    assert rows_of(engine) == before
    for kind in ("sqlite", "postgresql", "mariadb"):
        if kind == "sqlite":
            there = lite(tmp_path / "there.db", database)
            load(there, file)
            assert rows_of(there) == expected(before)
            goes_on_counting(there)
            continue
        server = request.getfixturevalue(f"{kind}_url")
        if server is None:
            continue
        with database_with_tables(server) as url:
            there = record.connect(url)
            load(there, file)
            assert rows_of(there) == expected(before)
            goes_on_counting(there)
            there.dispose()


def goes_on_counting(engine: Engine) -> None:
    highest = max(row["id"] for row in rows_of(engine)["events"])
    record.set_pause(engine, paused=True, agent="a", by="b", reason="c")
    assert max(row["id"] for row in rows_of(engine)["events"]) == highest + 1
    Record(engine, agent="a", host="h").see(Bag("W1", "b", "k", etag="e", event_time=datetime.now().astimezone()))
    assert {"W1"} < {row["object_name"] for row in rows_of(engine)["glacier_sync_progress"]}


def test_an_export_is_of_one_instant_while_lanes_go_on(engine: Engine, tmp_path: Path, book: Record) -> None:
    bag = Bag("W1", "b", "k", etag="e")
    book.see(bag)
    with engine.begin() as connection:
        told = {"at": MOMENTS[0], "work_rid": "", "bag_id": "", "step": "x", "outcome": "x", "agent": "x", "detail": {}}
        connection.execute(insert(events), [told] * 2000)
    before = rows_of(engine)

    def pulse(_done: int, _total: int) -> None:
        later = record.connect(engine.url.render_as_string(hide_password=False))
        Record(later, agent="a", host="h").see(Bag("W2", "b", "k2", etag="e"))
        with later.begin() as connection:
            connection.execute(delete(events))
        later.dispose()

    export(engine, tmp_path / "record.gz", pulse=pulse)
    after = rows_of(engine)
    there = lite(tmp_path / "there.db")
    load(there, tmp_path / "record.gz")

    assert len(after["bags"]) == 2
    assert len(after["events"]) < 2000
    assert rows_of(there) == before


def test_what_can_be_moved_is_what_nobody_works_on_any_more(tmp_path: Path, database: Path) -> None:
    engine = lite(tmp_path / "a.db", database)
    lane = Leases(engine, owner="host/1/1/x", seconds=600)
    lane.take("W1", "b")
    lanes.seen(engine, "host/1/1", host="host")
    found = [export(engine, tmp_path / "1.gz")]
    record.set_pause(engine, paused=True, agent="a", by="b", reason="move")
    found.append(export(engine, tmp_path / "2.gz"))
    lane.release("W1")
    lanes.ended(engine, "host/1/1")
    found.append(export(engine, tmp_path / "3.gz"))

    assert [(one.paused, one.held, one.alive, one.is_still) for one in found] == [
        (False, 1, 1, False),
        (True, 1, 1, False),
        (True, 0, 0, True),
    ]
    assert [refill.look(tmp_path / f"{number}.gz").is_still for number in (1, 2, 3)] == [False, False, True]
    there = lite(tmp_path / "there.db")
    load(there, tmp_path / "1.gz")
    assert Leases(there, owner="another", seconds=60).take("W1", "b")
    load(lite(tmp_path / "paused.db"), tmp_path / "3.gz")
    assert record.pause_of(lite(tmp_path / "paused.db")) is not None


def _rewritten(file: Path, change: Callable[[list[Any]], None]) -> bytes:
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    change(lines)
    return gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


SPOILT: Mapping[str, Callable[[bytes, Path], bytes]] = {
    "cut off in the middle": lambda whole, _: whole[: len(whole) // 2],
    "cut off at its last byte": lambda whole, _: whole[:-1],
    "without its end": lambda _, file: _rewritten(file, lambda lines: lines.pop()),
    "with a row less": lambda _, file: _rewritten(file, lambda lines: lines.pop(2)),
    "with a row twice": lambda _, file: _rewritten(file, lambda lines: lines.insert(2, lines[2])),
    "with something after its end": lambda whole, _: whole + gzip.compress(b"[1]\n"),
    "with a bit flipped": lambda whole, _: whole[:400] + bytes([whole[400] ^ 1]) + whole[401:],
    "of another version": lambda _, file: _rewritten(file, lambda lines: lines[0].update(version=2)),
    "without a header": lambda _, file: _rewritten(file, lambda lines: lines.pop(0)),
    "no gzip": lambda _whole, _: b"a,b,c\n",
    "empty": lambda _whole, _: b"",
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_not_whole_is_refused_and_changes_nothing(
    filled: tuple[Path, Rows], tmp_path: Path, database: Path, how: str
) -> None:
    there, file = lite(tmp_path / "there.db", database), tmp_path / "record.gz"
    file.write_bytes(SPOILT[how](filled[0].read_bytes(), filled[0]))

    with pytest.raises(UsageError, match=r"record\.gz"):
        load(there, file)

    assert nothing(rows_of(there))


def test_a_row_that_the_database_does_not_give_back_as_it_was_is_seen_and_nothing_is_imported(
    filled: tuple[Path, Rows], tmp_path: Path, database: Path
) -> None:
    there = lite(tmp_path / "there.db", database)
    with there.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER spoils AFTER INSERT ON names BEGIN UPDATE names SET work_rid = upper(work_rid) || '!'; END"
        )

    with pytest.raises(refill.ImportDiffers, match="names: the 5 rows read back"):
        load(there, filled[0])

    assert nothing(rows_of(there))


def test_what_a_database_cannot_hold_is_named_and_nothing_is_imported(
    tables_on_server: str, tmp_path: Path, database: Path
) -> None:
    engine = lite(tmp_path / "a.db", database)
    fill(engine)
    with engine.begin() as connection:
        values = {one.name: value(one, 7) for one in bags.c} | {"source": "s" * 300}
        connection.execute(insert(bags).values(values))
    export(engine, tmp_path / "record.gz")
    there = record.connect(tables_on_server)

    with pytest.raises(UsageError, match=r"bags: the database does not take one of its rows: .*(255|source)"):
        load(there, tmp_path / "record.gz")

    assert nothing(rows_of(there))
    there.dispose()


def test_a_file_of_an_earlier_release_is_brought_to_this_one(tmp_path: Path, database: Path) -> None:
    old, there = lite(tmp_path / "old.db", database), lite(tmp_path / "there.db", database)
    fill(old)
    record.downgrade(old, "0005")
    contents = export(old, tmp_path / "record.gz")
    record.upgrade(old)

    load(there, tmp_path / "record.gz")

    assert contents.revision == "0005"
    assert {"wants", "replicas"}.isdisjoint(contents.rows)
    revision, wanted = record.revisions(there)
    assert revision == wanted
    assert rows_of(there) == expected(rows_of(old))
    assert len(rows_of(there)["events"]) == 5


def _of_a_later_release(lines: list[Any]) -> None:
    lines[0]["revision"] = "9999"
    written = b"".join(json.dumps(line).encode() + b"\n" for line in lines[:-1])
    lines[-1]["end"]["sha512"] = hashlib.sha512(written).hexdigest()


def test_a_file_of_a_later_release_is_refused_with_the_way_on(
    filled: tuple[Path, Rows], tmp_path: Path, database: Path
) -> None:
    there = lite(tmp_path / "there.db", database)
    (tmp_path / "record.gz").write_bytes(_rewritten(filled[0], _of_a_later_release))

    with pytest.raises(UsageError, match=r"revision 9999.*the release that made them"):
        load(there, tmp_path / "record.gz")

    assert nothing(rows_of(there))


@pytest.mark.parametrize("table", [leases, bags], ids=str)
def test_only_an_empty_database_is_filled(
    filled: tuple[Path, Rows], tmp_path: Path, database: Path, table: Any
) -> None:
    there = lite(tmp_path / "there.db", database)
    with there.begin() as connection:
        connection.execute(insert(table).values({one.name: value(one, 1) for one in table.c}))
    before = rows_of(there)

    with pytest.raises(UsageError, match=rf"not empty: there are rows in {table.name} \(1\)"):
        load(there, filled[0])

    assert rows_of(there) == before


def call(folder: Path, *words: str, kill_at: str = "", status: int = 0) -> str:
    """`run_pipeline.py db …` on the database in a folder; what it said."""
    variables = {"PIPELINE_DATABASE_URL": f"sqlite:///{folder}/pipeline.db", "PIPELINE_TEST_KILL_AT": kill_at}
    plain = {name: text for name, text in os.environ.items() if not name.startswith("PIPELINE_")}
    ended = warm.ended(warm.start(["db", *words], environment={**plain, **variables}))
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("instant", ["before rename 1", "after rename 1"])
def test_an_export_that_was_killed_leaves_no_half_file(tmp_path: Path, database: Path, instant: str) -> None:
    fill(lite(tmp_path / "pipeline.db", database))
    file = tmp_path / "record.gz"

    call(tmp_path, "export", str(file), kill_at=instant, status=-signal.SIGKILL)

    assert file.exists() == instant.startswith("after")
    if file.exists():
        assert "is there already, and stays as it is" in call(tmp_path, "export", str(file), status=2)
    else:
        call(tmp_path, "export", str(file))
    assert refill.look(file).rows["bags"] == 5
    assert [path.name for path in tmp_path.glob("*record*")] == ["record.gz"]


@pytest.mark.parametrize(
    ("instant", "imported"),
    [("before commit 1", False), ("after commit 1", False), ("before commit 2", False), ("after commit 2", True)],
)
def test_an_import_that_was_killed_is_whole_or_begun_again(
    filled: tuple[Path, Rows],
    tmp_path: Path,
    instant: str,
    imported: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    file, rows = filled

    call(tmp_path, "import", str(file), "--yes", kill_at=instant, status=-signal.SIGKILL)
    again = call(tmp_path, "import", str(file), "--yes", status=2 if imported else 0)

    assert ("is not empty" in again) is imported
    assert rows_of(lite(tmp_path / "pipeline.db")) == expected(rows)
    assert "this release needs" in call(tmp_path, "status")


def test_an_operator_is_told_what_a_file_is_good_for(tmp_path: Path, database: Path) -> None:
    engine = lite(tmp_path / "pipeline.db", database)
    Record(engine, agent="a", host="h").see(Bag("W1", "b", "k", etag="e"))
    (tmp_path / "there").mkdir()

    backup = call(tmp_path, "export", str(tmp_path / "backup.gz"))
    unasked = call(tmp_path / "there", "import", str(tmp_path / "backup.gz"), status=2)
    record.set_pause(engine, paused=True, agent="a", by="b", reason="move")
    still = call(tmp_path, "export", str(tmp_path / "still.gz"))
    moved = call(tmp_path / "there", "import", str(tmp_path / "still.gz"))
    nowhere = call(tmp_path, "export", str(tmp_path / "no" / "record.gz"), status=2)
    (tmp_path / "none").mkdir()
    no_tables = call(tmp_path / "none", "export", str(tmp_path / "none.gz"), status=2)

    assert "a backup, not to be moved: intake was not paused" in backup
    assert "intake was not paused: what was done since is not in it" in unasked
    assert f"then: run_pipeline.py db import {tmp_path / 'still.gz'}" in still
    assert "imported: " in moved
    assert "run_pipeline.py resume" in moved
    assert "cannot be written: No such file" in nowhere
    assert "has no tables of the pipeline" in no_tables
    (bag,) = rows_of(lite(tmp_path / "there" / "pipeline.db"))["bags"]
    assert bag["state"] == BagState.UNFINISHED
