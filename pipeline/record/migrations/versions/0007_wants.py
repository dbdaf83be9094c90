"""What is wanted back from cold storage, and how far each object is.

Revision ID: 0007
Revises: 0006
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MYSQL: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
INDEXES = {"work_rid": ["work_rid"], "bag_id": ["bag_id"], "state_place": ["state", "place"]}


def upgrade() -> None:
    """Make the table, unless an upgrade that was killed has."""
    if not sa.inspect(op.get_bind()).has_table("wants"):
        op.create_table(
            "wants",
            sa.Column("id", SERIAL, nullable=False),
            sa.Column("object_id", sa.String(32), nullable=False),
            sa.Column("work_rid", sa.String(255), nullable=False),
            sa.Column("source", sa.String(255), nullable=False),
            sa.Column("bucket", sa.String(255), nullable=False),
            sa.Column("object_key", sa.Text(), nullable=False),
            sa.Column("etag", sa.String(255), nullable=False),
            sa.Column("version_id", sa.Text(), nullable=False),
            sa.Column("size_bytes", sa.BigInteger(), nullable=False),
            sa.Column("bag_id", sa.String(16), nullable=False),
            sa.Column("storage_class", sa.String(32), nullable=False),
            sa.Column("tier", sa.String(16), nullable=False),
            sa.Column("days", sa.Integer(), nullable=False),
            sa.Column("state", sa.String(20), nullable=False),
            sa.Column("place", sa.BigInteger(), nullable=False),
            sa.Column("attempts", sa.Integer(), nullable=False),
            sa.Column("cost", sa.Double(), nullable=True),
            sa.Column("wanted_on", MOMENT, nullable=False),
            sa.Column("asked_on", MOMENT, nullable=True),
            sa.Column("expires_on", MOMENT, nullable=True),
            sa.Column("look_on", MOMENT, nullable=True),
            sa.Column("updated_on", MOMENT, nullable=False),
            sa.Column("error", LONG_TEXT, nullable=True),
            sa.PrimaryKeyConstraint("id", name="pk_wants"),
            sa.UniqueConstraint("object_id", name="uq_wants_object_id"),
            **MYSQL,
        )
    there = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("wants")}
    for name, columns in INDEXES.items():
        if f"ix_wants_{name}" not in there:
            op.create_index(f"ix_wants_{name}", "wants", columns)


def downgrade() -> None:
    """Drop it."""
    if sa.inspect(op.get_bind()).has_table("wants"):
        op.drop_table("wants")
