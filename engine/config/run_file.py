"""The run file: YAML validated at the door, so that no stage ever meets a wrong setting.

`load(path)` gives a frozen `Run`; everything wrong in the file is reported at once, with its line, the
key, and the nearest valid key. Algorithms take plain arguments: stages unpack this config, nothing
below a stage imports it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from engine.base.errors import ConfigError
from engine.config.endpoint import Addressed
from engine.config.paths import with_paths
from engine.config.quality import QualityConfig
from engine.config.section import Section, Seed, known
from engine.config.sources import ImportedSource, Source
from engine.config.vllm import ServerConfig
from engine.config.yaml_places import check, line_of
from engine.methods import strategy_kinds
from engine.methods.strategy import Evidence
from engine.teachers import teacher_kinds
from storage.records import Role

_UNKNOWN_KEY = re.compile(r"unknown key `([^`]+)`")


class SamplingConfig(Section):
    """How a teacher's tokens are drawn; keys left out come from `generation`."""

    temperature: float | None = Field(None, ge=0)
    """0: the likeliest token each time."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the likeliest tokens, of this probability together."""
    top_k: int | None = Field(None, ge=0)
    """Only so many of the likeliest tokens; 0: all."""
    max_tokens: int | None = Field(None, ge=1)
    """Of a response."""
    seed: Seed | None = None
    """Of the draws."""
    stop: tuple[str, ...] | None = None
    """Texts that end a response."""


class ModelConfig(Section):
    """What teachers and students have in common."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[\w.:/+-]+$")
    """What runs call it."""
    model: str = Field(min_length=1)
    """zoo:NAME, a folder, a .gguf file or a hub id."""
    revision: str = ""
    """Commit of a hub id."""
    family: str = ""
    """Empty: as its files say."""
    parameters: float | None = Field(None, gt=0)
    """Number of weights, e.g. 7.6B; None: as its files say."""
    system: str = Field("", title="system prompt")
    """Before every prompt; empty: none."""
    context: int | None = Field(None, ge=8)
    """Tokens of prompt and response together; None: as its files say."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of the weights; None: the backend's usual one."""
    device: str | None = None
    """auto, cpu, cuda, cuda:N or mps; None: auto."""
    batch_tokens: int | None = Field(None, ge=1)
    """Tokens of one batch; None: as memory allows."""
    trust_remote_code: bool = Field(False, title="remote code")
    """Runs the code in the model's folder; needs a pinned `revision`."""

    @model_validator(mode="after")
    def _remote_code_is_pinned(self) -> ModelConfig:
        if self.trust_remote_code and not self.revision:
            raise ValueError(
                "`trust_remote_code: true` needs a pinned `revision`: code must not change under you"
            )
        return self


class TeacherConfig(ModelConfig, Addressed):
    """One teacher: a model, how it is reached, and what it costs."""

    model: str = ""
    """zoo:NAME, a folder, a .gguf file or a hub id; of an endpoint the name that it serves. Of an adapter it may be
    left out: the base that the adapter names is taken."""
    adapter: str | None = None
    """Folder of a PEFT adapter over `model`; of `backend: transformers`."""
    backend: str = "transformers"
    """How it is run."""
    sampling: SamplingConfig = SamplingConfig()
    server: ServerConfig = ServerConfig()
    """Of `backend: vllm`: how it is started."""
    responses: tuple[ImportedSource, ...] = ()
    """Of `backend: imported`: where its answers are; empty: in the run's own `imported` prompts."""
    tokens_per_second: float | None = Field(None, gt=0)
    """For the dry run's time only: what this teacher generates with all its replicas; None: as measured before."""
    expected_tokens: float | None = Field(None, gt=0)
    """For the dry run only: mean length of its answers; None: as measured, else `estimate.completion_tokens`."""

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, value: str) -> str:
        return known("backend", value, tuple(teacher_kinds.kinds()))

    @model_validator(mode="after")
    def _has_a_model(self) -> TeacherConfig:
        if not self.model and not self.adapter:
            raise ValueError(
                "`model` is missing: a folder, a .gguf file, a hub id, zoo:NAME, or a served name"
            )
        return self

    @model_validator(mode="after")
    def _imported_as_it_is(self) -> TeacherConfig:
        if self.backend == "imported" and self.system:
            raise ValueError("imported answers were given without this `system` prompt; leave it out")
        return self

    @model_validator(mode="after")
    def _server_of_ours(self) -> TeacherConfig:
        if self.backend != "vllm" and self.server != ServerConfig():
            raise ValueError("`server` is of `backend: vllm`, whose server the engine starts")
        return self


class StudentConfig(ModelConfig):
    """The student; run in-process by transformers and PEFT."""


class SplitConfig(Section):
    """How many prompts go where; the choice depends on each prompt's hash, not on its place in a file."""

    calibration: int = Field(100, ge=0)
    """All teachers answer them; the router learns from them."""
    validation: int = Field(50, ge=0)
    """The router is measured on them; all teachers answer them, and it never learns from them."""
    evaluation: int = Field(0, ge=0)
    """The student is measured on them; never trained on."""
    synthesis: int | None = Field(None, ge=0)
    """One teacher answers each; None: all others."""
    seed: Seed = 0
    """Of the shuffle."""


class CalibrationConfig(Section):
    """How many answers the router learns from."""

    prompts: int | None = Field(None, ge=0)
    """Another place for `split.calibration`."""
    teachers_per_prompt: int | None = Field(None, ge=2)
    """k: each calibration prompt is answered by k teachers, balanced over teachers and pairs; None: by all.
    Validation prompts are always answered by all."""


class LearnabilityConfig(Section):
    """Mean log-likelihood of an answer under the untrained student."""

    count_end_of_turn: bool = True


class ReasoningConfig(Section):
    """Who sees what a teacher thought before its answer, put before it as `<think>…</think>`; none do by default.

    `exact_answer` never does: a right answer is one that stands in the answer.
    """

    quality: bool = False
    """The reward model and the judge."""
    learnability: bool = False
    """The student's likelihood."""
    dataset: bool = False
    """The training rows, and with them the student and every export: it learns to think aloud."""


class RewardConfig(Section):
    """r = (1 − α)·quality + α·learnability, each normalized within the prompt."""

    alpha: float = Field(0.4, ge=0, le=1, title="α")
    """0: quality alone … 1: learnability alone."""
    normalization: Literal["zscore", "minmax", "rank"] = "zscore"
    """Puts quality and learnability on one scale within each prompt."""
    unusable: Literal["worst", "missing"] = "worst"
    """A truncated, empty or refused answer: ranks below every usable one, or drops out of the pairs."""
    exclude_all_wrong: bool = True
    """Leaves out of the router's pairs what no teacher solved."""


class RouterConfig(Section):
    """The Bradley–Terry router."""

    backbone: str = "zoo:router"
    """zoo:NAME, a folder or a hub id."""
    revision: str = ""
    trust_remote_code: bool = False
    tune: Literal["frozen", "lora", "full"] = "lora"
    """What of the backbone is trained."""
    targets: Literal["hard", "soft"] = "hard"
    """`hard`: the better answer of a pair wins; `soft`: it wins with probability σ((r_i − r_j)/τ)."""
    temperature: float = Field(0.5, gt=0)
    """τ of soft targets, in reward units."""
    ties: Literal["drop", "half"] = "drop"
    """Equal rewards with hard targets: no pair, or a pair that each side wins half of."""
    folds: int = Field(5, ge=2)
    """Parts of the calibration prompts; training stops early on a part it does not see."""
    epochs: int = Field(3, ge=1)
    """Of a tuned backbone."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of a tuned backbone."""
    batch_size: int = Field(16, ge=1)
    """Prompts per step of a tuned backbone; each is encoded once, whatever the number of teachers."""
    head_epochs: int = Field(100, ge=1)
    head_learning_rate: float | None = Field(None, gt=0)
    """None: chosen by the backbone's width."""
    weight_decay: float = Field(0.01, ge=0)
    patience: int = Field(20, ge=1)
    """Evaluations without a better one before training stops."""
    rank: int = Field(16, ge=1)
    max_tokens: int = Field(0, ge=0)
    """Longer prompts are cut in the middle, for routing only; 0: the backbone's context."""
    seed: Seed = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"


class GenerationConfig(Section):
    """How teachers generate unless a teacher says otherwise."""

    temperature: float = Field(0.7, ge=0)
    """0: the likeliest token each time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Only the likeliest tokens, of this probability together."""
    top_k: int = Field(0, ge=0)
    """Only so many of the likeliest tokens; 0: all."""
    max_tokens: int = Field(1024, ge=1)
    """Of a response."""
    seed: Seed = 0
    """Of the draws."""
    stop: tuple[str, ...] = ()
    """Texts that end a response."""
    fallbacks: int = Field(1, ge=0)
    """How many next-best teachers may be asked when the chosen one gave no usable answer."""
    max_attempts: int = Field(3, ge=1)
    """How often one answer that ended in an error is asked for again."""
    budget_usd: float | None = Field(None, gt=0)
    """Dollars that this run's teachers may cost on its prompts in all; None: no limit."""


class DatasetConfig(Section):
    """Which answers become training rows."""

    keep: Literal["usable", "correct"] = "usable"


class DistillConfig(Section):
    """How the student is trained."""

    method: Literal["lora", "full", "qlora"] = "lora"
    rank: int = Field(16, ge=1)
    alpha: float | None = Field(None, gt=0)
    """LoRA scale; None: twice the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    epochs: int = Field(2, ge=1)
    """Passes over the training rows."""
    learning_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    batch_size: int = Field(16, ge=1)
    """Rows of an optimizer step."""
    held_out: float = Field(0.0, ge=0, lt=0.5)
    """Share of the prompts that the loss is measured on (the eval curve) instead of being trained on."""
    pass_tokens: int = Field(8192, ge=1)
    """Padded tokens of one forward pass: bounds memory, changes no gradient."""
    gradient_checkpointing: bool = False
    max_length: int = Field(2048, ge=8)
    overlong: Literal["drop", "truncate", "raise"] = "drop"
    gradient_clip: float = Field(1.0, gt=0)
    checkpoint_steps: int = Field(100, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    merge: bool = True
    seed: Seed = 0
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


class EvaluationConfig(Section):
    """How the student is measured, before and after."""

    max_tokens: int | None = Field(None, ge=1)
    """None: as `generation`."""
    bootstrap: int = Field(10_000, ge=100, le=1_000_000)
    """Resamplings behind each paired comparison."""
    seed: Seed = 0


class EstimateConfig(Section):
    """Only for the dry run, where nothing has been measured yet."""

    prompt_tokens: int = Field(200, ge=1)
    completion_tokens: int = Field(600, ge=1)


class Run(Section):
    """A whole run file."""

    name: str = Field("run", min_length=1, max_length=200, title="run name")
    """What Jobs calls it."""
    student: StudentConfig
    teachers: tuple[TeacherConfig, ...] = Field(min_length=1)
    """Who may answer; the router chooses among two or more."""
    prompts: tuple[Source, ...] = Field(min_length=1)
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
            known("strategy", value, strategy_kinds.names())
        return tuple(dict.fromkeys(values))

    @field_validator("teachers")
    @classmethod
    def _names_differ(cls, teachers: tuple[TeacherConfig, ...]) -> tuple[TeacherConfig, ...]:
        names = [teacher.name for teacher in teachers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two teachers are named `{name}`; give each its own name")
        return teachers

    @model_validator(mode="after")
    def _correct_is_known(self) -> Run:
        if self.dataset.keep == "correct" and "exact_answer" not in self.quality.named:
            raise ValueError("dataset.keep: `correct` needs the scorer `exact_answer` in `quality`")
        return self

    @model_validator(mode="after")
    def _so_many_teachers(self) -> Run:
        if (self.calibration.teachers_per_prompt or 0) > len(self.teachers):
            raise ValueError(
                f"calibration.teachers_per_prompt is {self.calibration.teachers_per_prompt} and there are "
                f"{len(self.teachers)} teachers"
            )
        return self

    @model_validator(mode="after")
    def _calibration_is_there(self) -> Run:
        learns = [name for name in self.strategies if strategy_kinds.load(name).learns_from_calibration]
        given = self.split.calibration or any(source.split == "calibration" for source in self.prompts)
        if learns and not given:
            raise ValueError(
                f"split.calibration is 0: `{learns[0]}` learns from prompts that all teachers answer; "
                "set it to 100 or more"
            )
        return self

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
    # Settings that strategies declare are keys of the run file like any other: checked, hashed and in the schema.
    Run = create_model(
        "Run",
        __base__=Run,
        __doc__=Run.__doc__,
        **{
            key: (float, Field(setting.default, ge=setting.low, le=setting.high, description=setting.about))
            for key, setting in strategy_kinds.settings().items()
        },
    )

Registered = Callable[[Role, str], Mapping[str, Any]]
"""The settings of a registered model, from its role and name; `engine.registry.models.saved` makes one."""


def load(path: str | Path, registered: Registered | None = None) -> Run:
    """The run that a YAML file describes, with relative paths resolved against the file's folder.

    `registered` is asked for each teacher or student that is given as a bare name.

    Raises:
        ConfigError: no such file, not YAML, or a setting is wrong; every problem is named with its line.
    """
    file = Path(path)
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder, not a run file", "name the YAML file; `examples/` has some")
    if file.suffix in (".jsonl", ".csv", ".parquet"):
        raise ConfigError(
            f"{file}: holds prompts, a run file is YAML",
            f"name it in a run file: `prompts: [{{path: {file.name}, …}}]`",
        )
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: no such run file", "check the path; `examples/` has run files to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}", "a run file is a UTF-8 YAML file") from None
    return parse(text, where=str(file), base=file.resolve().parent, registered=registered)


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
    unknown = _look_up(data, registered)
    try:
        run = Run.model_validate(data)
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
            + (f": {unknown[loc].message}" if loc in unknown else _message(problem))
            for loc, problem in problems.items()
        ]
        remedies = [problem.remedy for problem in unknown.values()]
        if problems.keys() - unknown.keys():
            remedies.append("mend the keys named above; README explains a run file")
        raise ConfigError("\n".join(lines), "\n  → ".join(dict.fromkeys(remedies))) from None
    return with_paths(run, base or Path.cwd())


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


def json_schema() -> str:
    """The run file's JSON Schema, for editors that validate and complete YAML."""
    schema = Run.model_json_schema()
    places = schema["properties"]
    name = {"type": "string", "description": "Name of a registered model: `persyn models add`."}
    places["student"] = {"anyOf": [places["student"], name]}
    places["teachers"]["items"] = {"anyOf": [places["teachers"]["items"], name]}
    return json.dumps(schema, indent=2)


def _message(problem: Any) -> str:
    if problem["type"] == "too_short":
        return ": needs at least one entry"
    if problem["type"] == "model_type":
        return ": must be a mapping of keys, e.g. {key: value}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f": {message}"


def _dotted(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "run file"
