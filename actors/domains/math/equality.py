"""Equality of two expressions: exact, numeric, or as functions; and Math-Verify's where ours does not apply.

Math-Verify takes the last number of a sentence, ignores units, bases, primes and the case of longer names,
lets an open interval pass for a set of two, calls two equations equal that have no solutions, and rounds to
six digits. So it is asked only about two objects of one kind, each the whole answer, that are no numbers.
"""

import random
import re
from fractions import Fraction
from typing import Final

import sympy
from math_verify import verify
from sympy import Basic, Expr, MatrixBase

from ....runtime.tools.math_parser import MAX_CHARACTERS, Unreadable
from ..grading import Grade, correct, grade_numbers, incorrect
from ..number_parser import Number
from .expression_parser import MAX_EXPANDED, check_magnitude, expanded_terms

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
        return correct("the same", "symbolic") if same else incorrect(summary, "symbolic")
    if expected.is_number and given.is_number:
        return _grade_numbers(expected, given, rel_tolerance, summary)
    if is_zero(expected - given):
        return correct("symbolically the same", "symbolic")
    return incorrect(summary, "symbolic")


def is_zero(difference: Expr) -> bool:
    """True if the expression vanishes: expanded, or at random points of both signs, or simplified.

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
        return correct("symbolically the same", "symbolic")
    value, other = complex_value(expected), complex_value(given)
    distance, size = abs(value - other), abs(value)
    if is_close(value, other):
        return correct("the same number", "symbolic")
    if (_is_rounded(expected) or _is_rounded(given)) and distance <= rel_tolerance * size:
        return correct(f"the same number within {rel_tolerance:g}", "numeric")
    return incorrect(summary, "numeric")


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
    """True if it may have been written as a decimal, and so be rounded: no whole number, and not 22/7."""
    return isinstance(value, sympy.Rational) and _number(value).is_decimal


def _divides_power_of_ten(number: int) -> bool:
    return number > 1 and 10**MAX_CHARACTERS % number == 0


MATH_VERIFY_CONFIDENCE: Final = 0.9
"""In what it alone calls the same."""
_LETTERS: Final = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
_DECIMALS: Final = 15
"""Its own are 6, which makes 0 of a millionth."""
_KINDS: Final = (
    (MatrixBase, sympy.MatrixExpr),
    (sympy.FiniteSet,),
    (sympy.Set,),
    (sympy.Tuple,),
)


def math_verify_accepts(expected_text: str, given_text: str, expected: Basic, given: Basic) -> bool:
    """True if Math-Verify calls the two the same, and it is safe to believe it."""
    if _kind(expected) != _kind(given) or _differ_in_case(expected_text, given_text):
        return False
    if expected.free_symbols != given.free_symbols:
        return False
    # Its timeout is a signal of its own; here the process is killed from outside.
    return bool(verify(expected, given, float_rounding=_DECIMALS, timeout_seconds=None))


def _kind(value: Basic) -> int:
    return next((index for index, kinds in enumerate(_KINDS) if isinstance(value, kinds)), -1)


def _differ_in_case(expected: str, given: str) -> bool:
    """True if the same letters are used, but for their case."""
    first, second = (set(_LETTERS.findall(text)) for text in (expected, given))
    return first != second and {each.lower() for each in first} == {each.lower() for each in second}
