"""The run file's models: teachers and the student."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from engine.base.plugins import TEACHERS
from engine.config.endpoint import Addressed, PriceConfig
from engine.config.kinds import teacher_kind
from engine.config.paths import RunFolder
from engine.config.section import Dtype, Section, Seed, Texts, first_problem, known, refuse_unknown
from engine.config.sources import ImportedSource
from engine.config.vllm import ServerConfig


class SamplingConfig(Section):
    """How a teacher's tokens are drawn; keys left out come from `generation`, one that is null goes to no endpoint."""

    temperature: float | None = Field(None, ge=0, le=10)
    """0: the likeliest token each time."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the likeliest tokens, of this probability together."""
    top_k: int | None = Field(None, ge=0)
    """Only so many of the likeliest tokens; 0: all."""
    max_tokens: int | None = Field(None, ge=1)
    """Of a response."""
    seed: Seed | None = None
    """Of the draws."""
    stop: Texts | None = None
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
    dtype: Dtype | None = None
    """Number format of the weights; None: auto, 16 bits on a GPU where the model's files have them, else float32."""
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
    """One teacher: a model, how it is reached, and what it costs.

    Every other key is a setting of its kind, checked against that kind's `settings`. The fields of the kinds that come
    with the engine stand here, because the hash of every stored job holds them all.
    """

    model_config = ConfigDict(extra="allow")

    model: str = ""
    """zoo:NAME, a folder, a .gguf file or a hub id; of an endpoint the name that it serves. Of an adapter it may be
    left out: the base that the adapter names is taken."""
    adapter: str | None = None
    """Folder of a PEFT adapter over `model`; of `backend: transformers`."""
    backend: str = "transformers"
    """How it is run."""
    sampling: SamplingConfig = SamplingConfig()
    price: PriceConfig = PriceConfig()
    server: ServerConfig = ServerConfig()
    """Of `backend: vllm`: how it is started."""
    responses: tuple[ImportedSource, ...] = ()
    """Of `backend: imported`: where its responses are; empty: in the run's own `imported` prompts."""
    tokens_per_second: float | None = Field(None, gt=0, title="tokens/s")
    """For the dry run's time only: what this teacher generates with all its replicas; None: as measured before."""
    expected_tokens: float | None = Field(None, gt=0)
    """For the dry run only: mean length of its responses; None: as measured, else `estimate.completion_tokens`."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name = data.get("backend", cls.model_fields["backend"].default)
        if name not in TEACHERS.names():
            return data  # `_known_backend` names the nearest one
        settings = teacher_kind(name).settings
        own = [key for key in settings.model_fields if key not in cls.model_fields]
        refuse_unknown(data, (*cls.model_fields, *own))
        if not own:
            return data
        given = {
            key: data[key]
            for key in settings.model_fields
            if key in data and (key in own or data[key] != cls.model_fields[key].default)
        }
        try:
            checked = settings.model_validate(given)
        except ValidationError as error:
            raise ValueError(f"backend `{name}`: {first_problem(error)}") from None
        return {**data, **checked.model_dump(mode="json", include=set(own) & data.keys())}

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, value: str) -> str:
        return known("backend", value, TEACHERS.names())

    @model_validator(mode="after")
    def _has_a_model(self) -> TeacherConfig:
        if not self.model and not self.adapter:
            raise ValueError(
                "`model` is missing: a folder, a .gguf file, a hub id, zoo:NAME, or a served name"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_kind(self) -> TeacherConfig:
        kind = teacher_kind(self.backend)
        if not kind.generates and self.system:
            raise ValueError("imported answers were given without this `system` prompt; leave it out")
        if "server" not in kind.settings.model_fields and self.server != ServerConfig():
            raise ValueError("`server` is of `backend: vllm`, whose server the engine starts")
        return self

    def located(self, folder: RunFolder) -> TeacherConfig:
        """The same with every local path absolute, and with what its kind reads from the files there."""
        kind = teacher_kind(self.backend)
        settings = {
            key: getattr(self, key, field.get_default(call_default_factory=True))
            for key, field in kind.settings.model_fields.items()
        }
        return self.model_copy(update=dict(kind.located({**settings, "model": self.model}, folder)))


class StudentConfig(ModelConfig):
    """The student; run in-process by transformers and PEFT."""
