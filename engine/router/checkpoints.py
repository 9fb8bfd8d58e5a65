"""Where a router's training stands, on disk now and then."""

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.models.checkpoint import Checkpoint, Pace, paths, read_newest, write_checkpoint
from engine.router.backbone import Backbone
from engine.router.settings import FitSettings
from storage.hashing import sha

KEPT = 2

State = tuple[Mapping[str, Mapping[str, Tensor]], Mapping[str, Any]]
"""Tensors by group and name, and small JSON."""


class Checkpoints:
    """The newest states of one training.

    Args:
        folder: made if need be; None: nothing is kept.
        fingerprint: of all that shapes the training; checkpoints of another one are removed.
        on_notice: called with what a person should read.
    """

    def __init__(self, folder: Path | None, fingerprint: str, on_notice: Callable[[str], None]) -> None:
        self._folder, self._fingerprint, self._on_notice = folder, fingerprint, on_notice
        self._pace = Pace()

    def newest(self) -> Checkpoint | None:
        """The state to go on from."""
        if self._folder is None:
            return None
        found = read_newest(self._folder, self._on_notice)
        if found is None or found.fingerprint == self._fingerprint:
            self._pace.step = found.step if found else 0
            return found
        for path in paths(self._folder):
            shutil.rmtree(path)
        return None

    def offer(self, step: int, state: Callable[[], State]) -> None:
        """Writes the state after `step`, if the last one was written long enough ago."""
        if self._pace.due:
            self.write(step, state)

    def write(self, step: int, state: Callable[[], State]) -> None:
        """Writes the state after `step`, if it is not on disk."""
        if self._folder is None or step == self._pace.step:
            return
        began = time.monotonic()
        groups, small = state()
        write_checkpoint(self._folder, Checkpoint(step, self._fingerprint, groups, small), KEPT)
        self._pace.wrote(step, began)


def fingerprint(
    backbone: Backbone,
    encoded: Sequence[Sequence[int]],
    rewards: Tensor,
    folds: NDArray[np.int64],
    settings: FitSettings,
) -> str:
    """Everything that shapes the weights; what only shapes speed may change between resumes.

    Args:
        backbone: what is trained, or read.
        encoded: token ids of B prompts.
        rewards: (B, M).
        folds: (B,).
        settings: how.
    """
    free = ("keep_in", "device", "trust_remote_code")
    digest = hashlib.sha256(rewards.detach().double().cpu().numpy().tobytes() + folds.tobytes())
    for ids in encoded:
        digest.update(np.asarray([len(ids), *ids], dtype="<i4").tobytes())
    kept = {name: value for name, value in asdict(settings).items() if name not in free}
    return sha([backbone.sha, backbone.dtype, kept, digest.hexdigest()])
