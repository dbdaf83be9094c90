"""What receivers of callbacks are still to be told.

Revision ID: 0009
Revises: 0008
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
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
    """Make the table and its index, as far as an upgrade that was killed has not."""
    there = sa.inspect(op.get_bind())
    if not there.has_table("outbox"):
        op.create_table(
            "outbox",
            sa.Column("id", SERIAL, nullable=False),
            sa.Column("message_id", sa.String(36), nullable=False),
            sa.Column("callback", sa.String(255), nullable=False),
            sa.Column("event", sa.String(16), nullable=False),
            sa.Column("work_rid", sa.String(255), nullable=False),
            sa.Column("data", sa.JSON(), nullable=False),
            sa.Column("made_on", MOMENT, nullable=False),
            sa.Column("begun_on", MOMENT, nullable=False),
            sa.Column("due_on", MOMENT),
            sa.Column("attempts", sa.Integer(), nullable=False),
            sa.Column("error", sa.Text(), nullable=False),
            sa.PrimaryKeyConstraint("id", name="pk_outbox"),
            **MYSQL,
        )
    elif any(index["name"] == "ix_outbox_callback_attempts_id" for index in there.get_indexes("outbox")):
        return
    op.create_index("ix_outbox_callback_attempts_id", "outbox", ["callback", "attempts", "id"])


def downgrade() -> None:
    """Drop it."""
    if sa.inspect(op.get_bind()).has_table("outbox"):
        op.drop_table("outbox")
