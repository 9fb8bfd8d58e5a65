"""Batches of responses for scoring: which rows share a pass through the model, and in what order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.models.batching import cut, shuffled
from engine.models.memory import halving
from engine.models.stoppable import stoppable
from engine.scorers.likelihood_forward import StudentForward, fast_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Sums = tuple["Row", float]
"""A response and Σ log p of its tokens, in nats."""


@dataclass(frozen=True, slots=True)
class Row:
    """One response to score, and which item it belongs to."""

    item: int
    prompt: list[int]
    """Token ids."""
    response: list[int]
    """Token ids."""

    @property
    def length(self) -> int:
        """Tokens of prompt and response."""
        return len(self.prompt) + len(self.response)


def log_likelihoods(
    model: "PreTrainedModel",
    groups: list[list[Row]],
    batch_tokens: int,
    share_prompts: bool,
    should_stop: Callable[[], bool],
) -> Iterator[list[Sums]]:
    """Rows with the sums of their log-probabilities, a forward pass at a time, long and short ones mixed.

    Args:
        model: in eval mode.
        groups: the rows of each prompt.
        batch_tokens: token positions in one forward pass, padding included.
        share_prompts: encode a prompt of several rows once, where the model allows it.
        should_stop: asked before every layer.

    Raises:
        Cancelled: `should_stop` said so.
    """
    if not groups:
        return
    longest = max(row.length for group in groups for row in group)
    with stoppable(model, should_stop), fast_attention(model, max(batch_tokens, longest), longest):
        probe = groups[0][0]
        forward = StudentForward(model, [*probe.prompt, *probe.response])
        share = share_prompts and forward.shares_prompts
        single = [row for group in groups if not share or len(group) == 1 for row in group]
        several = [group for group in groups if share and len(group) > 1]
        yield from _single(forward, single, batch_tokens)
        yield from _shared(forward, several, batch_tokens)


def _single(forward: StudentForward, rows: list[Row], batch_tokens: int) -> Iterator[list[Sums]]:
    """Prompt and response of each row in one pass."""

    def run(part: list[Row]) -> Iterator[list[Sums]]:
        sums = forward.plain([([*row.prompt, *row.response], len(row.prompt)) for row in part])
        yield list(zip(part, sums, strict=True))

    rows.sort(key=lambda row: -row.length)
    for batch in shuffled(cut(rows, lambda row: row.length, batch_tokens)):
        yield from halving(batch, run)


def _shared(forward: StudentForward, groups: list[list[Row]], batch_tokens: int) -> Iterator[list[Sums]]:
    """Each group's prompt in a pass of its own, then its responses."""

    def run(part: list[list[Row]]) -> Iterator[list[Sums]]:
        prompts = forward.encode_prompts([group[0].prompt for group in part])

        def respond(owned: list[tuple[int, Row]]) -> Iterator[list[Sums]]:
            sums = forward.continue_prompts(prompts, [(owner, row.response) for owner, row in owned])
            yield [(row, total) for (_, row), total in zip(owned, sums, strict=True)]

        owned = [(owner, row) for owner, group in enumerate(part) for row in group]
        owned.sort(key=lambda pair: -len(pair[1].response))
        for batch in shuffled(cut(owned, _cost, batch_tokens)):
            yield from halving(batch, respond)

    groups.sort(key=lambda group: -len(group[0].prompt))
    for batch in shuffled(cut(groups, lambda group: len(group[0].prompt), batch_tokens)):
        yield from halving(batch, run)


def _cost(pair: tuple[int, Row]) -> int:
    """A row also holds a copy of its prompt's keys and values: memory, no arithmetic; so it counts a quarter."""
    return len(pair[1].response) + len(pair[1].prompt) // 4
