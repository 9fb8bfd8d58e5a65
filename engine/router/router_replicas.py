"""A saved router that has a copy on each of several devices, for routing."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.models.memory import batch_tokens
from engine.models.replicas import Replicas
from engine.router.manifest import Teacher
from engine.router.model import Router
from engine.router.settings import CPU_TOKENS
from storage.records import Messages

Strengths = tuple[list[int], NDArray[np.float32]]
"""Places of b prompts, and the strengths (b, M) of the teachers on them."""


class RouterReplicas:
    """A router of several processes.

    Args:
        devices: of each copy.
        folder, expected_teachers, trust_remote_code: as of `Router.load`.

    Raises:
        TeacherMismatch, ModelError: as `Router.load` does.
        NeedsAttention: a process ended.
    """

    def __init__(
        self,
        devices: Sequence[str],
        folder: Path,
        expected_teachers: Sequence[Teacher],
        *,
        trust_remote_code: bool = False,
    ) -> None:
        load = _Load(folder, tuple(expected_teachers), trust_remote_code)
        self._replicas: Replicas[Messages, Strengths] = Replicas(devices, load)

    def strengths_by_pass(
        self, prompts: Sequence[Messages], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Strengths]:
        """Yield (places in `prompts`, strengths (b, M)) after every forward pass of any process.

        Raises:
            NeedsAttention: a process ended.
            Cancelled: `should_stop` said so.
        """
        for given, (places, strengths) in self._replicas.run(prompts, _text, _characters, should_stop):
            yield [given[place] for place in places], strengths

    def close(self) -> None:
        """End the processes. Closing twice is allowed."""
        self._replicas.close()


@dataclass(frozen=True, slots=True)
class _Load:
    """Loads the router in a process."""

    folder: Path
    teachers: tuple[Teacher, ...]
    trust_remote_code: bool

    def __call__(self, device: str) -> "_Copy":
        return _Copy(
            Router.load(self.folder, self.teachers, device=device, trust_remote_code=self.trust_remote_code)
        )


class _Copy:
    """The router in a process."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.pass_tokens = batch_tokens(router.backbone, CPU_TOKENS)

    def work(self, piece: Sequence[Messages], should_stop: Callable[[], bool]) -> Iterator[Strengths]:
        """As `RouterReplicas.strengths_by_pass`."""
        return self._router.strengths_by_pass(piece, should_stop)


def _text(messages: Messages) -> str:
    """Equal prompts are read once."""
    return json.dumps(messages)


def _characters(messages: Messages) -> int:
    return len(str(messages))
