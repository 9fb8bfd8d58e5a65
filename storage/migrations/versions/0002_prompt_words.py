"""The word index of the prompts, and how far it is filled."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("search_marks", sa.Column("prompt_id", ID, nullable=False, server_default="0"))
    if op.get_bind().dialect.name == "sqlite":
        # Words alone, no text: prompts are never changed nor deleted.
        op.execute("CREATE VIRTUAL TABLE prompt_words USING fts5(text, content='')")
    else:
        op.execute(
            "CREATE TABLE prompt_words (prompt_id BIGINT PRIMARY KEY REFERENCES prompts (id), "
            "words TSVECTOR NOT NULL)"
        )
        op.execute("CREATE INDEX ix_prompt_words_words ON prompt_words USING gin (words)")
