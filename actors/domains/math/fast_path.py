r"""Fast grading path without sympy: string, number and unit comparison, and answers whose form counts.

Forms are choices (`C)`), numbers in a base (`1010_2`), ratios (`7:32`), percentages and primes. All of it is
bounded in time and exact, so it runs in the actor's own process. The rest goes to a grader process.
"""

import re
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import Final, NamedTuple

from ..grading import Grade, clean, correct, grade_exact, grade_numbers, incorrect, shorten
from ..number_parser import Number, read_decimal_comma, read_number
from .answer_extraction import extract_answer, is_negated
from .answer_structure import read_value
from .notation import normalize
from .quantities import Quantity, is_money, split_counted, split_quantity

_CACHED: Final = 4096


class ParsedAnswer(NamedTuple):
    """An answer in the one spelling that the readers know."""

    text: str
    """The whole of it."""
    name: str
    """`x` of `x = 3`; empty where it names nothing."""
    value: str
    """`3` of `x = 3`; the whole of it where it names nothing."""


@lru_cache(_CACHED)
def parse_answer(answer: str) -> ParsedAnswer:
    r"""The final answer that a text states, with its name apart.

    >>> parse_answer(r"Thus $x = \\frac{1}{2}$.")
    Prepared(text='x = \\frac{1}{2}', name='x', value='\\frac{1}{2}')
    """
    text = clean(normalize(clean(extract_answer(answer))))
    name, value = read_value(text)
    return ParsedAnswer(text, name, clean(value))


def grade_fast(reference: str, answer: str, rel_tolerance: float) -> Grade | None:
    """The grade, where it can be found without algebra; None where it takes that."""
    first, second = read_number(reference), read_number(answer.strip())
    if first is not None and second is not None:
        return grade_numbers(first, second, rel_tolerance)
    expected, given = parse_answer(reference), parse_answer(answer)
    if not given.text:
        return incorrect("the answer is empty", "exact")
    if is_negated(given.text) and not is_negated(expected.text) and not is_choice(expected.text):
        return incorrect(f"{shorten(given.text)} denies what it says", "exact")
    if not names_compatible(expected.name, given.name):
        return None
    return grade_values(expected.value, given.value, rel_tolerance)


def names_compatible(expected: str, given: str) -> bool:
    """True if two names are the same, or one is left out."""
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
    return quantity if quantity is not None else grade_exact(expected, given, rel_tolerance)


def _grade_decimal_comma(expected: str, given: str, rel_tolerance: float) -> Grade | None:
    """`2,74` as an answer to `2.74`; in a reference, a comma between numbers makes a list."""
    number, wanted = read_decimal_comma(given), read_number(expected)
    if number is None or wanted is None or read_number(given) is not None or wanted.value.denominator == 1:
        return None
    return grade_numbers(wanted, number, rel_tolerance)


def _grade_quantities(expected: str, given: str, rel_tolerance: float) -> Grade | None:
    """Grade where both have a unit, or a currency or the things counted are left out on one side."""
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
        return incorrect("the units do not measure the same", "exact")
    first, second = read_number(clean(expected.number)), read_number(clean(given.number))
    if first is None or second is None or expected.unit.pi != given.unit.pi:
        return None
    wanted, found = _in_base(first, expected), _in_base(second, given)
    if wanted == found:
        return correct("the same quantity", "exact")
    rounded = first.is_decimal or second.is_decimal
    if rounded and abs(wanted - found) <= Fraction(rel_tolerance) * abs(wanted):
        return correct(f"the same quantity within {rel_tolerance:g}", "numeric")
    return incorrect(f"expected {shorten(expected.number)} of its unit, which is another quantity", "numeric")


def _in_base(number: Number, quantity: Quantity) -> Fraction:
    return number.value * quantity.unit.factor + quantity.unit.offset


_CHOICE: Final = re.compile(
    r"(?:(?:option|choice|answer)\s+)?"
    r"(?:\\text\s*\{\s*)?[(\[]?(?:\\text\s*\{\s*)?\(?([A-J])(?:\s*\})?[)\]]?\s*(?:\}|[.:])?\)?\s*(?:\})?",
    re.IGNORECASE,
)
_CHOICE_WITH_TEXT: Final = re.compile(r"(?:\(([A-J])\)|([A-J])[).:])\s+\S.*", re.DOTALL)
_DENIED_CHOICE: Final = re.compile(
    r"\A\S+\s+(?:is|are|was|isn't)\b|\b(?:is|are|was)\s+(?:wrong|false|incorrect|not)\b|\b(?:not|wrong|incorrect)\W*\Z",
    re.IGNORECASE,
)
_TEXT: Final = re.compile(r"\\text\s*\{([^{}]*)\}")
_OTHER_CHOICE: Final = re.compile(r"(?<![A-Za-z\\])\(?[A-J][).:](?!\w)")
_BASED: Final = re.compile(
    r"\(?\s*(?:\\(?:text|mathrm)\s*\{\s*)?([0-9A-F][0-9A-Fa-f]*)\s*\}?\s*\)?\s*_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\w+)\s*\}?\s*\}|(\d))"
)
_NAMED_BASES: Final = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "sixteen": 16,
}  # fmt: skip
_PRIMED: Final = re.compile(r"'+")
_TIME: Final = re.compile(r"\d{1,2}(?::\d{2}){1,2}")
_WRITTEN_TIME: Final = re.compile(r"(?:\A|:)0\d|:00")


class Based(NamedTuple):
    """Digits in a base."""

    digits: str
    base: int


def grade_forms(expected: str, given: str, rel_tolerance: float) -> Grade | None:
    """The grade, where one of the two has a form that counts; None where neither has."""
    for grade in (_grade_choice, _grade_based, _grade_ratio):
        found = grade(expected, given)
        if found is not None:
            return found
    percent = _grade_percent(expected, given, rel_tolerance)
    if percent is not None:
        return percent
    if sorted(_PRIMED.findall(expected)) != sorted(_PRIMED.findall(given)):
        return incorrect("one has primes that the other has not", "exact")
    return None


def _grade_choice(expected: str, given: str) -> Grade | None:
    r"""One capital letter from A to J, in any brackets, or before the text of the choice."""
    letter = _choice(expected)
    if letter is None:
        return None
    given = _TEXT.sub(r"\1 ", given).strip()
    found = _choice(given)
    if found is None and (labelled := _CHOICE_WITH_TEXT.fullmatch(given)):
        found = labelled[1] or labelled[2]
        if _DENIED_CHOICE.search(given):
            return incorrect("a choice that is denied", "exact")
        if _OTHER_CHOICE.search(given, labelled.end(1) + 1 if labelled[1] else labelled.end(2) + 1):
            return incorrect("several choices", "exact")
    if found is None:
        return None
    return (
        correct("the same choice", "exact")
        if found == letter
        else incorrect(f"expected {letter}, got {found}", "exact")
    )


def is_choice(text: str) -> bool:
    """True if it is the letter of a choice, and nothing else."""
    return _choice(text) is not None


def _choice(text: str) -> str | None:
    if len(text) > 30:
        return None
    found = _CHOICE.fullmatch(text)
    return found[1] if found and found[1].isupper() else None


def _grade_based(expected: str, given: str) -> Grade | None:
    first, second = read_based(expected), read_based(given)
    if first is None and second is None:
        return None
    if first is not None and second is not None:
        same = first == second
    else:
        based, other = (first, given) if first is not None else (second, expected)
        number = read_number(other)
        is_decimal = based is not None and based.base == 10 and based.digits.isdigit()
        same = is_decimal and number is not None and number == read_number(based.digits if based else "")
    if same:
        return correct("the same digits in the same base", "exact")
    return incorrect(
        f"expected {shorten(expected)}, got {shorten(given)}: the digits or the base differ", "exact"
    )


def read_based(text: str) -> Based | None:
    """`1010_2` and its like; None for a symbol with an index, or for digits that the base has not.

    >>> read_based("FF_{16}"), read_based("x_1")
    (Based(digits='FF', base=16), None)
    """
    found = _BASED.fullmatch(text)
    if found is None:
        return None
    name = found[2] or found[3]
    base = _NAMED_BASES.get(
        name.lower(), int(name) if name.isascii() and name.isdigit() and len(name) < 3 else 0
    )
    digits = found[1].upper().lstrip("0") or "0"
    is_symbol = found[1][0].isalpha() and (base <= 10 or len(found[1]) == 1)
    if is_symbol or not 2 <= base <= 36:
        return None
    return Based(digits, base)


def _grade_ratio(expected: str, given: str) -> Grade | None:
    """`14:64` is `7:32`; a time of day is only itself, and a ratio no fraction."""
    first, second = _read_ratio(expected), _read_ratio(given)
    if first is None and second is None:
        return None
    same = expected.replace(" ", "") == given.replace(" ", "")
    if first is not None and second is not None and not same:
        lowest = _lowest(first)
        may_scale = not _WRITTEN_TIME.search(expected) and (lowest == first or not _TIME.fullmatch(expected))
        same = may_scale and lowest == _lowest(second) and not _WRITTEN_TIME.search(given)
    return (
        correct("the same ratio", "exact")
        if same
        else incorrect(f"expected {expected}, got {shorten(given)}", "exact")
    )


def _read_ratio(text: str) -> list[Fraction] | None:
    parts = text.split(":")
    if not 2 <= len(parts) <= 6:
        return None
    numbers = [read_number(part.strip()) for part in parts]
    values = [number.value for number in numbers if number is not None]
    return values if len(values) == len(parts) else None


def _lowest(ratio: list[Fraction]) -> list[Fraction]:
    """The whole numbers without a common factor in the same ratio; a ratio of zeros as it is."""
    scaled = [value * lcm(*(each.denominator for each in ratio)) for value in ratio]
    common = gcd(*(value.numerator for value in scaled))
    return [value / common for value in scaled] if common else ratio


def _grade_percent(expected: str, given: str, rel_tolerance: float) -> Grade | None:
    r"""`28\%` is `0.28`; where the reference is a percentage, its sign may be left out."""
    first, second = _read_percent(expected), _read_percent(given)
    if first is None and second is None:
        return None
    if first is not None and second is not None:
        return grade_numbers(first, second, rel_tolerance)
    percent, number = (first, read_number(given)) if first is not None else (second, read_number(expected))
    if percent is None or number is None:
        return None
    if first is not None and number.value == percent.value:
        return correct("the same percentage", "exact")
    hundredth = Number(percent.value / 100, percent.is_decimal)
    pair = (hundredth, number) if first is not None else (number, hundredth)
    return grade_numbers(*pair, rel_tolerance)


def _read_percent(text: str) -> Number | None:
    return read_number(text[:-1].rstrip(" \\")) if text.endswith("%") else None
