"""A database filled with what `dump` wrote: all of it, read back and matched, or nothing."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, null, select
from sqlalchemy.exc import DataError, IntegrityError

from pipeline.foundation.errors import PipelineError, UsageError
from pipeline.foundation.work import Pulse
from pipeline.record.dump import (
    FORMAT,
    HEADER,
    VERSION,
    Contents,
    Kinds,
    RowsDigest,
    as_told,
    count,
    rows_in,
    tables_in,
)
from pipeline.record.engine import lift_limits, reading, writing
from pipeline.record.schema import bring_to, upgrade
from pipeline.record.states import naive
from pipeline.record.tables import metadata

_LONGEST_LINE = 1 << 28
_BATCH_ROWS, _BATCH_BYTES = 1000, 4 << 20


class ImportDiffers(PipelineError):
    """What was read back from a database is not what was written into it; nothing was imported."""


def look(file: Path) -> Contents:
    """What a file holds, read to its end: it is whole, and its rows are as many and as they were.

    Raises:
        UsageError: it is not.
    """
    digests, columns, digest = {}, {}, RowsDigest()
    lines = _lines(file)
    header = next(lines)
    try:
        if (header["format"], header["version"]) != (FORMAT, VERSION):
            raise _spoilt(file, f"{header['format']} {header['version']} instead of {FORMAT} {VERSION}")
        for line in lines:
            if isinstance(line, list):
                digest.add(line)
            elif "table" in line:
                digest = digests[line["table"]] = RowsDigest()
                columns[line["table"]] = line["columns"]
            else:
                told = line["end"]
        found = Contents(**{name: header[name] for name in HEADER}).of(digests)
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
        file: as `dump.export` wrote it.
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
            _go_on_counting(connection)
    engine.dispose()  # its connections have no limits any more
    upgrade(engine)


def _see_empty(connection: Connection) -> None:
    counts = {name: count(connection, table) for name, table in metadata.tables.items()}
    if full := ", ".join(f"{name} ({rows:,})" for name, rows in counts.items() if rows):
        raise UsageError(
            f"the database is not empty: there are rows in {full}; nothing was imported",
            by_hand="set [database] url to an empty database, then the same again",
            go_on=("db", "status"),
        )


def _fill(connection: Connection, file: Path, contents: Contents, pulse: Pulse) -> None:
    if others := contents.columns.keys() - {table.name for table in tables_in(connection)}:
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


def _insert(connection: Connection, name: str, kinds: Kinds, rows: Sequence[Sequence[Any]]) -> None:
    values = [dict(zip(kinds, map(_value, row, kinds.values()), strict=True)) for row in rows]
    try:
        connection.execute(insert(as_told(name, kinds)), values)
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
        digest = RowsDigest()
        for rows in rows_in(connection, name, kinds):
            for row in rows:
                digest.add(row)
            pulse(done + digest.rows, 2 * sum(contents.rows.values()))
        done += digest.rows
        if (digest.rows, str(digest)) != (contents.rows[name], contents.digests[name]):
            raise ImportDiffers(
                f"{name}: the {digest.rows:,} rows read back are not those that were written; nothing was imported",
                by_hand="see to the database's character set and disk",
                go_on=("check",),
            )


def _go_on_counting(connection: Connection) -> None:
    """PostgreSQL's sequences go on after the highest number; the others do so by themselves."""
    for table in tables_in(connection):
        if (number := table.autoincrement_column) is not None:
            sequence = func.pg_get_serial_sequence(table.name, number.name)
            connection.scalar(select(func.setval(sequence, select(func.max(number)).scalar_subquery())))
