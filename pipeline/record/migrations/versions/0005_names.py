"""Which work has a name, by what the name looks like; those that are home have theirs.

Revision ID: 0005
Revises: 0004
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from pipeline.foundation.work import skeleton

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MYSQL: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
NAMES = sa.table("names", sa.column("skeleton", sa.String), sa.column("work_rid", sa.String))
# What we brought home, and what BDRC's own stack did before.
HOME = (
    "SELECT work_rid FROM syncs ORDER BY id",
    ("SELECT object_name FROM glacier_sync_progress WHERE sync_complete_on IS NOT NULL ORDER BY id"),
)
ROWS = 1000


def upgrade() -> None:
    """Make the table, and give the works that are home their names, unless an upgrade that was killed has."""
    bind = op.get_bind()
    if not sa.inspect(bind).has_table("names"):
        op.create_table(
            "names",
            sa.Column("skeleton", sa.String(32), nullable=False),
            sa.Column("work_rid", sa.String(255), nullable=False),
            sa.PrimaryKeyConstraint("skeleton", name="pk_names"),
            **MYSQL,
        )
    there = set(bind.execute(sa.select(NAMES.c.skeleton)).scalars())
    first: dict[str, str] = {}
    for statement in HOME:
        for (work_rid,) in bind.exec_driver_sql(statement):
            first.setdefault(skeleton(work_rid), work_rid)
    rows = [{"skeleton": key, "work_rid": rid} for key, rid in first.items() if key not in there]
    for at in range(0, len(rows), ROWS):
        op.bulk_insert(NAMES, rows[at : at + ROWS])


def downgrade() -> None:
    """Drop it."""
    if sa.inspect(op.get_bind()).has_table("names"):
        op.drop_table("names")
