"""Run files as they run here: registered models looked up, and every `auto` settled for this machine.

What is settled is stored with the job or the registered model, so that whoever looks at results later, perhaps on a
machine without a GPU, means those that were made. Where it is float32 nothing is written down, as in every store so
far: None is float32 there.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from engine.base.errors import ConfigError, ModelError, PersynError
from engine.base.suggest import hint
from engine.config import run_file
from engine.config.kinds import scorer_kind, teacher_kind
from engine.config.models import SamplingConfig, TeacherConfig
from engine.config.quality import QualityConfig, ScorerConfig
from engine.config.run_file import Registered, Run
from engine.models.devices import Device, Machine, this_machine
from engine.models.precision import AUTO, resolved_dtype
from engine.registry import evaluation_backend, models
from engine.sources import source_kinds
from storage import registry as stored_models
from storage.errors import StoreMissingError
from storage.records import Model, Role
from storage.store import Store

_Scorer = TypeVar("_Scorer", bound=ScorerConfig)


def load(path: str | Path, store: str | None = None) -> Run:
    """The run of a file, settled for this machine; bare names of models are looked up in the store at `store`.

    Raises:
        ConfigError: see `engine.config.run_file.load`.
    """
    return settled(run_file.load(path, saved(store)))


def saved(location: str | None) -> Registered:
    """Finds the settings of registered models in the store at `location`, which is opened when first asked.

    A model comes with the sampling and the number format it was registered with, so its stored responses count.
    """

    def find(role: Role, name: str) -> Mapping[str, Any]:
        remedy = (
            f"write it in full, {{name: {name}, model: FOLDER}}, or register it: "
            f"`persyn models add --name {name} --role {role} …`"
        )
        try:
            opened = Store.open(location, create=False)
        except StoreMissingError as error:
            raise ConfigError(f"{role} `{name}`: no model is registered: {error.message}", remedy) from None
        with opened as store:
            found = stored_models.get(store, name, role)
            if found is not None:
                return {**_registered_dtype(found), **models.as_entry(found)}
            names = [model.name for model in stored_models.models(store, role)]
            raise ConfigError(
                f"{role} `{name}`: not registered in {store.name}{hint(name, names)}",
                f"`persyn models list` shows those there are; {remedy}",
            )

    return find


def settled(run: Run, machine: Machine | None = None) -> Run:
    """The run with a number format in place of each `auto` that is not float32 here, and with the backend of its
    evaluation where that is not transformers.

    Args:
        run: from a run file, not from a store: there None is float32.
        machine: where it will run; None: this one.
    """
    here = (machine or this_machine()).among(run.devices)
    student, router, distill = run.student, run.router, run.distill
    model = student.model
    dtype = _chosen(here, student.dtype, student.device, model, student.revision)
    trained: str | None = distill.dtype
    if trained == AUTO or (trained is None and student.dtype in (None, AUTO)):
        trained = _chosen(here, None, student.device, model, student.revision, trains=True)
        if trained == (dtype or "float32"):
            trained = None  # as the student
    backbone = _chosen(
        here, router.dtype, router.device, router.backbone, router.revision, trains=router.tune != "frozen"
    )
    return run.model_copy(
        update={
            "student": student.model_copy(update={"dtype": _unless_float32(student.dtype, dtype)}),
            "teachers": tuple(teacher(config, here) for config in run.teachers),
            "quality": _quality(run.quality, here),
            "router": router.model_copy(update={"dtype": backbone}),
            "distill": distill.model_copy(update={"dtype": trained}),
            "evaluation": run.evaluation.model_copy(
                update={"backend": evaluation_backend.settled(run, here)}
            ),
        }
    )


def own_sampling(run: Run) -> list[str]:
    """What the run file's `generation` sets and what registered teachers, whose sampling is all their own, have
    otherwise: a line for each key."""
    lines = []
    registered = [
        one
        for one in run.teachers
        if teacher_kind(one.backend).generates and None not in dict(one.sampling).values()
    ]
    for key in (key for key in SamplingConfig.model_fields if key in run.generation.model_fields_set):
        shared = getattr(run.generation, key)
        own = {one.name: getattr(one.sampling, key) for one in registered}
        others = {name: value for name, value in own.items() if value != shared}
        if others:
            words, have = ("teachers", "have") if len(others) > 1 else ("teacher", "has")
            values = " and ".join(dict.fromkeys(map(_word, others.values())))
            lines.append(
                f"{words} {', '.join(others)} {have} sampling of {'their' if len(others) > 1 else 'its'} own, {key} "
                f"{values}: `generation.{key}` ({_word(shared)}) is not for {'them' if len(others) > 1 else 'it'}"
            )
    return lines


def notes(run: Run) -> list[str]:
    """What a person should know of a run before it begins, a line each, of what its checks do not refuse."""
    lines = own_sampling(run)
    for source in run.prompts:
        lines += source_kinds.notes(source)
    for config in run.teachers:
        with suppress(PersynError, OSError):  # what the checks refuse
            lines += teacher_kind(config.backend).notes(models.teacher(config, run.generation))
    return lines


def _word(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(list(value) if isinstance(value, tuple) else value)


def teacher(config: TeacherConfig, machine: Machine) -> TeacherConfig:
    """The same with a number format in place of `auto`, where its kind loads it into this process."""
    kind = teacher_kind(config.backend)
    if not kind.in_process or "dtype" not in kind.settings.model_fields:
        return config
    dtype = _chosen(machine, config.dtype, config.device, config.model, config.revision)
    return config.model_copy(update={"dtype": _unless_float32(config.dtype, dtype)})


def number_formats(run: Run) -> str:
    """What each local model of a settled run is loaded in, for its log; empty where all are float32."""
    local = [one for one in run.teachers if teacher_kind(one.backend).in_process]
    found = {one.name: one.dtype for one in (*local, run.student)}
    found |= {
        name: config.settings.get("dtype")
        for name, config in run.quality.named.items()
        if scorer_kind(config.scorer).local_model is not None
    }
    found |= {"router": run.router.dtype, "training": run.distill.dtype or run.student.dtype}
    if not any(dtype not in (None, "float32") for dtype in found.values()):
        return ""
    return ", ".join(f"{name} {dtype or 'float32'}" for name, dtype in found.items())


def _registered_dtype(model: Model) -> dict[str, str]:
    """The key `dtype` of the entry of a stored model that was registered with float32; empty where `auto` is that."""
    kind = teacher_kind(model.backend)
    if "dtype" in model.options or not kind.in_process or "dtype" not in kind.settings.model_fields:
        return {}
    device = str(model.options.get("device", AUTO))
    now = _chosen(this_machine(), None, device, model.model, model.revision)
    return {} if now == "float32" else {"dtype": "float32"}


def _quality(config: QualityConfig, machine: Machine) -> QualityConfig:
    several = tuple(_scorer(one, machine) for one in config.scorers)
    return _scorer(config, machine).model_copy(update={"scorers": several})


def _scorer(config: _Scorer, machine: Machine) -> _Scorer:
    local = scorer_kind(config.scorer).local_model
    settings = config.settings
    if local is None or "dtype" not in scorer_kind(config.scorer).settings.model_fields:
        return config
    asked = settings.get("dtype")
    dtype = _chosen(machine, asked, settings.get("device"), *local(settings))
    if asked not in (None, AUTO) or (asked is None and dtype == "float32"):
        return config
    return config.model_copy(update={"dtype": dtype})


def _unless_float32(asked: str | None, dtype: str) -> str | None:
    return None if asked in (None, AUTO) and dtype == "float32" else dtype


def _chosen(
    machine: Machine, asked: str | None, device: Any, ref: str, revision: str, *, trains: bool = False
) -> str:
    """The number format; float32 where device or files cannot be used, which is said before the run."""
    try:
        place: Device = machine.device(device or AUTO)
        return resolved_dtype(asked, place, ref, revision, trains=trains)
    except (ModelError, OSError):
        return "float32" if asked in (None, AUTO) else str(asked)
