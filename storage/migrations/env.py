"""Alembic's entry: runs every missing revision on the connection that the program hands over."""

from alembic import context

from storage.schema import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    # The caller has begun one transaction for all of it, on SQLite too.
    transactional_ddl=True,
)
context.run_migrations()
