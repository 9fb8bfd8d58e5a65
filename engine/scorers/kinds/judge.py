"""Quality as a language model behind an OpenAI-compatible endpoint judges it.

Two modes. `rate`: each answer gets a number from 1 to 10 (Zheng et al. 2023, arXiv 2306.05685, whose notation
`[[7]]` is used). `pairs`: each two answers to a prompt are compared in both orders, because judges prefer a place
(ibid., §3.3); an answer wins when it wins in both, everything else is a tie, and the score is the mean over the other
teachers' answers of 1 for won, ½ for tied and 0 for lost.

What the judge writes is read strictly: a reply with no verdict, one outside the scale or several different ones is
asked for again, and in the end the answer has no score. Answers stand between marks that they cannot hold, and only the
judge's own text is read: a judge that quotes an answer's `Rating: [[10]]` beside its own has said two ratings. One that
is talked into giving it as its own cannot be told apart.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from threading import Event
from typing import Any, Literal

from pydantic import Field

from engine.base.errors import BudgetSpent, EndpointError, UselessReplies
from engine.config.endpoint import Addressed, PriceConfig
from engine.config.kinds import ScorerKind
from engine.config.section import Seed
from engine.models.chat_template import with_system
from engine.scorers import judge_prompts
from engine.scorers.scorer_kinds import ShouldStop, Verdict, checked, never
from engine.teachers.cost import Budget, at_most, cents, cost
from engine.teachers.kinds import openai as endpoint
from engine.teachers.traffic import Traffic
from storage.records import Model, Prompt, Request, Response, Sampling, Score

VERSION = 1
"""Raised when the same settings would give other verdicts."""

BLAMED = 5
"""Failures without a single reply that are the judge's own, though it has judged before."""

UNREAD = 20
"""Questions without a readable reply, and none before them, after which the judge is to blame."""

KEPT_CHARS = 2000
"""Of the judge's last reply to a question, in the verdict."""


class JudgeConfig(Addressed):
    """The judge's part of the run file."""

    model: str = Field("", min_length=1, validate_default=True)
    price: PriceConfig = PriceConfig()
    mode: Literal["rate", "pairs"] = "rate"
    criteria: str = Field(judge_prompts.CRITERIA, min_length=1)
    """What is judged; stands in the request as it is."""
    reference: bool = False
    """Whether the judge sees the prompt's reference answer, where there is one."""
    system: str = ""
    temperature: float = Field(0.0, ge=0, le=10)
    max_tokens: int = Field(1024, ge=1)
    seed: Seed = 0
    tries: int = Field(3, ge=1)
    """Times that one question is asked until its reply can be read."""
    opponents: tuple[str, ...] = ()
    """Of `pairs`: what the compared answers are made by; filled in by the run, part of the identity."""


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes a verdict, as JSON: the served model, the request's text, the sampling; no address.

    Raises:
        ConfigError: a setting is wrong.
    """
    chosen = checked("judge", JudgeConfig, settings)
    parts: dict[str, Any] = {
        "kind": "judge",
        "version": VERSION,
        "backend": endpoint.identity(_model(chosen)),
        "texts": [
            judge_prompts.RATE if chosen.mode == "rate" else judge_prompts.COMPARE,
            judge_prompts.AGAIN,
        ],
        **{
            key: getattr(chosen, key)
            for key in (
                "mode",
                "criteria",
                "reference",
                "system",
                "temperature",
                "max_tokens",
                "seed",
                "tries",
            )
        },
    }
    if chosen.mode == "pairs":
        parts["opponents"] = sorted(chosen.opponents)
    return parts


def create(settings: Mapping[str, Any]) -> "Judge":
    """The scorer; nothing is sent yet.

    Args:
        settings: those of `JudgeConfig`; `model` (its name at the server) is required.

    Raises:
        ConfigError: a setting is wrong, or the key's variable is not set.
    """
    return Judge(checked("judge", JudgeConfig, settings))


def model(settings: Mapping[str, Any]) -> Model:
    """The judge as a model that answers, for trying it by hand.

    Raises:
        ConfigError: a setting is wrong.
    """
    return _model(checked("judge", JudgeConfig, settings))


State = Literal["open", "read", "unreadable", "refused", "too_long", "error"]
"""open: to be asked, for the first time or again; the others are how a question ends, all but `read` without a verdict
and as the status of the score."""


@dataclass(slots=True)
class _Question:
    """One question to the judge, with what became of it."""

    first: int
    """The item that is judged, or shown as A."""
    second: int | None = None
    """The item shown as B."""
    alike: list[int] = field(default_factory=list)
    """Items of the same prompt and text as the first: one rating is that of them all, and is paid for once."""
    state: State = "open"
    said: str | None = None
    """The judge's rating or winner, once there is one."""
    problem: str = ""
    """Why there is none."""
    text: str = ""
    """The judge's last reply."""
    asked: int = 0
    tokens: int = 0
    cost: float = 0.0

    @property
    def places(self) -> tuple[int, ...]:
        """The items that it is about."""
        return (self.first, *self.alike) if self.second is None else (self.first, self.second)

    def hear(self, reply: Response, dollars: float, chosen: JudgeConfig) -> None:
        """Takes the judge's reply; one that cannot be read leaves the question open while it has tries left."""
        self.asked += 1
        self.cost += dollars
        self.tokens += reply.prompt_tokens + reply.completion_tokens
        self.text = reply.text
        self.state, self.said, self.problem = _meaning(reply, chosen.mode)
        if self.state == "unreadable" and self.asked < chosen.tries:
            self.state = "open"


def _meaning(reply: Response, mode: Literal["rate", "pairs"]) -> tuple[State, str | None, str]:
    """(state, what is said, the problem) of one reply."""
    match reply.status:
        case "ok":
            said, problem = judge_prompts.read(mode, reply.text)
            return ("unreadable" if said is None else "read"), said, problem
        case "error" | "too_long":
            return reply.status, None, reply.error
        case "refused":
            return "refused", None, f"the judge refuses: {reply.error or 'it says nothing more'}"
        case _:
            return "unreadable", None, f"the judge's reply is {reply.status}"


@dataclass(slots=True)
class _Item:
    """What is known of one response."""

    same: int = 0
    """Other responses of the same text: ties that nobody needs to be asked for."""
    open: int = 0
    """Questions about it that have not ended."""
    questions: list[_Question] = field(default_factory=list)


class _Page:
    """All questions about some items, and what each item's score is once they have ended."""

    def __init__(self, chosen: JudgeConfig, items: Sequence[tuple[Prompt, str]]) -> None:
        self.items, self._chosen = items, chosen
        self.questions: list[_Question] = []
        self._about = [_Item() for _ in items]
        groups: dict[Any, list[int]] = {}
        for place, (prompt, _) in enumerate(items):
            groups.setdefault(repr(prompt.messages) if prompt.id is None else prompt.id, []).append(place)
        for group in groups.values():
            self.questions += self._ratings(group) if chosen.mode == "rate" else self._comparisons(group)
        for question in self.questions:
            for place in question.places:
                self._about[place].open += 1
                self._about[place].questions.append(question)

    def _ratings(self, group: Sequence[int]) -> Iterator[_Question]:
        texts: dict[str, _Question] = {}
        for place in group:
            if (same := texts.get(self.items[place][1])) is not None:
                same.alike.append(place)
            else:
                texts[self.items[place][1]] = _Question(place)
        yield from texts.values()

    def _comparisons(self, group: Sequence[int]) -> Iterator[_Question]:
        for one, other in permutations(group, 2):
            if self.items[one][1] == self.items[other][1]:
                self._about[one].same += 1
            else:
                yield _Question(one, other)

    def without_question(self) -> Iterator[tuple[int, Score]]:
        """(place, score) of the items about which nothing is asked."""
        return ((place, self._score(place)) for place, item in enumerate(self._about) if not item.questions)

    def settle(self, question: _Question) -> Iterator[tuple[int, Score]]:
        """(place, score) of the items of which this question was the last to end."""
        for place in question.places:
            self._about[place].open -= 1
            if not self._about[place].open:
                yield place, self._score(place)

    def _score(self, place: int) -> Score:
        """The score of an item whose questions have all ended.

        A comparison's cost is that of its answer A, a rating's that of the first of equal answers.
        """
        item = self._about[place]
        own = [question for question in item.questions if place in (question.first, *question.alike)]
        paid = [question for question in own if question.first == place]
        if not own and not item.same:
            return Score(None, status="unverifiable", detail={"reason": "no other answer to compare with"})
        detail: dict[str, Any] = {
            "asked": sum(question.asked for question in paid),
            "cost": sum(question.cost for question in paid),
            "texts": [question.text[-KEPT_CHARS // len(own) :] for question in own],
        }
        if self._chosen.mode == "rate":
            values = [float(question.said) for question in own if question.said is not None]
        else:
            backward: dict[int | None, _Question] = {q.first: q for q in item.questions if q.second == place}
            orders = [(question.said, backward[question.second].said) for question in own]
            values = [0.5] * item.same + [judge_prompts.result(*said) for said in orders if None not in said]
            detail |= {"orders": orders, "same": item.same, "compared": len(values)}
        count = sum(question.tokens for question in paid)
        if values:
            return Score(sum(values) / len(values), count=count, detail=detail)
        unsaid = [question for question in item.questions if question.said is None]
        bad = next((question for question in unsaid if question.state == "error"), unsaid[0])
        detail |= {"reason": bad.problem} | ({"attempts": 1} if bad.state == "error" else {})
        return Score(None, count=count, status=bad.state, detail=detail)


class Judge:
    """Scorer of kind `judge`: value = the rating, or the mean win rate from 0 to 1; count = the tokens it took.

    A score without a value has status `unreadable` with the raw reply, `refused` (by the judge or its filter),
    `too_long` (it does not fit the judge's context), `unverifiable` (there is no other response to compare with) or
    `error` (the endpoint fails with this response), which counts its `attempts` and may be asked for again.
    """

    def __init__(self, chosen: JudgeConfig) -> None:
        self._chosen = chosen
        self._model = _model(chosen)
        self._backend = endpoint.create(self._model, lenient=True)
        self._closed = Event()
        self._replied = False
        """Whether the judge has ever said anything: while it has not, no response is to blame."""
        self._read_one = False
        """Whether a verdict of it could ever be read."""

    def scores(
        self, items: Sequence[tuple[Prompt, str]], should_stop: ShouldStop = never
    ) -> Iterator[tuple[int, Score]]:
        """(place, score) of each response, without a budget; see `engine.scorers.scorer_kinds.Scorer`."""
        for came in self.verdicts(items, Budget(None, 0.0)):
            if not isinstance(came, Verdict):
                yield came

    def verdicts(
        self,
        items: Sequence[tuple[Prompt, str]],
        budget: Budget,
        known: Sequence[Verdict] = (),
        *,
        proven: bool = False,
    ) -> Iterator[Verdict | tuple[int, Score]]:
        """Replies, and (place in `items`, score) as they are settled; see `engine.scorers.scorer_kinds.Asking`."""
        page = _Page(self._chosen, items)
        yield from page.without_question()
        asked_of = {(question.first, question.second): question for question in page.questions}
        for before in known:
            if (question := asked_of.get((before.first, before.second))) is not None:
                self._hear(question, before.completion, before.cost)
        for question in page.questions:
            if question.state != "open":
                yield from page.settle(question)
        failed: list[_Question] = []
        unread = 0
        for question, reply, spent in self._ask(page, budget, proven=proven):
            if question.state == "error":
                failed.append(question)
                continue
            yield Verdict(question.first, question.second, reply, spent)
            if question.state == "open":
                continue
            yield from page.settle(question)
            unread += question.state == "unreadable"
            if unread >= UNREAD and not (proven or self._read_one):
                raise UselessReplies(
                    f"judge `{self._model.model}` gave no readable verdict on {unread} questions: {question.problem}; "
                    f"it says {question.text[:80]!r}",
                    "use a judge that can follow the form, or raise its `max_tokens`; what it could not say is asked "
                    "again once `generation.max_attempts` is raised (or on the app's generation screen)",
                )
        if self._closed.is_set():
            return
        if failed and not self._replied and (not proven or len(failed) >= BLAMED):
            raise EndpointError(
                f"judge `{self._model.model}` answered no request: {failed[0].problem}",
                "mend the judge's settings in `quality`, or its server; the same command then goes on",
            )
        for question in failed:
            yield from page.settle(question)

    def traffic(self) -> Traffic:
        """Where its requests are; may be asked from any thread."""
        return self._backend.traffic()

    def drain(self) -> None:
        """Asks nothing more; see `engine.scorers.scorer_kinds.Asking`."""
        self._closed.set()
        self._backend.drain()

    def close(self) -> None:
        """End all requests. May be called from any thread, and twice."""
        self._closed.set()
        self._backend.close()

    def _hear(self, question: _Question, reply: Response, dollars: float) -> None:
        question.hear(reply, dollars, self._chosen)
        self._replied |= question.state != "error"
        self._read_one |= question.state == "read"

    def _ask(
        self, page: _Page, budget: Budget, *, proven: bool
    ) -> Iterator[tuple[_Question, Response, float]]:
        """(question, its reply, dollars) of the open questions, each heard already; what stays open is asked next."""
        waiting = deque(key for key, question in enumerate(page.questions) if question.state == "open")
        reserved: dict[int, float] = {}
        held: dict[int, float] = {}
        """What the budget holds back, with its dollars: one long response must not stop the short ones."""

        def requests() -> Iterator[Request]:
            # The first questions find out whether the judge can follow the form, before more is paid for.
            left = math.inf if proven or self._read_one else UNREAD
            while waiting and left:
                left -= 1
                key = waiting.popleft()
                request = self._request(key, page)
                dollars = at_most(self._model, request)
                if not budget.reserve(dollars):
                    held[key] = dollars
                    continue
                reserved[key] = dollars
                yield request

        while waiting and not self._closed.is_set():
            came = False
            held.clear()
            try:
                for reply in self._backend.generate(requests()):
                    came = True
                    question, spent = page.questions[reply.key], cost(self._model, reply)
                    budget.settle(reserved.pop(reply.key), spent)
                    self._hear(question, reply, spent)
                    if question.state == "open":
                        waiting.appendleft(reply.key)
                    yield question, reply, spent
            finally:
                for dollars in reserved.values():
                    budget.settle(dollars, 0.0)
            waiting.extend(held)
            if not came and not self._closed.is_set():
                raise self._too_dear(held, page, budget)

    def _request(self, key: int, page: _Page) -> Request:
        question = page.questions[key]
        shown = [place for place in (question.first, question.second) if place is not None]
        asked = judge_prompts.question(
            page.items[question.first][0],
            [page.items[place][1] for place in shown],
            self._chosen.criteria,
            reference=self._chosen.reference,
            again=bool(question.asked),
        )
        user = {"role": "user", "content": asked}
        sampling = replace(self._model.sampling, seed=self._chosen.seed + question.asked)
        return Request(key, with_system(self._model.system, (user,)), sampling)

    def _too_dear(self, held: Mapping[int, float], page: _Page, budget: Budget) -> BudgetSpent:
        key = min(held, key=lambda key: held[key])
        prompt, text = page.items[page.questions[key].first]
        where = "an answer" if prompt.id is None else f"an answer to prompt {prompt.id}"
        return BudgetSpent(
            f"generation.budget_usd: ${budget.spent:,.4f} of ${budget.limit:,.4f} spent; the judge "
            f"`{self._model.model}` has {len(held):,} more questions, and the cheapest, about {where} of "
            f"{len(text):,} characters, may cost up to ${held[key]:,.4f}",
            f"raise `generation.budget_usd` in the run file to {cents(budget.spent + held[key])} or more "
            f"({cents(budget.spent + sum(held.values()))} will do for all of these) and run the same command again",
        )


def _model(chosen: JudgeConfig) -> Model:
    options = chosen.model_dump(
        mode="json", include={"base_url", "api_key_env", "endpoint"}, exclude_defaults=True
    )
    return Model(
        name=chosen.model,
        role="judge",
        backend="openai",
        model=chosen.model,
        system=chosen.system,
        options=options,
        sampling=Sampling(temperature=chosen.temperature, max_tokens=chosen.max_tokens, seed=chosen.seed),
        price_input=chosen.price.input,
        price_output=chosen.price.output,
    )


def _compares(settings: Mapping[str, Any]) -> bool:
    return settings.get("mode") == "pairs"


def _trial(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    # One response is rated, whatever the mode: what is tried is whether the judge keeps to the form.
    quick = endpoint.impatient(model(settings)).options["endpoint"]
    return {**settings, "mode": "rate", "endpoint": quick}


KIND = ScorerKind(
    settings=JudgeConfig, costs=True, compares=_compares, reads_reasoning=True, endpoint=model, trial=_trial
)
