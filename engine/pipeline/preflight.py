"""What can be wrong with a run and is found in seconds, before any model is loaded."""

from collections.abc import Callable, Sequence
from functools import partial

from engine.base import api_keys
from engine.base.errors import ConfigError, PersynError
from engine.config.kinds import scorer_kind, teacher_kind, verifiers
from engine.config.run_file import Run
from engine.methods import strategy_kinds
from engine.models import gguf_files, nf4
from engine.models import model_info as models
from engine.models.devices import AUTO, this_machine
from engine.registry import evaluation_backend
from engine.registry import models as registry
from engine.scorers import scorer_kinds
from engine.sources import source_kinds
from engine.teachers import teacher_kinds


def check(run: Run) -> None:
    """Raises ConfigError naming everything that `problems` finds."""
    if found := problems(run):
        raise together(found)


def together(problems: Sequence[PersynError]) -> ConfigError:
    """All of them as one."""
    messages = list(dict.fromkeys(problem.message for problem in problems))
    remedies = list(dict.fromkeys(problem.remedy for problem in problems if problem.remedy))
    return ConfigError("\n".join(messages), "\n  → ".join(remedies))


def problems(run: Run) -> list[PersynError]:
    """Everything that is wrong with a run: sources, verifiers, model folders, kinds, families, keys.

    No model is loaded and torch is not imported.
    """
    found: list[PersynError] = []
    for source in run.prompts:
        _try(found, "prompts", partial(source_kinds.check, source))
    for config in run.quality.named.values():
        # The identity checks the settings and reads what the scorer is made of.
        _try(found, "quality", partial(scorer_kinds.identity, config.scorer, config.settings))
        kind = scorer_kind(config.scorer)
        if kind.local_model is not None and (local := kind.local_model(config.settings))[0]:
            _try(found, "quality", partial(models.check, local[0], revision=local[1]))
        if kind.compares(config.settings) and len(run.teachers) < 2:
            problem = "quality.mode: `pairs` compares the responses of several teachers, and there is one"
            found.append(ConfigError(problem, "use `mode: rate`, or add a teacher"))
        if kind.costs and (key := config.settings.get("api_key_env")):
            _try(found, "quality", partial(api_keys.read, "quality", str(key)))
    for teacher in run.teachers:
        label = f"teachers: {teacher.name}"
        record = registry.teacher(teacher, run.generation)
        kind_of_teacher = teacher_kind(teacher.backend)
        looked_at = teacher_kinds.files if kind_of_teacher.local_files else teacher_kinds.identity
        _try(found, label, partial(looked_at, record))
        if kind_of_teacher.ready is not None:
            _try(found, label, partial(kind_of_teacher.ready, record))
        if teacher.api_key_env:
            _try(found, label, partial(api_keys.read, label, teacher.api_key_env))
    budget = run.generation.budget_usd
    priced = any(t.price.input or t.price.output for t in run.teachers) or any(
        config.settings.get("price") for config in run.quality.named.values()
    )
    if budget is not None and not priced:
        found.append(
            ConfigError(
                f"generation.budget_usd: ${budget:,.2f} can never be reached, no teacher has a price",
                "set `price: {input: …, output: …}` of the teachers and judges that cost something, or leave it out",
            )
        )
    _try(found, "teachers", lambda: _differ(run))
    if run.distill.method == "qlora":
        _try(found, "distill", nf4.check)
    _try(found, "evaluation", partial(evaluation_backend.check, run))
    student, router = run.student, run.router
    if gguf_files.is_gguf(student.model):
        found.append(
            ConfigError(
                f"student: {student.name}: a GGUF file cannot be trained",
                "give the folder that it was converted from",
            )
        )
    _try(found, f"student: {student.name}", lambda: models.check(student.model, revision=student.revision))
    if strategy_kinds.routed(run.strategies):
        _try(found, "router.backbone", lambda: models.check(router.backbone, revision=router.revision))
    machine = this_machine().among(run.devices)
    for label, device in _devices(run):
        _try(found, label, partial(machine.device, device))
    for name in run.strategies:
        _try(found, "strategies", partial(strategy_kinds.check, name, run.evidence))
    _try(found, "prompts", lambda: _verifiable(run))
    return found


def _devices(run: Run) -> list[tuple[str, str]]:
    """(section, device) wherever a certain one is named for models that the engine loads."""
    local = [one for one in run.teachers if teacher_kind(one.backend).in_process]
    scorers = [one for one in run.quality.named.values() if scorer_kind(one.scorer).local_model is not None]
    named = [
        *((f"teachers: {one.name}", one.device) for one in local),
        (f"student: {run.student.name}", run.student.device),
        *(("quality", one.settings.get("device")) for one in scorers),
    ]
    if strategy_kinds.routed(run.strategies):
        named.append(("router.device", run.router.device))
    named += [("devices", device) for device in run.devices or ()]
    return [(label, device) for label, device in named if device and device != AUTO]


def _verifiable(run: Run) -> None:
    """`exact_answer` without one verifier would judge nothing, which shows only after all teachers answered."""
    if not all(scorer_kind(config.scorer).verifies for config in run.quality.named.values()):
        return
    judged = [source for source in run.prompts if source.split in (None, "calibration", "validation")]
    if judged and all(getattr(source, "verifier", "its own") is None for source in judged):
        raise ConfigError(
            "prompts: no source has a `verifier`, so the scorer `exact_answer` could judge no answer",
            f"set `verifier` of the source to one of {', '.join(verifiers())} (and have an `answer` in its rows), or "
            "choose another scorer in `quality`",
        )


def _differ(run: Run) -> None:
    """Two teachers that always answer alike leave the router nothing to learn: found before they are paid."""
    distinct = {"name", "family", "parameters", "price", "tokens_per_second", "expected_tokens"}
    seen: dict[str, str] = {}
    for teacher in run.teachers:
        same = seen.setdefault(teacher.model_dump_json(exclude=distinct), teacher.name)
        if same != teacher.name:
            raise ConfigError(
                f"teachers: `{same}` and `{teacher.name}` are one model with the same settings: they answer alike",
                "give one of them another `system`, `sampling` or model, or take it out",
            )


def _try(found: list[PersynError], label: str, action: Callable[[], object]) -> None:
    try:
        action()
    except PersynError as error:
        message = (
            error.message if error.message.startswith(label.split(":")[0]) else f"{label}: {error.message}"
        )
        found.append(ConfigError(message, error.remedy))
    except OSError as error:
        found.append(ConfigError(f"{label}: cannot be read: {error}", "check the file and its permissions"))
