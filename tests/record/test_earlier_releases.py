"""Tables of one release and the program of another: rows are kept, lanes of the release before work on."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine, Select

from pipeline import record
from pipeline.record import tables
from tests.world.releases import FROZEN
from tests.world.stack import Site, lines

RELEASES = {"0.1.0": "0006"}
"""Releases, with the revision of their tables."""
Shape = dict[str, tuple[dict[str, Any], set[tuple[str, ...]]]]


@pytest.fixture
def engine(any_database: str) -> Iterator[Engine]:
    engine = record.connect(any_database)
    yield engine
    engine.dispose()


def rows_of(connection: Connection, wanted: Mapping[str, Select[Any]]) -> dict[str, list[Any]]:
    return {name: list(connection.execute(query)) for name, query in wanted.items()}


def as_it_was(release: str, folder: Path) -> tuple[dict[str, Select[Any]], dict[str, list[Any]]]:
    """How each table of a release is asked for, and the rows that it had."""
    with closing(sqlite3.connect(folder / "frozen.db")) as database:
        database.executescript((FROZEN / release / "tables.sql").read_text())
    frozen = sqlalchemy.create_engine(f"sqlite:///{folder}/frozen.db")
    known = sqlalchemy.inspect(frozen)
    columns = {name: [one["name"] for one in known.get_columns(name)] for name in known.get_table_names()}
    today = {name: tables.metadata.tables[name] for name in columns if name != "alembic_version"}
    queries = {
        name: sqlalchemy.select(*(table.c[column] for column in columns[name])).order_by(*table.primary_key)
        for name, table in today.items()
    }
    with frozen.connect() as connection:
        found = rows_of(connection, queries)
    frozen.dispose()
    return queries, found


@pytest.mark.parametrize("release", RELEASES)
def test_an_upgrade_from_a_release_keeps_every_row_as_it_was(engine: Engine, tmp_path: Path, release: str) -> None:
    queries, found = as_it_was(release, tmp_path)
    record.upgrade(engine)
    if RELEASES[release] != record.revisions(engine)[0]:
        record.downgrade(engine, RELEASES[release])
    with engine.begin() as connection:
        for name in queries:
            if found[name]:
                rows = [dict(row._mapping) for row in found[name]]
                connection.execute(sqlalchemy.insert(tables.metadata.tables[name]), rows)

    record.upgrade(engine)

    with engine.connect() as connection:
        assert rows_of(connection, queries) == found
    assert {name for name, rows in found.items() if rows} >= {"bags", "syncs", "events", "leases", "names", "lanes"}


@pytest.mark.parametrize("release", RELEASES)
def test_the_tables_that_a_release_made_are_those_of_its_revision(tmp_path: Path, release: str) -> None:
    as_it_was(release, tmp_path)
    made = record.connect(f"sqlite:///{tmp_path}/made.db")
    record.upgrade(made)
    record.downgrade(made, RELEASES[release])
    frozen = record.connect(f"sqlite:///{tmp_path}/frozen.db")

    assert shape(frozen) == shape(made)
    made.dispose()
    frozen.dispose()


def shape(engine: Engine) -> Shape:
    """Of each table the columns, and what has to be unique."""
    known = sqlalchemy.inspect(engine)
    return {
        name: (
            {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in known.get_columns(name)
            },
            {tuple(one["column_names"]) for one in known.get_unique_constraints(name)},
        )
        for name in known.get_table_names()
    }


def test_tables_only_grow_from_revision_to_revision_so_that_lanes_of_the_release_before_work_on(tmp_path: Path) -> None:
    engine = record.connect(f"sqlite:///{tmp_path}/pipeline.db")
    record.upgrade(engine)
    revisions = [one for one in record.earlier(engine) if one >= min(RELEASES.values())]
    newer, above = shape(engine), record.revisions(engine)[1]
    for revision in revisions:
        record.downgrade(engine, revision)
        older = shape(engine)
        for table, (columns, unique) in older.items() if revision[0] == above[0] else ():
            more, more_unique = newer[table]
            added = {name: one for name, one in more.items() if name not in columns}
            assert columns.items() <= more.items(), f"{above} changes columns of {table}, which {revision} writes"
            assert all(nullable or default for _, nullable, default in added.values()), f"{above}: {table}: {added}"
            assert more_unique <= unique, f"{above} wants more of {table} to be unique than {revision} sees to"
        newer, above = older, revision
    engine.dispose()

    assert above == min(RELEASES.values())


def made_by_a_later_release(site: Site, revision: str) -> None:
    with closing(sqlite3.connect(site.home / "pipeline.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])
        database.commit()


def test_tables_of_a_later_release_serve_and_are_left_alone(site: Site) -> None:
    made_by_a_later_release(site, "0999")

    told, upgraded = site.call("db", "status"), site.call("db", "upgrade")

    assert (told.returncode, upgraded.returncode) == (0, 0), upgraded.stderr
    assert lines(told.stdout, "revision 0999", "later release")
    for words in (["downgrade", "0006", "--yes"], ["export", str(site.home / "record.gz")]):
        refused = site.call("db", *words)  # it would lose what it does not know
        assert refused.returncode == 2
        assert lines(refused.stderr, "0999", "the release that made them")
    assert site.call("status").returncode == 0
    assert site.call("run", "--lanes", "1").returncode == 0
    assert [row["version_num"] for row in site.rows("alembic_version")] == ["0999"]


def test_tables_from_which_a_later_release_took_something_are_refused_with_what_to_do(site: Site) -> None:
    made_by_a_later_release(site, "1001")

    for words in (["status"], ["run", "--lanes", "1"], ["db", "upgrade"]):
        refused = site.call(*words)

        assert refused.returncode != 0
        assert lines(refused.stderr, "revision 1001", "take a later release of the program on this host")
        assert "db upgrade" not in refused.stderr
