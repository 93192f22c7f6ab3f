r"""Parser of plain notation and LaTeX into sympy objects, with a bound on what evaluating them may cost.

Plain notation is read by `runtime.tools.math_parser`, LaTeX by latex2sympy's grammar; neither evaluates
text as code. Before anything is worked out, `9^{9^{9^9}}`, `10^9!`, `\sum_{k=1}^{10^9}` and their like
are refused by arithmetic on estimated sizes: an upper bound of log2 of each part's absolute value, from
the leaves up.
"""

import math
import re
from collections.abc import Callable
from typing import Final, TypeAlias

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify.grader import should_treat_as_complex
from math_verify.parser import NormalizationConfig, latex2sympy, normalize_latex
from sympy import Basic, Expr, MatrixBase

from ....runtime.tools.math_parser import Unreadable, check_size, read_expression
from ..number_parser import read_number
from .notation import latex_to_plain

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
"""Notation that the grammar drops or misreads: primes, bases, double factorials, the invisible."""


def parse_math(text: str) -> Value:
    """Plain notation or LaTeX as a sympy object. Raises Unreadable, TooLarge."""
    check_size(text)
    number = read_number(text.strip())
    if number is not None:
        return sympy.Rational(number.value.numerator, number.value.denominator)
    common = latex_to_plain(text)
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
    return _evaluated(value, symbols)


def _as_latex(text: str) -> str:
    """Plain relations, unions and sets in LaTeX; a bare gamma as a symbol, and not as Euler's constant."""
    if "\\" in text:
        return _GAMMA.sub(lambda found: f" {found[1]}_{{{found[1]}amma{found[2] or ''}}} ", text)
    for plain, latex in _TO_LATEX:
        text = text.replace(plain, latex)
    return _PLAIN_SET.sub(r"\\{\1\\}", text)


def _evaluated(value: Value, symbols: dict[Basic, Basic]) -> Value:
    try:
        return value.xreplace(symbols).doit()
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # Sympy raises as many, such as for a comparison with i or a modulus of 0.
        raise Unreadable("it cannot be worked out") from error


MAX_BITS: Final = 40_000
"""Of a number that is worked out, such as 2004!, which has 19,053."""
MAX_TERMS: Final = 2_000
"""Of a sum or a product that is written with its limits."""
MAX_NODES: Final = 4_000
MAX_EXPANDED: Final = 400
"""Terms of an expression once it is multiplied out."""


class TooLarge(Unreadable):
    """Working it out would take too much time or memory."""


def check_magnitude(value: Basic | MatrixBase) -> None:
    """Raise TooLarge for what must not be evaluated."""
    parts = list(value) if isinstance(value, MatrixBase) else [value]
    if sum(1 for part in parts for _ in sympy.preorder_traversal(part)) > MAX_NODES:
        raise TooLarge("an expression of too many parts")
    for part in parts:
        _bits(part)


def _bits(node: Basic) -> float:
    """An upper bound of log2 of the absolute value, 1 at least. Raises TooLarge."""
    if isinstance(node, sympy.Sum | sympy.Product):
        return _bits_of_series(node)
    sizes = [_bits(arg) for arg in node.args]
    bits = _own_bits(node, sizes)
    if bits > MAX_BITS:
        raise TooLarge("a number that is too large")
    return max(bits, 1.0)


def _own_bits(node: Basic, sizes: list[float]) -> float:
    if isinstance(node, sympy.Rational):
        return float(max(abs(int(node.p)).bit_length(), int(node.q).bit_length()))
    if isinstance(node, sympy.Float):
        return abs(float(sympy.log(abs(node), 2))) if node != 0 and node.is_finite else 1.0
    if isinstance(node, sympy.Pow):
        return _power_bits(sizes[0], _value_bound(node.exp, sizes[1])) if node.exp.is_number else sum(sizes)
    if isinstance(node, sympy.exp):
        return (
            _power_bits(1.5, _value_bound(node.args[0], sizes[0])) if node.args[0].is_number else sum(sizes)
        )
    own = _SIZES.get(type(node))
    if own is not None and all(arg.is_number for arg in node.args):
        return own(node, sizes)
    return sum(sizes) if isinstance(node, sympy.Mul) else max(sizes, default=1.0) + math.log2(len(sizes) + 1)


def _power_bits(base: float, exponent: float) -> float:
    return base * exponent


def _value_bound(node: Basic, bits: float) -> float:
    """An upper bound of an absolute value, from its log2 or itself."""
    if isinstance(node, sympy.Rational):
        return abs(int(node.p)) / int(node.q) if bits < 1000 else math.inf
    return 2.0**bits if bits < 1000 else math.inf


def _factorial_bits(node: Basic, sizes: list[float]) -> float:
    bound = _value_bound(node.args[0], sizes[0])
    return bound * math.log2(bound + 2) if math.isfinite(bound) else math.inf


def _binomial_bits(node: Basic, sizes: list[float]) -> float:
    return min(
        _value_bound(node.args[0], sizes[0]) * 2, _value_bound(node.args[1], sizes[1]) * (sizes[0] + 2)
    )


_SIZES: Final[dict[type, Callable[[Basic, list[float]], float]]] = {
    sympy.factorial: _factorial_bits,
    sympy.factorial2: _factorial_bits,
    sympy.subfactorial: _factorial_bits,
    sympy.gamma: _factorial_bits,
    sympy.binomial: _binomial_bits,
    sympy.fibonacci: lambda node, sizes: _value_bound(node.args[0], sizes[0]),
    sympy.sinh: lambda node, sizes: 2 * _value_bound(node.args[0], sizes[0]),
    sympy.cosh: lambda node, sizes: 2 * _value_bound(node.args[0], sizes[0]),
}


def _bits_of_series(node: Expr) -> float:
    """A bounded number of bounded terms."""
    body, *limits = node.args
    terms = 1.0
    for _, *ends in (tuple(limit) for limit in limits):
        for end in ends:
            _bits(end)
        if len(ends) == 2 and all(end.is_number and end.is_finite for end in ends):
            terms *= max(float(abs(ends[1] - ends[0])) + 1, 1.0)
    if terms > MAX_TERMS:
        raise TooLarge("a sum or product of too many terms")
    bits = _bits(body) + 12  # its index is at most MAX_TERMS away from a bounded limit
    bits = bits * terms if isinstance(node, sympy.Product) else bits + math.log2(terms + 1)
    if bits > MAX_BITS:
        raise TooLarge("a number that is too large")
    return bits


def expanded_terms(node: Basic) -> float:
    """About how many terms it has once multiplied out."""
    if isinstance(node, sympy.Add):
        return sum(map(expanded_terms, node.args))
    if isinstance(node, sympy.Mul):
        return math.prod(map(expanded_terms, node.args))
    if isinstance(node, sympy.Pow) and node.exp.is_Integer and node.exp.is_positive:
        terms, power = expanded_terms(node.base), int(node.exp)
        if terms < 2:
            return 1.0
        return (
            math.comb(min(power, 1000) + int(min(terms, 50)) - 1, min(power, 1000)) * 1.0
            if power < 1000
            else math.inf
        )
    return 1.0
