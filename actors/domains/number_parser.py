"""Parser of rational numbers as people write them: one pattern a notation, nothing evaluated, bounded."""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

MAX_NUMBER_CHARACTERS: Final = 200
MAX_EXPONENT: Final = 400


class Number(NamedTuple):
    """A rational number that was written out."""

    value: Fraction
    is_decimal: bool
    """Written with a point or an exponent, and so perhaps rounded."""


_DIGITS: Final = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d+)"
_DECIMAL: Final = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{{1,4}})?"
_PLAIN: Final = re.compile(rf"([+-]?)\s*({_DECIMAL})(?:\s*/\s*([+-]?{_DECIMAL}))?", re.ASCII)
_MIXED: Final = re.compile(
    r"([+-]?)\s*(\d+)(?:\s+(\d+)\s*/\s*(\d+)|\s*\\[dtc]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\})", re.ASCII
)
_LATEX_FRACTION: Final = re.compile(
    r"([+-]?)\s*\\[dtc]?frac\s*(?:\{\s*(-?\d+)\s*\}\s*\{\s*(-?\d+)\s*\}|(\d)(\d))", re.ASCII
)
_SCALES: Final = {
    "dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_SCALED: Final = re.compile(
    rf"([+-]?{_DECIMAL})\s*(?:\\text\s*\{{\s*)?({'|'.join(_SCALES)})\s*\}}?", re.ASCII
)
_REPEATING: Final = re.compile(
    r"([+-]?)\s*(\d*)\.(\d*?)"
    r"(?:\\(?:overline|bar|dot)\s*(?:\{\s*(\d+)\s*\}|(\d))|\((\d+)\)|((\d{1,6}?)\8+)(?:\.{3}|…|\\[lc]?dots))",
    re.ASCII,
)
_COMMA: Final = re.compile(r"([+-]?\d+),(\d+)", re.ASCII)
_LEAST_RUN: Final = 3
"""Digits before `…` that must repeat: `0.333…` says more than `0.33…`."""


def read_number(text: str) -> Number | None:
    """An integer, decimal or fraction that is the whole of the (cleaned) text; None for all else.

    `1,234`, `1 234`, `5 million`, `+5`, `.5`, `1e3`, `3/4`, `1 3/4`, `\\frac{3}{4}` and `0.\\overline{3}` are
    numbers; `10th`, `5 cm`, `1,23`, `50%` and `1/0` are not.
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        value = _read_quotient(*plain.groups())
        return None if value is None else Number(value, any(mark in text for mark in ".eE"))
    fraction = _LATEX_FRACTION.fullmatch(text) or _MIXED.fullmatch(text)
    if fraction:
        return _read_fraction(*(part for part in fraction.groups() if part is not None))
    scaled = _SCALED.fullmatch(text)
    if scaled:
        value = _read_quotient("", scaled[1].lstrip("+-"), None)
        sign = -1 if scaled[1][0] == "-" else 1
        return None if value is None else Number(sign * value * _SCALES[scaled[2]], "." in scaled[1])
    repeating = _REPEATING.fullmatch(text) if "." in text else None
    return _read_repeating(repeating) if repeating else None


def read_decimal_comma(text: str) -> Number | None:
    """`1000,99` and `0,111`, which are numbers only where the context says so; None for all else."""
    found = _COMMA.fullmatch(text)
    return read_number(f"{found[1]}.{found[2]}") if found else None


def _read_quotient(sign: str, first: str, second: str | None) -> Fraction | None:
    numerator, denominator = _read_decimal(first), _read_decimal(second or "1")
    if numerator is None or not denominator:
        return None
    return numerator / denominator * (-1 if sign == "-" else 1)


def _read_fraction(sign: str, *parts: str) -> Number | None:
    """From [whole,] numerator, denominator."""
    *whole, above, below = map(int, parts)
    if below == 0:
        return None
    value = sum(whole) + Fraction(above, below)
    return Number(-value if sign == "-" else value, False)


def _read_repeating(found: re.Match[str]) -> Number | None:
    """The repeating digits over as many nines, behind those that do not repeat."""
    sign, whole, fixed = found[1], found[2], found[3]
    block = found[4] or found[5] or found[6] or found[8]
    if found[7] and len(found[7]) < _LEAST_RUN:
        return None
    value = Fraction(int((whole + fixed) or "0")) + Fraction(int(block), 10 ** len(block) - 1)
    value /= 10 ** len(fixed)
    return Number(-value if sign == "-" else value, False)


def _read_decimal(text: str) -> Fraction | None:
    number = Decimal(text.replace(",", "").replace(" ", ""))
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > MAX_EXPONENT:
        return None
    return Fraction(number)
