"""What every stage works with: the run file, the store, who owns the job, and what belongs to it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from engine.config.kinds import teacher_kind
from engine.config.run_file import Run
from engine.job.calibration import Calibration
from engine.job.control import JobControl
from engine.job.exclusions import Exclusions
from engine.job.identity import RunIdentity
from engine.job.progress import Progress
from engine.job.reward_config import RewardProvenance
from engine.job.server_pool import ServerPool
from engine.models.devices import this_machine
from storage.job_records import Lease
from storage.records import Generation, Model
from storage.store import Store


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
    control: JobControl = field(default_factory=JobControl)
    servers: ServerPool = field(default_factory=ServerPool)
    """Through which its teachers are asked."""
    prompt_set: int = 0

    def __post_init__(self) -> None:
        self.identity = RunIdentity(self.run, self.teachers, self.student)
        self.calibration = Calibration(self.run)
        self.exclusions = Exclusions(self.store)

    @cached_property
    def generations(self) -> tuple[Generation, ...]:
        """(teacher id, generation hash) per teacher: which stored responses belong to this run."""
        return tuple(map(Generation, map(_id, self.teachers), self.identity.generation_shas))

    def places(self, device: str | None) -> tuple[str, ...]:
        """Where a model whose setting `device` is this has a copy each; see `engine.models.devices.Machine.places`."""
        return this_machine().among(self.run.devices).places(device)

    def placed(self, model: Model) -> Model:
        """The model as it is loaded once into this process: where its device is auto, on the first of `devices`."""
        if self.run.devices is None or not teacher_kind(model.backend).in_process:
            return model
        device = self.places(model.options.get("device"))[0]
        return replace(model, options={**model.options, "device": device})

    @property
    def student_id(self) -> int:
        """Row id of the student."""
        return _id(self.student)

    @property
    def reward_provenance(self) -> RewardProvenance:
        """What rewards of this run are made with."""
        named, reward = self.run.quality.named, self.run.reward
        weights = [f" × {config.weight:g}" if len(named) > 1 else "" for config in named.values()]
        return RewardProvenance(
            alpha=reward.alpha,
            normalization=reward.normalization,
            unusable=reward.unusable,
            teachers=tuple(sorted(teacher.name for teacher in self.teachers)),
            student=self.student.name,
            quality=" + ".join(name + weight for name, weight in zip(named, weights, strict=True)),
        )

    def excluded(self, strategy: str) -> tuple[int, ...]:
        """The prompts that an operator took out of a strategy's dataset, in order."""
        return tuple(self.exclusions.of(self.identity.dataset_sha(strategy)))

    def adapter_sha(self, strategy: str) -> str:
        """The identity of the adapter of a strategy's dataset without its excluded rows."""
        return self.identity.adapter_sha(strategy, self.excluded(strategy))

    def evaluation_sha(self, strategy: str | None) -> str:
        """The identity of the evaluation of that adapter, or of the student before training (None)."""
        return self.identity.evaluation_sha(None if strategy is None else self.adapter_sha(strategy))

    def folder(self, kind: str, spec_sha: str) -> Path:
        """Where an artefact of this hash lives, beside the database."""
        folder: Path = self.store.folder / kind / spec_sha[:16]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def _id(model: Model) -> int:
    if model.id is None:
        raise ValueError(f"{model.name} has not been stored")
    return model.id
