"""What Alembic runs for each command: the steps, on the connection and in the transaction that it was given."""

from alembic import context

from isthmus.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction holds it all
)
context.run_migrations()
