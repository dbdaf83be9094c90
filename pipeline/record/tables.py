"""The tables of the progress database.

`glacier_sync_progress` is BDRC's own: their reports read it, so its name and columns stay as they are. All times are
UTC without a zone, to the microsecond, by the database's own clock, so that hosts whose clocks differ agree on when a
lease ends.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler, TypeCompiler
from sqlalchemy.sql.functions import FunctionElement

_AT_ONCE = 500

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


class Moment(DateTime):
    """A time, to the microsecond."""


class LongText(Text):
    """Text of up to 16 MiB."""


# Named by what they compile to: the dialect's own types would be imported by whoever has another database, too.
@compiles(Moment, "mysql")
@compiles(Moment, "mariadb")
def _moment(_type: Moment, _compiler: TypeCompiler, **_: Any) -> str:
    return "DATETIME(6)"


@compiles(LongText, "mysql")
@compiles(LongText, "mariadb")
def _long_text(_type: LongText, _compiler: TypeCompiler, **_: Any) -> str:
    return "MEDIUMTEXT"


Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself only when it says INTEGER
Rid = String(255)
BagId = String(16)
# Names differ in case, in marks and in NFC or NFD: a database must not take them for the same.

progress = Table(
    "glacier_sync_progress",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("object_name", Rid, nullable=False, unique=True),
    Column("restore_requested_on", Moment),
    Column("restore_complete_on", Moment),
    Column("download_complete_on", Moment),
    Column("debag_complete_on", Moment),
    Column("sync_complete_on", Moment),
    Column("user_data", JSON),
    Column("create_time", Moment, nullable=False),
    Column("update_time", Moment, nullable=False),
)

bags = Table(
    "bags",
    metadata,
    Column("bag_id", BagId, primary_key=True),
    Column("work_rid", Rid, nullable=False, index=True),
    Column("source", String(255), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Text, nullable=False),
    Column("etag", String(255), nullable=False),
    Column("version_id", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("event_time", Moment),
    Column("restore_expires_on", Moment),
    Column("state", String(20), nullable=False),
    Column("phase", String(20), nullable=False),  # the last step that is done; empty: none
    Column("works", JSON(none_as_null=True)),  # the RIDs that the zip turned out to hold; null until it was debagged
    Column("host", String(255), nullable=False),  # whose staging disk holds what there is of it
    Column("failures", Integer, nullable=False),  # since it was last done or asked for by hand
    Column("error_kind", String(64)),
    Column("error", LongText),
    Column("retry_on", Moment),
    Column("seen_on", Moment, nullable=False),
    Column("updated_on", Moment, nullable=False),
    Index("ix_bags_state_updated_on", "state", "updated_on"),
)

syncs = Table(
    "syncs",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("bag_id", BagId, ForeignKey("bags.bag_id"), nullable=False),
    Column("work_rid", Rid, nullable=False, index=True),
    Column("archive_path", Text, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("synced_on", Moment, nullable=False),
    UniqueConstraint("bag_id", "work_rid"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("work_rid", Rid, nullable=False),
    Column("bag_id", BagId, nullable=False),  # in which the work came; empty: the record knows of none
    Column("replica", String(64), nullable=False),
    Column("content", String(128), nullable=False),  # one digest of the work's digests
    Column("upload_id", Text, nullable=False),  # of an upload that has not ended; empty: it has
    Column("object_key", Text, nullable=False),
    Column("version_id", Text, nullable=False),
    Column("checksum", String(128), nullable=False),  # S3's
    Column("bytes", BigInteger, nullable=False),
    Column("sent_on", Moment),
    Column("looked_on", Moment),
    Column("verdict", String(20), nullable=False),  # of the last look; empty: none was taken
    UniqueConstraint("work_rid", "bag_id", "replica"),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("work_rid", Rid, nullable=False),
    Column("bag_id", BagId, nullable=False),
    Column("step", String(20), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("agent", String(255), nullable=False),  # host, process and lane
    Column("detail", JSON, nullable=False),
    Column("kind", String(64)),  # of what failed
    Column("seconds", Double),  # that what is done took
    Column("bytes", BigInteger),  # that it brought
    Index("ix_events_work_rid_id", "work_rid", "id"),
    # What is counted is counted in these alone: by time, and by how long it took.
    Index("ix_events_step_outcome_at_seconds_bytes", "step", "outcome", "at", "seconds", "bytes"),
    Index("ix_events_step_outcome_kind_seconds_bytes_at", "step", "outcome", "kind", "seconds", "bytes", "at"),
)

checks = Table(
    "checks",
    metadata,
    Column("work_rid", Rid, primary_key=True),  # that was checked, or that lies in the archive and has no sync row
    Column("checked_on", Moment),  # when its last check ended; null: none has
    Column("until", Moment),  # a check that was begun and has not ended is somebody's until then
    Column("bytes", BigInteger, nullable=False),  # of the last check, as its seconds; 0: not known
    Column("seconds", Double, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("work_rid", Rid, primary_key=True),
    Column("bag_id", BagId, nullable=False),
    Column("owner", String(255), nullable=False),
    Column("taken_on", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Column("step", String(20), nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("message_id", String(36), nullable=False),  # the same for all receivers, and however often it is sent
    Column("callback", String(255), nullable=False),  # the receiver
    Column("event", String(16), nullable=False),
    Column("work_rid", Rid, nullable=False),
    Column("data", JSON, nullable=False),
    Column("made_on", Moment, nullable=False),
    Column("begun_on", Moment, nullable=False),  # since when it is tried
    Column("due_on", Moment),  # when it is sent next; until then somebody is at it, or it waits; null: given up
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),  # of the last attempt
    Index("ix_outbox_callback_attempts_id", "callback", "attempts", "id"),
)

notices = Table(
    "notices",
    metadata,
    Column("channel", String(64), primary_key=True),
    Column("tried_on", Moment, nullable=False),  # when somebody last set out to send
    Column("event_id", BigInteger, nullable=False),  # the last event that was told
    Column("digest_on", String(10), nullable=False),  # the day of the last digest
    Column("warned", JSON, nullable=False),  # the bags whose expiry was told
    Column("dead_letters", JSON(none_as_null=True)),  # how many it knows to be in each dead-letter queue, by URL
)

lanes = Table(
    "lanes",
    metadata,
    Column("owner", String(255), primary_key=True),  # as of its leases
    Column("host", String(255), nullable=False),
    Column("begun_on", Moment, nullable=False),
    Column("seen_on", Moment, nullable=False),  # when it last said that it is alive
)

names = Table(
    "names",
    metadata,
    Column("skeleton", String(32), primary_key=True),  # of a name: `work.skeleton`
    Column("work_rid", Rid, nullable=False),  # the first work that came home under a name that looks so
)


wants = Table(
    "wants",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("object_id", String(32), nullable=False, unique=True),  # a hash of bucket and key
    Column("work_rid", Rid, nullable=False, index=True),
    Column("source", String(255), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Text, nullable=False),
    Column("etag", String(255), nullable=False),
    Column("version_id", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("bag_id", BagId, nullable=False, index=True),
    Column("storage_class", String(32), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("days", Integer, nullable=False),  # that the restored copy is to stay
    Column("state", String(20), nullable=False),
    Column("place", BigInteger, nullable=False),  # in the line; the lowest is asked for first
    Column("attempts", Integer, nullable=False),  # how often S3 was asked
    Column("cost", Double),  # so far, by the price settings; null: there are none
    Column("wanted_on", Moment, nullable=False),
    Column("asked_on", Moment),
    Column("expires_on", Moment),  # of the restored copy
    Column("look_on", Moment),  # when S3 is asked how the object stands
    Column("updated_on", Moment, nullable=False),
    Column("error", LongText),
    Index("ix_wants_state_place", "state", "place"),
)


class utc_in(FunctionElement[Any]):  # noqa: N801  # an SQL function, named as SQL functions are
    """The database's time in UTC, so many whole seconds from now."""

    type = DateTime()
    inherit_cache = True  # the seconds are a parameter: a statement is made once, whatever they are

    def __init__(self, seconds: int = 0) -> None:
        super().__init__(int(seconds))


@compiles(utc_in, "sqlite")
def _sqlite(element: utc_in, compiler: SQLCompiler, **options: Any) -> str:
    # SQLAlchemy keeps datetimes in SQLite as text of microseconds; SQLite tells milliseconds.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {compiler.process(element.clauses, **options)} || ' seconds')"


@compiles(utc_in, "postgresql")
def _postgresql(element: utc_in, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(timezone('utc', clock_timestamp()) + make_interval(secs => {seconds}))"


@compiles(utc_in, "mysql")
@compiles(utc_in, "mariadb")
def _mysql(element: utc_in, compiler: SQLCompiler, **options: Any) -> str:
    return f"TIMESTAMPADD(SECOND, {compiler.process(element.clauses, **options)}, UTC_TIMESTAMP(6))"


def batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at once as a statement may have parameters."""
    for first in range(0, len(values), _AT_ONCE):
        yield values[first : first + _AT_ONCE]
