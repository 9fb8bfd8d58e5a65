"""Alembic's entry: runs every missing revision on the connection that the program hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # The caller has begun one transaction for all of it, on SQLite too.
    transactional_ddl=True,
)
context.run_migrations()
