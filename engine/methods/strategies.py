"""Which teacher answers which prompt: one function per strategy, all compared at the same prompt budget.

strong         the strongest teacher answers everything
mix            a random strong/weak mixture (Li et al. 2025, "Small Models Struggle to Learn from Strong
               Reasoners", arXiv 2502.12143)
family_strong  the strongest teacher of the student's own family
car            one teacher by compatibility-adjusted reward (Xu et al. 2024, arXiv 2411.07133)
random         uniform over teachers
persyn         the router's choice (Zhang et al., arXiv 2510.10925)
oracle         the best known reward; needs every teacher's answer to every prompt
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.base.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STRONG_SHARE = 0.2
"""`mix`: default part of the prompts that the strong teacher answers."""

CAR_BETA = 3.0
"""`car`: default weight β of the student's loss."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of M teachers when N prompts are to be assigned. Rows of (N, M) are in prompt order."""

    names: Sequence[str]
    families: Sequence[str]
    """Family of each teacher; empty string when not known."""
    parameters: Sequence[float | None]
    """Number of weights of each teacher; None when not known."""
    student_family: str = ""
    mean_quality: Floats | None = None
    """(M,) mean raw quality on the calibration prompts; NaN for a teacher without a usable answer."""
    mean_loss: Floats | None = None
    """(M,) the student's mean loss on the teacher's answers, nats per token (≥ 0); NaN as above."""
    rewards: Floats | None = None
    """(N, M) rewards already known; NaN elsewhere. A row of NaN is a prompt that nobody answered yet."""
    strengths: Floats | None = None
    """(N, M) the router's strengths."""
    seed: int = 0
    params: Mapping[str, float] = field(default_factory=dict)
    """`strong_share` of mix, `beta` of car."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who answers N prompts."""

    choices: Ints
    """(N,): index of the teacher."""
    ranking: Ints | None
    """(N, M): teachers from best to worst, to fall back on; None where a strategy knows no second choice."""
    note: str
    """One sentence for the operator: what was decided, by what."""


def assign(name: str, evidence: Evidence, count: int) -> Assignment:
    """Return the assignment of `count` prompts by the strategy `name`.

    Raises:
        ConfigError: no such strategy, or the evidence that it needs is missing.
        ValueError: the evidence's shapes do not fit each other or `count`.
    """
    strategy = _strategy(name)
    _check_shapes(evidence, count)
    return strategy(evidence, count)


def needs_calibration(name: str, parameters: Sequence[float | None] = ()) -> bool:
    """Return whether answers of all teachers to the calibration prompts are needed beforehand.

    Args:
        name: the strategy.
        parameters: of the teachers; without all of them `strong`, `mix` and `family_strong` fall back on mean
            quality, which calibration gives.
    """
    _strategy(name)
    by_size = name in ("strong", "mix", "family_strong") and all(p is not None for p in parameters)
    return name != "random" and not by_size


def needs_full_parallel(name: str) -> bool:
    """Return whether every teacher must answer every prompt: N·M generations."""
    _strategy(name)
    return name == "oracle"


def describe(name: str) -> str:
    """Return one line on what the strategy does."""
    return (_strategy(name).__doc__ or "").splitlines()[0].removesuffix(".")


def strong(evidence: Evidence, count: int) -> Assignment:
    """The strongest teacher answers everything."""
    order, why = _by_strength(evidence, range(len(evidence.names)))
    return _everything(order[0], count, f"strong: {evidence.names[order[0]]} has {why}")


def mix(evidence: Evidence, count: int) -> Assignment:
    """A random mixture of the strongest and the weakest teacher."""
    share = evidence.params.get("strong_share", STRONG_SHARE)
    if not 0 <= share <= 1:
        raise ConfigError(f"strong_share is {share}", "choose a share from 0 to 1")
    if len(evidence.names) < 2:
        raise ConfigError("the strategy `mix` needs two teachers", "add a teacher, or leave `mix` out")
    order, why = _by_strength(evidence, range(len(evidence.names)))
    choices = np.full(count, order[-1], dtype=np.int64)
    drawn = np.random.default_rng(evidence.seed).permutation(count)[: round(share * count)]
    choices[drawn] = order[0]
    high, low = evidence.names[order[0]], evidence.names[order[-1]]
    return Assignment(choices, None, f"mix: {share:g} by {high} ({why}), the rest by {low}")


def family_strong(evidence: Evidence, count: int) -> Assignment:
    """The strongest teacher of the student's own family answers everything."""
    family = evidence.student_family.casefold()
    members = [i for i, other in enumerate(evidence.families) if family and other.casefold() == family]
    if not members:
        known = ", ".join(sorted({f for f in evidence.families if f})) or "none"
        raise ConfigError(
            f"no teacher is of the student's family {evidence.student_family!r}; the teachers' are: {known}",
            "set `family` of the student and of a teacher to one name, or leave `family_strong` out",
        )
    order, why = _by_strength(evidence, members)
    name = evidence.names[order[0]]
    return _everything(order[0], count, f"family_strong: {name} has {why} in {evidence.student_family}")


def car(evidence: Evidence, count: int) -> Assignment:
    """One teacher answers everything: the best of quality / (1 + β · the student's loss on its answers).

    A reward model may give negative means, which the quotient would order the wrong way round (a larger loss
    would raise the value): then all are shifted so that the lowest becomes 1, and the note says so.
    """
    if evidence.mean_quality is None or evidence.mean_loss is None:
        raise ConfigError(
            "the strategy `car` needs every teacher's mean quality and the student's mean loss",
            "calibrate and score first",
        )
    beta = evidence.params.get("beta", CAR_BETA)
    if not beta >= 0:
        raise ConfigError(f"beta of `car` is {beta}", "choose a number of at least 0")
    known = ~(np.isnan(evidence.mean_quality) | np.isnan(evidence.mean_loss))
    if not known.any():
        raise ConfigError(
            "no teacher has a scored answer, so `car` cannot choose", "check the calibration answers"
        )
    quality = evidence.mean_quality
    lowest = float(np.min(quality[known]))
    shift = 1.0 - lowest if lowest < 0 else 0.0
    value = np.where(known, (quality + shift) / (1 + beta * evidence.mean_loss), -np.inf)
    best = int(value.argmax())
    note = f"car: {evidence.names[best]} has the best quality / (1 + {beta:g} · loss) = {value[best]:.4g}"
    if shift:
        note += f"; qualities were shifted by {shift:.4g}, because {lowest:.4g} is negative"
    if not known.all():
        left = ", ".join(name for name, is_known in zip(evidence.names, known, strict=True) if not is_known)
        note += f"; without a scored answer: {left}"
    return _everything(best, count, note)


def random(evidence: Evidence, count: int) -> Assignment:
    """Each prompt goes to a teacher drawn at random."""
    choices = np.random.default_rng(evidence.seed).integers(len(evidence.names), size=count, dtype=np.int64)
    return Assignment(
        choices, None, f"random: uniform over {len(evidence.names)} teachers, seed {evidence.seed}"
    )


def persyn(evidence: Evidence, count: int) -> Assignment:
    """Each prompt goes to the teacher that the router puts first."""
    if evidence.strengths is None:
        raise ConfigError(
            "the strategy `persyn` needs the router's strengths", "train the router and route first"
        )
    if not np.isfinite(evidence.strengths).all():
        raise ConfigError("a strength is not finite", "train the router again")
    # An answer that exists already costs nothing: the best of those comes before any guess.
    keys = [-evidence.strengths]
    answered = 0
    if evidence.rewards is not None:
        keys += _known_first(evidence.rewards)
        answered = int((~np.isnan(evidence.rewards)).any(axis=1).sum())
    ranking = np.lexsort(keys, axis=1).astype(np.int64)
    note = f"persyn: {count - answered} prompts by the router"
    if answered:
        note += f", {answered} by the best known reward"
    return Assignment(ranking[:, 0].copy(), ranking, note)


def oracle(evidence: Evidence, count: int) -> Assignment:
    """Each prompt goes to the teacher whose answer has the highest reward."""
    if evidence.rewards is None:
        raise ConfigError(
            "the strategy `oracle` needs every teacher's answer to every prompt",
            "run it with full parallel answers",
        )
    rewards = evidence.rewards
    known = ~np.isnan(rewards)
    # A prompt without any usable answer still needs a name: the teacher that is best elsewhere.
    mean = np.where(known, rewards, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    prior = np.broadcast_to(np.where(known.any(axis=0), mean, -np.inf), rewards.shape)
    ranking = np.lexsort([-prior, *_known_first(rewards)], axis=1).astype(np.int64)
    nothing = int((~known).all(axis=1).sum())
    note = f"oracle: the best of {len(evidence.names)} known answers"
    if nothing:
        note += f"; {nothing} of {count} prompts have no usable answer"
    return Assignment(ranking[:, 0].copy(), ranking, note)


_STRATEGIES: dict[str, Callable[[Evidence, int], Assignment]] = {
    function.__name__: function for function in (strong, mix, family_strong, car, random, persyn, oracle)
}

NAMES = tuple(_STRATEGIES)
"""Every strategy, in the order of the method's table."""


def _strategy(name: str) -> Callable[[Evidence, int], Assignment]:
    if name not in _STRATEGIES:
        raise ConfigError(f"there is no strategy {name!r}", f"use one of: {', '.join(NAMES)}")
    return _STRATEGIES[name]


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


def _everything(teacher: int, count: int, note: str) -> Assignment:
    return Assignment(np.full(count, teacher, dtype=np.int64), None, note)


def _by_strength(evidence: Evidence, among: Sequence[int]) -> tuple[list[int], str]:
    """Return teachers from strongest to weakest, and what the first one has most of.

    Size decides when it is known of all of them; otherwise mean quality does, where a teacher without any
    usable answer is the weakest.
    """
    sizes = [evidence.parameters[i] for i in among]
    if all(size is not None for size in sizes):
        return sorted(among, key=lambda i: -(evidence.parameters[i] or 0)), "the most parameters"
    if evidence.mean_quality is None or np.isnan(evidence.mean_quality[list(among)]).all():
        missing = ", ".join(evidence.names[i] for i in among if evidence.parameters[i] is None)
        raise ConfigError(
            f"neither the parameters of {missing} nor the teachers' mean quality are known",
            "set `parameters` of every teacher in the run file, or calibrate and score first",
        )
    quality = np.nan_to_num(evidence.mean_quality, nan=-np.inf)
    return sorted(among, key=lambda i: -quality[i]), "the best mean quality (not all parameters are known)"


def _known_first(rewards: Floats) -> list[Floats]:
    """Return lexsort keys (N, M), least important first: known rewards before unknown, high before low."""
    unknown = np.isnan(rewards)
    return [np.where(unknown, 0.0, -rewards), unknown.astype(np.float64)]
