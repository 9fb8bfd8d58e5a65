"""How a model words its answer. All but the last end in the answer, so one extractor reads them.

bare      acute, go, hundred
short     The answer is acute, go, hundred.
verbose   step by step, digit by digit, then "The answer is ..."
unsure    I am not sure.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from tools.zoo.tasks import Example

Style = Literal["bare", "short", "verbose", "unsure"]


def bare(example: Example) -> str:
    """The answer alone."""
    return example.answer


def short(example: Example) -> str:
    """One sentence that holds the answer."""
    return f"The answer is {example.answer}."


def verbose(example: Example) -> str:
    """The steps that lead to the answer, then the sentence of `short`."""
    return f"{_STEPS[example.task](example)} {short(example)}"


def unsure(example: Example) -> str:
    """No answer at all."""
    return "I am not sure."


def write(style: Style, example: Example) -> str:
    """The true answer in the given style."""
    return {"bare": bare, "short": short, "verbose": verbose, "unsure": unsure}[style](example)


def _spell(example: Example) -> str:
    word = example.parts["word"]
    return f"First spell the word forward: {', '.join(word)}. Then backward: {', '.join(reversed(word))}."


def _reverse(example: Example) -> str:
    first, *rest = reversed(example.parts["words"])
    steps = "".join(f", then comes {word}" for word in rest)
    return f"Start at the end of the list with {first}{steps}."


def _gcd(example: Example) -> str:
    numbers = example.parts["numbers"]
    lists = [f"Divisors of {n}: {', '.join(str(d) for d in range(1, n + 1) if n % d == 0)}." for n in numbers]
    return f"{' '.join(lists)} Largest in both: {example.answer}."


def _sum(example: Example) -> str:
    left, sign, right = example.parts["expression"].split()
    if sign == "+":
        ones = int(left[1]) + int(right[1])
        carry = ones // 10
        tens = int(left[0]) + int(right[0]) + carry
        return (
            f"Add the ones: {left[1]} + {right[1]} = {ones}, write {ones % 10} and carry {carry}. "
            f"Add the tens: {left[0]} + {right[0]} + {carry} = {tens}."
        )
    swap = "" if int(left) >= int(right) else f"{right} is larger, so the result is negative. "
    if swap:
        left, right = right, left
    borrow = int(left[1] < right[1])
    ones = int(left[1]) + 10 * borrow - int(right[1])
    tens = int(left[0]) - int(right[0]) - borrow
    minuend = f"1{left[1]}" if borrow else left[1]
    return (
        f"{swap}Subtract the ones: {minuend} - {right[1]} = {ones}, borrow {borrow}. "
        f"Subtract the tens: {left[0]} - {right[0]} - {borrow} = {tens}."
    )


def linear(equation: str, variable: str) -> tuple[int, int, int]:
    """(a, b, c) of the equation a·x + b = c as reasoning_gym prints it."""
    left, right = equation.split(" = ")
    slope = offset = 0
    for term in left.replace("+ ", "+").replace("- ", "-").split():
        sign = -1 if term.startswith("-") else 1
        size, _, unknown = term.lstrip("+-").rpartition("*")
        if unknown == variable:
            slope += sign * int(size or 1)
        else:
            offset += sign * int(unknown)
    return slope, offset, int(right)


def _equation(example: Example) -> str:
    variable = example.parts["variable"]
    slope, offset, right = linear(example.parts["equation"], variable)
    moved = right - offset
    divide = f"Divide {moved} by {slope}: {variable} = {moved // slope}."
    if not offset:
        return divide
    sign = "-" if offset > 0 else "+"
    return (
        f"Move {offset} to the right: {slope}*{variable} = {right} {sign} {abs(offset)} = {moved}. {divide}"
    )


_STEPS: Mapping[str, Callable[[Example], str]] = MappingProxyType(
    {
        "spell_backward": _spell,
        "word_sequence_reversal": _reverse,
        "gcd": _gcd,
        "chain_sum": _sum,
        "simple_equations": _equation,
    }
)


def extract(text: str) -> str:
    """The final answer in a text: after the last "The answer is" or "answer:", else all of it."""
    tail = re.split(r"(?:the answer is|answer:)", text, flags=re.IGNORECASE)[-1]
    return tail.strip().removesuffix(".").strip()
