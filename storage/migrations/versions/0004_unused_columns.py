"""Drops the columns that nothing writes a value to, or that nothing reads."""

from alembic import op

revision = "0004"
down_revision = "0003"

UNUSED = (
    ("jobs", "log_path"),
    ("jobs", "heartbeat_at"),
    ("events", "stage"),
    ("events", "data"),
    ("routers", "complete"),
)


def upgrade() -> None:
    for table, column in UNUSED:
        op.drop_column(table, column)
