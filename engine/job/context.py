"""What every stage works with: the run file, the store, who owns the job, and the models' identities."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.base.errors import Cancelled
from engine.config.run_file import Run
from engine.job.progress import Progress
from engine.job.server_pool import ServerPool
from engine.methods import strategy_kinds
from engine.registry import models
from engine.scorers import scorer_kinds
from storage import datasets
from storage.hashing import sha
from storage.jobs import Lease
from storage.records import Generation, Model, Split
from storage.store import Store

CALIBRATED: tuple[Split, ...] = ("calibration", "validation")
"""Answered by every teacher."""
TRAINED: tuple[Split, ...] = ("calibration", "validation", "synthesis")
"""Every strategy gives each of these prompts one row of training data."""

DESIGN_VERSION = 1
"""Raised when the same settings would ask other teachers."""

ROUTER_VERSION = 2
"""Raised when the same labels would train another router."""


def _never() -> bool:
    return False


@dataclass
class RunContext:
    """One job's working state. Stages read it; only the prompts stage sets `prompt_set`."""

    run: Run
    store: Store
    lease: Lease
    teachers: tuple[Model, ...]
    """In the run file's order; this order is the columns of every (B, M) array."""
    student: Model
    progress: Progress
    cancelled: Callable[[], bool]
    waits: Callable[[], bool] = _never
    """Whether, once cancelled, answers in flight at endpoints are waited for."""
    servers: ServerPool = field(default_factory=ServerPool)
    """Through which its teachers are asked."""
    take_save: Callable[[], bool] = _never
    """True once after each time that the operator asked for a checkpoint."""
    take_concurrency_changes: Callable[[], Mapping[str, int]] = Counter
    """Teacher → how often more was asked to be in flight at once than fewer, since the last call."""
    paces: dict[str, int] = field(default_factory=dict)
    """Teacher → requests in flight at most, where the operator asked for fewer."""
    prompt_set: int = 0
    prompt_set_sha: str = ""
    _identities: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _excluded: dict[str, Sequence[int]] = field(default_factory=dict)

    def check(self) -> None:
        """Raises Cancelled when the operator asked to stop; called between batches."""
        if self.cancelled():
            raise Cancelled("cancelled; everything committed is kept", "run the same command again to go on")

    @cached_property
    def generations(self) -> tuple[Generation, ...]:
        """(teacher id, generation hash) per teacher: which stored responses belong to this run."""
        return tuple(Generation(_id(teacher), models.generation_sha(teacher)) for teacher in self.teachers)

    @property
    def student_id(self) -> int:
        """Row id of the student."""
        return _id(self.student)

    @property
    def calibrates(self) -> bool:
        """Whether any strategy needs all teachers' answers on the calibration prompts."""
        return self.full or any(map(self.needs_calibration, self.run.strategies))

    def needs_calibration(self, strategy: str) -> bool:
        """Whether this strategy needs all teachers' answers on the calibration prompts."""
        return strategy_kinds.needs_calibration(strategy, [teacher.parameters for teacher in self.teachers])

    @property
    def full(self) -> bool:
        """Whether any strategy needs all teachers' answers on all prompts."""
        return any(strategy_kinds.load(name).needs_full_parallel for name in self.run.strategies)

    @property
    def answered_by_all(self) -> tuple[Split, ...]:
        """The splits that every teacher answers in this run; none where a design says who answers what."""
        if self.full:
            return TRAINED
        return CALIBRATED if self.calibrates and self.teachers_per_prompt is None else ()

    @property
    def labelled(self) -> tuple[Split, ...]:
        """The splits whose prompts several teachers answer, so that rewards are defined there."""
        return TRAINED if self.full else CALIBRATED

    @property
    def teachers_per_prompt(self) -> int | None:
        """k, of a calibration that asks k teachers for each prompt; None when it asks all."""
        k = self.run.calibration.teachers_per_prompt
        return None if k == len(self.teachers) else k

    def calibration_answers(self, counts: Mapping[str, int]) -> int:
        """Answers that labels are made of, from prompts per split: C·M, or fewer by design."""
        k = self.teachers_per_prompt or len(self.teachers)
        return counts.get("calibration", 0) * k + counts.get("validation", 0) * len(self.teachers)

    # What each result is a function of. Equal hashes mean that the stored result is valid as it is.

    def scorer_kind(self, name: str) -> str:
        """The kind of a scorer of this run."""
        config = self.run.quality.named.get(name)
        return name if config is None else config.scorer

    def scorer_settings(self, name: str) -> Mapping[str, Any]:
        """What a scorer is made with: the run file's part and, for learnability, the student.

        A kind that is not in `quality` has its defaults: right answers are counted whatever quality is.
        """
        if name != "learnability":
            config = self.run.quality.named.get(name)
            if config is None:
                return {}
            if scorer_kinds.compares(config.scorer, config.settings):
                return {**config.settings, "opponents": self._opponents}
            return config.settings
        student = self.student
        passed = ("dtype", "device", "batch_tokens", "trust_remote_code")
        return {
            "model": student.model,
            "revision": student.revision,
            "system": student.system,
            "context": student.context,
            **self.run.learnability.model_dump(),
            **{key: student.options[key] for key in passed if key in student.options},
        }

    @property
    def _opponents(self) -> Sequence[str]:
        """What says which answers to a prompt are compared: teachers and their settings, and a design's choice."""
        found = sorted(generation for _, generation in self.generations)
        return found if self.teachers_per_prompt is None else [*found, self.design_sha]

    def scorer_identity(self, name: str) -> Mapping[str, Any]:
        """Everything that shapes a scorer's verdicts."""
        if name not in self._identities:
            found = scorer_kinds.identity(self.scorer_kind(name), self.scorer_settings(name))
            self._identities[name] = {**found, "reasoning": True} if self.sees_reasoning(name) else found
        return self._identities[name]

    def sees_reasoning(self, name: str) -> bool:
        """Whether a scorer reads what a teacher thought before its answer."""
        shown = self.run.reasoning
        if name == "learnability":
            return shown.learnability
        return shown.quality and scorer_kinds.reads(self.scorer_kind(name))

    @property
    def quality_identity(self) -> Mapping[str, Any]:
        """Everything that shapes the quality of an answer: the scorers and, of several, how they are combined."""
        config = self.run.quality
        identities = [self.scorer_identity(name) for name in config.named]
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
                "generations": [generation for _, generation in self.generations],
                "teachers_per_prompt": self.teachers_per_prompt,
                "seed": self.run.split.seed,
            }
        )

    @cached_property
    def evidence_sha(self) -> str:
        """Prompts, teachers' answers and both scores: what labels are made of."""
        parts: dict[str, Any] = {
            "prompts": self.prompt_set_sha,
            # Names too: two servers may each offer a model that they call by the same name.
            "teachers": [
                [teacher.name, generation]
                for teacher, (_, generation) in zip(self.teachers, self.generations, strict=True)
            ],
            "quality": self.quality_identity,
            "learnability": self.scorer_identity("learnability"),
        }
        if self.teachers_per_prompt is not None:
            parts["design"] = self.design_sha
        return sha(parts)

    @property
    def router_sha(self) -> str:
        """The evidence, how rewards are made from it, and how the router learns them."""
        device_free = self.run.router.model_dump(exclude={"device"})
        return sha(
            {
                "version": ROUTER_VERSION,
                "evidence": self.evidence_sha,
                "reward": self.run.reward.model_dump(),
                "router": device_free,
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
                for teacher, (_, generation) in zip(self.teachers, self.generations, strict=True)
            ],
            "student_family": self.run.student.family,
            "seed": self.run.split.seed,
            "mix": None,  # in every plan's hash, so that stored plans are found
        }
        parts |= {
            setting.hashed_as or setting.key: getattr(self.run, setting.key) for setting in kind.settings
        }
        if self.needs_calibration(strategy):
            parts["evidence"] = self.evidence_sha
        if kind.uses_rewards:
            parts["reward"] = self.run.reward.model_dump()
        if kind.uses_router:
            parts["router"] = self.router_sha
        return sha(parts)

    def dataset_sha(self, strategy: str) -> str:
        """A strategy's plan and the rule that turns answers into rows."""
        parts: dict[str, Any] = {
            "plan": self.plan_sha(strategy),
            "dataset": self.run.dataset.model_dump(),
            "fallbacks": self.run.generation.fallbacks,
        }
        if self.run.reasoning.dataset:
            parts["reasoning"] = True
        return sha(parts)

    def excluded(self, strategy: str) -> Sequence[int]:
        """The prompts that an operator took out of a strategy's dataset, in order.

        Read once the dataset is whole and kept for the job: a row excluded while the job runs counts in the
        next one, so that what is trained and what its hash says stay the same.
        """
        if strategy not in self._excluded:
            dataset = datasets.find(self.store, self.dataset_sha(strategy))
            if dataset is None or not dataset.complete:
                return ()
            self._excluded[strategy] = datasets.excluded(self.store, dataset.id)
        return self._excluded[strategy]

    def forget_exclusions(self) -> None:
        """Reads anew what is excluded: for who looks at a store in which an operator goes on excluding."""
        self._excluded.clear()

    def _training(self, strategy: str) -> dict[str, Any]:
        return {
            "dataset": self.dataset_sha(strategy),
            "student": dict(models.student_identity(self.student)),
            "distill": self.run.distill.model_dump(
                exclude={"merge", "keep_checkpoints", "checkpoint_steps"}
                # Without rows held out an adapter is the one that it was before there was this key.
                | (set() if self.run.distill.held_out else {"held_out"})
            ),
        }

    def training_sha(self, strategy: str) -> str:
        """A strategy's whole dataset, the student, and how it is trained, whatever rows are excluded."""
        return sha(self._training(strategy))

    def adapter_sha(self, strategy: str) -> str:
        """A strategy's dataset without the excluded rows, the student, and how it is trained."""
        parts = self._training(strategy)
        if excluded := self.excluded(strategy):
            parts["excluded"] = excluded
        return sha(parts)

    def evaluation_sha(self, strategy: str | None) -> str:
        """What is measured (None: the student before training) and how."""
        return self.evaluation_of(None if strategy is None else self.adapter_sha(strategy))

    def evaluation_of(self, adapter_sha: str | None) -> str:
        """As `evaluation_sha`, of the adapter with this hash."""
        return sha(
            {
                "prompts": self.prompt_set_sha,
                "student": dict(models.student_identity(self.student)),
                "adapter": adapter_sha,
                "sampling": models.sampling(self.student),
                "quality": self.scorer_identity("exact_answer"),
            }
        )

    def folder(self, kind: str, spec_sha: str) -> Path:
        """Where an artefact of this hash lives, beside the database."""
        folder: Path = self.store.folder / kind / spec_sha[:16]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def _id(model: Model) -> int:
    if model.id is None:
        raise ValueError(f"{model.name} has not been stored")
    return model.id
