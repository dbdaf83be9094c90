"""The record as one file, from which a database of any of the three kinds is filled. docs/backups.md has its format.

Lines of JSON in gzip: a header; each table, then its rows; an end with the counts and digests of what went before.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, Table, TableClause, column, func, insert, inspect, null, select
from sqlalchemy import table as clause
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.types import NullType, TypeEngine

from pipeline.foundation import durable
from pipeline.foundation.errors import PipelineError, UsageError
from pipeline.foundation.work import Pulse, rfc3339
from pipeline.record.engine import lift_limits, reading, translated, writing
from pipeline.record.lanes import pause_of
from pipeline.record.schema import bring_to, revisions, see_known, upgrade
from pipeline.record.states import aware, naive
from pipeline.record.tables import Moment, lanes, leases, metadata, utc_in

_FORMAT, _VERSION = "bag-pipeline record", 1
_STAY = {leases.name, lanes.name}  # who holds what, and is alive, is true of one database alone
_KINDS = {datetime: "time", object: "json", str: "text", int: "integer", float: "number"}
_TYPES: Mapping[str, TypeEngine[Any]] = {"time": Moment(), "json": JSON(none_as_null=True)}
_LONGEST_LINE = 1 << 28
_BATCH_ROWS, _BATCH_BYTES = 1000, 4 << 20
_FETCHED = 200
_TOLD_EVERY = 500

_HEADER = ("revision", "made_on", "made_by", "paused", "held", "alive")


class ImportDiffers(PipelineError):
    """What was read back from a database is not what was written into it; nothing was imported."""


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
        digests: of the rows of each table, in whatever order; see `_Digest`.
        columns: of each table, with the kind of their values.
    """

    revision: str
    made_on: str
    made_by: str
    paused: bool
    held: int
    alive: int
    rows: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def is_still(self) -> bool:
        """Whether nobody was at work, and nobody would begin: then it may be moved to another database."""
        return self.paused and not self.held and not self.alive


class _Digest:
    """A digest of rows in whatever order: databases sort text each in its own way. The sum of the SHA-512 of each."""

    def __init__(self) -> None:
        self.rows, self._sum = 0, 0

    def add(self, row: Sequence[Any]) -> None:
        self.rows += 1
        # MySQL keeps the names in JSON in an order of its own.
        digest = hashlib.sha512(json.dumps(row, sort_keys=True).encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest)) % (1 << 512)

    def __str__(self) -> str:
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
        there = _tables(connection)
        contents = Contents(
            revision=revision,
            made_on=rfc3339(aware(connection.scalar(select(utc_in())))),
            made_by=product,
            paused=paused,
            held=_count(connection, leases, leases.c.until > utc_in()),
            alive=_count(connection, lanes, lanes.c.seen_on >= utc_in(-silent_seconds)),
        )
        total = sum(_count(connection, table) for table in there)
        with durable.written(file, mode=0o600) as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            lines = _Writer(packed)
            told = {name: getattr(contents, name) for name in _HEADER}
            lines.write({"format": _FORMAT, "version": _VERSION, **told})
            digests = {table.name: _export(connection, table, lines, pulse, total) for table in there}
            contents = _with(contents, digests)
            lines.write({"end": {"rows": contents.rows, "digests": contents.digests, "sha512": lines.hash.hexdigest()}})
    return contents


def _with(contents: Contents, digests: Mapping[str, _Digest]) -> Contents:
    rows = {name: digest.rows for name, digest in digests.items()}
    return replace(contents, rows=rows, digests={name: str(digest) for name, digest in digests.items()})


class _Writer:
    """Lines of JSON, and the digest of those so far."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file, self.hash, self.rows = file, hashlib.sha512(), 0

    def write(self, line: object) -> None:
        told = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self.hash.update(told)
        self._file.write(told)


def _export(connection: Connection, table: Table, lines: _Writer, pulse: Pulse, total: int) -> _Digest:
    there = {one["name"] for one in inspect(connection).get_columns(table.name)}
    kinds = {one.name: _KINDS[one.type.python_type] for one in table.c if one.name in there}
    lines.write({"table": table.name, "columns": kinds})
    digest = _Digest()
    for row in _rows(connection, table.name, kinds):
        digest.add(row)
        lines.write(row)
        lines.rows += 1
        if lines.rows % _TOLD_EVERY == 0:
            pulse(lines.rows, total)
    return digest


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as it is at its first look, for as long as it takes."""
    lite = engine.dialect.name == "sqlite"
    with translated(), engine.connect() as connection:
        if lite:
            # Read-only, without the write lock that transactions of ours begin with.
            connection = connection.execution_options(pipeline_reads=True)  # noqa: PLW2901  # the same, in another mode
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901  # as above
            lift_limits(connection)
        yield connection
    engine.dispose()  # its connections have no limits any more


def _tables(connection: Connection) -> list[Table]:
    """Those of ours that are there, at whatever revision; each after those that it points to."""
    there = set(inspect(connection).get_table_names())
    return [table for table in metadata.sorted_tables if table.name in there - _STAY]


def _count(connection: Connection, table: Table, *of: Any) -> int:
    if not inspect(connection).has_table(table.name):
        return 0
    return int(connection.scalar(select(func.count()).select_from(table).where(*of)) or 0)


def _as_told(name: str, kinds: Mapping[str, str]) -> TableClause:
    """A table of any revision, with these columns."""
    return clause(name, *(column(one, _TYPES.get(kind, NullType())) for one, kind in kinds.items()))


def _rows(connection: Connection, name: str, kinds: Mapping[str, str]) -> Iterator[list[Any]]:
    found = connection.execute(
        select(_as_told(name, kinds)), execution_options={"stream_results": True, "yield_per": _FETCHED}
    )
    times = [at for at, kind in enumerate(kinds.values()) if kind == "time"]
    for row in found:
        told = list(row)
        for at in times:
            told[at] = _told(told[at])
        yield told


def _told(moment: object) -> str | None:
    """A time as it is told, in UTC; MySQL's 0000-00-00, which its old settings allowed, is none."""
    return rfc3339(aware(moment)) if isinstance(moment, date) else None


def look(file: Path) -> Contents:
    """What a file holds, read to its end: it is whole, and its rows are as many and as they were.

    Raises:
        UsageError: it is not.
    """
    digests: dict[str, _Digest] = {}
    columns: dict[str, Mapping[str, str]] = {}
    lines = _lines(file)
    header = next(lines)
    try:
        if header["format"] != _FORMAT or header["version"] != _VERSION:
            raise UsageError(f"{file} is of version {header['version']}; this release reads {_VERSION} alone")
        contents = Contents(**{name: header[name] for name in _HEADER})
        digest = _Digest()
        for line in lines:
            if isinstance(line, list):
                digest.add(line)
            elif "table" in line:
                digest = digests[line["table"]] = _Digest()
                columns[line["table"]] = line["columns"]
            else:
                told = line["end"]
        found = _with(contents, digests)
        if (found.rows, found.digests) != (told["rows"], told["digests"]):
            raise _spoilt(file, "it has other rows than its end tells")
    except (KeyError, TypeError) as error:
        raise _spoilt(file, f"no {error} where there should be one") from error
    return replace(found, columns=columns)


def _spoilt(file: Path, why: str) -> UsageError:
    return UsageError(f"{file} is no record that can be imported: {why}", kept="nothing was imported")


def _lines(file: Path) -> Iterator[Any]:
    """The lines, parsed; the last one is the end, whose digest is that of all lines before it.

    Raises:
        UsageError: the file cannot be read, or is not whole.
    """
    before, line = hashlib.sha512(), {}
    try:
        with gzip.open(file) as packed:
            while told := packed.readline(_LONGEST_LINE):
                line = json.loads(told)
                if isinstance(line, dict) and "end" in line:
                    break
                before.update(told)
                yield line
            more = packed.read(1)
        whole = isinstance(line, dict) and line.get("end", {}).get("sha512") == before.hexdigest() and not more
    except OSError as error:
        raise _spoilt(file, error.strerror or str(error)) from error
    except (ValueError, EOFError, zlib.error, AttributeError) as error:
        raise _spoilt(file, str(error)) from error
    if not whole:
        raise _spoilt(file, "it is cut off, or was changed")
    yield line


def load(engine: Engine, file: Path, contents: Contents, *, pulse: Pulse) -> None:
    """Fill an empty database with what a file holds, in one transaction, and match what is read back of it.

    The tables are first brought to the file's revision, and to this release's when its rows are in them: killed before
    that, `db upgrade` goes on; killed earlier, nothing was imported.

    Args:
        engine: the database.
        file: as `export` wrote it.
        contents: as `look` found it.
        pulse: called with rows done, and rows in all; they are written, then read.

    Raises:
        UsageError: something is in the database, or it cannot hold what the file does, or that is of a later release.
        ImportDiffers: it was not read back as it was written.
        DatabaseUnavailable: it is out of reach.
    """
    with reading(engine) as connection:
        _see_empty(connection)
    bring_to(engine, contents.revision)
    with writing(engine) as connection:
        lift_limits(connection)
        _see_empty(connection)
        _fill(connection, file, contents, pulse)
        _match(connection, contents, pulse)
        if engine.dialect.name == "postgresql":
            _go_on_counting(connection, contents)
    engine.dispose()  # its connections have no limits any more
    upgrade(engine)


def _see_empty(connection: Connection) -> None:
    there = set(inspect(connection).get_table_names())
    counts = {name: _count(connection, table) for name, table in metadata.tables.items() if name in there}
    if full := ", ".join(f"{name} ({count:,})" for name, count in counts.items() if count):
        raise UsageError(
            f"the database is not empty: there are rows in {full}; nothing was imported",
            by_hand="set [database] url to an empty database, then the same again",
            go_on=("db", "status"),
        )


def _fill(connection: Connection, file: Path, contents: Contents, pulse: Pulse) -> None:
    ours = {table.name for table in _tables(connection)}
    if others := contents.columns.keys() - ours:
        raise _spoilt(file, f"{', '.join(sorted(others))} is no table of the record")
    done, into = 0, ""
    for is_row, lines in groupby(_lines(file), key=lambda line: isinstance(line, list)):
        if not is_row:
            into = list(lines)[-1].get("table", "")
            continue
        for rows in _batches(lines):
            _insert(connection, into, contents.columns[into], rows)
            done += len(rows)
            pulse(done, 2 * sum(contents.rows.values()))


def _batches(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    """As many rows at once as fit into a statement and into memory."""
    batch: list[list[Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(str(row))
        if len(batch) == _BATCH_ROWS or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _insert(connection: Connection, name: str, kinds: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
    values = [dict(zip(kinds, map(_value, row, kinds.values()), strict=True)) for row in rows]
    try:
        connection.execute(insert(_as_told(name, kinds)), values)
    except (DataError, IntegrityError) as error:
        raise UsageError(
            f"{name}: the database does not take one of its rows: {' '.join(str(error.orig).split())}; "
            "nothing was imported",
            by_hand="give it a database of UTF-8; see docs/backups.md",
        ) from error


def _value(told: Any, kind: str) -> Any:
    if kind == "time" and told is not None:
        return naive(datetime.fromisoformat(told).astimezone(UTC))
    return null() if kind == "json" and told is None else told


def _match(connection: Connection, contents: Contents, pulse: Pulse) -> None:
    """Every row is read back, and is as the file has it."""
    done = sum(contents.rows.values())
    for name, kinds in contents.columns.items():
        digest = _Digest()
        for row in _rows(connection, name, kinds):
            digest.add(row)
            done += 1
            if done % _TOLD_EVERY == 0:
                pulse(done, 2 * sum(contents.rows.values()))
        if (digest.rows, str(digest)) != (contents.rows[name], contents.digests[name]):
            raise ImportDiffers(
                f"{name}: the {digest.rows:,} rows read back are not those that were written; nothing was imported",
                by_hand="see to the database's character set and disk",
                go_on=("check",),
            )


def _go_on_counting(connection: Connection, contents: Contents) -> None:
    """PostgreSQL's sequences go on after the highest number; the others do so by themselves."""
    for table in _tables(connection):
        number = table.autoincrement_column
        if number is not None and contents.rows.get(table.name):
            sequence = func.pg_get_serial_sequence(table.name, number.name)
            connection.scalar(select(func.setval(sequence, select(func.max(number)).scalar_subquery())))
