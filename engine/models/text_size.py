"""Whether a text is longer than a model reads, without tokenizing all of one that is far longer.

8 MB of text take a tokenizer 20 s and more than a gigabyte of memory.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

SLICE: Final = 2**17
"""Characters that are tokenized at once. A text of no more is counted exactly."""
_MARGIN: Final = 1.1
"""A token that a cut divides is counted as several: sums beyond this many times the limit are beyond it."""


def tokens_of(text: str, limit: int, count: Callable[[str], int]) -> int:
    """How many tokens a text has; of a long one a lower bound as soon as it is certain to be more than the limit.

    Args:
        text: any text.
        limit: of tokens.
        count: tokenizes and counts.
    """
    if len(text) > SLICE:
        total = 0
        for begin in range(0, len(text), SLICE):
            total += count(text[begin : begin + SLICE])
            if total > limit * _MARGIN + SLICE / 64:
                return int(total / _MARGIN)
    return count(text)


def words_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the messages say, without a template."""
    return "\n".join(str(message["content"]) for message in messages)
