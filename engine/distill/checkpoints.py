"""What a training writes down at a step, and goes on from."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.base.errors import ConfigError
from engine.distill.data import Examples
from engine.distill.layouts import Layout
from engine.distill.lora import ALL_LINEAR
from engine.distill.optimizer import BETAS, EPSILON, Optimizer
from engine.distill.settings import Settings
from engine.models.checkpoint import Checkpoint, paths, read_newest, write_checkpoint


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one training."""

    folder: Path
    fingerprint: str
    """See `fingerprint`."""
    optimizer: Optimizer
    """Whose weights and moments they hold."""
    layout: Layout
    """How these lie on the processes."""
    device: torch.device
    """Whose generator of random numbers they hold, beside the CPU's."""
    keep: int
    on_change: Callable[[Sequence[Path]], None]
    """Called with the folders on disk, newest first."""

    def random(self) -> dict[str, Tensor]:
        """The state of the generators of random numbers."""
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def write(self, step: int, running: Mapping[str, float], random: Mapping[str, Tensor]) -> None:
        """Write the one of `step`, in the first of the processes that all call this; the oldest beyond `keep` go."""
        whole = self.layout.whole
        groups = {
            "weights": whole(self.optimizer.masters),
            "optimizer": whole(self.optimizer.state()),
            "random": random,
        }
        if not self.layout.ranks.first:
            for tensors in groups.values():
                deque(tensors.values(), maxlen=0)  # what the first one gathers
            return
        write_checkpoint(self.folder, Checkpoint(step, self.fingerprint, groups, running), self.keep)
        self.on_change(paths(self.folder))

    def resume(self, notice: Callable[[str], None]) -> tuple[int, dict[str, float]]:
        """Return the step to continue after and the running loss; weights, moments and generators are set.

        Raises:
            ConfigError: they are of a run with other data or settings.
        """
        ranks = self.layout.ranks
        if not ranks.first:
            ranks.wait()  # the first one removes what is damaged
        checkpoint = read_newest(self.folder, notice)
        self.on_change(paths(self.folder))
        if checkpoint is not None:
            self._load(checkpoint)
        if ranks.first:
            ranks.wait()
        self.layout.take_from_first(self.optimizer.masters.values())
        self.optimizer.round()
        if checkpoint is None:
            return 0, {"epoch": 0, "loss": 0.0, "targets": 0}
        return checkpoint.step, dict(checkpoint.state)

    def _load(self, checkpoint: Checkpoint) -> None:
        if checkpoint.fingerprint != self.fingerprint:
            raise ConfigError(
                f"{self.folder} belongs to a run with other rows, settings or another student",
                "train into another folder, or remove this one",
            )
        own = self.layout.own
        self.optimizer.load(own(checkpoint.groups["weights"]), own(checkpoint.groups["optimizer"]))
        random = checkpoint.groups["random"]
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)


def fingerprint(
    data: Examples, settings: Settings, parameters: Mapping[str, Tensor], quantised: str = ""
) -> str:
    """Everything that shapes the weights; what only shapes speed or memory may change between resumes.

    The number of processes is not in it: with dropout another one draws other numbers, of the same distribution.
    Names and places are those of the first version: a run goes on from a checkpoint that an older one wrote.

    Args:
        data: the rows.
        settings: see `Settings`.
        parameters: those that are trained.
        quantised: how the others are stored and computed, where that is not as the trained ones are.
    """
    kept = {
        "tuning": {**asdict(settings.tuning), "targets": ALL_LINEAR},
        "batching": {"rows": settings.batch_rows, "tokens": None, "pool": 1},
        "descent": {
            **asdict(settings.optimizer),
            "beta1": BETAS[0],
            "beta2": BETAS[1],
            "epsilon": EPSILON,
        },
        "epochs": settings.epochs,
        "max_length": settings.max_length,
        "overlong": settings.overlong,
        "seed": settings.seed,
    }
    shapes = {name: [str(value.dtype), *value.shape] for name, value in parameters.items()}
    text = json.dumps([data.sha256, kept, shapes, *([quantised] if quantised else [])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
