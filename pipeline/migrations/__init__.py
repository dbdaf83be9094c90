"""Alembic's migrations of the progress database; `pipeline.steps.record.schema` applies them."""
