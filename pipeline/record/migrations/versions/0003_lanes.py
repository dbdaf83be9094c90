"""Which lanes are alive, also those that wait for work.

Revision ID: 0003
Revises: 0002
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
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
    if sa.inspect(op.get_bind()).has_table("lanes"):
        return
    op.create_table(
        "lanes",
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("begun_on", MOMENT, nullable=False),
        sa.Column("seen_on", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_lanes"),
        **MYSQL,
    )


def downgrade() -> None:
    """Drop it."""
    if sa.inspect(op.get_bind()).has_table("lanes"):
        op.drop_table("lanes")
