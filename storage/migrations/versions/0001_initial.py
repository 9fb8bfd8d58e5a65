"""Every table of the first version, and the word index of the responses."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NUMBER = sa.Float().with_variant(sa.DOUBLE_PRECISION(), "postgresql")
TYPES: dict[str, Any] = {
    "int": ID,
    "number": NUMBER,
    "text": sa.Text(),
    "json": sa.JSON(),
    "bool": sa.Boolean(),
    "bytes": sa.LargeBinary(),
}


def create(
    table: str,
    columns: str,
    key: tuple[str, ...] = ("id",),
    unique: tuple[str, ...] = (),
    refers: dict[str, str] | None = None,
    *,
    by_key: bool = False,
) -> None:
    """A table whose constraints are named as `storage.schema.Base` names them.

    Args:
        table: its name.
        columns: `NAME TYPE, …`; a `?` behind the type says that there may be NULL.
        key: the primary key.
        unique: columns that are unique together.
        refers: column → table whose `id` it holds.
        by_key: whether SQLite stores its rows by their key alone.
    """
    made: list[sa.Column[Any]] = []
    for name, kind in (column.split() for column in columns.split(", ")):
        made.append(
            sa.Column(name, TYPES[kind.rstrip("?")], nullable=kind.endswith("?"), autoincrement=name == "id")
        )
    constraints: list[Any] = [
        sa.ForeignKeyConstraint([column], [f"{other}.id"], name=f"fk_{table}_{column}_{other}")
        for column, other in (refers or {}).items()
    ]
    constraints.append(sa.PrimaryKeyConstraint(*key, name=f"pk_{table}"))
    if unique:
        constraints.append(sa.UniqueConstraint(*unique, name=f"uq_{table}_{'_'.join(unique)}"))
    op.create_table(table, *made, *constraints, sqlite_with_rowid=not by_key)


def index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns), unique=False)


def partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool) -> None:
    rows = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=rows, postgresql_where=rows)


def upgrade() -> None:
    create("generations", "id int, sha text", unique=("sha",))
    create(
        "jobs",
        "id int, name text, spec json, spec_sha text, until_stage text?, state text, stage text, epoch int, "
        "owner text?, pid int?, host text, lease_until number, heartbeat_at number?, created_at number, "
        "started_at number?, finished_at number?, error text, log_path text, progress json",
    )
    active = "state IN ('queued', 'running', 'paused')"
    partial_index("uq_jobs_active_spec_sha", "jobs", ["spec_sha"], active, unique=True)
    create(
        "models",
        "id int, role text, name text, identity_sha text, backend text, model text, revision text, "
        "family text, parameters number?, context int?, price_input number, price_output number, "
        "system text, sampling json, options json, archived_at number?, created_at number, put_at number",
        unique=("role", "name", "identity_sha"),
    )
    create(
        "prompt_sets",
        "id int, spec_sha text, name text, complete bool, counts json, created_at number",
        unique=("spec_sha",),
    )
    create(
        "prompts",
        "id int, sha text, messages json, answer text?, verifier json?, source text",
        unique=("sha",),
    )
    create("search_marks", "id int, response_id int")
    create(
        "commands",
        "id int, job_id int, kind text, args json, created_at number, taken_at number?",
        refers={"job_id": "jobs"},
    )
    index("commands", "job_id", "id")
    create(
        "events",
        "id int, job_id int, at number, stage text, kind text, message text, data json",
        refers={"job_id": "jobs"},
    )
    index("events", "job_id", "id")
    create(
        "metrics",
        "id int, job_id int, at number, stage text, name text, step int, value number?",
        refers={"job_id": "jobs"},
    )
    index("metrics", "job_id", "id")
    create(
        "prompt_set_members",
        "prompt_set_id int, ordinal int, prompt_id int, split text",
        refers={"prompt_id": "prompts", "prompt_set_id": "prompt_sets"},
        key=("prompt_set_id", "ordinal"),
        unique=("prompt_set_id", "prompt_id"),
        by_key=True,
    )
    index("prompt_set_members", "prompt_set_id", "split", "ordinal")
    create(
        "responses",
        "id int, prompt_id int, teacher_id int, sample int, generation_id int, status text, "
        "finish_reason text, prompt_tokens int, completion_tokens int, latency_s number, cost number, "
        "attempts int, job_id int?, created_at number, text text, reasoning text, error text",
        refers={
            "generation_id": "generations",
            "job_id": "jobs",
            "prompt_id": "prompts",
            "teacher_id": "models",
        },
        unique=("prompt_id", "teacher_id", "sample", "generation_id"),
    )
    partial_index("ix_responses_failed", "responses", ["status", "id"], "status <> 'ok'", unique=False)
    index("responses", "teacher_id", "id")
    create(
        "routers",
        "id int, spec_sha text, student_id int, path text, manifest json, metrics json, complete bool, "
        "created_at number",
        refers={"student_id": "models"},
        unique=("spec_sha",),
    )
    create(
        "scorers",
        "id int, sha text, kind text, identity json, model_id int?",
        refers={"model_id": "models"},
        unique=("sha",),
    )
    create(
        "plans",
        "id int, spec_sha text, strategy text, prompt_set_id int, router_id int?, manifest json, "
        "complete bool",
        refers={"prompt_set_id": "prompt_sets", "router_id": "routers"},
        unique=("spec_sha",),
    )
    create(
        "scores",
        "response_id int, scorer_id int, value number?, sum number?, count int?, status text, detail json",
        refers={"response_id": "responses", "scorer_id": "scorers"},
        key=("response_id", "scorer_id"),
        by_key=True,
    )
    create("search_queue", "response_id int", refers={"response_id": "responses"}, key=("response_id",))
    create(
        "assignments",
        "plan_id int, prompt_id int, attempt int, teacher_id int, strengths bytes?, margin number?",
        refers={"plan_id": "plans", "prompt_id": "prompts", "teacher_id": "models"},
        key=("plan_id", "prompt_id", "attempt"),
        by_key=True,
    )
    index("assignments", "plan_id", "teacher_id", "prompt_id")
    create(
        "datasets",
        "id int, spec_sha text, plan_id int, name text, manifest json, complete bool",
        refers={"plan_id": "plans"},
        unique=("spec_sha",),
    )
    create(
        "adapters",
        "id int, spec_sha text, dataset_id int, student_id int, path text, metrics json, complete bool",
        refers={"dataset_id": "datasets", "student_id": "models"},
        unique=("spec_sha",),
    )
    create(
        "dataset_rows",
        "dataset_id int, prompt_id int, response_id int, quality number?, learnability number?, "
        "reward number?, excluded bool",
        refers={"dataset_id": "datasets", "prompt_id": "prompts", "response_id": "responses"},
        key=("dataset_id", "prompt_id"),
        by_key=True,
    )
    index("dataset_rows", "dataset_id", "response_id")
    create(
        "checkpoints",
        "id int, adapter_id int, step int, path text, sha256 text, metrics json",
        refers={"adapter_id": "adapters"},
        unique=("adapter_id", "step"),
    )
    create(
        "evaluations",
        "id int, spec_sha text, student_id int, adapter_id int?, prompt_set_id int, summary json, "
        "complete bool",
        refers={"adapter_id": "adapters", "prompt_set_id": "prompt_sets", "student_id": "models"},
        unique=("spec_sha",),
    )
    create(
        "evaluation_results",
        "evaluation_id int, prompt_id int, value number?, text text, status text, completion_tokens int",
        refers={"evaluation_id": "evaluations", "prompt_id": "prompts"},
        key=("evaluation_id", "prompt_id"),
    )
    if op.get_bind().dialect.name == "sqlite":
        # The text stays in `responses`; this holds words only.
        op.execute(
            "CREATE VIRTUAL TABLE response_words USING fts5(text, content='responses', content_rowid='id')"
        )
    else:
        op.execute(
            "CREATE TABLE response_words (response_id BIGINT PRIMARY KEY REFERENCES responses (id), "
            "words TSVECTOR NOT NULL)"
        )
        op.execute("CREATE INDEX ix_response_words_words ON response_words USING gin (words)")
    op.execute("INSERT INTO search_marks (id, response_id) VALUES (1, 0)")
