"""From the run file's teachers and student to stored models with identities."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.base.plugins import TEACHERS
from engine.config.kinds import teacher_kind
from engine.config.models import ModelConfig, TeacherConfig
from engine.config.run_file import Run
from engine.config.stages import GenerationConfig
from engine.teachers import teacher_kinds
from storage import registry as stored_models
from storage.hashing import sha
from storage.records import Model, Sampling
from storage.store import Store

_SHARED = ("name", "model", "revision", "family", "parameters", "system", "context")
"""Keys of a run file's entry that are fields of a model as they stand."""
_COLUMNS = {*_SHARED, "backend", "sampling", "price", "tokens_per_second", "expected_tokens"}
"""Keys of a run file's entry that `Model.options` does not hold: a model has fields for them, or does not need them."""


def teacher(config: TeacherConfig, generation: GenerationConfig) -> Model:
    """The teacher as a model record; sampling keys it leaves out come from `generation`."""
    own = config.sampling.model_dump(exclude_none=True)
    shared = {key: getattr(generation, key) for key in Sampling.__dataclass_fields__}
    if not teacher_kind(config.backend).generates:
        # How its responses were drawn is not ours to say, and no setting of ours changes them.
        own = shared = {}
    return Model(
        role="teacher",
        backend=config.backend,
        sampling=Sampling(**{**shared, **own}),
        price_input=config.price.input,
        price_output=config.price.output,
        **_common(config),
    )


def student(run: Run) -> Model:
    """The student as a model record; its sampling is the greedy decoding of the evaluation."""
    return Model(
        role="student",
        backend="transformers",
        sampling=Sampling(
            temperature=0.0,
            max_tokens=run.evaluation.max_tokens or run.generation.max_tokens,
            seed=run.evaluation.seed,
            stop=run.generation.stop,
        ),
        **_common(run.student),
    )


def as_entry(model: Model) -> dict[str, Any]:
    """The model as an entry of a run file, which makes the same identity again; empty settings are left out.

    A teacher's entry has backend, sampling and price; any other role's has not.
    """
    entry: dict[str, Any] = {key: value for key in _SHARED if (value := getattr(model, key))}
    entry |= model.options
    if model.role == "teacher":
        entry |= {"backend": model.backend, "sampling": sampling(model)}
        if model.price_input or model.price_output:
            entry["price"] = {"input": model.price_input, "output": model.price_output}
    return entry


def number_format(model: Model) -> str:
    """What its weights are loaded in: of a local model as stored, `–` where another program decides."""
    given = str(model.options.get("dtype", ""))
    known = model.backend in TEACHERS.names()  # the package of its kind may be gone
    return given or ("float32" if known and teacher_kind(model.backend).in_process else "–")


def generation_sha(model: Model) -> str:
    """A hash over everything that shapes this teacher's responses, its system prompt and sampling included."""
    return sha(
        {"backend": teacher_kinds.identity(model), "system": model.system, "sampling": sampling(model)}
    )


def identity_sha(model: Model) -> str:
    """A hash that tells two settings of one registered name apart."""
    return sha({"role": model.role, "name": model.name, "generation": generation_sha(model)})


def renamed(store: Store, model: Model) -> list[str]:
    """Names under which a teacher with the same settings is stored, where it is not under its own."""
    if stored_models.find(store, model.role, model.name, identity_sha(model)) is not None:
        return []
    known = stored_models.models(store, model.role, archived=True, superseded=True)
    alike = (replace(model, name=name) for name in dict.fromkeys(row.name for row in known))
    return [
        other.name
        for other in alike
        if stored_models.find(store, other.role, other.name, identity_sha(other))
    ]


def student_identity(model: Model) -> Mapping[str, Any]:
    """What makes two students the same model, whatever they are called or sampled with."""
    return {**teacher_kinds.identity(model), "system": model.system}


def sampling(model: Model) -> dict[str, Any]:
    """The sampling settings as plain JSON."""
    return {key: getattr(model.sampling, key) for key in Sampling.__dataclass_fields__}


def _common(config: ModelConfig) -> dict[str, Any]:
    own = set(config.model_extra or {})
    given = config.model_dump(mode="json", exclude=_COLUMNS, exclude_defaults=True)
    options = {key: value for key, value in given.items() if value or key in own}
    return {**{key: getattr(config, key) for key in _SHARED}, "options": options}
