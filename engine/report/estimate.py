"""What a run would cost before it is started: generations, tokens, dollars and hours. No torch, no network.

Zhang et al. (arXiv 2510.10925) compare *all teachers answer everything*, N·M generations, with *routed*,
C·M + (N − C): every teacher answers the C calibration prompts (here the prompts held out to measure the router
count among them), and each of the others is answered once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engine.base.errors import ConfigError
from engine.config.endpoint import PriceConfig
from engine.config.kinds import teacher_kind
from engine.config.models import TeacherConfig
from engine.config.run_file import Run
from engine.methods import strategy_kinds
from engine.methods.strategy import Load
from engine.scorers import scorer_kinds
from engine.sources import source_kinds

if TYPE_CHECKING:
    from engine.report.existing_work import Stored
    from storage.speeds import Speed

_FORM_TOKENS = 150
"""Of a judge's instructions."""
REPLY_TOKENS = 300
"""Of a judge."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What a number of generations takes."""

    generations: float
    prompt_tokens: float
    completion_tokens: float
    cost: float
    """Dollars."""
    seconds: float | None
    """Wall time of the generation; None when some teacher's speed is not known."""


@dataclass(frozen=True, slots=True)
class TeacherRow:
    """One teacher's part."""

    name: str
    backend: str
    all: Amount
    """When it answers every prompt."""
    routed: Amount
    """When it answers the calibration prompts and 1/M of the others."""


@dataclass(frozen=True, slots=True)
class StrategyRow:
    """One strategy of the run; low and high differ where calibration has yet to choose its teacher."""

    name: str
    low: Amount
    high: Amount


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """What a judge among the scorers takes at most."""

    name: str
    model: str
    compares: bool
    """Whether it is asked for each two answers in both orders, or once for each answer."""
    requests: float
    """Without those of stored verdicts."""
    cost: float
    """Dollars, with replies of `REPLY_TOKENS` tokens."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The amounts that are compared."""

    teachers: tuple[TeacherRow, ...]
    all: Amount
    routed: Amount
    strategies: tuple[StrategyRow, ...]


@dataclass(frozen=True, slots=True)
class Left(Parts):
    """The amounts without what is stored already."""

    answers: int
    """Stored answers that scorers take."""
    verdicts: Mapping[str, int]
    """Scorer → how many of these it has given a verdict on."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A run's expected cost."""

    n: int
    """N: prompts that get a training row; evaluation prompts are not among them."""
    c: int
    """C: those of them that every teacher answers, or k teachers by `calibration.teachers_per_prompt`."""
    answers: int
    """Answers to these: C·M, or fewer."""
    evaluation: int
    """Prompts that only the student sees."""
    teachers: tuple[TeacherRow, ...]
    all: Amount
    routed: Amount
    strategies: tuple[StrategyRow, ...]
    judges: tuple[JudgeRow, ...]
    """In none of the amounts above: answers are routed in shares that nobody knows before."""
    left: "Left | None"
    """What a store's part of the run leaves to do; None where it has none."""
    speed_unknown: tuple[str, ...]
    """Teachers without `tokens_per_second` of which nothing is measured either."""
    assumptions: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Generations of all-teachers over those of routed; 1 when nothing is generated."""
        return self.all.generations / self.routed.generations if self.routed.generations else 1.0


def estimate(
    run: Run, measured: "Mapping[str, Speed] | None" = None, stored: "Stored | None" = None
) -> Estimate:
    """The run's expected cost, from its run file and what was measured before.

    Args:
        run: the run file.
        measured: teacher → what its stored answers say; used where the run file does not say it.
        stored: what is there of the run already.

    Raises:
        ConfigError: a source cannot be counted, the splits want more prompts than there are, or a strategy does
            not fit the teachers.
    """
    sizes, counted = _splits(run)
    if stored is not None:
        sizes = {name: stored.sizes.get(name, 0) for name in sizes}
    run, told = _with(run, measured or {})
    c = sizes["calibration"] + sizes["validation"]
    n, m = c + sizes["synthesis"], len(run.teachers)
    if n == 0:
        raise ConfigError(
            "split: every prompt is for evaluation, so no teacher has anything to answer", "add prompts"
        )
    answers = sizes["calibration"] * (run.calibration.teachers_per_prompt or m) + sizes["validation"] * m
    whole, left = _parts(run, n, c, answers, None), None
    if stored is not None and any(stored.everything):
        parts = _parts(run, n, c, answers, stored)
        left = Left(
            parts.teachers, parts.all, parts.routed, parts.strategies, stored.answers, stored.verdicts
        )
    return Estimate(
        n=n,
        c=c,
        answers=answers,
        evaluation=sizes["evaluation"],
        teachers=whole.teachers,
        all=whole.all,
        routed=whole.routed,
        strategies=whole.strategies,
        left=left,
        speed_unknown=tuple(
            t.name for t in run.teachers if t.tokens_per_second is None and teacher_kind(t.backend).generates
        ),
        judges=tuple(_judges(run, n, c, answers, stored)),
        assumptions=(*_assumptions(run, counted, known=stored is not None), *told),
    )


def _parts(run: Run, n: int, c: int, answers: int, stored: "Stored | None") -> Parts:
    """The amounts of the whole run, or of what is left of it."""
    m = len(run.teachers)
    everything, calibration = [float(n)] * m, [answers / m] * m
    rest = _thinned([(n - c) / m] * m, n - c, _beyond(stored))
    if stored is not None:
        everything = _without(everything, stored.everything)
        calibration = _without(calibration, stored.calibration)
        rest = [float(count) for count in stored.plans.get(strategy_kinds.routed(run.strategies) or "", rest)]
    return Parts(
        teachers=tuple(
            TeacherRow(
                teacher.name,
                teacher.backend,
                _amount(run, [_only(everything, i)]),
                _amount(run, [_only(calibration, i), _only(rest, i)]),
            )
            for i, teacher in enumerate(run.teachers)
        ),
        all=_amount(run, [everything]),
        routed=_amount(run, [calibration, rest]),
        strategies=tuple(
            _strategy(run, name, n, c, everything, calibration, stored) for name in run.strategies
        ),
    )


def _without(load: Load, there: Sequence[float]) -> list[float]:
    return [max(0.0, count - answered) for count, answered in zip(load, there, strict=True)]


def _beyond(stored: "Stored | None") -> Sequence[int] | None:
    """Answers of each teacher to prompts that calibration does not ask it for."""
    if stored is None:
        return None
    return [whole - part for whole, part in zip(stored.everything, stored.calibration, strict=True)]


def _thinned(load: Load, prompts: int, answered: Sequence[int] | None) -> list[float]:
    """The load without what is expected to be there, when a teacher has answered some of the prompts to share out."""
    if answered is None or not prompts:
        return list(load)
    return [count * max(0.0, 1 - there / prompts) for count, there in zip(load, answered, strict=True)]


def as_json(found: Estimate) -> dict[str, Any]:
    """The estimate as plain JSON; seconds are None where a speed is not known."""
    return {**asdict(found), "m": len(found.teachers), "ratio": found.ratio}


def _with(run: Run, measured: "Mapping[str, Speed]") -> tuple[Run, list[str]]:
    """(the run with what was measured of teachers where it says nothing, the lines that tell so)."""
    teachers, told = [], []
    for teacher in run.teachers:
        speed, more = measured.get(teacher.name), dict[str, float]()
        if speed is not None and teacher.tokens_per_second is None:
            more["tokens_per_second"] = speed.tokens_per_second
        if speed is not None and teacher.expected_tokens is None and speed.alike:
            more["expected_tokens"] = speed.tokens_per_answer
        if speed is not None and more:
            whose = speed.of or teacher.name
            same = f" (the model of {teacher.name})" if speed.of else ""
            length = f", {speed.tokens_per_answer:,.0f} an answer" if speed.alike else " with other settings"
            told.append(
                f"measured on {speed.answers:,} stored answers of {whose}{same}: {speed.tokens_per_second:,.0f} "
                f"tokens a second{length}"
            )
        teachers.append(teacher.model_copy(update=more))
    return run.model_copy(update={"teachers": tuple(teachers)}), told


def _splits(run: Run) -> tuple[dict[str, int], bool]:
    """(prompts per split, whether every source was counted)."""
    forced = dict.fromkeys(("calibration", "validation", "synthesis", "evaluation"), 0)
    free, counted = 0, True
    for source in run.prompts:
        size, exact = source_kinds.count(source)
        counted &= exact
        if source.split is None:
            free += size
        else:
            forced[source.split] += size
    split = run.split
    wanted = {
        "evaluation": split.evaluation,
        "validation": split.validation,
        "calibration": split.calibration,
    }
    left = free - sum(wanted.values())
    wanted["synthesis"] = left if split.synthesis is None else split.synthesis
    if left < 0 or wanted["synthesis"] > left:
        raise ConfigError(
            f"split: {sum(wanted.values()) if left >= 0 else free - left:,} prompts are asked for and the sources "
            f"have {free:,}",
            "lower the splits, or add prompts (a reasoning_gym source: raise `size`)",
        )
    return {name: forced[name] + wanted[name] for name in forced}, counted


def _amount(run: Run, phases: Sequence[Load]) -> Amount:
    """What the phases take, one after the other; within a phase teachers work as `_seconds` says."""
    # Imported answers are there already.
    phases = [
        [
            count if teacher_kind(teacher.backend).generates else 0.0
            for count, teacher in zip(phase, run.teachers, strict=True)
        ]
        for phase in phases
    ]
    load = [sum(phase[i] for phase in phases) for i in range(len(run.teachers))]
    prompt = [count * run.estimate.prompt_tokens for count in load]
    answer = [count * _answer_tokens(run, teacher) for count, teacher in zip(load, run.teachers, strict=True)]
    prices = [teacher.price for teacher in run.teachers]
    times = [_seconds(run, phase) for phase in phases]
    return Amount(
        generations=sum(load),
        prompt_tokens=sum(prompt),
        completion_tokens=sum(answer),
        cost=sum(
            p * price.input + a * price.output for p, a, price in zip(prompt, answer, prices, strict=True)
        )
        / 1e6,
        seconds=None if None in times else sum(time for time in times if time is not None),
    )


def _seconds(run: Run, load: Load) -> float | None:
    """Endpoints run side by side and beside the local teachers, which run one after the other."""
    endpoints, local = [0.0], 0.0
    for count, teacher in zip(load, run.teachers, strict=True):
        if not count:
            continue
        if teacher.tokens_per_second is None:
            return None
        time = count * _answer_tokens(run, teacher) / teacher.tokens_per_second
        if teacher_kind(teacher.backend).remote:
            endpoints.append(time)
        else:
            local += time
    return max(*endpoints, local)


def _answer_tokens(run: Run, teacher: TeacherConfig) -> float:
    expected = teacher.expected_tokens or run.estimate.completion_tokens
    return min(expected, teacher.sampling.max_tokens or run.generation.max_tokens)


def _strategy(
    run: Run, name: str, n: int, c: int, everything: Load, calibration: Load, stored: "Stored | None"
) -> StrategyRow:
    """A strategy's row; `everything` and `calibration` are what is left of these two loads."""
    if strategy_kinds.load(name).needs_full_parallel:
        amount = _amount(run, [everything])
        return StrategyRow(name, amount, amount)
    calibrates = strategy_kinds.needs_calibration(name, run.evidence.parameters)
    first = [calibration] if calibrates else []
    if stored is not None and name in stored.plans:
        amount = _amount(run, [*first, [float(count) for count in stored.plans[name]]])
        return StrategyRow(name, amount, amount)
    rest = n - c if calibrates else n
    there = _beyond(stored) if calibrates or stored is None else stored.everything
    loads = strategy_kinds.load(name).loads(run.evidence, float(rest))
    options = [_amount(run, [*first, _thinned(load, rest, there)]) for load in loads]
    lower: Callable[..., float] = min
    return StrategyRow(name, _extreme(options, lower), _extreme(options, max))


def _extreme(options: Sequence[Amount], choose: Callable[..., float]) -> Amount:
    times = [option.seconds for option in options]
    return Amount(
        generations=choose(option.generations for option in options),
        prompt_tokens=choose(option.prompt_tokens for option in options),
        completion_tokens=choose(option.completion_tokens for option in options),
        cost=choose(option.cost for option in options),
        seconds=None if None in times else choose(time for time in times if time is not None),
    )


def _only(load: Load, index: int) -> list[float]:
    return [count if i == index else 0.0 for i, count in enumerate(load)]


def _assumptions(run: Run, counted: bool, *, known: bool) -> tuple[str, ...]:
    lengths = [_answer_tokens(run, teacher) for teacher in run.teachers]
    low, high = min(lengths), max(lengths)
    lines = [
        f"{run.estimate.prompt_tokens:,} tokens a prompt (`estimate.prompt_tokens`), "
        + (f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}")
        + " tokens an answer (a teacher's `expected_tokens`, as measured, or `estimate.completion_tokens`; at most "
        "`max_tokens`)",
        "routed: each teacher gets an equal share of the prompts that one teacher answers; the router will not "
        "share them out so evenly, and nobody knows before how",
        "a strategy whose teacher calibration has yet to choose shows a range over the teachers",
        "time: answers only, at `tokens_per_second` or as measured; endpoints work side by side and beside the "
        "local teachers, which run one after the other; scoring, the router and training are not included",
        "no answer fails" if known else "no answer fails, and no prompt is a duplicate",
    ]
    if not counted:
        lines.append("a source that is not on this machine has as many prompts as its `size` says")
    return tuple(lines)


def _judges(run: Run, n: int, c: int, answers: int, stored: "Stored | None") -> Iterator[JudgeRow]:
    answer = sum(_answer_tokens(run, teacher) for teacher in run.teachers) / len(run.teachers)
    for name, config in run.quality.named.items():
        if not scorer_kinds.costs(config.scorer):
            continue
        compares = scorer_kinds.compares(config.scorer, config.settings)
        requests = float(answers + n - c)
        if compares:
            requests = answers * max((answers / c if c else 0) - 1, 0)
        if stored is not None:
            judged = answers if compares else answers + n - c
            requests *= max(0.0, 1 - stored.verdicts.get(name, 0) / max(1, judged))
        price = PriceConfig.model_validate(config.settings.get("price") or {})
        asked = run.estimate.prompt_tokens + (2 if compares else 1) * answer + _FORM_TOKENS
        dollars = requests * (asked * price.input + REPLY_TOKENS * price.output) / 1e6
        yield JudgeRow(name, str(config.settings.get("model", "")), compares, requests, dollars)
