"""Where a router's training stands, on disk now and then."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.models.checkpoint import Checkpoint, paths, read_newest, write_checkpoint

EVERY_S, SHARE = 5.0, 0.05
"""Seconds between two checkpoints, and the most of the time that writing them may take: then they are further apart."""
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
        self._step, self._seconds, self._at = 0, 0.0, time.monotonic()

    def newest(self) -> Checkpoint | None:
        """The state to go on from."""
        if self._folder is None:
            return None
        found = read_newest(self._folder, self._on_notice)
        if found is None or found.fingerprint == self._fingerprint:
            self._step = found.step if found else 0
            return found
        for path in paths(self._folder):
            shutil.rmtree(path)
        return None

    def offer(self, step: int, state: Callable[[], State]) -> None:
        """Writes the state after `step`, if the last one was written long enough ago."""
        if time.monotonic() - self._at >= max(EVERY_S, self._seconds / SHARE):
            self.write(step, state)

    def write(self, step: int, state: Callable[[], State]) -> None:
        """Writes the state after `step`, if it is not on disk."""
        if self._folder is None or step == self._step:
            return
        began = time.monotonic()
        groups, small = state()
        write_checkpoint(self._folder, Checkpoint(step, self._fingerprint, groups, small), KEPT)
        self._step, self._at = step, time.monotonic()
        self._seconds = self._at - began
