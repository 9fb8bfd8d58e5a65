"""Finding rows that people name by hand or that a reader needs without a job: no writing."""

from sqlalchemy import func, select

from storage.records import Model, Role, RouterRecord
from storage.rows import MODEL, model_of
from storage.schema import DatasetRowRow, ModelRow, PlanRow, ResponseRow, RouterRow, ScoreRow, ScorerRow
from storage.store import Store


def model(store: Store, role: Role, name: str, identity_sha: str) -> Model | None:
    """The model of exactly these settings, archived or not, or None."""
    query = select(*MODEL).where(
        ModelRow.role == role, ModelRow.name == name, ModelRow.identity_sha == identity_sha
    )
    with store.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else model_of(row)


def newest_router(store: Store) -> RouterRecord | None:
    """The router trained last, or None."""
    table = RouterRow.__table__.c
    with store.read() as connection:
        row = connection.execute(select(*table).order_by(table.id.desc()).limit(1)).first()
    if row is None:
        return None
    return RouterRecord(row.id, row.spec_sha, row.student_id, row.path, row.manifest, row.metrics)


def router_numbers(store: Store) -> list[int]:
    """The ids of all routers, newest first."""
    with store.read() as connection:
        return list(connection.execute(select(RouterRow.id).order_by(RouterRow.id.desc())).scalars())


def routed_prompt_set(store: Store, router_id: int) -> int | None:
    """The prompt set that a router was trained for: that of the first plan made with it, or None."""
    query = select(PlanRow.prompt_set_id).where(PlanRow.router_id == router_id).order_by(PlanRow.id).limit(1)
    with store.read() as connection:
        return connection.execute(query).scalar()


def answers(store: Store, prompt_id: int, limit: int = 100) -> list[int]:
    """The ids of the newest responses to a prompt, by teacher name; every sample and every setting counts."""
    newest = (
        select(ResponseRow.id, ResponseRow.teacher_id)
        .where(ResponseRow.prompt_id == prompt_id)
        .order_by(ResponseRow.id.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(newest.c.id)
        .join(ModelRow, ModelRow.id == newest.c.teacher_id)
        .order_by(ModelRow.name, newest.c.id)
    )
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def answer_count(store: Store, teacher_id: int) -> int:
    """How many answers of this model are stored."""
    query = select(func.count()).select_from(ResponseRow).where(ResponseRow.teacher_id == teacher_id)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def dataset_prompts(store: Store, dataset_id: int, prompt_ids: list[int]) -> set[int]:
    """Which of these prompts have a row in the dataset."""
    query = select(DatasetRowRow.prompt_id).where(
        DatasetRowRow.dataset_id == dataset_id, DatasetRowRow.prompt_id.in_(prompt_ids)
    )
    with store.read() as connection:
        return set(connection.execute(query).scalars())


def values(store: Store, response_ids: list[int]) -> dict[int, dict[str, float | None]]:
    """The scores of these responses: response id → kind of scorer → value; of two scorers of a kind the newer one."""
    found: dict[int, dict[str, float | None]] = {}
    query = (
        select(ScoreRow.response_id, ScorerRow.kind, ScoreRow.value)
        .join(ScorerRow, ScorerRow.id == ScoreRow.scorer_id)
        .where(ScoreRow.response_id.in_(response_ids))
        .order_by(ScorerRow.id)
    )
    with store.read() as connection:
        for response_id, kind, value in connection.execute(query):
            found.setdefault(response_id, {})[kind] = value
    return found


def plan_teachers(store: Store, plan_id: int) -> list[str]:
    """The names that a plan's strengths belong to, in their order; empty when the plan does not say."""
    with store.read() as connection:
        manifest = connection.execute(select(PlanRow.manifest).where(PlanRow.id == plan_id)).scalar()
    return [str(name) for name in (manifest or {}).get("teachers", [])]
