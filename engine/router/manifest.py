"""What a saved router belongs to: its manifest. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.base import foreign_json
from engine.base.errors import ModelError, TeacherMismatch

FORMAT = 1
"""Version of the manifest; another one is refused."""

MANIFEST = "manifest.json"

RETRAIN = "train the router again (the answers and scores are kept; only the router is remade)"


@dataclass(frozen=True, slots=True)
class Teacher:
    """One output of the router."""

    name: str
    sha: str
    """Hash over what shapes the teacher's answers: model, revision, template, system prompt, sampling."""


@dataclass(frozen=True, slots=True)
class Labelling:
    """How the rewards that a router was trained on were derived."""

    alpha: float = 0.4
    normalization: str = "zscore"
    targets: str = "hard"
    """`hard` or `soft`."""
    temperature: float | None = None
    """Reward units; None with hard targets."""
    ties: str = "drop"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the tensors of a saved router belong to."""

    teachers: tuple[Teacher, ...]
    """In the order of the head's outputs."""
    labelling: Labelling
    tune: str
    """`frozen`, `lora` or `full`."""
    backbone: str
    """Model reference: `zoo:NAME`, a folder, or a hub id."""
    revision: str
    backbone_sha: str
    """`engine.models.model_info.fingerprint` of the backbone that was trained on."""
    max_tokens: int
    """Longer prompts are cut in the middle."""
    dtype: str = "float32"
    """Weight type of the backbone."""
    lora: Mapping[str, Any] | None = None
    """`rank` and `alpha` of the adapter; None without one."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Small JSON that the router does not need: measures, seed, number of prompts."""
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For `head` and, unless frozen, `weights`: `name` and `sha256` of the file."""


def check_teachers(found: Sequence[Teacher], expected: Sequence[Teacher]) -> None:
    """Return when both are the same teachers in the same order.

    Raises:
        TeacherMismatch: naming what is missing, added, changed or moved.
    """
    if tuple(found) == tuple(expected):
        return
    had, have = {t.name: t.sha for t in found}, {t.name: t.sha for t in expected}
    said = []
    if gone := [name for name in had if name not in have]:
        said.append(f"not given now: {', '.join(gone)}")
    if new := [name for name in have if name not in had]:
        said.append(f"unknown to the router: {', '.join(new)}")
    if changed := [name for name in had if name in have and had[name] != have[name]]:
        said.append(f"changed since (model, system prompt or sampling): {', '.join(changed)}")
    if not said:
        was, now = ", ".join(t.name for t in found), ", ".join(t.name for t in expected)
        said.append(f"another order: trained on {was}; given {now}")
    raise TeacherMismatch(
        f"the router was trained on other teachers; {'; '.join(said)}",
        "use the teachers of the run that trained it, or train the router again",
    )


def read(folder: Path) -> Manifest:
    """Return the manifest of a saved router without reading its tensors.

    Raises:
        ModelError: there is none, or it is not one of this program.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(f"no router in {folder}: {MANIFEST} is missing", RETRAIN)
    try:
        stored = foreign_json.read(path).object()
        if stored.pop("format") != FORMAT:
            raise ModelError(f"{path} was written by another version of this program", RETRAIN)
        stored["teachers"] = tuple(Teacher(**teacher) for teacher in stored["teachers"])
        stored["labelling"] = Labelling(**stored["labelling"])
        return Manifest(**stored)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a router's manifest: {error}", RETRAIN) from error
