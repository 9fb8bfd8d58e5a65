"""Whether two expressions that math-verify holds for equal are: it compares with absolute precision.

1/2^99 and 1/2^98 differ by less than that, and so do e^-100 and e^-101. Here the precision is relative.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

_DIGITS = 50
_EXACT, _ROUNDED = 1e-12, 1e-4
"""Relative differences up to which expressions are equal, and those with a number written with a decimal point."""


def contradicted(gold: Sequence[Any], given: Sequence[Any]) -> bool:
    """Whether values say that none of the one is any of the other, as math-verify parsed them.

    What has no value (sets of other sizes, relations, words) contradicts nothing.
    """
    from sympy import Basic, MatrixBase

    pairs = [
        pair for pair in product(gold, given) if all(isinstance(one, Basic | MatrixBase) for one in pair)
    ]
    return bool(pairs) and all(_differ(left, right) for left, right in pairs)


def _differ(left: Any, right: Any) -> bool:
    from sympy import FiniteSet, Interval, MatrixBase, Tuple
    from sympy.core.relational import Relational

    if isinstance(left, Relational) and isinstance(right, Relational):
        return False
    if isinstance(left, Relational):
        left = left.rhs
    if isinstance(right, Relational):
        right = right.rhs
    if isinstance(left, MatrixBase) and isinstance(right, MatrixBase):
        return left.shape == right.shape and any(
            _differ(*pair) for pair in zip(left.flat(), right.flat(), strict=True)
        )
    members = [
        list(one.args[:2])
        if isinstance(one, Interval)
        else list(one)
        if isinstance(one, FiniteSet | Tuple)
        else None
        for one in (left, right)
    ]
    if members[0] is None or members[1] is None:
        return members == [None, None] and _far(left, right)
    if len(members[0]) != len(members[1]):
        return False
    # In a set each finds one of the other: their order is not the written one.
    return not all(any(not _differ(one, other) for other in members[1]) for one in members[0])


def _far(left: Any, right: Any) -> bool:
    """Whether two expressions have finite values that are far apart, whatever their variables stand for."""
    from sympy import Float

    try:
        values = [_value(one) for one in (left, right)]
        if any(value is None for value in values):
            return False
        tolerance = _ROUNDED if any(one.atoms(Float) for one in (left, right)) else _EXACT
        return all(
            abs(one - other) > tolerance * max(abs(one), abs(other))
            for one, other in product(*map(_scaled, (left, right), values))
        )
    except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return False


def _scaled(expression: Any, value: Any) -> Iterator[Any]:
    """The value, and without its percent sign where it has one."""
    from math_verify.grader import get_pct_val

    yield value
    bare = get_pct_val(expression)
    if bare is not None:
        yield _value(bare)


def _value(expression: Any) -> Any:
    from sympy import Rational

    variables = sorted(expression.free_symbols, key=str)
    put = expression.subs(
        {one: Rational(31 + 7 * place, 29 + 2 * place) for place, one in enumerate(variables)}
    )
    value = put.doit().evalf(_DIGITS)
    return value if value.is_number and value.is_finite else None
