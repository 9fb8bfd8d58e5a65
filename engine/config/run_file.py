"""The run file: YAML validated at the door, so that no stage ever meets a wrong setting.

`load(path)` gives a frozen `Run`; everything wrong in the file is reported at once, with its line, the key, and the
nearest valid key.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml
from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from engine.base.errors import ConfigError
from engine.base.plugins import SOURCES, STRATEGIES, TEACHERS
from engine.config.kinds import source_kind, teacher_kind
from engine.config.models import SamplingConfig, StudentConfig, TeacherConfig
from engine.config.paths import RunFolder
from engine.config.quality import QualityConfig
from engine.config.section import Section, known, said, unknown
from engine.config.sources import ImportedSource, SourceConfig, any_source
from engine.config.stages import (
    CalibrationConfig,
    DatasetConfig,
    DistillConfig,
    EstimateConfig,
    EvaluationConfig,
    GenerationConfig,
    LearnabilityConfig,
    ReasoningConfig,
    RewardConfig,
    RouterConfig,
    SplitConfig,
)
from engine.config.yaml_places import check, line_of
from engine.methods import strategy_kinds
from engine.methods.strategy import Evidence
from storage.records import Role

LARGEST: Final = 512 * 1024
"""Bytes of a run file."""
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
_UNKNOWN_KEY = re.compile(r"unknown key `([^`]+)`")


class Run(Section):
    """A whole run file."""

    name: str = Field("run", min_length=1, max_length=200, title="run name")
    """What Jobs calls it."""
    student: StudentConfig
    teachers: tuple[TeacherConfig, ...] = Field(min_length=1)
    """Who may respond; the router chooses among two or more."""
    prompts: tuple[SourceConfig, ...] = Field(min_length=1)
    """Where prompts come from; several sources are put together."""
    split: SplitConfig = SplitConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    too_long: Literal["refuse", "mark"] = "refuse"
    """A prompt longer than a model's context: refuse the run at once, or store a `too_long` row and go on."""
    quality: QualityConfig = QualityConfig()
    learnability: LearnabilityConfig = LearnabilityConfig()
    reasoning: ReasoningConfig = ReasoningConfig()
    reward: RewardConfig = RewardConfig()
    router: RouterConfig = RouterConfig()
    generation: GenerationConfig = GenerationConfig()
    dataset: DatasetConfig = DatasetConfig()
    distill: DistillConfig = DistillConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    estimate: EstimateConfig = EstimateConfig()
    strategies: tuple[str, ...] = ("persyn",)
    """How prompts get their teachers: a dataset and a student each."""
    devices: tuple[str, ...] | None = Field(None, min_length=1)
    """Where local models are whose own `device` is auto, e.g. [cuda:0, cuda:1]: scorers, router and training have a
    copy on each, what is loaded once takes the first; null: every GPU of CUDA, else the CPU. No hash has them."""
    # The strategies' own settings follow, see below.

    @model_validator(mode="before")
    @classmethod
    def _one_number_of_prompts(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(calibration := data.get("calibration"), dict):
            return data
        count, split = calibration.get("prompts"), data.get("split") or {}
        if count is None or not isinstance(split, dict):
            return data
        if split.get("calibration", count) != count:
            raise ValueError(
                f"calibration.prompts is {count} and split.calibration {split['calibration']}: they mean the same, "
                "keep one of them"
            )
        return {**data, "split": {**split, "calibration": count}}

    @field_validator("strategies")
    @classmethod
    def _known_strategies(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if not values:
            raise ValueError("name at least one strategy, e.g. [persyn]")
        for value in values:
            if value in STRATEGIES.names():
                strategy_kinds.load(value)  # which says why one of another package cannot be used
            known("strategy", value, strategy_kinds.names())
        return tuple(dict.fromkeys(values))

    @field_validator("devices", mode="before")
    @classmethod
    def _device_names(cls, values: Any) -> Any:
        if values is None:
            return None
        if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
            raise ValueError("a list of names is meant, e.g. [cuda:0, cuda:1]")
        return tuple("cuda:0" if value == "cuda" else value for value in values)

    @field_validator("devices")
    @classmethod
    def _devices_together(cls, values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if values is None:
            return None
        for value in values:
            if not _DEVICE.fullmatch(value):
                raise ValueError(f"unknown device `{value}`; use cpu, cuda, cuda:N or mps")
            if values.count(value) > 1 and value != "cpu":
                raise ValueError(
                    f"`{value}` stands twice: a GPU computes no faster for two copies of a model"
                )
        if len({value.partition(":")[0] for value in values}) > 1:
            # `dtype: auto` is settled for one kind, and all would wait for the slowest at the end of each page.
            raise ValueError(f"{', '.join(values)} are of several kinds; use GPUs alone, or `cpu` alone")
        return values

    @field_validator("teachers")
    @classmethod
    def _names_differ(cls, teachers: tuple[TeacherConfig, ...]) -> tuple[TeacherConfig, ...]:
        names = [teacher.name for teacher in teachers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two teachers are named `{name}`; give each its own name")
        return teachers

    @model_validator(mode="after")
    def _parts_fit(self) -> Run:
        if self.dataset.keep == "correct" and self.quality.verifying is None:
            raise ValueError("dataset.keep: `correct` needs the scorer `exact_answer` in `quality`")
        if (self.calibration.teachers_per_prompt or 0) > len(self.teachers):
            raise ValueError(
                f"calibration.teachers_per_prompt is {self.calibration.teachers_per_prompt} and there are "
                f"{len(self.teachers)} teachers"
            )
        learns = [name for name in self.strategies if strategy_kinds.load(name).learns_from_calibration]
        given = self.split.calibration or any(source.split == "calibration" for source in self.prompts)
        if learns and not given:
            raise ValueError(
                f"split.calibration is 0: `{learns[0]}` learns from prompts that all teachers answer; "
                "set it to 100 or more"
            )
        return self

    def located(self, base: Path) -> Run:
        """The run with every local path absolute, taken from `base`."""
        folder = RunFolder(base)
        sources = tuple(
            source.model_copy(update=dict(source_kind(source.source).located(dict(source), folder)))
            for source in self.prompts
        )
        folder = RunFolder(base, tuple(source for source in sources if isinstance(source, ImportedSource)))
        return self.model_copy(
            update={
                "prompts": sources,
                "teachers": tuple(teacher.located(folder) for teacher in self.teachers),
                "quality": self.quality.located(folder),
                "student": self.student.model_copy(update={"model": folder.reference(self.student.model)}),
                "router": self.router.model_copy(update={"backbone": folder.reference(self.router.backbone)}),
            }
        )

    @property
    def evidence(self) -> Evidence:
        """What is known of the teachers before a run."""
        return Evidence(
            names=[teacher.name for teacher in self.teachers],
            families=[teacher.family for teacher in self.teachers],
            parameters=[teacher.parameters for teacher in self.teachers],
            student_family=self.student.family,
            seed=self.split.seed,
            settings={key: getattr(self, key) for key in strategy_kinds.settings()},
        )


if not TYPE_CHECKING:
    # What sources and strategies declare are keys of the run file like any other: checked, hashed and in the schema.
    Run = create_model(
        "Run",
        __base__=Run,
        __doc__=Run.__doc__,
        prompts=(tuple[any_source(), ...], Field(min_length=1)),
        **{
            key: (float, Field(setting.default, ge=setting.low, le=setting.high, description=setting.about))
            for key, setting in strategy_kinds.settings().items()
        },
    )

_OF_DATA = (
    ".parquet",
    *(
        kind + packed
        for kind in (".jsonl", ".ndjson", ".csv", ".tsv")
        for packed in ("", ".gz", ".bz2", ".xz", ".zst")
    ),
)

Registered = Callable[[Role, str], Mapping[str, Any]]
"""The settings of a registered model, from its role and name; `engine.registry.run_files.saved` makes one."""


def load(path: str | Path, registered: Registered | None = None) -> Run:
    """The run that a YAML file describes, with relative paths resolved against the file's folder.

    `registered` is asked for each teacher or student that is given as a bare name.

    Raises:
        ConfigError: no such file, not YAML, or a setting is wrong; every problem is named with its line.
    """
    file = Path(path)
    if file.name.endswith(_OF_DATA):
        raise ConfigError(
            f"{file}: holds prompts, a run file is YAML",
            f"name it in a run file: `prompts: [{{path: {file.name}, …}}]`",
        )
    try:
        text = _text(file)
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: no such run file", "check the path; `examples/` has run files to start from"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}", "a run file is a UTF-8 YAML file") from None
    return parse(text, where=str(file), base=file.resolve().parent, registered=registered)


def _text(file: Path) -> str:
    """The text of a run file, of which no more than `LARGEST` bytes are read: YAML takes seconds for a megabyte."""
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{file}: is a folder, not a run file", "name the YAML file; `examples/` has some")
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{file}: is no regular file", "write the run file to a file and name that")
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ConfigError(
            f"{file}: a run file of more than {LARGEST // 1024} kB", "prompts go into files that it names"
        )
    return content.decode()


def parse(
    text: str, *, where: str = "run file", base: Path | None = None, registered: Registered | None = None
) -> Run:
    """The run described by YAML `text`; `where` names it in errors, `base` resolves relative paths."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        check(node, where)
        data = yaml.safe_load(text)
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply", "a run file has five levels at most") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"{where}: not valid YAML: {error}", "mend the syntax at the place named above"
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a run file is a mapping of keys", "start from examples/zoo.yaml")
    unregistered = _look_up(data, registered)
    _leave_out(data)
    try:
        run = Run.model_validate(data)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{where}: holds half a character (a lone surrogate)", "mend its escape, \\ud800 to \\udfff"
        ) from None
    except ValidationError as error:
        problems = {problem["loc"]: problem for problem in error.errors(include_url=False)}
        # A list is not empty because its one entry is wrong.
        problems = {
            loc: problem
            for loc, problem in problems.items()
            if problem["type"] != "too_short"
            or not any(other[: len(loc)] == loc != other for other in problems)
        }
        lines = [
            f"{where}:{line_of(node, (*loc, *_UNKNOWN_KEY.findall(str(problem['msg']))[:1]))}: {_dotted(loc)}"
            + (f": {unregistered[loc].message}" if loc in unregistered else _message(problem))
            for loc, problem in problems.items()
        ]
        remedies = [problem.remedy for problem in unregistered.values()]
        if problems.keys() - unregistered.keys():
            remedies.append("mend the keys named above; README explains a run file")
        raise ConfigError("\n".join(lines), "\n  → ".join(dict.fromkeys(remedies))) from None
    return run.located(base or Path.cwd())


def _look_up(data: dict[str, Any], registered: Registered | None) -> dict[tuple[int | str, ...], ConfigError]:
    """Puts the settings of models where `data` has a bare name; returns what is wrong with the others, by place."""
    problems: dict[tuple[int | str, ...], ConfigError] = {}

    def found(role: Role, given: Any, place: tuple[int | str, ...]) -> Any:
        if not isinstance(given, str):
            return given
        if given.startswith("zoo:"):
            return {"name": given.removeprefix("zoo:"), "model": given}
        try:
            if "/" in given or registered is None:
                raise ConfigError(
                    f"`{given}` is not the name of a registered model",
                    f"write a model in full: {{name: …, model: {given}}}",
                )
            return registered(role, given)
        except ConfigError as error:
            problems[place] = error
            return given

    if isinstance(teachers := data.get("teachers"), list):
        data["teachers"] = [found("teacher", each, ("teachers", i)) for i, each in enumerate(teachers)]
    if "student" in data:
        data["student"] = found("student", data["student"], ("student",))
    return problems


def _leave_out(data: dict[str, Any]) -> None:
    """A parameter that is null in `sampling`, or in `generation` where `sampling` has none, is not sent to an endpoint.

    It becomes `endpoint.leave_out`: a stored run names every key that it leaves to its default, as null. A model in
    this process has the default of a key that is null.
    """
    generation, given = data.get("generation"), data.get("teachers")
    teachers = given if isinstance(given, list) else []
    nulls: set[str] = set()
    if isinstance(generation, dict):
        nulls = {key for key in SamplingConfig.model_fields if key in generation and generation[key] is None}
        data["generation"] = {key: value for key, value in generation.items() if key not in nulls}
    for index, teacher in enumerate(teachers):
        if not isinstance(teacher, dict) or teacher.get("backend") not in TEACHERS.names():
            continue
        given, endpoint = teacher.get("sampling") or {}, teacher.get("endpoint") or {}
        if not (isinstance(given, dict) and isinstance(endpoint, dict)):
            continue
        settings = teacher_kind(teacher["backend"]).settings
        left = (nulls - given.keys()) | {key for key in given if given[key] is None}
        left &= SamplingConfig.model_fields.keys()
        if left and "endpoint" in settings.model_fields:
            own = endpoint.get("leave_out") or []
            own = own if isinstance(own, list) else [own]
            teachers[index] = {**teacher, "endpoint": {**endpoint, "leave_out": [*own, *sorted(left)]}}


def _message(problem: Any) -> str:
    if problem["type"] == "too_short":
        return ": needs at least one entry"
    if problem["type"] == "union_tag_not_found":
        return f": `source` is missing: one of {', '.join(SOURCES.names())}"
    if problem["type"] == "union_tag_invalid":
        if (kind := problem["ctx"]["tag"]) in SOURCES.names():
            source_kind(kind)  # which says why one of another package cannot be used
        return f": {unknown('source', kind, SOURCES.names())}"
    return f": {said(problem)}"


def _dotted(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "run file"
