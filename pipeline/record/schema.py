"""Making and upgrading the tables: Alembic, applied at first use of an empty database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, func, inspect, select

from pipeline.foundation.errors import DatabaseUnavailable, PipelineError, UsageError
from pipeline.record.engine import lift_limits, reading, writing

_LOCK = 2_042_251  # any number, the same on every host
_PATIENCE_SECONDS = 50  # less than the driver waits for an answer
_MIGRATIONS = Path(__file__).resolve().parent / "migrations"


class SchemaOutdated(PipelineError):
    """The tables are not those of this release."""


def prepare(engine: Engine) -> None:
    """Make the tables where there are none; harmless where they are.

    Raises:
        SchemaOutdated: there are tables, but of another release.
        DatabaseUnavailable: the database is out of reach.
    """
    with reading(engine) as connection:
        tables = set(inspect(connection).get_table_names())
    if not tables & {"bags", "alembic_version"}:
        upgrade(engine)
        return
    found, wanted = revisions(engine)
    if not serves(found, wanted):
        with _alone(engine):
            pass  # MySQL shows the tables of another host's upgrade while they are made
        found, wanted = revisions(engine)
    if found is None and "alembic_version" in tables:
        upgrade(engine)  # one that was killed before its first revision stood
        return
    if not serves(found, wanted):
        raise _outdated(found, wanted)


def serves(found: str | None, wanted: str) -> bool:
    """Whether tables of one revision serve a release that needs another: they are its own, or later ones with more.

    A revision that takes something away begins with another digit (docs/decisions/0068).
    """
    return found is not None and found[0] == wanted[0] and found >= wanted


def _outdated(found: str | None, wanted: str) -> SchemaOutdated:
    what = f"the database has the tables of revision {found or 'none'}, this release needs {wanted}"
    if found and found > wanted:
        return SchemaOutdated(what, by_hand="take a later release of the program on this host")
    return SchemaOutdated(what, go_on=("db", "upgrade"))


def revisions(engine: Engine) -> tuple[str | None, str]:
    """The revision of the tables there are, and the one that this release needs."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            found = None
        else:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found, _all()[-1]


def earlier(engine: Engine) -> list[str]:
    """The revisions that the tables can be brought back to, the newest first.

    Raises:
        UsageError: this release does not know all that is in them.
    """
    found, _ = revisions(engine)
    see_known(found or _all()[0])
    return [revision for revision in reversed(_all()) if found and revision < found]


def see_known(revision: str) -> None:
    """See that this release knows all that is in tables of a revision.

    Raises:
        UsageError: it does not; they may serve it for all that.
    """
    if revision not in _all():
        raise UsageError(
            f"the tables are of revision {revision}, this release knows up to {_all()[-1]}; nothing was changed",
            by_hand="the same with the release that made them, or a later one",
        )


def _all() -> list[str]:
    # Read from the files' names: importing Alembic costs a second, which every run would pay.
    return sorted(path.stem.split("_", 1)[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def upgrade(engine: Engine) -> None:
    """Bring the tables to this release, from empty, from any earlier one, or from where an upgrade was killed.

    Raises:
        SchemaOutdated: a later release took away what this one needs.
    """
    found, wanted = revisions(engine)
    if serves(found, wanted):
        return
    if found and found > wanted:
        raise _outdated(found, wanted)
    _migrate(engine, "upgrade", "head")


def bring_to(engine: Engine, revision: str) -> None:
    """Bring tables in which nothing is to those of a revision, from whatever there are.

    Raises:
        UsageError: this release does not know it.
    """
    found, _ = revisions(engine)
    for one in (revision, found or revision):
        see_known(one)
    if found != revision:
        _migrate(engine, "downgrade" if found and found > revision else "upgrade", revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Bring the tables back to an earlier revision; what only later ones hold is gone. `base`: to none of ours."""
    _migrate(engine, "downgrade", revision)


def _migrate(engine: Engine, way: Literal["upgrade", "downgrade"], revision: str) -> None:
    from alembic import command  # noqa: PLC0415  # costs a second to import, and is needed once in a database's life
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with _alone(engine), writing(engine) as connection:
        lift_limits(connection)
        config.attributes["connection"] = connection
        getattr(command, way)(config, revision)
    engine.dispose()  # its connections have no limits any more


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """One at a time: hosts that find an empty database at the same moment would all make its tables.

    SQLite needs no more than the transaction, which holds the write lock. Elsewhere the lock is held by a connection of
    its own, until the other has committed, and ends with it.

    Raises:
        DatabaseUnavailable: another host has been at it for nearly a minute.
    """
    if engine.dialect.name == "sqlite":
        yield
        return
    with reading(engine) as connection:
        lift_limits(connection)
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET lock_timeout = '{_PATIENCE_SECONDS}s'")
            take, give_back = func.pg_advisory_lock(_LOCK), func.pg_advisory_unlock(_LOCK)
        else:
            name = func.md5(func.concat(_LOCK, func.database()))  # 64 characters at most
            take, give_back = func.get_lock(name, _PATIENCE_SECONDS), func.release_lock(name)
        if connection.scalar(select(take)) == 0:  # PostgreSQL ends with an error instead
            raise DatabaseUnavailable("another host is changing the tables", go_on=("db", "status"))
        try:
            yield
        finally:
            connection.scalar(select(give_back))
            connection.invalidate()  # nothing of this is left to the next user of the connection
