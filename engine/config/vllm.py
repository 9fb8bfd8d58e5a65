"""The run file's settings of a vLLM server that the engine starts: its command, its place, when it is broken."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from engine.config.endpoint import ConcurrencyConfig, EndpointConfig
from engine.config.section import Section

SET_BY_ENGINE = ("--model", "--served-model-name", "--host", "--port", "--api-key", "--revision")
"""Arguments that `args` may not hold."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What it takes as `--max-lora-rank`."""

CONCURRENCY = ConcurrencyConfig(start=256, max=256)
"""Requests in flight at a server of our own, unless the run file says otherwise: vLLM queues what it cannot batch."""


class ServerConfig(Section):
    """How vLLM is started for a teacher, where it is placed, and when it is given up."""

    command: tuple[str, ...] = ()
    """What starts it: a Python interpreter that has vLLM, a `vllm` command, or a whole command line, to which the
    engine adds its arguments. Empty: the interpreter in PERSYN_VLLM_PYTHON, else what is installed here."""
    args: tuple[str, ...] = ()
    """More arguments of vLLM; part of a response's identity."""
    env: dict[str, str] = Field(default_factory=dict)
    """More environment variables, e.g. VLLM_CPU_KVCACHE_SPACE. Never put a key here: the run file is stored."""
    gpus: tuple[int, ...] = ()
    """Numbers of the GPUs to use, as nvidia-smi counts them; empty: the first that are free. Teachers that name
    different GPUs generate side by side."""
    tensor_parallel: int | None = Field(None, ge=1)
    """GPUs that share the model; None: all of `gpus`, or one."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, title="GPU memory")
    """Share of each GPU's memory that vLLM takes."""
    gpu_timeout: float = Field(30.0, ge=0)
    """Seconds that GPUs are waited for until they are free: raise it where other jobs give theirs back."""
    start_timeout: float = Field(1800.0, gt=0)
    """Seconds until it must answer."""
    stall_timeout: float = Field(300.0, gt=0)
    """Seconds with requests in flight and no token, after which it counts as hung and is started again."""
    restarts: int = Field(2, ge=0)
    """Times that it is started again after it died or hung, while it is in use."""

    @field_validator("command", mode="before")
    @classmethod
    def _one_word(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("args")
    @classmethod
    def _only_more(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for argument in value:
            if argument.split("=")[0].replace("_", "-") in SET_BY_ENGINE:
                raise ValueError(f"`{argument}` is set by the engine")
        return value

    @model_validator(mode="after")
    def _enough_gpus(self) -> ServerConfig:
        if len(set(self.gpus)) < len(self.gpus):
            raise ValueError("`gpus` names one twice")
        if self.gpus and self.tensor_parallel is not None and self.tensor_parallel != len(self.gpus):
            raise ValueError(
                f"`tensor_parallel` is {self.tensor_parallel}, but `gpus` names {len(self.gpus)}"
            )
        return self

    @property
    def width(self) -> int:
        """GPUs that share the model."""
        return self.tensor_parallel or len(self.gpus) or 1


class VllmConfig(Section):
    """The keys of a teacher of `backend: vllm`."""

    endpoint: EndpointConfig = EndpointConfig()
    server: ServerConfig = ServerConfig()
    dtype: str | None = None
    """None: as the weights are stored, `auto` to vLLM."""
    trust_remote_code: bool = False
