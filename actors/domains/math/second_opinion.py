"""Math-Verify's comparison, where ours cannot compare two objects and its leniency does no harm.

It takes the last number of a sentence, ignores units, bases, primes and the case of longer names, lets an
open interval pass for a set of two, calls two equations equal that have no solutions, and rounds to six
digits. So it is asked only about two objects of one kind, each the whole of an answer, that are no numbers.
"""

import re
from typing import Final

import sympy
from math_verify import verify
from sympy import Basic, MatrixBase

CONFIDENCE: Final = 0.9
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


def is_accepted(expected_text: str, given_text: str, expected: Basic, given: Basic) -> bool:
    """Whether Math-Verify calls the two the same, and it is safe to believe it."""
    if _kind(expected) != _kind(given) or _differ_in_case(expected_text, given_text):
        return False
    if expected.free_symbols != given.free_symbols:
        return False
    # Its timeout is a signal of its own; here the process is killed from outside.
    return bool(verify(expected, given, float_rounding=_DECIMALS, timeout_seconds=None))


def _kind(value: Basic) -> int:
    return next((index for index, kinds in enumerate(_KINDS) if isinstance(value, kinds)), -1)


def _differ_in_case(expected: str, given: str) -> bool:
    """Whether the same letters are used, but for their case."""
    first, second = (set(_LETTERS.findall(text)) for text in (expected, given))
    return first != second and {each.lower() for each in first} == {each.lower() for each in second}
