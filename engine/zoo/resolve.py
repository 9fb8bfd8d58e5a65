"""The embedded default: tiny real models that ship with the package, and small ones that can be fetched.

`zoo:NAME` stands for a model wherever a model is named. Nothing here imports torch.
"""

import json
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from engine.base.errors import ModelError
from engine.base.suggest import nearest

WEIGHTS = Path(__file__).parent / "weights"
CARDS = Path(__file__).parent / "cards.json"
MANIFEST = "manifest.json"
"""Written last into a fetched model's folder, with the sha256 of every other file."""
FETCHABLE = {"smollm2-135m": "smollm2", "gemma3-270m": "gemma3-270m"}
"""Model name -> what to give to `persyn zoo fetch`."""


def fetched_folder(name: str) -> Path:
    """Where a fetched model lives, whether or not it is there."""
    return user_data_path("persyn") / "zoo" / name


def names() -> tuple[str, ...]:
    """Every name that `zoo:` knows: packaged models first, then those that must be fetched."""
    packaged = sorted(folder.parent.name for folder in WEIGHTS.glob("*/config.json"))
    return (*packaged, *FETCHABLE)


def resolve(ref: str) -> str:
    """The folder of a `zoo:NAME` reference; any other reference comes back unchanged.

    Raises:
        ModelError: no such name, or a model that has not been fetched yet.
    """
    prefix, _, name = ref.partition(":")
    if prefix != "zoo":
        return ref
    known(name)
    folder = fetched_folder(name) if name in FETCHABLE else WEIGHTS / name
    if name in FETCHABLE and not (folder / MANIFEST).is_file():
        raise ModelError(
            f"model {ref!r} is not on this machine ({folder})", f"persyn zoo fetch {FETCHABLE[name]}"
        )
    return str(folder)


def card(name: str) -> dict[str, Any]:
    """What was measured of a model: architecture, size, what it was trained for, accuracies; empty until then.

    Raises:
        ModelError: no such name.
    """
    known(name)
    if not CARDS.is_file():
        return {}
    models: dict[str, dict[str, Any]] = json.loads(CARDS.read_text(encoding="utf-8"))["models"]
    return models.get(name, {})


def known(name: str) -> None:
    """Returns when the zoo has a model of this name.

    Raises:
        ModelError: it has not; the remedy lists the nearest name and all names.
    """
    everything = names()
    if name not in everything:
        near = nearest(name, everything)
        hint = f"did you mean zoo:{near}? " if near else ""
        raise ModelError(f"the zoo has no model {name!r}", f"{hint}known: {', '.join(everything)}")
