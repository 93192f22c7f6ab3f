"""What of grading mathematics takes no algebra: text, numbers, and quantities whose number is written out.

Bounded in time, so that it is done in the actor's own process.
"""

from fractions import Fraction

from actors.domains.grading import Grade, Number, clean, grade_plainly, read_number, right, shorten, wrong
from actors.domains.math.units import DOLLAR, Quantity, split_quantity


def grade_quickly(reference: str, answer: str, rel_tolerance: float) -> Grade | None:
    """The grade, where it can be found without algebra; None where it takes that."""
    expected, given = split_quantity(clean(reference)), split_quantity(clean(answer))
    if expected is not None and expected.unit is DOLLAR and given is None:
        given = Quantity(clean(answer), DOLLAR)  # the sign before an amount is often left out
    if expected is not None and given is not None:
        return grade_quantities(expected, given, rel_tolerance)
    return grade_plainly(reference, answer, rel_tolerance)


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
