"""When each archived work was last checked, by its latest event.

Revision ID: 0010
Revises: 0009
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"
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
    """Make the table and fill it; one that a killed upgrade has left is made anew."""
    downgrade()
    op.create_table(
        "checks",
        sa.Column("work_rid", sa.String(255), nullable=False),
        sa.Column("checked_on", MOMENT),
        sa.Column("until", MOMENT),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("work_rid", name="pk_checks"),
        **MYSQL,
    )
    # Their bytes and seconds are in the events' JSON alone: the rate is that of checks from now on.
    op.execute(
        "INSERT INTO checks (work_rid, checked_on, bytes, seconds)"
        " SELECT work_rid, MAX(at), 0, 0 FROM events"
        " WHERE step = 'verify' AND outcome <> 'forgotten' AND work_rid <> '' GROUP BY work_rid"
    )


def downgrade() -> None:
    """Drop it."""
    if sa.inspect(op.get_bind()).has_table("checks"):
        op.drop_table("checks")
