"""Hidden states of prompts on disk while a backbone reads: what was read before a kill is not read again."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.base.durable_files import sync

EVERY_S = 2.0
"""Seconds between two writes: a kill loses that much reading, or the pass that it came in."""


class KeptStates:
    """Token ids of a prompt → its pooled state (H,), float32, known by their content.

    The file is a row of records, each with a SHA-256 over reader, prompt and state: one that is torn, damaged or of
    another reader counts for nothing, and its prompt is read anew.

    Args:
        folder: made if need be; it gets a file for each reader.
        reader: what the states depend on beside the prompt: the weights and how they are used.
        hidden: H.
        clock: seconds that never go back.
    """

    def __init__(
        self, folder: Path, reader: str, hidden: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = folder / f"states-{reader[:16]}.bin"
        self._reader, self._clock, self._since = reader.encode(), clock, clock()
        self._record = np.dtype([("prompt", "V32"), ("state", "<f4", (hidden,)), ("check", "V32")])
        self._states: dict[bytes, NDArray[np.float32]] = {}
        self._waiting: list[bytes] = []
        content = self._path.read_bytes() if self._path.is_file() else b""
        self._end = len(content) - len(content) % self._record.itemsize
        """Bytes of whole records; a torn one behind them is written over."""
        for record in np.frombuffer(content[: self._end], dtype=self._record):
            prompt, state = bytes(record["prompt"]), record["state"]
            if bytes(record["check"]) == self._check(prompt, state):
                self._states[prompt] = state

    def __contains__(self, ids: Sequence[int]) -> bool:
        return _digest(ids) in self._states

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        return torch.from_numpy(self._states[_digest(ids)].copy())

    def add(self, prompts: Sequence[Sequence[int]], states: Tensor) -> None:
        """Keeps the states (B, H) of B prompts; they are on disk `EVERY_S` later at most, if more comes."""
        for ids, state in zip(prompts, states.detach().cpu().numpy(), strict=True):
            digest = _digest(ids)
            if digest not in self._states:
                self._states[digest] = state
                self._waiting.append(digest)
        if self._clock() - self._since >= EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Puts on disk what waits."""
        self._since = self._clock()
        if not self._waiting:
            return
        records = np.zeros(len(self._waiting), dtype=self._record)
        for record, prompt in zip(records, self._waiting, strict=True):
            state = self._states[prompt]
            record["prompt"], record["state"] = np.void(prompt), state
            record["check"] = np.void(self._check(prompt, state))
        is_new = not self._path.exists()
        if is_new:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.open("wb" if is_new else "r+b") as file:
            file.seek(self._end)
            file.write(records.tobytes())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self._path.parent)
        self._end += records.nbytes
        self._waiting = []

    def _check(self, prompt: bytes, state: NDArray[np.float32]) -> bytes:
        return hashlib.sha256(self._reader + prompt + state.astype("<f4").tobytes()).digest()


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.sha256(np.asarray(ids, dtype="<i4").tobytes()).digest()
