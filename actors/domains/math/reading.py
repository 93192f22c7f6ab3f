"""Plain notation or LaTeX as sympy objects.

Plain notation is read by `runtime.expressions`, LaTeX by latex2sympy's grammar; neither evaluates text as
code. Sizes are bounded before anything is worked out.
"""

import re
from typing import Final, TypeAlias

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify.grader import should_treat_as_complex
from math_verify.parser import NormalizationConfig, latex2sympy, normalize_latex
from sympy import Basic, MatrixBase

from ....runtime.expressions import Unreadable, check_size, read_expression
from ..numbers import read_number
from .latex import plain_of
from .magnitude import check_magnitude

Value: TypeAlias = Basic | MatrixBase

_NORMALIZATION: Final = NormalizationConfig(
    basic_latex=True,
    units=False,  # 5 cm is not 5
    malformed_operators=True,
    nits=True,
    boxed="none",
    equations=False,
)
_CONVERSION: Final = ConversionConfig(lowercase_symbols=False)  # M is not m
_TO_LATEX: Final = (
    ("<=", r" \le "), (">=", r" \ge "), ("!=", r" \ne "),
    (" U ", r" \cup "), ("infinity", r"\infty "), ("inf", r"\infty "), ("oo", r"\infty "),
)  # fmt: skip
_NEEDS_LATEX: Final = "=<>{}[](),!|%_'"
"""Plain text with one of these may still be mathematics: a relation, a set, an interval."""
_PLAIN_SET: Final = re.compile(r"^\s*\{(.*)\}\s*$")
_BINOMIAL: Final = re.compile(r"\\[dt]?binom\s*\{?\s*(\d+)\s*\}?\s*\{?\s*(\d+)")
_MAX_BINOMIAL: Final = 5_000
"""The grammar works binomials out while it reads them."""
_GAMMA: Final = re.compile(r"\\([Gg])amma(?![A-Za-z]|\s*\()(?:\s*_\s*\{?(\w+)\}?)?")
_NOT_READ: Final = re.compile(r"'|phantom|[\d)]\s*(?:\^\s*(?:\{[^{}]*\}|\w)\s*)?_|!\s*!")
"""What the grammar drops, or understands otherwise: primes, bases, double factorials, the invisible."""


def read(text: str) -> Value:
    """Plain notation or LaTeX as a sympy object. Raises Unreadable, TooLarge."""
    check_size(text)
    number = read_number(text.strip())
    if number is not None:
        return sympy.Rational(number.value.numerator, number.value.denominator)
    common = plain_of(text)
    if common is not None:
        try:
            value = read_expression(common)
        except Unreadable:
            if "\\" not in text and not any(mark in text for mark in _NEEDS_LATEX):
                raise
        else:
            check_magnitude(value)
            return value
    return _read_latex(text)


def _read_latex(text: str) -> Value:
    if _NOT_READ.search(text):
        raise Unreadable("primes, bases and double factorials stand alone, and nothing is invisible")
    if any(int(part) > _MAX_BINOMIAL for found in _BINOMIAL.finditer(text) for part in found.groups()):
        raise Unreadable("a binomial that is too large")
    text = _as_latex(text)
    is_complex = should_treat_as_complex(text)
    try:
        value = latex2sympy(
            normalize_latex(text, _NORMALIZATION),
            is_real=not is_complex,
            convert_degrees=False,
            normalization_config=None,
            conversion_config=_CONVERSION,
        )
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # The grammar raises errors of a dozen unrelated types; each means that the text is not in it.
        raise Unreadable("this is not mathematics in LaTeX") from error
    if not isinstance(value, Basic | MatrixBase):
        raise Unreadable("this is not one mathematical object")
    check_magnitude(value)
    # Plain notation makes symbols without assumptions, and its i is the imaginary unit.
    symbols = {symbol: sympy.Symbol(symbol.name) for symbol in value.free_symbols}
    if is_complex:
        symbols |= {symbol: sympy.I for symbol in value.free_symbols if symbol.name == "i"}
    return _worked_out(value, symbols)


def _as_latex(text: str) -> str:
    """Plain relations, unions and sets in LaTeX; a bare gamma as a symbol, and not as Euler's constant."""
    if "\\" in text:
        return _GAMMA.sub(lambda found: f" {found[1]}_{{{found[1]}amma{found[2] or ''}}} ", text)
    for plain, latex in _TO_LATEX:
        text = text.replace(plain, latex)
    return _PLAIN_SET.sub(r"\\{\1\\}", text)


def _worked_out(value: Value, symbols: dict[Basic, Basic]) -> Value:
    try:
        return value.xreplace(symbols).doit()
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # Sympy raises as many, such as for a comparison with i or a modulus of 0.
        raise Unreadable("it cannot be worked out") from error
