"""Frozen records that travel between the store and the engine; no table class leaves `storage`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Messages = Sequence[Mapping[str, str]]
"""A conversation: mappings with `role` (system, user or assistant) and `content`, oldest first."""

Split = Literal["calibration", "validation", "synthesis", "evaluation"]
"""calibration and validation prompts are answered by every teacher; the router learns from the first
and is measured on the second. synthesis prompts are answered by one teacher. evaluation prompts only
ever reach the student."""

Status = Literal["ok", "truncated", "empty", "refused", "too_long", "error"]
"""What became of one generation. Only `ok` is ever scored as an answer or trained on."""

Role = Literal["teacher", "student", "reward_model"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Every field is part of a response's identity."""

    temperature: float = 0.0
    """0 is greedy decoding."""
    top_p: float = 1.0
    top_k: int = 0
    """0 means no limit."""
    max_tokens: int = 512
    """Upper bound of generated tokens; an answer that reaches it is `truncated`."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are not part of it."""


@dataclass(frozen=True, slots=True)
class Model:
    """A registered teacher, student or reward model."""

    name: str
    role: Role
    backend: str
    """File name of the backend in `engine.backends`."""
    model: str
    """`zoo:NAME`, a folder, or a hub id; for endpoints the served name."""
    revision: str = ""
    family: str = ""
    parameters: float | None = None
    """Number of weights; None when not known."""
    system: str = ""
    """System prompt put before every prompt; empty for none."""
    sampling: Sampling = Sampling()
    price_input: float = 0.0
    """Dollars per million prompt tokens."""
    price_output: float = 0.0
    """Dollars per million generated tokens."""
    context: int | None = None
    """Tokens that prompt and answer may take together; None: as the model's config says."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Backend settings that do not change the answers' distribution's definition (device, batch_tokens)
    and those that do (dtype, base_url). The backend's `identity_options` names the latter."""
    id: int | None = None
    """Row id; None before it is stored."""
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt with what is needed to verify an answer to it."""

    messages: Messages
    answer: str | None = None
    """Reference answer; None when there is none."""
    verifier: Mapping[str, Any] | None = None
    """`{"kind": ..., ...}` for the exact_answer scorer; None when answers cannot be verified."""
    source: str = ""
    """Where it came from, e.g. `reasoning_gym:chain_sum` or a file name."""
    id: int | None = None
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One generation to be made by a backend."""

    key: int
    """Chosen by the caller; comes back in the `Completion`."""
    messages: Messages
    """With the teacher's system prompt already in place."""
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Completion:
    """What a backend gives back for one `Request`, in any order."""

    key: int
    text: str
    status: Status
    finish_reason: str
    """`stop` (end-of-turn or stop string), `length`, `error`, or `too_long`."""
    prompt_tokens: int
    completion_tokens: int
    """Includes the end-of-turn token when one was generated."""
    latency_s: float
    """Wall seconds from submission of its batch to its end."""
    reasoning: str = ""
    error: str = ""
    """What went wrong, for `error` and `too_long`; never shown as an answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """A stored answer of one teacher to one prompt."""

    id: int
    prompt_id: int
    teacher_id: int
    sample: int
    generation_sha: str
    text: str
    status: Status
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost: float
    """Dollars, from the teacher's price."""
    reasoning: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scorer says of one response."""

    value: float | None
    """The score used downstream; None when `status` is not `ok`."""
    sum: float | None = None
    """Raw sum behind a mean (learnability: Σ log p in nats); None for scorers without one."""
    count: int | None = None
    """Number of terms in `sum` (learnability: tokens)."""
    status: str = "ok"
    """`ok`, `too_long`, `timeout`, `unverifiable` or `error`."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Small JSON: extracted answer, reason, versions."""
