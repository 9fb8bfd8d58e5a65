"""What tells prompts apart: of prompts that begin alike, the line of a list shows the part that differs."""

from collections.abc import Sequence
from itertools import pairwise, takewhile

ENDS = (". ", ": ", "? ", "! ", "\n", ".\n", ":\n")
"""Where a sentence or a line ends: what follows can be understood without it."""


def apart(prompts: Sequence[str], width: int) -> list[str]:
    """The prompts in order, each without the beginning that it shares with another, where that hides the difference.

    Args:
        prompts: what stands below each other; the same one may be there several times.
        width: cells that a line has. What differs in the first half of it is shown from its beginning on.
    """
    shared = _shared(prompts)
    return [_cut(prompt, shared[prompt], width) for prompt in prompts]


def _shared(prompts: Sequence[str]) -> dict[str, int]:
    """Prompt → characters of the longest beginning that it shares with another one."""
    ordered = sorted(set(prompts))
    found = dict.fromkeys(ordered, 0)
    for one, other in pairwise(ordered):
        same = (a == b for a, b in zip(one, other, strict=False))
        length = sum(1 for _ in takewhile(bool, same))
        found[one], found[other] = max(found[one], length), max(found[other], length)
    return found


def _cut(prompt: str, shared: int, width: int) -> str:
    if 2 * shared < width or len(prompt) <= width:
        return prompt
    at = max(prompt.rfind(end, 0, shared) + len(end) if end in prompt[:shared] else 0 for end in ENDS)
    if not at or (shared - at) * 2 >= width:
        # No sentence ends there, or a long one begins alike as well: the difference, and the words before it.
        first = max(0, shared - width // 2)
        at = prompt.find(" ", first, shared) + 1 or first
    # Where the line has room for more than the end, it is filled with the words before.
    filled = prompt.find(" ", max(0, len(prompt) - width), at) + 1
    at = filled or at
    return f"…{prompt[at:].lstrip()}" if at else prompt
