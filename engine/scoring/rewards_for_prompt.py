"""The rewards of all responses to one prompt, on one scale: what two responses side by side may be compared by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.job import reward_config, scorer_ids
from engine.job.context import RunContext
from engine.job.reward_config import RewardProvenance
from engine.scoring import score_table
from storage import jobs
from storage.errors import PersynError
from storage.records import Dataset, ResponseContext
from storage.store import Store

LOOKED_THROUGH = 50
"""Of the newest jobs, for one of a dataset's name where its manifest does not say which built it."""

ContextOf = Callable[[int], RunContext | None]
"""Job id → its context for reading; None where there is none."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards of the responses to one prompt."""

    setting: RewardProvenance | None = None
    """What all of them were made with; None where none is known."""
    values: Mapping[int, float] = field(default_factory=dict)
    """Response id → reward."""


def stored(
    responses: Sequence[ResponseContext], datasets: Sequence[Dataset], in_view: int | None = None
) -> Rewards:
    """What datasets have, of one setting.

    Args:
        responses: all responses to the prompt.
        datasets: of the store.
        in_view: the dataset whose setting it is; None: the newest that has a reward of one of the responses.
    """
    known = {one.id: reward_config.recorded(one.manifest) for one in datasets}
    members = [(member, response) for response in responses for member in response.datasets]
    rewarded = [member.dataset_id for member, _ in members if member.reward is not None]
    chosen = in_view if known.get(in_view or 0) else max(rewarded, default=None)
    if chosen is None or chosen not in known:
        return Rewards()
    wanted = known[chosen]
    values = {
        response.line.response.id: member.reward
        # The newest last, and the one in view after all others.
        for member, response in sorted(
            members, key=lambda pair: (pair[0].dataset_id == chosen, pair[0].dataset_id)
        )
        if member.reward is not None and known.get(member.dataset_id) == wanted
    }
    return Rewards(wanted, values)


def completed(
    store: Store,
    found: Rewards,
    responses: Sequence[ResponseContext],
    datasets: Sequence[Dataset],
    context_of: ContextOf,
    in_view: int | None = None,
) -> Rewards:
    """The same with rewards of responses that are in no dataset, from stored scores, where a run's settings say how.

    A run of the same setting is looked for: that of the dataset, else those that asked for the responses. Of responses
    in no dataset at all it is the newest of these. Reads the run's models: called in a thread.

    Args:
        store: an open store.
        found: what `stored` has found.
        responses: all responses to the prompt.
        datasets: of the store.
        context_of: makes a job's context.
        in_view: as for `stored`.
    """
    silent = (
        found.setting is not None and found.setting.alpha is None
    )  # an old dataset: nothing is known to fit it
    if silent or len(found.values) == len(responses):
        return found
    for job_id in _jobs(store, responses, datasets, in_view):
        try:
            context = context_of(job_id)
            if context is None:
                continue
            own = context.reward_provenance
            if found.setting is not None and not found.setting.includes(own):
                continue
            values = _of_run(context, responses)
        except PersynError:
            continue  # a folder of a model that is gone, scores that cannot be combined: another run may do
        if values:
            return Rewards(own if found.setting is None else found.setting, {**values, **found.values})
    return found


def _jobs(
    store: Store, responses: Sequence[ResponseContext], datasets: Sequence[Dataset], in_view: int | None
) -> list[int]:
    """Jobs that may have made the rewards, the likeliest first."""
    holding = {member.dataset_id for response in responses for member in response.datasets}
    held = [one for one in datasets if one.id in holding or one.id == in_view]
    held.sort(key=lambda one: (one.id == in_view, one.id), reverse=True)
    found = [int(one.manifest["job"]) for one in held if "job" in one.manifest]
    if silent := {one.name.rpartition("/")[0] for one in held if "job" not in one.manifest}:
        found += [job.id for job in jobs.recent(store, limit=LOOKED_THROUGH) if job.name in silent]
    asked = {response.job_id for response in responses if response.job_id is not None}
    return list(dict.fromkeys([*found, *sorted(asked, reverse=True)]))


def _of_run(context: RunContext, responses: Sequence[ResponseContext]) -> dict[int, float]:
    """Response id → reward by a run's own settings and scores."""
    if any(scorer_ids.find(context, name) is None for name in scorer_ids.names(context)):
        return {}
    rewards = score_table.rewards(context, responses[0].line.response.prompt_id)
    of_run = set(context.generations)
    return {
        response.id: reward
        for response in (one.line.response for one in responses)
        if (response.teacher_id, response.generation_sha) in of_run and response.sample == 0
        for reward in [rewards.get((response.prompt_id, response.teacher_id))]
        if reward is not None
    }
