"""What tells prompts apart: of prompts that begin alike, the line of a list shows the part that differs."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, pairwise, takewhile

ENDS = (". ", ": ", "? ", "! ", "\n", ".\n", ":\n")
"""Where a sentence or a line ends: what follows can be understood without it."""
ALIKE = 8
"""Characters of a common beginning from which on the words of prompts are compared."""
COMPARED = 400
"""Characters of a prompt whose words are compared."""
_WORD = re.compile(r"\S+")


def apart(prompts: Sequence[str], width: int) -> list[str]:
    """The prompts in order, each without the beginning that it shares with another, where that hides the difference.

    Where what follows is shared as well, but for a word or two, it begins later still: with the words that the
    fewest of those that begin alike have.

    Args:
        prompts: what stands below each other; the same one may be there several times.
        width: cells that a line has. What differs in the first half of it is shown from its beginning on.
    """
    ordered = sorted(set(prompts))
    same = [_same(one, other) for one, other in pairwise(ordered)]
    shown: dict[str, str] = {}
    for family in _families(ordered, same):
        rare: frozenset[str] | None = None
        for place in family:
            prompt = ordered[place]
            shared = max([0, *same[max(0, place - 1) : place + 1]])
            at = _start(prompt, shared, width)
            if len(family) > 2 and len(prompt) > width:
                if rare is None:
                    rare = _rare([ordered[each] for each in family])
                at = _later(prompt, at, width - 2, rare)
            shown[prompt] = f"…{prompt[at:].lstrip()}" if at else prompt
    return [shown[prompt] for prompt in prompts]


def _same(one: str, other: str) -> int:
    """Characters of the common beginning."""
    return sum(1 for _ in takewhile(bool, (a == b for a, b in zip(one, other, strict=False))))


def _families(ordered: Sequence[str], same: Sequence[int]) -> Iterator[range]:
    """Places of those that begin alike."""
    first = 0
    for place, length in enumerate([*same, 0], start=1):
        if length < ALIKE:
            yield range(first, min(place, len(ordered)))
            first = place


def _rare(family: Collection[str]) -> frozenset[str]:
    """The words that less than half of the prompts have."""
    held = Counter(word for prompt in family for word in set(prompt[:COMPARED].split()))
    return frozenset(word for word, many in held.items() if 2 * many < len(family))


def _start(prompt: str, shared: int, width: int) -> int:
    """Where to begin so that the end of the beginning it shares is seen."""
    if 2 * shared < width or len(prompt) <= width:
        return 0
    at = max(prompt.rfind(end, 0, shared) + len(end) if end in prompt[:shared] else 0 for end in ENDS)
    if not at or (shared - at) * 2 >= width:
        # No sentence ends there, or a long one begins alike as well: the difference, and the words before it.
        first = max(0, shared - width // 2)
        at = prompt.find(" ", first, shared) + 1 or first
    # Where the line has room for more than the end, it is filled with the words before.
    filled = prompt.find(" ", max(0, len(prompt) - width), at) + 1
    return filled or at


def _later(prompt: str, at: int, room: int, rare: frozenset[str]) -> int:
    """`at`; or the word to begin with so that the most of what only this prompt has is seen, where that is far more."""
    words = [found.span() for found in _WORD.finditer(prompt, 0, COMPARED) if found[0] in rare]
    if not words or room < 1:
        return at
    starts = [start for start, _ in words]
    sums = [0, *accumulate(end - start for start, end in words)]

    def seen(begin: int) -> int:
        first, last = bisect_left(starts, begin), bisect_left(starts, begin + room)
        over = max(0, words[last - 1][1] - begin - room) if last > first else 0
        before = max(0, words[first - 1][1] - begin) if first else 0
        return sums[last] - sums[first] - over + before

    now = seen(at)
    if 3 * now >= room or 3 * now >= 2 * sums[-1]:
        return at
    best = max((start for start in starts if start > at), key=seen, default=at)
    if 2 * seen(best) <= 3 * now:
        return at
    # The words before it, as far as nothing is lost at the end.
    end = next((end for _, end in reversed(words) if end <= best + room), best + room)
    return max(at, prompt.find(" ", max(0, end - room, best - room // 3), best) + 1 or best)
