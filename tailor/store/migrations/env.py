"""Run by alembic, on the connection that `migrating.migrate` gives."""

from alembic import context

from tailor.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
