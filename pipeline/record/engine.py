"""The connection to the progress database: SQLite in WAL mode, PostgreSQL, MySQL or MariaDB."""

import functools
import json
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Dialect, Engine, Select, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InternalError,
    InvalidRequestError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

from pipeline.foundation import failpoints
from pipeline.foundation.errors import DatabaseUnavailable, SettingsError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_BUSY_SECONDS = 30
_LOOK_AGAIN_SECONDS = 0.05
# A process may be frozen in the middle of a transaction. The server ends that then, and nobody waits for it for long.
# Ours take milliseconds; a wait for a lock is longer than any, and is tried again until the server must have acted.
_LOCK_SECONDS, _IDLE_SECONDS, _STATEMENT_SECONDS = 2, 10, 50
_AGAIN_SECONDS = 20.0
_SURE_SECONDS = 1.0
# A server that is gone without a word, or frozen, must not hold up a lane for ever.
# UTC: a TIMESTAMP column, as BDRC's are, turns what it is given by the session's time zone, and refuses the hour that
# a change to summer time leaves out. Strict: a server of old settings would cut off what is too long without a word.
_MYSQL: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "write_timeout": 60,
    # What stands in /*M! */ only MariaDB reads, from that version on; what stands in /*!80000 */ only MySQL.
    "init_command": "SET SESSION time_zone = '+00:00',"
    " SESSION sql_mode = CONCAT_WS(',', NULLIF(@@SESSION.sql_mode, ''), 'STRICT_TRANS_TABLES'),"
    f" SESSION innodb_lock_wait_timeout = {_LOCK_SECONDS}"
    f" /*M!100301 , SESSION idle_transaction_timeout = {_IDLE_SECONDS}"
    f", SESSION max_statement_time = {_STATEMENT_SECONDS} */"
    f" /*!80000 , SESSION wait_timeout = {_IDLE_SECONDS}, SESSION max_execution_time = {_STATEMENT_SECONDS * 1000} */",
}
_POSTGRESQL_LIMITS = (
    f"SELECT set_config('lock_timeout', '{_LOCK_SECONDS}s', false),"
    f" set_config('idle_in_transaction_session_timeout', '{_IDLE_SECONDS}s', false),"
    f" set_config('statement_timeout', '{_STATEMENT_SECONDS}s', false)"
)
# For changes of the tables, which take as long as they take, and wait for those who read them.
_PATIENT = {
    "postgresql": "SELECT set_config('lock_timeout', '50s', false), set_config('statement_timeout', '0', false),"
    " set_config('idle_in_transaction_session_timeout', '0', false)",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 50"
    " /*M!100301 , SESSION idle_transaction_timeout = 0, SESSION max_statement_time = 0 */"
    " /*!80000 , SESSION wait_timeout = 28800, SESSION max_execution_time = 0 */",
}
# SQLite's driver commits by itself, and is not to be told to: it would then begin transactions by itself, too.
_READS = "pipeline_reads"
_READING: dict[bool, dict[str, Any]] = {True: {_READS: True}, False: {"isolation_level": "AUTOCOMMIT"}}
_LOCKED = {"55P03", 1205}  # of PostgreSQL, of MySQL and MariaDB: somebody else holds the row
# Ended by the server, with all that it had done: a deadlock, a limit.
_ENDED = {"40P01", "40001", "57014", "25P03", 1213, 1969, 3024}
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")
_PATIENCE: dict[str, dict[str, Any]] = {
    "postgresql": {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "tcp_user_timeout": 60_000},
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}


def parsed_url(text: str) -> URL:
    """The URL, with a relative SQLite file meant from the project's folder.

    Raises:
        SettingsError: it is none, or of another database.
    """
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:  # ValueError: a port that is no number
        raise SettingsError(["[database] url is not an SQLAlchemy URL"]) from error
    if backend not in {"sqlite", "postgresql", "mysql", "mariadb"}:
        raise SettingsError([f"[database] url: {backend} is none of sqlite, postgresql, mysql, mariadb"])
    if backend == "sqlite" and url.database and url.database != ":memory:":
        root = Path(__file__).resolve().parents[2]
        url = url.set(database=str(root / Path(url.database).expanduser()))
    return url


def preload(text: str) -> None:
    """Import the driver of the URL's database, so that processes forked afterwards share it; raises as `connect`."""
    url = parsed_url(text)
    try:
        url.get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError) as error:
        raise _no_driver(error) from error


def connect(text: str) -> Engine:
    """An engine for the URL; nothing is asked of the database yet.

    Raises:
        SettingsError: the URL is wrong, or its driver is not installed.
    """
    url = parsed_url(text)
    backend = url.get_backend_name()
    try:
        if backend == "sqlite":
            Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
            patience = {} if "timeout" in url.query else {"timeout": _BUSY_SECONDS}
            engine = sqlalchemy.create_engine(url, connect_args=patience, json_serializer=_json)
        else:
            engine = sqlalchemy.create_engine(
                url,
                pool_pre_ping=True,
                isolation_level="READ COMMITTED",
                connect_args=_PATIENCE[backend],
                json_serializer=_json,
            )
    except (ImportError, NoSuchModuleError) as error:
        raise _no_driver(error) from error
    except OSError as error:
        raise SettingsError([f"[database] url: {error}"]) from error
    except (ArgumentError, TypeError, ValueError) as error:
        raise _not_taken(url, error) from error
    event.listen(engine, "do_connect", partial(_connected, url))
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_to_write)
    elif backend == "postgresql":
        event.listen(engine, "connect", _limit_postgresql)
    return engine


def _no_driver(error: Exception) -> SettingsError:
    return SettingsError([f"[database] url: its driver is not installed ({error})"])


def _connected(url: URL, dialect: Dialect, _record: Any, args: Any, options: Any) -> Any:
    """A connection of the driver, which raises whatever comes up for an option of the URL that it does not take."""
    try:
        return dialect.connect(*args, **options)
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise _not_taken(url, error) from error


def _not_taken(url: URL, error: Exception) -> SettingsError:
    # Neither the URL nor what the driver says of it is shown: both may hold a password.
    options = ", ".join(sorted(url.query)) or "none"
    return SettingsError([f"[database] url: its driver does not take it ({type(error).__name__}); options: {options}"])


def _limit_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRESQL_LIMITS)
    connection.commit()


def lift_limits(connection: Connection) -> None:
    """Let this connection take its time, as changes of tables do; it is not to be used for anything else afterwards."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(_PATIENT["postgresql" if connection.dialect.name == "postgresql" else "mysql"])


def _json(value: Any) -> str:
    """As ASCII, for columns of any character set; halves of characters, which MariaDB refuses, are spelt out."""
    told = json.dumps(value, ensure_ascii=False)
    if _HALF_CHARACTERS.search(told):
        value = json.loads(_HALF_CHARACTERS.sub(lambda half: f"\\\\u{ord(half[0]):04x}", told))
    return json.dumps(value)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun by `connect`'s listener, not by the driver at the first write: two that have read and then
    # both want to write would fail at once instead of waiting for one another.
    connection.isolation_level = None
    cursor = connection.cursor()
    _turn_to_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")  # NORMAL may forget the last commits in a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_to_write(connection: Connection) -> None:
    if not connection.get_execution_options().get(_READS):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _turn_to_wal(cursor: Any) -> None:
    """Only the first connection of all has to, and it stays so; several at once are told "locked", without a wait."""
    over = time.monotonic() + cursor.execute("PRAGMA busy_timeout").fetchone()[0] / 1000
    while True:
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > over:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


@contextmanager
def translated() -> Iterator[None]:
    """Turns failures of the database that may pass into `DatabaseUnavailable`, without the statement or its values."""
    try:
        yield
    except IntegrityError:
        raise
    except (OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError, InvalidRequestError) as error:
        raise _unavailable("does not answer", error) from error
    except (ProgrammingError, InternalError) as error:
        # A table or a permission that is gone, which SQLite calls an OperationalError: a person can mend it.
        raise _unavailable("refuses", error) from error
    except DatabaseError as error:
        if type(error.orig) is not sqlite3.DatabaseError:
            raise
        raise _unavailable("does not answer", error) from error  # the file is no database of SQLite, or a damaged one


def _unavailable(what: str, error: Exception) -> DatabaseUnavailable:
    reason = str(error.orig if isinstance(error, DBAPIError) else error)
    told = " ".join(reason.strip().partition("\nLINE ")[0].split())  # PostgreSQL tells the statement further down
    named = DatabaseUnavailable(f"the progress database {what}: {told}", go_on=("check",))
    named.locked = not _codes(error).isdisjoint(_LOCKED)
    named.rolled_back = named.locked or not _codes(error).isdisjoint(_ENDED)
    return named


def _codes(error: Exception) -> set[object]:
    """PostgreSQL's SQLSTATE; the number of MySQL and MariaDB, whose SQLSTATE says nothing."""
    orig = error.orig if isinstance(error, DBAPIError) else None
    return {getattr(orig, "sqlstate", None), *getattr(orig, "args", ())[:1]}


def tried_again(transaction: Callable[_P, _T]) -> Callable[_P, _T]:
    """What writes in one transaction does so again where that was certainly rolled back, until the limits are over."""

    @functools.wraps(transaction)
    def tried(*args: _P.args, **named: _P.kwargs) -> _T:
        over = time.monotonic() + _AGAIN_SECONDS
        while True:
            try:
                return transaction(*args, **named)
            except DatabaseUnavailable as error:
                if not error.rolled_back or time.monotonic() > over:
                    raise
            time.sleep(random.uniform(_LOOK_AGAIN_SECONDS, 4 * _LOOK_AGAIN_SECONDS))  # noqa: S311  # spreads load

    return tried


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction, committed at the end; on SQLite it holds the write lock from its beginning.

    Raises:
        DatabaseUnavailable: the database is out of reach, or stayed locked for half a minute.
    """
    with translated():
        with engine.begin() as connection, _rolled_back_if_cut():
            begun = time.monotonic()
            yield connection
            failpoints.before(failpoints.Act.COMMIT)
            if engine.dialect.name != "sqlite" and time.monotonic() - begun > _SURE_SECONDS:
                # Is it there at all? A commit without an answer may have been one.
                connection.exec_driver_sql("SELECT 1")
        failpoints.after(failpoints.Act.COMMIT)


@contextmanager
def _rolled_back_if_cut() -> Iterator[None]:
    """A connection that breaks off before the commit was asked for takes the transaction with it."""
    try:
        with translated():
            yield
    except DatabaseUnavailable as error:
        cause = error.__cause__
        error.rolled_back |= isinstance(cause, DBAPIError) and cause.connection_invalidated
        raise


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection for reading only, which never waits for writers."""
    with translated(), engine.connect() as connection:
        yield connection.execution_options(**_READING[engine.dialect.name == "sqlite"])


def read(engine: Engine, query: Select[Any]) -> Sequence[Any]:
    """All rows that a query finds."""
    with reading(engine) as connection:
        return connection.execute(query).all()
