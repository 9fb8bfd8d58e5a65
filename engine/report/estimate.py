"""What a run would cost before it is started: generations, tokens, dollars and hours. No torch, no network.

Zhang et al. (arXiv 2510.10925) compare *all teachers answer everything*, N·M generations, with *routed*,
C·M + (N − C): every teacher answers the C calibration prompts (here the prompts held out to measure the router
count among them), and each of the others is answered once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from engine.base.errors import ConfigError
from engine.config.endpoint import PriceConfig
from engine.config.kinds import scorer_kind, teacher_kind
from engine.config.models import TeacherConfig
from engine.config.run_file import Run
from engine.generation import speeds
from engine.job.identity import LEARNABILITY
from engine.job.stage_names import STAGES
from engine.methods import strategy_kinds
from engine.methods.strategy import Load
from engine.report import existing_work, memory
from engine.report.existing_work import Stored
from engine.report.memory import Need
from engine.scorers import scorer_kinds
from engine.sources import source_kinds
from storage.speeds import Speed
from storage.store import Store

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
    """When it is asked every prompt."""
    routed: Amount
    """When it is asked the calibration prompts and 1/M of the others."""


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
    """Whether it is asked for each two responses in both orders, or once for each response."""
    requests: float
    """Without those of stored scores."""
    cost: float
    """Dollars, with replies of `REPLY_TOKENS` tokens."""


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """What a scorer with a model in this program reads."""

    name: str
    responses: float
    """Without those that it has scored."""
    tokens: float
    """Of these, and of each of their prompts once."""


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
    """Stored responses that scorers take."""
    verdicts: Mapping[str, int]
    """Scorer → how many of these it has scored."""


@dataclass(frozen=True, slots=True)
class Estimate(Parts):
    """A run's expected cost: the amounts of the whole run, and what they are counted from."""

    n: int
    """N: prompts that get a training row; evaluation prompts are not among them."""
    c: int
    """C: those of them that every teacher answers, or k teachers by `calibration.teachers_per_prompt`."""
    answers: int
    """Responses to these: C·M, or fewer."""
    evaluation: int
    """Prompts that only the student sees."""
    judges: tuple[JudgeRow, ...]
    """In none of the amounts above: prompts are routed in shares that nobody knows before."""
    readings: tuple[ReadingRow, ...]
    """Likewise in none of them: what a scorer reads in a second is known once it runs."""
    left: Left | None
    """What a store's part of the run leaves to do; None where it has none."""
    speed_unknown: tuple[str, ...]
    """Teachers without `tokens_per_second` of which nothing is measured either."""
    assumptions: tuple[str, ...]
    memory: tuple[Need, ...]
    """What each local model takes on its device."""

    @property
    def generates(self) -> bool:
        """Whether any response is generated; False where all are imported."""
        return any(teacher_kind(row.backend).generates for row in self.teachers)

    @property
    def ratio(self) -> float:
        """Generations of all-teachers over those of routed; 1 when nothing is generated."""
        return self.all.generations / self.routed.generations if self.routed.generations else 1.0


def from_store(run: Run, store: Store, until: str = STAGES[-1]) -> Estimate:
    """The same as `estimate`, with the speeds that the store tells and without what it holds of the run."""
    return estimate(run, speeds.of_run(store, run), existing_work.of_run(store, run), until=until)


def estimate(
    run: Run,
    measured: Mapping[str, Speed] | None = None,
    stored: Stored | None = None,
    *,
    until: str = STAGES[-1],
) -> Estimate:
    """The run's expected cost, from its run file and what was measured before.

    Args:
        run: the run file.
        measured: teacher → what its stored responses say; used where the run file does not say it.
        stored: what is there of the run already.
        until: the last stage that is run. It decides which models are loaded; the amounts are those of all stages.

    Raises:
        ConfigError: a source cannot be counted, the splits want more prompts than there are, or a strategy does
            not fit the teachers.
    """
    sizes, counted = _splits(run)
    if stored is not None:
        sizes = {name: stored.sizes.get(name, 0) for name in sizes}
    run, told = _with(run, measured or {})
    c, m = sizes["calibration"] + sizes["validation"], len(run.teachers)
    n = c + sizes["synthesis"]
    if n == 0:
        raise ConfigError(
            "split: every prompt is for evaluation, so no teacher has anything to answer", "add prompts"
        )
    responses = sizes["calibration"] * (run.calibration.teachers_per_prompt or m) + sizes["validation"] * m
    nothing = Stored(sizes, (0,) * m, (0,) * m, {}, 0, {})
    left = None
    if stored is not None and any(stored.everything):
        left = Left(*_parts(run, n, c, responses, stored), stored.responses, stored.scored)
    return Estimate(
        *_parts(run, n, c, responses, nothing),
        n=n,
        c=c,
        answers=responses,
        evaluation=sizes["evaluation"],
        left=left,
        speed_unknown=tuple(
            t.name for t in run.teachers if t.tokens_per_second is None and teacher_kind(t.backend).generates
        ),
        judges=tuple(_judges(run, n, c, responses, stored or nothing)),
        readings=tuple(_readings(run, n, c, responses, stored or nothing)),
        assumptions=(*_assumptions(run, counted, until, known=stored is not None), *told),
        memory=memory.of_run(run, until=until),
    )


def as_json(found: Estimate) -> dict[str, Any]:
    """The estimate as plain JSON; seconds are None where a speed is not known."""
    needs = [
        {**asdict(need), "total": need.total, "fits": need.fits, "remedy": need.remedy}
        for need in found.memory
    ]
    return {**asdict(found), "memory": needs, "m": len(found.teachers), "ratio": found.ratio}


def _parts(
    run: Run, n: int, c: int, responses: int, stored: Stored
) -> tuple[tuple[TeacherRow, ...], Amount, Amount, tuple[StrategyRow, ...]]:
    """The fields of `Parts`, without what is stored."""
    m, costs = len(run.teachers), _Costs(run)
    everything = [max(0.0, float(n) - there) for there in stored.everything]
    calibration = [max(0.0, responses / m - there) for there in stored.calibration]
    beyond = [whole - part for whole, part in zip(stored.everything, stored.calibration, strict=True)]

    def shared(name: str) -> list[Sequence[Load]]:
        """The ways in which a strategy may ask the teachers, each as phases one after the other."""
        strategy = strategy_kinds.load(name)
        if strategy.needs_full_parallel:
            return [[everything]]
        calibrates = strategy_kinds.needs_calibration(name, run.evidence.parameters)
        first, count, there = ([calibration], n - c, beyond) if calibrates else ([], n, stored.everything)
        loads = [_unanswered(load, count, there) for load in strategy.loads(run.evidence, float(count))]
        return [[*first, load] for load in ([stored.plans[name]] if name in stored.plans else loads)]

    planned = stored.plans.get(strategy_kinds.routed(run.strategies) or "")
    rest = planned or _unanswered([(n - c) / m] * m, n - c, beyond)
    options = {name: [costs.of(*phases) for phases in shared(name)] for name in run.strategies}
    teachers = tuple(
        TeacherRow(
            teacher.name,
            teacher.backend,
            costs.of(_only(everything, i)),
            costs.of(_only(calibration, i), _only(rest, i)),
        )
        for i, teacher in enumerate(run.teachers)
    )
    strategies = tuple(
        StrategyRow(name, _extreme(amounts, min), _extreme(amounts, max)) for name, amounts in options.items()
    )
    return teachers, costs.of(everything), costs.of(calibration, rest), strategies


def _unanswered(load: Load, prompts: int, answered: Sequence[int]) -> list[float]:
    """What is expected to be missing of a load when teachers have answered some of the prompts that it shares out."""
    return [
        count * max(0.0, 1 - there / max(1, prompts)) for count, there in zip(load, answered, strict=True)
    ]


def _only(load: Load, index: int) -> list[float]:
    return [count if i == index else 0.0 for i, count in enumerate(load)]


def _extreme(options: Sequence[Amount], choose: Callable[..., float]) -> Amount:
    """The least or most of each figure; no time where one of the options has none."""
    figures = zip(*map(astuple, options), strict=True)
    return Amount(*(None if None in figure else choose(figure) for figure in figures))  # type: ignore[arg-type]


class _Costs:
    """What the responses of a run's teachers take."""

    def __init__(self, run: Run) -> None:
        self._each = [_response(run, teacher) for teacher in run.teachers]
        self._remote = [teacher_kind(teacher.backend).remote for teacher in run.teachers]

    def of(self, *phases: Load) -> Amount:
        """What the phases take, one after the other; within a phase teachers work as `_seconds` says."""
        load = list(zip(map(sum, zip(*phases, strict=True)), self._each, strict=True))
        times = [self._seconds(phase) for phase in phases]
        return Amount(
            generations=sum(count * each.generations for count, each in load),
            prompt_tokens=sum(count * each.prompt_tokens for count, each in load),
            completion_tokens=sum(count * each.completion_tokens for count, each in load),
            cost=sum(count * each.cost for count, each in load),
            seconds=None if None in times else sum(time for time in times if time is not None),
        )

    def _seconds(self, load: Load) -> float | None:
        """Endpoints run side by side and beside the local teachers, which run one after the other."""
        endpoints, local = [0.0], 0.0
        for count, each, remote in zip(load, self._each, self._remote, strict=True):
            if not count:
                continue
            if each.seconds is None:
                return None
            if remote:
                endpoints.append(count * each.seconds)
            else:
                local += count * each.seconds
        return max(*endpoints, local)


def _response(run: Run, teacher: TeacherConfig) -> Amount:
    """What one response of the teacher takes; nothing where it is imported."""
    if not teacher_kind(teacher.backend).generates:
        return Amount(0.0, 0.0, 0.0, 0.0, 0.0)
    prompt, tokens, speed = (
        float(run.estimate.prompt_tokens),
        _tokens(run, teacher),
        teacher.tokens_per_second,
    )
    dollars = (prompt * teacher.price.input + tokens * teacher.price.output) / 1e6
    return Amount(1.0, prompt, tokens, dollars, None if speed is None else tokens / speed)


def _tokens(run: Run, teacher: TeacherConfig) -> float:
    """Of one response of the teacher."""
    expected = teacher.expected_tokens or run.estimate.completion_tokens
    return min(expected, teacher.sampling.max_tokens or run.generation.max_tokens)


def _mean_tokens(run: Run) -> float:
    """Of one response, over the teachers."""
    return sum(_tokens(run, teacher) for teacher in run.teachers) / len(run.teachers)


def _with(run: Run, measured: Mapping[str, Speed]) -> tuple[Run, list[str]]:
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
            length = f", {speed.tokens_per_answer:,.0f} a response" if speed.alike else " with other settings"
            told.append(
                f"measured on {speed.answers:,} stored responses of {whose}{same}: {speed.tokens_per_second:,.0f} "
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


def _assumptions(run: Run, counted: bool, until: str, *, known: bool) -> tuple[str, ...]:
    lengths = [_tokens(run, teacher) for teacher in run.teachers]
    low, high = min(lengths), max(lengths)
    lines = [
        f"{run.estimate.prompt_tokens:,} tokens a prompt (`estimate.prompt_tokens`), "
        + (f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}")
        + " tokens a response (a teacher's `expected_tokens`, as measured, or `estimate.completion_tokens`; at most "
        "`max_tokens`)",
    ]
    if any(teacher_kind(teacher.backend).generates for teacher in run.teachers):
        lines += [
            "routed: each teacher gets an equal share of the prompts that one teacher answers; the router will not "
            "share them out so evenly, and nobody knows before how",
            "a strategy whose teacher calibration has yet to choose shows a range over the teachers",
            "time: responses only, at `tokens_per_second` or as measured; endpoints work side by side and beside the "
            "local teachers, which run one after the other; scoring, the router and training are not included",
        ]
    lines.append("no response fails" if known else "no response fails, and no prompt is a duplicate")
    if until in STAGES[:-1]:
        lines.append(f"the amounts are those of all stages; this run ends after `{until}`")
    if STAGES.index(until) >= STAGES.index("distill"):
        lines.append(
            f"memory of training: at most {run.distill.pass_tokens:,} tokens a pass (`distill.pass_tokens`); fewer "
            "take less and change nothing that is learned"
        )
    if not counted:
        lines.append("a source that is not on this machine has as many prompts as its `size` says")
    return tuple(lines)


def _readings(run: Run, n: int, c: int, responses: int, stored: Stored) -> Iterator[ReadingRow]:
    each = _mean_tokens(run)
    local = [
        name for name, one in run.quality.named.items() if scorer_kind(one.scorer).local_model is not None
    ]
    for name in (*local, LEARNABILITY):
        # Every response to the prompts of calibration, and one to each of the others.
        share = max(0.0, 1 - stored.scored.get(name, 0) / max(1, responses + n - c))
        left = (responses + n - c) * share
        yield ReadingRow(name, left, left * each + n * share * run.estimate.prompt_tokens)


def _judges(run: Run, n: int, c: int, responses: int, stored: Stored) -> Iterator[JudgeRow]:
    tokens = _mean_tokens(run)
    for name, config in run.quality.named.items():
        if not scorer_kinds.costs(config.scorer):
            continue
        compares = scorer_kinds.compares(config.scorer, config.settings)
        judged = responses if compares else responses + n - c
        requests = judged * max((responses / c if c else 0) - 1, 0) if compares else float(judged)
        requests *= max(0.0, 1 - stored.scored.get(name, 0) / max(1, judged))
        price = PriceConfig.model_validate(config.settings.get("price") or {})
        asked = run.estimate.prompt_tokens + (2 if compares else 1) * tokens + _FORM_TOKENS
        dollars = requests * (asked * price.input + REPLY_TOKENS * price.output) / 1e6
        yield JudgeRow(name, str(config.settings.get("model", "")), compares, requests, dollars)
