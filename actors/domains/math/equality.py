"""Whether two expressions are equal: exactly, numerically, or as functions."""

import random
from fractions import Fraction
from typing import Final

import sympy
from sympy import Expr

from ....runtime.expressions import MAX_CHARACTERS, Unreadable
from ..grading import Grade, grade_numbers, right, wrong
from ..numbers import Number
from .magnitude import MAX_EXPANDED, check_magnitude, expanded_terms

DIGITS: Final = 30
"""Precision of numeric comparisons."""
_NOT_FINITE: Final = (sympy.oo, -sympy.oo, sympy.zoo, sympy.nan)
_POINTS: Final = 4
_MAX_SIMPLIFIED: Final = 60
"""Operations in what `simplify` is given, which may take for ever."""


def grade_expressions(expected: Expr, given: Expr, rel_tolerance: float, summary: str) -> Grade:
    """Compare two numbers, or two functions of the same symbols. Raises Unreadable."""
    if expected.has(*_NOT_FINITE) or given.has(*_NOT_FINITE):
        same = expected == given and expected is not sympy.nan
        return right("the same", "symbolic") if same else wrong(summary, "symbolic")
    if expected.is_number and given.is_number:
        return _grade_numbers(expected, given, rel_tolerance, summary)
    if is_zero(expected - given):
        return right("symbolically the same", "symbolic")
    return wrong(summary, "symbolic")


def is_zero(difference: Expr) -> bool:
    """Whether the expression vanishes: expanded, or at random points of both signs, or simplified.

    A value that is not 0 at one point disproves equality; values of 0 to 25 digits at all points
    prove it for every expression that an answer is made of.
    """
    if difference == 0:
        return True
    check_magnitude(difference)
    if expanded_terms(difference) < MAX_EXPANDED and sympy.expand(difference) == 0:
        return True
    symbols = sorted(difference.free_symbols, key=str)
    vanished = 0
    for index in range(_POINTS):
        rng = random.Random(index)
        sign = 1 if index % 2 else -1
        point = {symbol: sympy.Rational(sign * rng.randint(100, 999), 257) for symbol in symbols}
        try:
            if not is_close(complex_value(difference.xreplace(point)), sympy.S.Zero):
                return False
            vanished += 1
        except Unreadable:
            continue  # outside the domain
    return vanished == _POINTS or _simplifies_to_zero(difference)


def _simplifies_to_zero(difference: Expr) -> bool:
    is_small = difference.count_ops() <= _MAX_SIMPLIFIED
    return is_small and expanded_terms(difference) < MAX_EXPANDED and bool(sympy.simplify(difference) == 0)


def _grade_numbers(expected: Expr, given: Expr, rel_tolerance: float, summary: str) -> Grade:
    """Exactly, then numerically; two exact forms must agree to all digits."""
    if isinstance(expected, sympy.Rational) and isinstance(given, sympy.Rational):
        return grade_numbers(_number(expected), _number(given), rel_tolerance)
    if expected == given:
        return right("symbolically the same", "symbolic")
    value, other = complex_value(expected), complex_value(given)
    distance, size = abs(value - other), abs(value)
    if is_close(value, other):
        return right("the same number", "symbolic")
    if (_is_rounded(expected) or _is_rounded(given)) and distance <= rel_tolerance * size:
        return right(f"the same number within {rel_tolerance:g}", "numeric")
    return wrong(summary, "numeric")


def complex_value(expression: Expr) -> Expr:
    """To `DIGITS` digits. Raises Unreadable where it has no value."""
    check_magnitude(expression)
    value = sympy.N(expression, DIGITS)
    if value.has(sympy.nan, sympy.zoo, sympy.oo) or not value.is_number:
        raise Unreadable("it has no value")
    return value


def is_close(value: Expr, other: Expr) -> bool:
    """Equal up to the rounding of an evaluation to `DIGITS` digits."""
    return bool(abs(value - other) <= max(abs(value), 1) * sympy.Float(10) ** (5 - DIGITS))


def _number(value: sympy.Rational) -> Number:
    fraction = Fraction(int(value.p), int(value.q))
    return Number(fraction, is_decimal=_divides_power_of_ten(fraction.denominator))


def _is_rounded(value: Expr) -> bool:
    """Whether it may have been written as a decimal, and so be rounded: no whole number, and not 22/7."""
    return isinstance(value, sympy.Rational) and _number(value).is_decimal


def _divides_power_of_ten(number: int) -> bool:
    return number > 1 and 10**MAX_CHARACTERS % number == 0
