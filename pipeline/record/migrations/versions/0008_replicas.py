"""Which archived work has a second copy in which replica, and when it was last looked at.

Revision ID: 0008
Revises: 0007
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MYSQL: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Make the table, unless an upgrade that was killed has made it."""
    if sa.inspect(op.get_bind()).has_table("replicas"):
        return
    op.create_table(
        "replicas",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("work_rid", sa.String(255), nullable=False),
        sa.Column("bag_id", sa.String(16), nullable=False),
        sa.Column("replica", sa.String(64), nullable=False),
        sa.Column("content", sa.String(128), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("checksum", sa.String(128), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sent_on", MOMENT),
        sa.Column("looked_on", MOMENT),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
        sa.UniqueConstraint("work_rid", "bag_id", "replica", name="uq_replicas_work_rid_bag_id_replica"),
        **MYSQL,
    )


def downgrade() -> None:
    """Drop it."""
    if sa.inspect(op.get_bind()).has_table("replicas"):
        op.drop_table("replicas")
