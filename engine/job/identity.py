"""What each result of a run is a function of. Equal hashes mean that the stored result is valid as it is.

Everything here follows from the run file, its models' files and its prompts' files alone; no store, no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.config.kinds import scorer_kind
from engine.config.run_file import Run
from engine.job.calibration import Calibration
from engine.methods import strategy_kinds
from engine.models import nf4
from engine.registry import evaluation_backend, models
from engine.scorers import scorer_kinds
from engine.sources import source_kinds
from storage.hashing import sha
from storage.records import Model

PROMPTS_VERSION = 1
"""Raised when the rule for duplicates or splits changes."""
DESIGN_VERSION = 1
"""Raised when the same settings would ask other teachers."""
ROUTER_VERSION = 2
"""Raised when the same labels would train another router."""

LEARNABILITY = "learnability"
"""The scorer that every run has beside those of its quality."""
CORRECTNESS = "exact_answer"
"""What the student is evaluated by."""


def prompt_set_sha(run: Run) -> str:
    """Everything that decides which prompts a run has, and which split each is in."""
    return sha(
        {
            "version": PROMPTS_VERSION,
            "sources": [source_kinds.fingerprint(source) for source in run.prompts],
            "split": run.split.model_dump(),
            "too_long": run.too_long,
        }
    )


@dataclass(frozen=True)
class ScorerSpec:
    """A scorer of a run."""

    kind: str
    settings: Mapping[str, Any]
    """What it is made with: the run file's part and, for learnability, the student."""
    sees_reasoning: bool
    """Whether it reads what a teacher thought before its response."""

    @property
    def compares(self) -> bool:
        """Whether a response's score depends on the other responses to its prompt."""
        return scorer_kind(self.kind).compares(self.settings)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Everything that shapes its scores."""
        found = scorer_kinds.identity(self.kind, self.settings)
        return {**found, "reasoning": True} if self.sees_reasoning else found


class RunIdentity:
    """The hashes of a run's results.

    Args:
        run: the run file.
        teachers: its teachers, in its order.
        student: its student.
    """

    def __init__(self, run: Run, teachers: Sequence[Model], student: Model) -> None:
        self._run, self._teachers, self._student = run, teachers, student
        self._calibration = Calibration(run)
        self._scorers: dict[str, ScorerSpec] = {}

    @cached_property
    def prompt_set_sha(self) -> str:
        """See the function of this name."""
        return prompt_set_sha(self._run)

    @cached_property
    def generation_shas(self) -> tuple[str, ...]:
        """By teacher: everything that shapes its responses."""
        return tuple(map(models.generation_sha, self._teachers))

    def scorer(self, name: str) -> ScorerSpec:
        """A scorer of this run; one that is not in `quality` has its kind's defaults."""
        if name not in self._scorers:
            self._scorers[name] = self._scorer(name)
        return self._scorers[name]

    def _scorer(self, name: str) -> ScorerSpec:
        shown = self._run.reasoning
        if name == LEARNABILITY:
            student = self._student
            passed = ("dtype", "device", "batch_tokens", "trust_remote_code")
            settings: Mapping[str, Any] = {
                "model": student.model,
                "revision": student.revision,
                "system": student.system,
                "context": student.context,
                **self._run.learnability.model_dump(),
                **{key: student.options[key] for key in passed if key in student.options},
            }
            return ScorerSpec(name, settings, shown.learnability)
        config = self._run.quality.named.get(name)
        kind, settings = (name, {}) if config is None else (config.scorer, config.settings)
        if config is not None and scorer_kind(kind).compares(settings):
            settings = {**settings, "opponents": self._opponents}
        return ScorerSpec(kind, settings, shown.quality and scorer_kind(kind).reads_reasoning)

    @property
    def _opponents(self) -> Sequence[str]:
        """What says which responses to a prompt are compared: teachers and their settings, and a design's choice."""
        found = sorted(self.generation_shas)
        return found if self._calibration.teachers_per_prompt is None else [*found, self.design_sha]

    @property
    def quality(self) -> Mapping[str, Any]:
        """Everything that shapes the quality of a response: the scorers and, of several, how they are combined."""
        config = self._run.quality
        identities = [self.scorer(name).identity for name in config.named]
        if len(identities) == 1:
            return identities[0]
        weights = [scorer.weight for scorer in config.named.values()]
        return {"scorers": identities, "weights": weights, "normalization": config.normalization}

    @property
    def design_sha(self) -> str:
        """Prompts, teachers and k: who answers which calibration prompt."""
        return sha(
            {
                "design": DESIGN_VERSION,
                "prompts": self.prompt_set_sha,
                "generations": self.generation_shas,
                "teachers_per_prompt": self._calibration.teachers_per_prompt,
                "seed": self._run.split.seed,
            }
        )

    @cached_property
    def evidence_sha(self) -> str:
        """Prompts, teachers' responses and both scores: what labels are made of."""
        parts: dict[str, Any] = {
            "prompts": self.prompt_set_sha,
            # Names too: two servers may each offer a model that they call by the same name.
            "teachers": [
                [teacher.name, generation]
                for teacher, generation in zip(self._teachers, self.generation_shas, strict=True)
            ],
            "quality": self.quality,
            "learnability": self.scorer(LEARNABILITY).identity,
        }
        if self._calibration.teachers_per_prompt is not None:
            parts["design"] = self.design_sha
        return sha(parts)

    @property
    def router_sha(self) -> str:
        """The evidence, how rewards are made from it, and how the router learns them."""
        return sha(
            {
                "version": ROUTER_VERSION,
                "evidence": self.evidence_sha,
                "reward": self._run.reward.model_dump(),
                # A run that was settled without a number format is one of float32.
                "router": {
                    **self._run.router.model_dump(exclude={"device"}),
                    "dtype": self._run.router.dtype or "float32",
                },
            }
        )

    def plan_sha(self, strategy: str) -> str:
        """A strategy and everything its assignment depends on."""
        kind = strategy_kinds.load(strategy)
        parts: dict[str, Any] = {
            "strategy": strategy,
            "prompts": self.prompt_set_sha,
            "teachers": [
                [teacher.name, teacher.family, teacher.parameters, generation]
                for teacher, generation in zip(self._teachers, self.generation_shas, strict=True)
            ],
            "student_family": self._run.student.family,
            "seed": self._run.split.seed,
            "mix": None,  # in every plan's hash, so that stored plans are found
        }
        parts |= {
            setting.hashed_as or setting.key: getattr(self._run, setting.key) for setting in kind.settings
        }
        if self._calibration.needed_by(strategy):
            parts["evidence"] = self.evidence_sha
        if kind.uses_rewards:
            parts["reward"] = self._run.reward.model_dump()
        if kind.uses_router:
            parts["router"] = self.router_sha
        return sha(parts)

    def dataset_sha(self, strategy: str) -> str:
        """A strategy's plan and the rule that turns responses into rows."""
        parts: dict[str, Any] = {
            "plan": self.plan_sha(strategy),
            "dataset": self._run.dataset.model_dump(),
            "fallbacks": self._run.generation.fallbacks,
        }
        if self._run.reasoning.dataset:
            parts["reasoning"] = True
        return sha(parts)

    def adapter_sha(self, strategy: str, excluded: Sequence[int] = ()) -> str:
        """A strategy's dataset without the excluded prompts' rows, the student, and how it is trained."""
        # Without rows held out an adapter is the one that it was before there was this key.
        unseen = set() if self._run.distill.held_out else {"held_out"}
        parts: dict[str, Any] = {
            "dataset": self.dataset_sha(strategy),
            "student": dict(models.student_identity(self._student)),
            "distill": self._run.distill.model_dump(
                exclude={"merge", "keep_checkpoints", "checkpoint_steps"} | unseen
            ),
        }
        if self._run.distill.method == "qlora":
            parts["quantization"] = nf4.NF4
        if excluded:
            parts["excluded"] = excluded
        return sha(parts)

    def evaluation_sha(self, adapter_sha: str | None) -> str:
        """What is measured (None: the student before training) and how."""
        return sha(
            {
                "prompts": self.prompt_set_sha,
                "student": dict(models.student_identity(self._student)),
                "adapter": adapter_sha,
                "sampling": models.sampling(self._student),
                "quality": self.scorer(CORRECTNESS).identity,
                **evaluation_backend.identity(self._run.evaluation),
            }
        )
