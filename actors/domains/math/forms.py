r"""Answers whose form counts: choices (`C)`), numbers in a base (`1010_2`), ratios (`7:32`), percentages.

Text and exact arithmetic alone, for the actor's own process. Texts are as `notation.normalize` gives them.
"""

import re
from fractions import Fraction
from math import gcd, lcm
from typing import Final, NamedTuple

from ..grading import Grade, grade_numbers, right, shorten, wrong
from ..numbers import Number, read_number

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
        return wrong("one has primes that the other has not", "exact")
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
            return wrong("a choice that is denied", "exact")
        if _OTHER_CHOICE.search(given, labelled.end(1) + 1 if labelled[1] else labelled.end(2) + 1):
            return wrong("several choices", "exact")
    if found is None:
        return None
    return (
        right("the same choice", "exact")
        if found == letter
        else wrong(f"expected {letter}, got {found}", "exact")
    )


def is_choice(text: str) -> bool:
    """Whether it is the letter of a choice, and nothing else."""
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
        return right("the same digits in the same base", "exact")
    return wrong(
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
        right("the same ratio", "exact")
        if same
        else wrong(f"expected {expected}, got {shorten(given)}", "exact")
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
        return right("the same percentage", "exact")
    hundredth = Number(percent.value / 100, percent.is_decimal)
    pair = (hundredth, number) if first is not None else (number, hundredth)
    return grade_numbers(*pair, rel_tolerance)


def _read_percent(text: str) -> Number | None:
    return read_number(text[:-1].rstrip(" \\")) if text.endswith("%") else None
