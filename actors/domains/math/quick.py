"""Fast path of grading mathematics, without sympy: text, numbers, quantities, and answers whose form counts.

Bounded in time, so that it is done in the actor's own process. What it leaves open goes to a grader process.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from ..grading import Grade, clean, grade_numbers, grade_plainly, right, shorten, wrong
from ..numbers import Number, read_decimal_comma, read_number
from .forms import grade_forms, is_choice
from .notation import normalize
from .nouns import split_counted
from .relations import read_value
from .statements import is_denied, read_statement
from .units import Quantity, is_money, split_quantity

_CACHED: Final = 4096


class Prepared(NamedTuple):
    """An answer in the one spelling that the readers know."""

    text: str
    """The whole of it."""
    name: str
    """`x` of `x = 3`; empty where it names nothing."""
    value: str
    """`3` of `x = 3`; the whole of it where it names nothing."""


@lru_cache(_CACHED)
def prepare_answer(answer: str) -> Prepared:
    r"""The final answer that a text states, with its name apart.

    >>> prepare_answer(r"Thus $x = \\frac{1}{2}$.")
    Prepared(text='x = \\frac{1}{2}', name='x', value='\\frac{1}{2}')
    """
    text = clean(normalize(clean(read_statement(answer))))
    name, value = read_value(text)
    return Prepared(text, name, clean(value))


def grade_quickly(reference: str, answer: str, rel_tolerance: float) -> Grade | None:
    """The grade, where it can be found without algebra; None where it takes that."""
    first, second = read_number(reference), read_number(answer.strip())
    if first is not None and second is not None:
        return grade_numbers(first, second, rel_tolerance)
    expected, given = prepare_answer(reference), prepare_answer(answer)
    if not given.text:
        return wrong("the answer is empty", "exact")
    if is_denied(given.text) and not is_denied(expected.text) and not is_choice(expected.text):
        return wrong(f"{shorten(given.text)} denies what it says", "exact")
    if not may_be_same_name(expected.name, given.name):
        return None
    return grade_values(expected.value, given.value, rel_tolerance)


def may_be_same_name(expected: str, given: str) -> bool:
    """Whether two names are the same, or one is left out."""
    return not expected or not given or expected == given


def grade_values(expected: str, given: str, rel_tolerance: float) -> Grade | None:
    """As quantities, by their form, then as numbers and text; None where that takes algebra."""
    form = grade_forms(expected, given, rel_tolerance)
    if form is not None:
        return form
    comma = _grade_decimal_comma(expected, given, rel_tolerance)
    if comma is not None:
        return comma
    quantity = _grade_quantities(expected, given, rel_tolerance)
    return quantity if quantity is not None else grade_plainly(expected, given, rel_tolerance)


def _grade_decimal_comma(expected: str, given: str, rel_tolerance: float) -> Grade | None:
    """`2,74` as an answer to `2.74`; in a reference, a comma between numbers makes a list."""
    number, wanted = read_decimal_comma(given), read_number(expected)
    if number is None or wanted is None or read_number(given) is not None or wanted.value.denominator == 1:
        return None
    return grade_numbers(wanted, number, rel_tolerance)


def _grade_quantities(expected: str, given: str, rel_tolerance: float) -> Grade | None:
    """Where both have a unit, or a currency or the things counted are left out on one side."""
    first, second = split_quantity(expected), split_quantity(given)
    if first is not None and second is not None:
        return grade_quantities(first, second, rel_tolerance)
    for quantity, bare in ((first, given), (second, expected)):
        number = read_number(bare)
        if quantity is not None and number is not None and is_money(quantity.unit):
            return _grade_bare(quantity.number, number, quantity is first, rel_tolerance)
    counted = split_counted(given) or (split_counted(expected) if first is None else None)
    bare_text = expected if split_counted(given) else given
    number = read_number(bare_text)
    if counted is None or number is None:
        return None
    return _grade_bare(counted.number, number, bare_text is given, rel_tolerance)


def _grade_bare(named: str, bare: Number, is_reference: bool, rel_tolerance: float) -> Grade | None:
    """A number whose unit is written against one whose unit is left out."""
    number = read_number(clean(named))
    if number is None:
        return None
    return (
        grade_numbers(number, bare, rel_tolerance)
        if is_reference
        else grade_numbers(bare, number, rel_tolerance)
    )


def grade_quantities(expected: Quantity, given: Quantity, rel_tolerance: float) -> Grade | None:
    """Equal in the SI's base units; None where a number is an expression, or π comes in."""
    if expected.unit.dimension != given.unit.dimension:
        return wrong("the units do not measure the same", "exact")
    first, second = read_number(clean(expected.number)), read_number(clean(given.number))
    if first is None or second is None or expected.unit.pi != given.unit.pi:
        return None
    wanted, found = _in_base(first, expected), _in_base(second, given)
    if wanted == found:
        return right("the same quantity", "exact")
    rounded = first.is_decimal or second.is_decimal
    if rounded and abs(wanted - found) <= Fraction(rel_tolerance) * abs(wanted):
        return right(f"the same quantity within {rel_tolerance:g}", "numeric")
    return wrong(f"expected {shorten(expected.number)} of its unit, which is another quantity", "numeric")


def _in_base(number: Number, quantity: Quantity) -> Fraction:
    return number.value * quantity.unit.factor + quantity.unit.offset
