"""Checkpoints that survive a kill at any moment.

A checkpoint is a folder `step-00000120` of tensors (safetensors) and `manifest.json`. It is written under a
temporary name, every file is fsynced, the manifest with the sha256 of the others comes last, and then it is
renamed: a folder with the final name is complete unless the disk damaged it, and then the sums tell.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.base import foreign_json
from engine.base.durable_files import sha256, sync
from engine.base.foreign_json import WrongShape
from engine.models.adapters import MANIFEST

PREFIX = "step-"
TEMPORARY = ".partial"

EVERY_S, SHARE = 5.0, 0.05
"""Seconds between two checkpoints, and the most of the time that writing them may take: then they are further apart."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `step` optimizer steps."""

    step: int
    fingerprint: str
    """Of data and settings; a checkpoint is only resumed by the run it belongs to."""
    groups: Mapping[str, Mapping[str, Tensor]]
    """File stem to tensors: weights, optimizer, random."""
    state: Mapping[str, Any]
    """Small JSON: running sums of the loss and the like."""


class Pace:
    """When the next checkpoint is due by the clock.

    Args:
        step: of the newest one.
    """

    def __init__(self, step: int = 0) -> None:
        self.step = step
        self._at, self._seconds = time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        """Whether the newest one was written long enough ago."""
        return time.monotonic() - self._at >= max(EVERY_S, self._seconds / SHARE)

    def wrote(self, step: int, began: float) -> None:
        """Notes that the one of `step` is on disk, its writing begun at `time.monotonic()` = `began`."""
        self.step, self._at = step, time.monotonic()
        self._seconds = self._at - began


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Return the new checkpoint's folder; older ones beyond the newest `keep` are removed afterwards."""
    final = folder / f"{PREFIX}{checkpoint.step:08d}"

    def fill(temporary: Path) -> None:
        for name, tensors in checkpoint.groups.items():
            plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(plain, temporary / f"{name}.safetensors")

    manifest = {
        "step": checkpoint.step,
        "fingerprint": checkpoint.fingerprint,
        "state": dict(checkpoint.state),
    }
    write_sealed(final, fill, manifest)
    for old in paths(folder)[keep:]:
        shutil.rmtree(old)
    return final


def write_sealed(final: Path, fill: Callable[[Path], None], extra: Mapping[str, Any]) -> None:
    """Make the folder `final` appear whole or not at all; an older one of that name is replaced.

    Args:
        final: the folder's name.
        fill: writes the files into the folder it is given.
        extra: goes into the manifest beside the sha256 of every file.
    """
    temporary = partial(final)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    fill(temporary)
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    for path in files:
        sync(path)
    sums = {str(path.relative_to(temporary)): sha256(path) for path in files}
    with (temporary / MANIFEST).open("w") as file:
        json.dump({**extra, "files": sums}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync(temporary)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    sync(final.parent)


def partial(final: Path) -> Path:
    """Where the folder `final` is written until it is whole."""
    return final.with_name(final.name + TEMPORARY)


def verify(folder: Path) -> dict[str, Any]:
    """Return the manifest of a sealed folder.

    Raises:
        ValueError: naming the file that is missing, damaged or unreadable.
    """
    try:
        manifest = foreign_json.read(folder / MANIFEST)
        sums = manifest["files"].object()
    except (OSError, WrongShape) as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error})") from error
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        if sha256(path) != expected:
            raise ValueError(f"{name} is damaged")
    return manifest.object()


def read_newest(folder: Path, on_notice: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None.

    Each damaged one is told to `on_notice` and removed, so that it is not counted among the newest to keep.
    """
    for path in folder.glob(f"{PREFIX}*{TEMPORARY}"):
        on_notice(f"{path.name} was being written when the run ended; it is removed")
        shutil.rmtree(path)
    for path in paths(folder):
        try:
            manifest = verify(path)
            groups = {file.stem: load_file(file) for file in path.glob("*.safetensors")}
            step, fingerprint = int(manifest["step"]), str(manifest["fingerprint"])
            return Checkpoint(step, fingerprint, groups, dict(manifest["state"]))
        except (ValueError, KeyError, SafetensorError) as error:
            reason = f"{MANIFEST} lacks {error}" if isinstance(error, KeyError) else str(error)
            on_notice(f"checkpoint {path.name} is removed, falling back to the one before it: {reason}")
            shutil.rmtree(path)
    return None


def paths(folder: Path) -> list[Path]:
    """Return the folders of the checkpoints on disk, newest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if not path.name.endswith(TEMPORARY)]
    return sorted(found, reverse=True)
