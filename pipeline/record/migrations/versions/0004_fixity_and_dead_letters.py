"""What a channel of notifications knows of dead letters; and an index by which few events of many are found.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEX = "ix_events_step_outcome_id"


def _columns() -> set[str]:
    return {str(column["name"]) for column in sa.inspect(op.get_bind()).get_columns("notices")}


def _indexes() -> set[str]:
    return {str(index["name"]) for index in sa.inspect(op.get_bind()).get_indexes("events")}


def upgrade() -> None:
    """Add them, unless an upgrade that was killed has."""
    if "dead_letters" not in _columns():
        op.add_column("notices", sa.Column("dead_letters", sa.JSON(none_as_null=True), nullable=True))
    if INDEX not in _indexes():
        op.create_index(INDEX, "events", ["step", "outcome", "id"])


def downgrade() -> None:
    """Drop them."""
    if INDEX in _indexes():
        op.drop_index(INDEX, table_name="events")
    if "dead_letters" in _columns():
        op.drop_column("notices", "dead_letters")
