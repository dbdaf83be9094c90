"""How Alembic reaches the database: over the connection (and in the transaction) that it is given."""

from alembic import context

from pipeline.record.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
