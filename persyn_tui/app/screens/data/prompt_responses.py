"""Reading all answers to one prompt: what `answers.AnswersPanel` shows side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persyn_tui.app.state import context_cache
from persyn_tui.views import response_view
from persyn_tui.views.dataset_view import Datasets
from storage import browse, datasets, jobs, prompts, responses, routing
from storage.records import ResponseContext
from storage.store import Store

if TYPE_CHECKING:
    # Imported where they are used, in the thread: the list does not wait for what enter needs.
    from engine.job.context import RunContext
    from engine.scoring.rewards_for_prompt import Rewards


@dataclass(frozen=True, slots=True)
class Answers:
    """All that is known of a prompt's answers; texts are harmless to a terminal."""

    prompt_id: int
    splits: str
    """The splits that the prompt is in; empty for none."""
    answers: Sequence[dict[str, Any]]
    """One per answer, by teacher name, as `response_view.as_json` has them."""
    strengths: dict[str, float]
    """Teacher → the router's coefficient for this prompt; empty without a router."""
    starred: int | None
    """The answer that the dataset in view holds, else the one that the router chose."""
    why_starred: str
    rewards: str
    """What all rewards were made with; empty where none is known."""
    texts: dict[int, str]
    """Response id → its text as it is stored."""


class Beside:
    """The answers beside one answer. Called in a thread.

    Args:
        store: an open store.
        in_view: the dataset in view.
    """

    def __init__(self, store: Store, in_view: int | None = None) -> None:
        self._store, self._in_view = store, in_view
        self._datasets = Datasets()
        self._contexts: list[ResponseContext] = []
        self._rewards: Rewards | None = None

    def read(self, response_id: int) -> Answers | None:
        """All answers to the prompt of this one, with the rewards that datasets have; None when it is not there."""
        from engine.scoring import rewards_for_prompt

        store = self._store
        found = browse.get(store, response_id)
        if found is None:
            return None
        beside_it = (
            browse.get(store, other)
            for other in responses.ids_of_prompt(store, found.line.response.prompt_id)
        )
        self._contexts = [context for context in beside_it if context is not None]
        self._datasets = Datasets(datasets.newest_first(store))
        self._rewards = rewards_for_prompt.stored(self._contexts, self._datasets.all, self._in_view)
        return self._answers(self._rewards)

    def complete(self) -> Answers | None:
        """The same with rewards from stored scores, which waits for a run's models to be read; None: nothing new."""
        from engine.scoring import rewards_for_prompt

        if self._rewards is None:
            return None
        more = rewards_for_prompt.completed(
            self._store, self._rewards, self._contexts, self._datasets.all, self._context_of, self._in_view
        )
        if more == self._rewards:
            return None
        self._rewards = more
        return self._answers(more)

    def _context_of(self, job_id: int) -> "RunContext | None":
        job = jobs.get(self._store, job_id)
        return None if job is None else context_cache.of(self._store, job)

    def _answers(self, rewards: "Rewards") -> Answers:
        store, found = self._store, self._contexts
        plans = {stored.plan_id for context in found for stored in context.assignments}
        names = {plan: routing.plan_teachers(store, plan) for plan in plans}
        data = [response_view.as_json(context, [], names, rewards, self._datasets) for context in found]
        routed = [
            (plan["plan"], plan["strengths"], plan["attempt"], one["id"])
            for one in data
            for plan in one["assignments"]
            if plan["strengths"]
        ]
        newest = max((plan for plan, *_ in routed), default=None)
        chosen = [row for row in routed if row[0] == newest]
        starred = _held(found, self._in_view)
        why = "in the dataset"
        if starred is None:
            starred = next((identifier for _, _, attempt, identifier in chosen if attempt == 0), None)
            why = "router's choice"
        prompt_id = found[0].line.response.prompt_id
        return Answers(
            prompt_id=prompt_id,
            splits=", ".join(prompts.splits_of(store, prompt_id)),
            answers=data,
            strengths=chosen[0][1] if chosen else {},
            starred=starred,
            why_starred=why if starred is not None else "",
            rewards=self._datasets.words_of(rewards.setting) if rewards.values else "",
            texts={context.line.response.id: context.line.response.text for context in found},
        )


def _held(contexts: Iterable[ResponseContext], dataset_id: int | None) -> int | None:
    for context in contexts:
        if any(member.dataset_id == dataset_id for member in context.datasets):
            return context.line.response.id
    return None
