"""What is counted of events stands in columns of their own, with the indexes that count them: JSON took seconds.

Revision ID: 0006
Revises: 0005
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS: dict[str, Any] = {"kind": sa.String(64), "seconds": sa.Double(), "bytes": sa.BigInteger()}
NEW = {
    "ix_events_step_outcome_at_seconds_bytes": ("events", ["step", "outcome", "at", "seconds", "bytes"]),
    "ix_events_step_outcome_kind_seconds_bytes_at": (
        "events",
        ["step", "outcome", "kind", "seconds", "bytes", "at"],
    ),
    "ix_bags_state_updated_on": ("bags", ["state", "updated_on"]),
}
# The new ones serve their queries too.
OLD = {
    "ix_events_step_outcome_id": ("events", ["step", "outcome", "id"]),
    "ix_bags_state": ("bags", ["state"]),
}
EVENTS = sa.table(
    "events", *map(sa.column, ("step", "outcome")), sa.column("detail", sa.JSON), *map(sa.column, COLUMNS)
)


def _there() -> set[str]:
    known = sa.inspect(op.get_bind())
    columns = known.get_columns("events")
    return {str(one["name"]) for one in [*columns, *known.get_indexes("events"), *known.get_indexes("bags")]}


def _exchange(new: dict[str, Any], old: dict[str, Any]) -> None:
    there = _there()
    for name in new.keys() - there:
        op.create_index(name, *new[name])
    for name in old.keys() & there:
        op.drop_index(name, table_name=old[name][0])


def upgrade() -> None:
    """Add and fill them, unless an upgrade that was killed has."""
    there, told = _there(), EVENTS.c.detail
    for name in COLUMNS.keys() - there:
        op.add_column("events", sa.Column(name, COLUMNS[name], nullable=True))
    if not NEW.keys() <= there:
        failed, done = EVENTS.c.outcome == "failed", EVENTS.c.outcome == "done"
        amounts = {
            "seconds": sa.func.coalesce(told["seconds"].as_numeric(20, 3), 0),
            "bytes": sa.func.coalesce(told["bytes"].as_numeric(20, 0), 0),
        }
        op.execute(sa.update(EVENTS).where(failed).values(kind=sa.func.substr(told["kind"].as_string(), 1, 64)))
        op.execute(sa.update(EVENTS).where(done).values(amounts))
    _exchange(NEW, OLD)


def downgrade() -> None:
    """Drop them."""
    _exchange(OLD, NEW)
    for name in COLUMNS.keys() & _there():
        op.drop_column("events", name)
