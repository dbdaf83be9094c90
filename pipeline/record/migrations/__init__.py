"""Alembic's migrations of the progress database; `record.schema` applies them."""
