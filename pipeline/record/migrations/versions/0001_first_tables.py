"""The first tables; BDRC's `glacier_sync_progress` is taken over where it already is.

Revision ID: 0001
Revises:
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
# Names that differ in case or in marks are different names.
MYSQL: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Make the tables.

    MySQL commits after each statement: what was killed half-way goes on, so nothing is made that is there.
    """
    there = set(sa.inspect(op.get_bind()).get_table_names())
    for table, make in {
        "glacier_sync_progress": _progress,
        "bags": _bags,
        "syncs": _syncs,
        "events": _events,
        "leases": _leases,
    }.items():
        if table not in there:
            make()
    for table, columns in {
        "bags": [["work_rid"], ["state"]],
        "syncs": [["work_rid"]],
        "events": [["work_rid", "id"]],
    }.items():
        found = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
        for names in columns:
            index = f"ix_{table}_{'_'.join(names)}"
            if index not in found:
                op.create_index(index, table, names)


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("work_rid", sa.String(255), nullable=False),
        sa.Column("bag_id", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("taken_on", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("step", sa.String(20), nullable=False),
        sa.Column("done_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("work_rid", name="pk_leases"),
        **MYSQL,
    )


def _progress() -> None:
    op.create_table(
        "glacier_sync_progress",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("object_name", sa.String(255), nullable=False),
        sa.Column("restore_requested_on", MOMENT),
        sa.Column("restore_complete_on", MOMENT),
        sa.Column("download_complete_on", MOMENT),
        sa.Column("debag_complete_on", MOMENT),
        sa.Column("sync_complete_on", MOMENT),
        sa.Column("user_data", sa.JSON()),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("update_time", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_glacier_sync_progress"),
        sa.UniqueConstraint("object_name", name="uq_glacier_sync_progress_object_name"),
        **MYSQL,
    )


def _bags() -> None:
    op.create_table(
        "bags",
        sa.Column("bag_id", sa.String(16), nullable=False),
        sa.Column("work_rid", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("etag", sa.String(255), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("event_time", MOMENT),
        sa.Column("restore_expires_on", MOMENT),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("phase", sa.String(20), nullable=False),
        sa.Column("works", sa.JSON()),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error_kind", sa.String(64)),
        sa.Column("error", LONG_TEXT),
        sa.Column("retry_on", MOMENT),
        sa.Column("seen_on", MOMENT, nullable=False),
        sa.Column("updated_on", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("bag_id", name="pk_bags"),
        **MYSQL,
    )


def _syncs() -> None:
    op.create_table(
        "syncs",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("bag_id", sa.String(16), nullable=False),
        sa.Column("work_rid", sa.String(255), nullable=False),
        sa.Column("archive_path", sa.Text(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("synced_on", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_syncs"),
        sa.ForeignKeyConstraint(["bag_id"], ["bags.bag_id"], name="fk_syncs_bag_id"),
        sa.UniqueConstraint("bag_id", "work_rid", name="uq_syncs_bag_id_work_rid"),
        **MYSQL,
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("work_rid", sa.String(255), nullable=False),
        sa.Column("bag_id", sa.String(16), nullable=False),
        sa.Column("step", sa.String(20), nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("agent", sa.String(255), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        **MYSQL,
    )


def downgrade() -> None:
    """Drop our tables; `glacier_sync_progress` is BDRC's and stays."""
    there = set(sa.inspect(op.get_bind()).get_table_names())
    for table in ("leases", "events", "syncs", "bags"):
        if table in there:
            op.drop_table(table)
