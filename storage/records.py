"""Frozen records that travel between the store and the engine; no table class leaves `storage`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Messages = Sequence[Mapping[str, str]]
"""A conversation: mappings with `role` (system, user or assistant) and `content`, oldest first."""

Split = Literal["calibration", "validation", "synthesis", "evaluation"]
"""calibration and validation prompts are answered by every teacher; the router learns from the first
and is measured on the second. synthesis prompts are answered by one teacher. evaluation prompts only
ever reach the student."""

Status = Literal["ok", "truncated", "empty", "refused", "too_long", "error"]
"""What became of one generation. Only `ok` is ever scored as an answer or trained on."""

Role = Literal["teacher", "student", "reward_model", "judge"]


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
    """A teacher, student, reward model or judge."""

    name: str
    role: Role
    backend: str
    """File name of the backend in `engine.teachers.teacher_kinds`."""
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
    """Chosen by the caller; comes back in the `Response`."""
    messages: Messages
    """With the teacher's system prompt already in place."""
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Response:
    """What a backend gives back for one `Request`, in any order."""

    key: int
    text: str
    status: Status
    finish_reason: str
    """`stop` (end-of-turn or stop string), `length`, `content_filter`, `tool_calls`, `error`, or `too_long`; any other
    word is the server's own, which nobody knows."""
    prompt_tokens: int
    completion_tokens: int
    """Includes the end-of-turn token when one was generated."""
    latency_s: float
    """Wall seconds from submission of its batch to its end."""
    reasoning: str = ""
    error: str = ""
    """What went wrong, for `error` and `too_long`; never shown as an answer."""
    mark: str = ""
    """What set its reasoning apart; not stored."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
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
class Score:
    """What a scorer says of one response."""

    value: float | None
    """The score used downstream; None when `status` is not `ok`."""
    sum: float | None = None
    """Raw sum behind a mean (learnability: Σ log p in nats); None for scorers without one."""
    count: int | None = None
    """Number of terms in `sum` (learnability: tokens)."""
    status: str = "ok"
    """`ok`, `too_long`, `timeout`, `unverifiable`, `refused`, `unreadable` or `error`."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Small JSON: extracted answer, reason, versions."""


class Generation(NamedTuple):
    """Who answers, and with what: the part of a response's identity that is not the prompt."""

    teacher_id: int
    generation_sha: str
    """Hash over all that shapes an answer: model and revision, template, system prompt, sampling."""


@dataclass(frozen=True, slots=True)
class PromptSet:
    """A named, ordered selection of prompts, each in one split."""

    id: int
    name: str
    spec_sha: str
    complete: bool
    """False while prompts are still being read; such a set is filled up by the next run."""
    counts: Mapping[str, int]
    """What the stage that filled it counted (kept, duplicates, per split); empty until complete."""


@dataclass(frozen=True, slots=True)
class NewResponse:
    """A response about to be stored."""

    prompt_id: int
    teacher_id: int
    generation_sha: str
    response: Response
    cost: float = 0.0
    """Dollars."""
    sample: int = 0
    """Number of the draw when a teacher answers a prompt more than once."""
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class ResponseCount:
    """How many responses one teacher has in one status, with their sums."""

    teacher_id: int
    status: Status
    count: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    """Dollars."""
    latency_s: float
    """Sum over the responses, in seconds."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what a run asks of one teacher is there."""

    teacher_id: int
    wanted: int
    """Prompts it has to answer."""
    counts: Mapping[str, int]
    """Answers by status; a prompt without one is in none."""
    retries: int
    """Times that it was asked again after an error."""
    completion_tokens: int
    cost: float
    """Dollars."""
    last_id: int = field(default=0, compare=False)
    """The store's newest response when this was counted; see `responses.since`."""

    @property
    def done(self) -> int:
        """Prompts with a response of any status."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class ResponseLine:
    """One line of a listing of responses."""

    response: StoredResponse
    teacher: str
    """Name of the teacher."""
    prompt: Prompt
    created_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A score with the scorer that gave it."""

    scorer_id: int
    kind: str
    identity: Mapping[str, Any]
    """Everything the scorer's hash is made of."""
    score: Score


@dataclass(frozen=True, slots=True)
class Assignment:
    """A plan's choice of a teacher for a prompt."""

    prompt_id: int
    teacher_id: int
    attempt: int = 0
    """0 is the choice; 1 and up are fallbacks after an answer that cannot be used."""
    strengths: tuple[float, ...] | None = None
    """The router's M coefficients (stored as float32), in the plan's teacher order; None for strategies
    without a router."""
    margin: float | None = None
    """Strength of the chosen teacher over the next best; None without a router."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a plan gave to one teacher."""

    teacher_id: int
    prompts: int
    margin: float | None
    """Mean over its prompts; None without a router."""


@dataclass(frozen=True, slots=True)
class StoredAssignment:
    """An assignment with the plan it belongs to."""

    plan_id: int
    strategy: str
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Membership:
    """A response's place in a dataset."""

    dataset_id: int
    dataset: str
    quality: float | None
    learnability: float | None
    reward: float | None
    excluded: bool


@dataclass(frozen=True, slots=True)
class ResponseContext:
    """A response with all that is known about it."""

    line: ResponseLine
    teacher: Model
    attempts: int
    job_id: int | None
    scores: Sequence[StoredScore]
    assignments: Sequence[StoredAssignment]
    datasets: Sequence[Membership]


@dataclass(frozen=True, slots=True)
class Scorable:
    """A usable response that a scorer has not seen yet."""

    ordinal: int
    prompt: Prompt
    response_id: int
    teacher_id: int
    text: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class NewRouter:
    """A trained router about to be stored."""

    spec_sha: str
    """Of what it was trained from and how."""
    student_id: int
    """The student that its rewards are for."""
    path: str
    """Folder of the weights, relative to the store's folder unless absolute."""
    manifest: Mapping[str, Any]
    """Teacher order, alpha, normalization, backbone."""
    metrics: Mapping[str, Any]
    """Hit@1, Hit@3, regret and the like."""


@dataclass(frozen=True, slots=True)
class RouterRecord(NewRouter):
    """A trained router."""

    id: int


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan about to be made: one strategy's assignments over a prompt set."""

    spec_sha: str
    strategy: str
    prompt_set_id: int
    router_id: int | None
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan(NewPlan):
    """One strategy's assignments over a prompt set."""

    id: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of training rows."""

    id: int
    spec_sha: str
    plan_id: int
    name: str
    manifest: Mapping[str, Any]
    complete: bool


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One training row about to be stored."""

    prompt_id: int
    response_id: int
    quality: float | None = None
    learnability: float | None = None
    """Nats per token."""
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One training row with what it is made of."""

    prompt: Prompt
    response: StoredResponse
    teacher: str
    quality: float | None
    learnability: float | None
    """Nats per token."""
    reward: float | None
    excluded: bool
    """True when an operator took the row out; it stays visible and is not trained on."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A student after distillation."""

    id: int
    spec_sha: str
    dataset_id: int
    student_id: int
    path: str
    """Empty until complete."""
    metrics: Mapping[str, Any]
    complete: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training checkpoint whose files are complete and hashed."""

    adapter_id: int
    step: int
    path: str
    sha256: str
    """Of the checkpoint's manifest."""
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A student, with or without an adapter, measured on the evaluation prompts of a set."""

    id: int
    spec_sha: str
    student_id: int
    adapter_id: int | None
    prompt_set_id: int
    summary: Mapping[str, Any]
    complete: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One evaluation prompt's outcome."""

    prompt_id: int
    value: float | None
    """1 right, 0 wrong, or graded in between; None when it could not be judged."""
    text: str
    status: Status
    completion_tokens: int
