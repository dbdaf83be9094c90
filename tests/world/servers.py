"""Real database servers for the tests: on loopback, in temporary folders, ended by their own process id."""

import functools
import glob
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil
import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from pipeline import record
from tests.world.stack import wait_until


def program(name: str, *folders: str) -> str | None:
    """Where a server's program is, also where Debian hides it."""
    found = sorted(path for folder in folders for path in glob.glob(f"{folder}/{name}"))
    return shutil.which(name) or (found[-1] if found else None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_user(*names: str) -> str | None:
    """Servers refuse to run as root: the first of these users that there is; None for who is not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in (*names, "nobody") if name in known), None)


def answers(url: str) -> bool:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect():
            return True
    except OperationalError:
        return False
    finally:
        engine.dispose()


def forking() -> ForkServerContext:
    """Makes processes that have connections of their own only, forked from one that has imported the record."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.record", "pymysql", "psycopg", "alembic.command", "pytest", __name__])
    return context


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that a server's own user may enter; pytest's are closed to others, and closed again by each session."""
    made = Path(tempfile.mkdtemp(prefix="pipeline-server-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@contextmanager
def _running(command: list[str], url: str, *, folder: Path, user: str | None, stop: signal.Signals) -> Iterator[str]:
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user, cwd=folder)
    try:
        wait_until(lambda: server.poll() is not None or answers(url), seconds=60, every=0.2)
        assert server.poll() is None, (folder / "server.log").read_text(encoding="utf-8", errors="replace")
        yield url
    finally:
        server.send_signal(stop)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def postgresql(folder: Path) -> Iterator[str | None]:
    """A PostgreSQL server; yields the URL of an empty database, or None where it is not installed."""
    initdb = program("initdb", "/usr/lib/postgresql/*/bin")
    if initdb is None:
        yield None
        return
    user, port = server_user("postgres"), free_port()
    _give(folder, user)
    data = folder / "data"
    subprocess.run(
        [initdb, "--pgdata", str(data), "--username", "tests", "--auth", "trust", "--encoding", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    command = [str(Path(initdb).parent / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
    command += ["-k", str(data), "-F"]
    url = f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"
    with _running(command, url, folder=folder, user=user, stop=signal.SIGINT) as running:
        yield running


@contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """The PostgreSQL server of this folder is away while the block runs, and then back on the same port.

    PostgreSQL's own supervisor process stays the one that was started: only its children go, as in a crash.
    """
    postmaster = int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    os.kill(postmaster, signal.SIGSTOP)
    for child in psutil.Process(postmaster).children():
        child.kill()
    try:
        yield
    finally:
        os.kill(postmaster, signal.SIGCONT)


@contextmanager
def mariadb(folder: Path) -> Iterator[str | None]:
    """A MariaDB server; yields the URL of an empty database, or None where it is not installed."""
    server, install = program("mariadbd", "/usr/sbin"), program("mariadb-install-db", "/usr/bin")
    if server is None or install is None:
        yield None
        return
    user, port = server_user("mysql"), free_port()
    _give(folder, user)
    data = folder / "data"
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    command = [server, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"]
    command += [
        f"--socket={data}/socket",
        f"--pid-file={data}/pid",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-method=nosync",  # as PostgreSQL's -F: no test pulls its plug
        "--innodb-flush-log-at-trx-commit=0",
    ]
    url = f"mariadb+pymysql://root@127.0.0.1:{port}"
    with _running(command, url, folder=folder, user=user, stop=signal.SIGTERM):
        wait_until(lambda: _makes_database(url), seconds=30, every=0.5)
        yield f"{url}/works?charset=utf8mb4"


def _makes_database(url: str) -> bool:
    """Just started, MariaDB may find its own tables still held by the process that made them."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("FLUSH TABLES")
            connection.exec_driver_sql("CREATE DATABASE IF NOT EXISTS works CHARACTER SET utf8mb4")
    except OperationalError:
        return False
    finally:
        engine.dispose()
    return True


@contextmanager
def empty_database(url: str, *, template: str = "") -> Iterator[str]:
    """A database of its own for one test, on a running server; of PostgreSQL also as a copy of another one."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with _administrator(url) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    yield _named(url, name)
    with _administrator(url) as connection:
        force = " WITH (FORCE)" if connection.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP DATABASE {name}{force}")


@contextmanager
def database_with_tables(url: str) -> Iterator[str]:
    """As `empty_database`, with the pipeline's tables and nothing in them: copied, for to make them takes longer."""
    template = _template(url)
    if sqlalchemy.make_url(url).get_backend_name() == "postgresql":
        with empty_database(url, template=template) as copied:
            yield copied
        return
    with empty_database(url) as empty:
        with _administrator(empty) as connection:
            connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")  # tables are not made in their order
            for statement in _statements(url, template):
                connection.exec_driver_sql(statement)
        yield empty


@functools.cache
def _template(url: str) -> str:
    """The database that others are copied from; it is made once, and goes with its server."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with _administrator(url) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine = record.connect(_named(url, name))
    record.prepare(engine)
    engine.dispose()
    return name


@functools.cache
def _statements(url: str, template: str) -> Sequence[str]:
    """What makes the same tables of MariaDB, and the rows that migrations left in them."""
    made = []
    with _administrator(_named(url, template)) as connection:
        for table in sqlalchemy.inspect(connection).get_table_names():
            made.append(connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1])
            if connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar():
                made.append(f"INSERT INTO {table} SELECT * FROM {template}.{table}")
    return [statement.replace("%", "%%") for statement in made]


def _named(url: str, name: str) -> str:
    return sqlalchemy.make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def _administrator(url: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _give(folder: Path, user: str | None) -> None:
    """The folder belongs to the server's user."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
