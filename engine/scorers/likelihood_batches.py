"""Batches of responses for scoring: which rows share a pass through the model, and in what order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from engine.models.memory import ran_out
from engine.scorers.likelihood_forward import StudentForward, fast_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Row:
    """One response to score, and which item it belongs to."""

    item: int
    prompt: list[int]
    response: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.response)


def log_likelihoods(
    model: "PreTrainedModel", groups: list[list[Row]], batch_tokens: int, share_prompts: bool
) -> Iterator[tuple[list[Row], list[float]]]:
    """Rows with the sums of their log-probabilities, a batch at a time, the longest first: too large a batch
    shows at once, and rows of one batch are of similar length."""
    if not groups:
        return
    longest = max(row.length for group in groups for row in group)
    with fast_attention(model, max(batch_tokens, longest), longest):
        yield from _passes(model, groups, batch_tokens, share_prompts)


def _passes(
    model: "PreTrainedModel", groups: list[list[Row]], batch_tokens: int, share_prompts: bool
) -> Iterator[tuple[list[Row], list[float]]]:
    probe = groups[0][0]
    forward = StudentForward(model, [*probe.prompt, *probe.response])
    share = share_prompts and forward.shares_prompts
    several = [group for group in groups if share and len(group) > 1]
    single = [row for group in groups if not share or len(group) == 1 for row in group]

    single.sort(key=lambda row: -row.length)
    for rows in cut(single, [row.length for row in single], batch_tokens):
        yield (
            rows,
            halving(
                rows,
                lambda part: forward.plain([([*row.prompt, *row.response], len(row.prompt)) for row in part]),
            ),
        )

    several.sort(key=lambda group: -len(group[0].prompt))
    for batch in cut(several, [len(group[0].prompt) for group in several], batch_tokens):
        yield from _shared(forward, batch, batch_tokens)


def _shared(
    forward: "StudentForward", groups: list[list[Row]], batch_tokens: int
) -> Iterator[tuple[list[Row], list[float]]]:
    """The rows of some prompts, each prompt encoded once."""
    try:
        prompts = forward.encode_prompts([group[0].prompt for group in groups])
    except (RuntimeError, MemoryError) as error:
        if len(groups) == 1 or not ran_out(error):
            raise
        half = len(groups) // 2
        yield from _shared(forward, groups[:half], batch_tokens)
        yield from _shared(forward, groups[half:], batch_tokens)
        return
    owned = [(owner, row) for owner, group in enumerate(groups) for row in group]
    owned.sort(key=lambda pair: -len(pair[1].response))
    # A row also holds a copy of its prompt's keys and values: memory, no arithmetic; so it counts a quarter.
    costs = [len(row.response) + len(row.prompt) // 4 for _, row in owned]
    for batch in cut(owned, costs, batch_tokens):
        sums = halving(
            batch,
            lambda part: forward.continue_prompts(prompts, [(owner, row.response) for owner, row in part]),
        )
        yield [row for _, row in batch], sums


def cut(rows: list[_T], costs: Sequence[int], budget: int) -> Iterator[list[_T]]:
    """Consecutive rows, cut so that rows × greatest cost stays within the budget; never an empty cut."""
    start = 0
    greatest = 0
    for index, cost in enumerate(costs):
        greatest = max(greatest, cost)
        if index > start and (index + 1 - start) * greatest > budget:
            yield rows[start:index]
            start, greatest = index, cost
    if start < len(rows):
        yield rows[start:]


def halving(rows: list[_T], run: Callable[[list[_T]], list[float]]) -> list[float]:
    """`run(rows)`, in halves when memory does not hold the batch."""
    try:
        return run(rows)
    except (RuntimeError, MemoryError) as error:
        if len(rows) == 1 or not ran_out(error):
            raise
    torch.cuda.empty_cache()
    half = len(rows) // 2
    return halving(rows[:half], run) + halving(rows[half:], run)
