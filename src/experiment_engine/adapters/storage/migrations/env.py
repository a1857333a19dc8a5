"""Runs migrations on the connection that the engine hands over."""

from alembic import context

from experiment_engine.adapters.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
