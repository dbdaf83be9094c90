"""The database's own clock, so that hosts whose clocks differ agree on when a lease ends."""

from typing import Any

from sqlalchemy import DateTime
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class utc_in(FunctionElement[Any]):  # noqa: N801  # an SQL function, named as SQL functions are
    """The database's time in UTC, so many whole seconds from now."""

    type = DateTime()
    inherit_cache = False

    def __init__(self, seconds: int = 0) -> None:
        self.seconds = int(seconds)
        super().__init__()


@compiles(utc_in, "sqlite")
def _sqlite(element: utc_in, _compiler: SQLCompiler, **_: Any) -> str:
    # SQLAlchemy keeps datetimes in SQLite as text of microseconds; SQLite tells milliseconds.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '{element.seconds:+d} seconds')"


@compiles(utc_in, "postgresql")
def _postgresql(element: utc_in, _compiler: SQLCompiler, **_: Any) -> str:
    return f"(timezone('utc', clock_timestamp()) + interval '{element.seconds:d} seconds')"


@compiles(utc_in, "mysql")
@compiles(utc_in, "mariadb")
def _mysql(element: utc_in, _compiler: SQLCompiler, **_: Any) -> str:
    return f"TIMESTAMPADD(SECOND, {element.seconds:d}, UTC_TIMESTAMP(6))"
