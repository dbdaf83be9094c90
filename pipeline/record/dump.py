"""The record as one file, from which a database of any of the three kinds is filled. docs/backups.md has its format.

Lines of JSON in gzip: a header; each table, then its rows; an end with the counts and digests of what went before.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, Table, TableClause, column, func, inspect, select
from sqlalchemy import table as clause
from sqlalchemy.types import NullType, TypeEngine

from pipeline.foundation import durable
from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import Pulse, rfc3339
from pipeline.record.engine import lift_limits, translated
from pipeline.record.lanes import pause_of
from pipeline.record.schema import revisions, see_known
from pipeline.record.states import aware
from pipeline.record.tables import Moment, lanes, leases, metadata, utc_in

FORMAT, VERSION = "bag-pipeline record", 1
HEADER = ("revision", "made_on", "made_by", "paused", "held", "alive")
"""What of `Contents` stands in the header."""
_STAY = {leases.name, lanes.name}  # who holds what, and is alive, is true of one database alone
_KINDS = {datetime: "time", object: "json", str: "text", int: "integer", float: "number"}
_TYPES: Mapping[str, TypeEngine[Any]] = {"time": Moment(), "json": JSON(none_as_null=True)}
_FETCHED = 200

Kinds = Mapping[str, str]
"""The columns of a table, in order, with the kind of their values."""


@dataclass(frozen=True)
class Contents:
    """What a file holds, or was made of.

    Attributes:
        revision: of the tables.
        made_on: when, by the database's clock.
        made_by: the release that made it.
        paused: whether intake was paused.
        held: works that lanes held.
        alive: lanes that were alive.
        rows: how many, by table.
        digests: of the rows of each table, in whatever order; see `RowsDigest`.
        columns: of each table.
    """

    revision: str
    made_on: str
    made_by: str
    paused: bool
    held: int
    alive: int
    rows: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Kinds] = field(default_factory=dict)

    @property
    def is_still(self) -> bool:
        """Whether nobody was at work, and nobody would begin: then it may be moved to another database."""
        return self.paused and not self.held and not self.alive

    def of(self, digests: Mapping[str, "RowsDigest"]) -> "Contents":
        """The same with what was counted of each table."""
        rows = {name: digest.rows for name, digest in digests.items()}
        return replace(self, rows=rows, digests={name: str(digest) for name, digest in digests.items()})


class RowsDigest:
    """A digest of rows in whatever order: databases sort text each in its own way. The sum of the SHA-512 of each."""

    def __init__(self) -> None:
        self.rows, self._sum = 0, 0

    def add(self, row: Sequence[Any]) -> None:
        """One row more."""
        self.rows += 1
        # MySQL keeps the names in JSON in an order of its own.
        digest = hashlib.sha512(json.dumps(row, sort_keys=True).encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest)) % (1 << 512)

    def __str__(self) -> str:
        """In hexadecimal."""
        return f"{self._sum:0128x}"


def export(engine: Engine, file: Path, *, product: str, silent_seconds: int, pulse: Pulse) -> Contents:
    """Write the record to a new file, as it is at one instant; lanes may go on. Killed, there is no file of that name.

    Args:
        engine: the record.
        file: its name; durable when this returns.
        product: the release that runs.
        silent_seconds: after which a lane that was not seen is not alive.
        pulse: called with rows done, and rows in all.

    Raises:
        OSError: it cannot be written.
        UsageError: there are no tables of ours in the database, or those of a later release.
        DatabaseUnavailable: it is out of reach.
    """
    revision, _ = revisions(engine)
    if revision is None:
        raise UsageError(
            "the database has no tables of the pipeline", by_hand="see to [database] url", go_on=("check",)
        )
    see_known(revision)
    paused = pause_of(engine) is not None
    with _snapshot(engine) as connection:
        contents = Contents(
            revision=revision,
            made_on=rfc3339(aware(connection.scalar(select(utc_in())))),
            made_by=product,
            paused=paused,
            held=count(connection, leases, leases.c.until > utc_in()),
            alive=count(connection, lanes, lanes.c.seen_on >= utc_in(-silent_seconds)),
        )
        with durable.written(file, mode=0o600) as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            return _write(connection, contents, packed, pulse)


def _write(connection: Connection, contents: Contents, packed: gzip.GzipFile, pulse: Pulse) -> Contents:
    before, digests, done = hashlib.sha512(), {}, 0
    tables = tables_in(connection)
    total = sum(count(connection, table) for table in tables)

    def write(line: object) -> None:
        told = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        before.update(told)
        packed.write(told)

    write({"format": FORMAT, "version": VERSION, **{name: getattr(contents, name) for name in HEADER}})
    for table in tables:
        there = {one["name"] for one in inspect(connection).get_columns(table.name)}
        kinds = {one.name: _KINDS[one.type.python_type] for one in table.c if one.name in there}
        write({"table": table.name, "columns": kinds})
        digest = digests[table.name] = RowsDigest()
        for rows in rows_in(connection, table.name, kinds):
            for row in rows:
                digest.add(row)
                write(row)
            done += len(rows)
            pulse(done, total)
    contents = contents.of(digests)
    write({"end": {"rows": contents.rows, "digests": contents.digests, "sha512": before.hexdigest()}})
    return contents


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as it is at its first look, for as long as it takes."""
    with translated(), engine.connect() as there:
        if engine.dialect.name == "sqlite":
            # Read-only, without the write lock that transactions of ours begin with.
            connection = there.execution_options(pipeline_reads=True)
            connection.exec_driver_sql("BEGIN")
        else:
            connection = there.execution_options(isolation_level="REPEATABLE READ")
            lift_limits(connection)
        yield connection
    engine.dispose()  # its connections have no limits any more


def tables_in(connection: Connection) -> list[Table]:
    """The tables that a file has, of those that are there, at whatever revision; each after those that it points to."""
    there = set(inspect(connection).get_table_names())
    return [table for table in metadata.sorted_tables if table.name in there - _STAY]


def count(connection: Connection, table: Table, *of: Any) -> int:
    """How many rows there are, or such rows; 0 where there is no such table."""
    if not inspect(connection).has_table(table.name):
        return 0
    return int(connection.scalar(select(func.count()).select_from(table).where(*of)) or 0)


def as_told(name: str, kinds: Kinds) -> TableClause:
    """A table of any revision, with these columns."""
    return clause(name, *(column(one, _TYPES.get(kind, NullType())) for one, kind in kinds.items()))


def rows_in(connection: Connection, name: str, kinds: Kinds) -> Iterator[list[list[Any]]]:
    """All rows of a table as a file has them, some at a time."""
    streamed = {"stream_results": True, "yield_per": _FETCHED}
    for some in connection.execute(select(as_told(name, kinds)), execution_options=streamed).partitions():
        yield [
            [_time(told) if kind == "time" else told for told, kind in zip(row, kinds.values(), strict=True)]
            for row in some
        ]


def _time(moment: object) -> str | None:
    """In UTC; MySQL's 0000-00-00, which its old settings allowed, is none."""
    return rfc3339(aware(moment)) if isinstance(moment, date) else None
