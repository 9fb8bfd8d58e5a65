"""Every table of the first version, and the word index of the responses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NUMBER = sa.Float().with_variant(sa.DOUBLE_PRECISION(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_generations"),
        sa.UniqueConstraint("sha", name="uq_generations_sha"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("spec_sha", sa.Text(), nullable=False),
        sa.Column("until_stage", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("epoch", ID, nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("pid", ID, nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("lease_until", NUMBER, nullable=False),
        sa.Column("heartbeat_at", NUMBER, nullable=True),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("started_at", NUMBER, nullable=True),
        sa.Column("finished_at", NUMBER, nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("log_path", sa.Text(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index(
        "uq_jobs_active_spec_sha",
        "jobs",
        ["spec_sha"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running', 'paused')"),
        postgresql_where=sa.text("state IN ('queued', 'running', 'paused')"),
    )
    op.create_table(
        "models",
        sa.Column("id", ID, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("identity_sha", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("parameters", NUMBER, nullable=True),
        sa.Column("context", ID, nullable=True),
        sa.Column("price_input", NUMBER, nullable=False),
        sa.Column("price_output", NUMBER, nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("archived_at", NUMBER, nullable=True),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("put_at", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("role", "name", "identity_sha", name="uq_models_role_name_identity_sha"),
    )
    op.create_table(
        "prompt_sets",
        sa.Column("id", ID, nullable=False),
        sa.Column("spec_sha", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prompt_sets"),
        sa.UniqueConstraint("spec_sha", name="uq_prompt_sets_spec_sha"),
    )
    op.create_table(
        "prompts",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha", sa.Text(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("verifier", sa.JSON(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prompts"),
        sa.UniqueConstraint("sha", name="uq_prompts_sha"),
    )
    op.create_table(
        "search_marks",
        sa.Column("id", ID, nullable=False),
        sa.Column("response_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_search_marks"),
    )
    op.create_table(
        "commands",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("taken_at", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_commands_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_commands"),
    )
    op.create_index("ix_commands_job_id_id", "commands", ["job_id", "id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_job_id_id", "events", ["job_id", "id"], unique=False)
    op.create_table(
        "metrics",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("step", ID, nullable=False),
        sa.Column("value", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_metrics_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_metrics"),
    )
    op.create_index("ix_metrics_job_id_id", "metrics", ["job_id", "id"], unique=False)
    op.create_table(
        "prompt_set_members",
        sa.Column("prompt_set_id", ID, nullable=False),
        sa.Column("ordinal", ID, nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prompt_id"], ["prompts.id"], name="fk_prompt_set_members_prompt_id_prompts"
        ),
        sa.ForeignKeyConstraint(
            ["prompt_set_id"], ["prompt_sets.id"], name="fk_prompt_set_members_prompt_set_id_prompt_sets"
        ),
        sa.PrimaryKeyConstraint("prompt_set_id", "ordinal", name="pk_prompt_set_members"),
        sa.UniqueConstraint(
            "prompt_set_id", "prompt_id", name="uq_prompt_set_members_prompt_set_id_prompt_id"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_prompt_set_members_prompt_set_id_split_ordinal",
        "prompt_set_members",
        ["prompt_set_id", "split", "ordinal"],
        unique=False,
    )
    op.create_table(
        "responses",
        sa.Column("id", ID, nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("teacher_id", ID, nullable=False),
        sa.Column("sample", ID, nullable=False),
        sa.Column("generation_id", ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", ID, nullable=False),
        sa.Column("completion_tokens", ID, nullable=False),
        sa.Column("latency_s", NUMBER, nullable=False),
        sa.Column("cost", NUMBER, nullable=False),
        sa.Column("attempts", ID, nullable=False),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("reasoning", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_responses_generation_id_generations"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_responses_job_id_jobs"),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name="fk_responses_prompt_id_prompts"),
        sa.ForeignKeyConstraint(["teacher_id"], ["models.id"], name="fk_responses_teacher_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
        sa.UniqueConstraint(
            "prompt_id",
            "teacher_id",
            "sample",
            "generation_id",
            name="uq_responses_prompt_id_teacher_id_sample_generation_id",
        ),
    )
    op.create_index(
        "ix_responses_failed",
        "responses",
        ["status", "id"],
        unique=False,
        sqlite_where=sa.text("status <> 'ok'"),
        postgresql_where=sa.text("status <> 'ok'"),
    )
    op.create_index("ix_responses_teacher_id_id", "responses", ["teacher_id", "id"], unique=False)
    op.create_table(
        "routers",
        sa.Column("id", ID, nullable=False),
        sa.Column("spec_sha", sa.Text(), nullable=False),
        sa.Column("student_id", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["student_id"], ["models.id"], name="fk_routers_student_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_routers"),
        sa.UniqueConstraint("spec_sha", name="uq_routers_spec_sha"),
    )
    op.create_table(
        "scorers",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("model_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_scorers_model_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_scorers"),
        sa.UniqueConstraint("sha", name="uq_scorers_sha"),
    )
    op.create_table(
        "plans",
        sa.Column("id", ID, nullable=False),
        sa.Column("spec_sha", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("prompt_set_id", ID, nullable=False),
        sa.Column("router_id", ID, nullable=True),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prompt_set_id"], ["prompt_sets.id"], name="fk_plans_prompt_set_id_prompt_sets"
        ),
        sa.ForeignKeyConstraint(["router_id"], ["routers.id"], name="fk_plans_router_id_routers"),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
        sa.UniqueConstraint("spec_sha", name="uq_plans_spec_sha"),
    )
    op.create_table(
        "scores",
        sa.Column("response_id", ID, nullable=False),
        sa.Column("scorer_id", ID, nullable=False),
        sa.Column("value", NUMBER, nullable=True),
        sa.Column("sum", NUMBER, nullable=True),
        sa.Column("count", ID, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["response_id"], ["responses.id"], name="fk_scores_response_id_responses"),
        sa.ForeignKeyConstraint(["scorer_id"], ["scorers.id"], name="fk_scores_scorer_id_scorers"),
        sa.PrimaryKeyConstraint("response_id", "scorer_id", name="pk_scores"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "search_queue",
        sa.Column("response_id", ID, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["response_id"], ["responses.id"], name="fk_search_queue_response_id_responses"
        ),
        sa.PrimaryKeyConstraint("response_id", name="pk_search_queue"),
    )
    op.create_table(
        "assignments",
        sa.Column("plan_id", ID, nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("attempt", ID, nullable=False),
        sa.Column("teacher_id", ID, nullable=False),
        sa.Column("strengths", sa.LargeBinary(), nullable=True),
        sa.Column("margin", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_assignments_plan_id_plans"),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name="fk_assignments_prompt_id_prompts"),
        sa.ForeignKeyConstraint(["teacher_id"], ["models.id"], name="fk_assignments_teacher_id_models"),
        sa.PrimaryKeyConstraint("plan_id", "prompt_id", "attempt", name="pk_assignments"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_assignments_plan_id_teacher_id_prompt_id",
        "assignments",
        ["plan_id", "teacher_id", "prompt_id"],
        unique=False,
    )
    op.create_table(
        "datasets",
        sa.Column("id", ID, nullable=False),
        sa.Column("spec_sha", sa.Text(), nullable=False),
        sa.Column("plan_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_datasets_plan_id_plans"),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
        sa.UniqueConstraint("spec_sha", name="uq_datasets_spec_sha"),
    )
    op.create_table(
        "adapters",
        sa.Column("id", ID, nullable=False),
        sa.Column("spec_sha", sa.Text(), nullable=False),
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("student_id", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_adapters_dataset_id_datasets"),
        sa.ForeignKeyConstraint(["student_id"], ["models.id"], name="fk_adapters_student_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_adapters"),
        sa.UniqueConstraint("spec_sha", name="uq_adapters_spec_sha"),
    )
    op.create_table(
        "dataset_rows",
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("response_id", ID, nullable=False),
        sa.Column("quality", NUMBER, nullable=True),
        sa.Column("learnability", NUMBER, nullable=True),
        sa.Column("reward", NUMBER, nullable=True),
        sa.Column("excluded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_dataset_rows_dataset_id_datasets"),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name="fk_dataset_rows_prompt_id_prompts"),
        sa.ForeignKeyConstraint(
            ["response_id"], ["responses.id"], name="fk_dataset_rows_response_id_responses"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "prompt_id", name="pk_dataset_rows"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_dataset_rows_dataset_id_response_id", "dataset_rows", ["dataset_id", "response_id"], unique=False
    )
    op.create_table(
        "checkpoints",
        sa.Column("id", ID, nullable=False),
        sa.Column("adapter_id", ID, nullable=False),
        sa.Column("step", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_checkpoints_adapter_id_adapters"),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.UniqueConstraint("adapter_id", "step", name="uq_checkpoints_adapter_id_step"),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", ID, nullable=False),
        sa.Column("spec_sha", sa.Text(), nullable=False),
        sa.Column("student_id", ID, nullable=False),
        sa.Column("adapter_id", ID, nullable=True),
        sa.Column("prompt_set_id", ID, nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_evaluations_adapter_id_adapters"),
        sa.ForeignKeyConstraint(
            ["prompt_set_id"], ["prompt_sets.id"], name="fk_evaluations_prompt_set_id_prompt_sets"
        ),
        sa.ForeignKeyConstraint(["student_id"], ["models.id"], name="fk_evaluations_student_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint("spec_sha", name="uq_evaluations_spec_sha"),
    )
    op.create_table(
        "evaluation_results",
        sa.Column("evaluation_id", ID, nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("value", NUMBER, nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("completion_tokens", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name="fk_evaluation_results_evaluation_id_evaluations"
        ),
        sa.ForeignKeyConstraint(
            ["prompt_id"], ["prompts.id"], name="fk_evaluation_results_prompt_id_prompts"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "prompt_id", name="pk_evaluation_results"),
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
