"""What a judge has said, before the verdicts that it is for stand."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NUMBER = sa.Float().with_variant(sa.DOUBLE_PRECISION(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "judge_replies",
        sa.Column("scorer_id", ID, nullable=False),
        sa.Column("response_id", ID, nullable=False),
        sa.Column("other_id", ID, nullable=False),
        sa.Column("attempt", ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", ID, nullable=False),
        sa.Column("completion_tokens", ID, nullable=False),
        sa.Column("cost", NUMBER, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scorer_id", "response_id", "other_id", "attempt", name="pk_judge_replies"),
        sa.ForeignKeyConstraint(["scorer_id"], ["scorers.id"], name="fk_judge_replies_scorer_id_scorers"),
        sa.ForeignKeyConstraint(
            ["response_id"], ["responses.id"], name="fk_judge_replies_response_id_responses"
        ),
        sqlite_with_rowid=False,
    )
