"""What the data screen reads beside the list: what the store has, and all responses to one prompt side by side.

The list itself is streamed (`response_table`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persyn_tui.views import response_view
from persyn_tui.views.dataset_view import Datasets
from storage import browse, datasets, jobs, prompts, registry, responses, routing
from storage.records import ResponseContext
from storage.store import Store

if TYPE_CHECKING:
    # NumPy comes with it, which the first rows of the list do not wait for: imported in the thread that reads.
    from engine.job.context import RunContext
    from engine.scoring.rewards_for_prompt import Rewards


@dataclass(frozen=True, slots=True)
class Stored:
    """What the screen knows of the store apart from the rows."""

    newest: int
    """The highest response id."""
    datasets: Datasets
    teachers: Sequence[str]


def read(store: Store) -> Stored | None:
    """What is new, and what filters can name; None for an empty store."""
    newest = responses.newest_id(store)
    if newest == 0:
        return None
    teachers = dict.fromkeys(model.name for model in registry.models(store, "teacher", archived=True))
    return Stored(newest, Datasets(datasets.newest_first(store)), list(teachers))


@dataclass(frozen=True, slots=True)
class PromptResponses:
    """All that is known of the responses to a prompt; texts are harmless to a terminal."""

    prompt_id: int
    splits: str
    """The splits that the prompt is in; empty for none."""
    responses: Sequence[dict[str, Any]]
    """One per response, by teacher name, as `response_view.as_json` has them."""
    strengths: dict[str, float]
    """Teacher → the router's coefficient for this prompt; empty without a router."""
    starred: int | None
    """The response that the dataset in view holds, else the one that the router chose."""
    why_starred: str
    rewards: str
    """What all rewards were made with; empty where none is known."""
    texts: dict[int, str]
    """Response id → its text as it is stored."""
    source: "_Source" = field(compare=False, repr=False)

    def completed(self, store: Store) -> "PromptResponses | None":
        """The same with rewards from stored scores too, for which a run's models may be read; None: nothing new."""
        from engine.scoring import rewards_for_prompt
        from persyn_tui.app.state import context_cache

        def context_of(job_id: int) -> "RunContext | None":
            job = jobs.get(store, job_id)
            return None if job is None else context_cache.of(store, job)

        was = self.source
        rewards = rewards_for_prompt.completed(
            store, was.rewards, was.contexts, was.datasets.all, context_of, was.in_view
        )
        if rewards == was.rewards:
            return None
        return _shown(store, _Source(was.contexts, was.datasets, was.in_view, rewards))


@dataclass(frozen=True, slots=True)
class _Source:
    """What was read of them."""

    contexts: Sequence[ResponseContext]
    datasets: Datasets
    in_view: int | None
    """The dataset in view."""
    rewards: "Rewards"


def beside(store: Store, response_id: int, in_view: int | None = None) -> PromptResponses | None:
    """All responses to the prompt of this one, with the rewards that datasets have, first of all the one in view.

    None when it is not there.
    """
    from engine.scoring import rewards_for_prompt

    found = browse.get(store, response_id)
    if found is None:
        return None
    contexts = browse.of_prompt(store, found.line.response.prompt_id)
    known = Datasets(datasets.newest_first(store))
    rewards = rewards_for_prompt.stored(contexts, known.all, in_view)
    return _shown(store, _Source(contexts, known, in_view, rewards))


def _shown(store: Store, source: _Source) -> PromptResponses:
    contexts, rewards = source.contexts, source.rewards
    plans = {stored.plan_id for context in contexts for stored in context.assignments}
    names = {plan: routing.plan_teachers(store, plan) for plan in plans}
    shown = [response_view.as_json(context, [], names, rewards, source.datasets) for context in contexts]
    by_router = [(plan, one["id"]) for one in shown for plan in one["assignments"] if plan["strengths"]]
    newest = max((plan["plan"] for plan, _ in by_router), default=None)
    chosen = [(plan, id) for plan, id in by_router if plan["plan"] == newest]
    held = [
        context.line.response.id
        for context in contexts
        if any(member.dataset_id == source.in_view for member in context.datasets)
    ]
    first = [id for plan, id in chosen if plan["attempt"] == 0]
    prompt_id = contexts[0].line.response.prompt_id
    return PromptResponses(
        prompt_id=prompt_id,
        splits=", ".join(prompts.splits_of(store, prompt_id)),
        responses=shown,
        strengths=chosen[0][0]["strengths"] if chosen else {},
        starred=next(iter(held or first), None),
        why_starred="in the dataset" if held else "router's choice" if first else "",
        rewards=source.datasets.words_of(rewards.setting) if rewards.values else "",
        texts={context.line.response.id: context.line.response.text for context in contexts},
        source=source,
    )
