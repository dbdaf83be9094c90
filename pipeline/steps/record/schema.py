"""Making and upgrading the tables: Alembic, applied at first use of an empty database."""

from pathlib import Path

from sqlalchemy import Engine, inspect

from pipeline.errors import PipelineError
from pipeline.steps.record.engine import reading, writing

_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


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
    if found != wanted:
        raise SchemaOutdated(
            f"the database has the tables of revision {found or 'none'}, this release needs {wanted}",
            go_on="run_pipeline.py db upgrade",
        )


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """The revision of the tables there are, and the one that this release needs."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            found = None
        else:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found, _newest()


def _newest() -> str | None:
    # Read from the files' names: importing Alembic costs a second, which every run would pay.
    versions = sorted(path.stem.split("_", 1)[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    return versions[-1] if versions else None


def upgrade(engine: Engine) -> None:
    """Bring the tables to this release, from empty or from any earlier one.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    from alembic import command  # noqa: PLC0415  # costs a second to import, and is needed once in a database's life
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
