"""What a strategy is: which teacher answers which prompt. All strategies are compared at the same prompt budget.

Each is a module with a constant `STRATEGY`, in `engine/methods/strategies/` or behind an entry point of the group
`persyn.strategies`. What the run file, the plan's hash, the stages, the dry run and the app must know of it is there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.base.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Load = Sequence[float]
"""Prompts per teacher (M,), in the run file's order."""


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
    """(M,) mean raw quality on the calibration prompts; NaN for a teacher without a usable response."""
    mean_loss: Floats | None = None
    """(M,) the student's mean loss on the teacher's responses, nats per token (≥ 0); NaN as above."""
    rewards: Floats | None = None
    """(N, M) rewards already known; NaN elsewhere. A row of NaN is a prompt without a response."""
    strengths: Floats | None = None
    """(N, M) the router's strengths."""
    seed: int = 0
    settings: Mapping[str, float] = field(default_factory=dict)
    """Values of the strategies' own settings, by key."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who answers N prompts."""

    choices: Ints
    """(N,): index of the teacher."""
    ranking: Ints | None
    """(N, M): teachers from best to worst, to fall back on; None where a strategy knows no second choice."""
    note: str
    """One sentence for the operator: what was decided, by what."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A number of one strategy that the run file may set, under a key of its own at the top."""

    key: str
    default: float
    about: str
    low: float = 0.0
    """Least value allowed."""
    high: float = float("inf")
    """Largest value allowed."""
    hashed_as: str = ""
    """Its key in the plan's hash, when that is not `key`."""

    def of(self, evidence: Evidence) -> float:
        """The value in `evidence`, or the default.

        Raises:
            ConfigError: it is not within the bounds.
        """
        value = evidence.settings.get(self.key, self.default)
        if not self.low <= value <= self.high:
            raise ConfigError(f"{self.key} is {value}", f"choose a number from {self.low:g} to {self.high:g}")
        return value


def evenly(evidence: Evidence, count: float) -> list[Load]:
    """The one way to share `count` prompts out in which every teacher gets as many."""
    m = len(evidence.names)
    return [[count / m] * m]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy: how it assigns, and what it needs for it."""

    about: str
    """One line on what it does."""
    assign: Callable[[Evidence, int], Assignment]
    """Assigns N prompts. Called through `strategy_kinds.assign`, which checks the shapes.

    Raises ConfigError when the evidence that it needs is missing.
    """
    loads: Callable[[Evidence, float], list[Load]] = evenly
    """Every way in which it may share `count` prompts out, as far as names, families, sizes and settings tell.

    The dry run shows the range over them. Raises ConfigError when the strategy cannot work with these teachers.
    """
    settings: tuple[Setting, ...] = ()
    calibration: Literal["always", "without sizes", "never"] = "always"
    """When responses of all teachers to the calibration prompts are needed; `without sizes`: only when the
    number of parameters of some teacher is not known."""
    needs_full_parallel: bool = False
    """Whether every teacher must answer every prompt: N·M generations. It is then the upper bound, which routes
    no prompt before it is answered."""
    uses_rewards: bool = False
    """Whether `Evidence.rewards` is given, so that the plan depends on the run file's `reward`."""
    uses_router: bool = False
    """Whether `Evidence.strengths` is given: the router is trained and asked page by page, its strengths are stored
    with each prompt, and a failed prompt falls back on the next teacher by strength."""
    least_teachers: int = 1
    """With fewer a run is refused."""
    place: int = 100
    """Where it stands when all strategies are listed; equal ones by name."""

    @property
    def learns_from_calibration(self) -> bool:
        """Whether it cannot assign a prompt before calibration prompts have been answered and scored."""
        return self.calibration == "always" and not self.needs_full_parallel


def one_teacher(teacher: int, count: int, note: str) -> Assignment:
    """The assignment in which `teacher` answers all `count` prompts."""
    return Assignment(np.full(count, teacher, dtype=np.int64), None, note)


def only(teacher: int, evidence: Evidence, count: float) -> Load:
    """The load in which `teacher` answers all `count` prompts."""
    return [count if i == teacher else 0.0 for i in range(len(evidence.names))]


def by_strength(evidence: Evidence, among: Sequence[int]) -> tuple[list[int], str]:
    """The teachers `among` from strongest to weakest, and what the first one has most of.

    Size decides when it is known of all of them; otherwise mean quality does, where a teacher without any
    usable response is the weakest.

    Raises:
        ConfigError: neither is known.
    """
    if (ordered := by_size(evidence, among)) is not None:
        return ordered, "the most parameters"
    if evidence.mean_quality is None or np.isnan(evidence.mean_quality[list(among)]).all():
        missing = ", ".join(evidence.names[i] for i in among if evidence.parameters[i] is None)
        raise ConfigError(
            f"neither the parameters of {missing} nor the teachers' mean quality are known",
            "set `parameters` of every teacher in the run file, or calibrate and score first",
        )
    quality = np.nan_to_num(evidence.mean_quality, nan=-np.inf)
    return sorted(among, key=lambda i: -quality[i]), "the best mean quality (not all parameters are known)"


def by_size(evidence: Evidence, among: Sequence[int]) -> list[int] | None:
    """The teachers `among` from most to fewest parameters; None when those of some are not known."""
    if any(evidence.parameters[i] is None for i in among):
        return None
    return sorted(among, key=lambda i: -(evidence.parameters[i] or 0))


def strongest_loads(evidence: Evidence, count: float, among: Sequence[int]) -> list[Load]:
    """The loads of a strategy that gives all prompts to the strongest of `among`: one when sizes decide."""
    ordered = by_size(evidence, among)
    return [only(i, evidence, count) for i in (among if ordered is None else ordered[:1])]


def known_first(rewards: Floats) -> list[Floats]:
    """Lexsort keys (N, M), least important first: known rewards before unknown, high before low."""
    unknown = np.isnan(rewards)
    return [np.where(unknown, 0.0, -rewards), unknown.astype(np.float64)]
