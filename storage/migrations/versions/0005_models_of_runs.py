"""Tells models that a run brought along from those that a person registered, which all older ones count as."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("models", sa.Column("by_run", sa.Boolean(), nullable=False, server_default=sa.false()))
