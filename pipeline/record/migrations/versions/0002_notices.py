"""What each channel of notifications was told, and until where.

Revision ID: 0002
Revises: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
MYSQL: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Make the table, unless an upgrade that was killed has made it."""
    if sa.inspect(op.get_bind()).has_table("notices"):
        return
    op.create_table(
        "notices",
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("tried_on", MOMENT, nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("digest_on", sa.String(10), nullable=False),
        sa.Column("warned", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("channel", name="pk_notices"),
        **MYSQL,
    )


def downgrade() -> None:
    """Drop it."""
    if sa.inspect(op.get_bind()).has_table("notices"):
        op.drop_table("notices")
