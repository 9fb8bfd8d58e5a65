"""The strategies there are, by name: those of `engine/methods/strategies/` and those that other packages add."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from engine.base.errors import ConfigError
from engine.base.plugins import STRATEGIES
from engine.methods.strategy import Assignment, Evidence, Setting, Strategy


@cache
def load(name: str) -> Strategy:
    """The strategy of this name.

    Raises:
        ConfigError: there is none, or another package's module cannot be imported or declares none.
    """
    found = getattr(STRATEGIES.load(name), "STRATEGY", None)
    if not isinstance(found, Strategy):
        raise ConfigError(
            f"the module of the strategy `{name}` declares no `STRATEGY`",
            "see `engine.methods.strategy.Strategy`",
        )
    return found


@cache
def names() -> tuple[str, ...]:
    """All strategies, in the order in which they are listed and compared; without those that cannot be imported."""
    return tuple(sorted(STRATEGIES.usable(), key=lambda name: (load(name).place, name)))


def settings() -> dict[str, Setting]:
    """The settings of all strategies, by their keys in the run file.

    Raises:
        ConfigError: two strategies declare one key.
    """
    found: dict[str, Setting] = {}
    for name in names():
        for setting in load(name).settings:
            if setting.key in found:
                raise ConfigError(
                    f"the strategy `{name}` declares the setting `{setting.key}`, which another one has",
                    "give it another key",
                )
            found[setting.key] = setting
    return found


def assign(name: str, evidence: Evidence, count: int) -> Assignment:
    """The assignment of `count` prompts by the strategy `name`.

    Raises:
        ConfigError: no such strategy, or the evidence that it needs is missing.
        ValueError: the evidence's shapes do not fit each other or `count`.
    """
    strategy = load(name)
    _check_shapes(evidence, count)
    return strategy.assign(evidence, count)


def check(name: str, evidence: Evidence) -> None:
    """Raises ConfigError when the strategy cannot work with these teachers."""
    strategy = load(name)
    if len(evidence.names) < strategy.least_teachers:
        raise ConfigError(
            f"the strategy `{name}` chooses between teachers, and there is one",
            f"add a teacher, or take `{name}` out of `strategies`",
        )
    strategy.loads(evidence, 1.0)


def needs_calibration(name: str, parameters: Sequence[float | None] = ()) -> bool:
    """Whether responses of all teachers to the calibration prompts are needed beforehand.

    Args:
        name: the strategy.
        parameters: of the teachers, None where not known.
    """
    need = load(name).calibration
    return need == "always" or (need == "without sizes" and any(p is None for p in parameters))


def uses_router(name: str) -> bool:
    """Whether the strategy asks the router; no when a strategy of that name is not installed here."""
    return name in STRATEGIES.names() and load(name).uses_router


def routed(among: Sequence[str]) -> str | None:
    """The first of these strategies that asks the router; None when none does."""
    return next(filter(uses_router, among), None)


def _check_shapes(evidence: Evidence, count: int) -> None:
    m = len(evidence.names)
    if m == 0:
        raise ConfigError("there is no teacher", "add at least one teacher to the run file")
    for name, values, wanted in (
        ("families", evidence.families, (m,)),
        ("parameters", evidence.parameters, (m,)),
        ("mean_quality", evidence.mean_quality, (m,)),
        ("mean_loss", evidence.mean_loss, (m,)),
        ("rewards", evidence.rewards, (count, m)),
        ("strengths", evidence.strengths, (count, m)),
    ):
        if values is not None and np.asarray(values).shape != wanted:
            raise ValueError(f"{name} is {np.asarray(values).shape}, expected {wanted}")
