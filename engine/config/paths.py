"""Paths of a run file, which are taken from its own folder, made absolute."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.base.errors import ConfigError, ModelError
from engine.config.sources import FileSource, HuggingFaceSource, ImportedSource
from engine.models import adapters
from engine.teachers import teacher_kinds

if TYPE_CHECKING:
    from engine.config.run_file import Run, TeacherConfig


def resolve_ref(ref: str, base: Path) -> str:
    """`ref` with a folder made absolute; `zoo:NAME` and hub ids unchanged."""
    if ref.startswith("zoo:"):
        return ref
    path = _absolute(ref, base)
    return str(path) if ref.startswith((".", "/", "~")) or path.exists() else ref


def located(teacher: TeacherConfig, base: Path) -> TeacherConfig:
    """The teacher with its local folders resolved, and the base that its adapter names where it has no model."""
    if teacher.backend not in teacher_kinds.LOCAL:
        return teacher
    model, update = teacher.model, dict[str, Any]()
    if teacher.adapter:
        update["adapter"] = str(_absolute(teacher.adapter, base))
        if not model:
            try:
                model = adapters.check(update["adapter"]).base
            except ModelError:
                model = ""  # said before a run, with its remedy
    return teacher.model_copy(update={**update, "model": resolve_ref(model, base) if model else ""})


def _absolute(path: str, base: Path) -> Path:
    try:
        found = (base / Path(path).expanduser()).resolve()
        found.exists()  # a name that is too long is noticed only here
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{path[:200]}: not a usable path: {error}", "correct it in the run file") from None
    return found


def with_paths(run: Run, base: Path) -> Run:
    """The run with every local path absolute."""

    def local(path: str) -> str:
        return str(_absolute(path, base))

    sources = tuple(
        source.model_copy(update={"path": local(source.path)})
        if isinstance(source, FileSource | ImportedSource)
        else source.model_copy(update={"path": resolve_ref(source.path, base)})
        if isinstance(source, HuggingFaceSource)
        else source
        for source in run.prompts
    )
    imported = tuple(source for source in sources if isinstance(source, ImportedSource))
    teachers = tuple(
        teacher.model_copy(
            update={
                "responses": tuple(
                    source.model_copy(update={"path": local(source.path)}) for source in teacher.responses
                )
                or imported
            }
        )
        if teacher.backend == "imported"
        else located(teacher, base)
        for teacher in run.teachers
    )
    return run.model_copy(
        update={
            "prompts": sources,
            "teachers": teachers,
            "quality": run.quality.placed(partial(resolve_ref, base=base), imported),
            "student": run.student.model_copy(update={"model": resolve_ref(run.student.model, base)}),
            "router": run.router.model_copy(update={"backbone": resolve_ref(run.router.backbone, base)}),
        }
    )
