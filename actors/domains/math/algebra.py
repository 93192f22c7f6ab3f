"""Math grading with sympy and math-verify.

Only for `actors.domains.math.grader`, which runs in killable, memory-limited processes: simplifying
may take for ever, and neither library can be stopped from inside. Plain notation is read by
`expressions`, LaTeX by latex2sympy's grammar; neither evaluates text as code.
"""

import random
import re
from fractions import Fraction
from functools import partial
from typing import Final, TypeAlias

import sympy
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from math_verify.parser import NormalizationConfig, latex2sympy, normalize_latex
from sympy import Basic, Expr, MatrixBase

from actors.domains.grading import (
    Grade,
    Number,
    clean,
    grade_numbers,
    right,
    shorten,
    wrong,
)
from actors.domains.math.collections import Collection, read_collection, right_side, unknown_of
from actors.domains.math.latex import plain_of
from actors.domains.math.quick import grade_quickly
from actors.domains.math.units import Quantity, split_quantity
from runtime.expressions import MAX_CHARACTERS, Unreadable, check_size, read_expression

Value: TypeAlias = Basic | MatrixBase

DIGITS: Final = 30
"""Precision of numeric comparisons."""
_NORMALIZATION: Final = NormalizationConfig(
    basic_latex=True,
    units=False,  # 5 cm is not 5
    malformed_operators=True,
    nits=True,
    boxed="none",
    equations=False,
)
_TO_LATEX: Final = (
    ("<=", r" \le "), (">=", r" \ge "), ("!=", r" \ne "),
    (" U ", r" \cup "), ("infinity", r"\infty "), ("inf", r"\infty "), ("oo", r"\infty "),
    ("∞", r"\infty "), ("π", r"\pi "), ("∪", r"\cup "), ("≤", r"\le "), ("≥", r"\ge "),
)  # fmt: skip
_NEEDS_LATEX: Final = "=<>{}[](),!|∞π∪≤≥%_'"
"""Plain text with one of these may still be mathematics: a relation, a set, an interval."""
_PLAIN_SET: Final = re.compile(r"^\s*\{(.*)\}\s*$")
_NOT_FINITE: Final = (sympy.oo, -sympy.oo, sympy.zoo, sympy.nan)
_POINTS: Final = 4
_MAX_EXPONENT: Final = 1000


def grade_math(reference: str, answer: str, rel_tolerance: float) -> Grade:
    """Compare as text, numbers and quantities, as lists of such, then as mathematics."""
    quick = grade_quickly(reference, answer, rel_tolerance)
    if quick is not None:
        return quick
    expected_text, given_text = clean(reference), clean(answer)
    check_size(given_text)
    quantities = split_quantity(expected_text), split_quantity(given_text)
    if quantities[0] is not None and quantities[1] is not None:
        return _grade_quantities(quantities[0], quantities[1], rel_tolerance)
    if _has_degrees(expected_text) != _has_degrees(given_text):
        return wrong("one is in degrees, the other is not", "symbolic")
    if len({unknown_of(expected_text), unknown_of(given_text)} - {""}) == 1:
        expected_text, given_text = right_side(expected_text), right_side(given_text)
    listed = _grade_collections(expected_text, given_text, rel_tolerance)
    return listed if listed is not None else _grade_read(expected_text, given_text, rel_tolerance)


def _grade_read(expected_text: str, given_text: str, rel_tolerance: float) -> Grade:
    try:
        given = read(given_text)
    except Unreadable as error:
        return wrong(f"cannot read {shorten(given_text)}: {error}", "symbolic")
    try:
        expected = read(expected_text)
    except Unreadable as error:
        return wrong(f"cannot read the reference {shorten(expected_text)}: {error}", "symbolic")
    summary = f"expected {shorten(expected_text)}, got {shorten(given_text)}"
    if isinstance(expected, Expr) and isinstance(given, Expr):
        return _grade_expressions(expected, given, rel_tolerance, summary)
    if verify(expected, given, timeout_seconds=None):
        return right("mathematically the same", "symbolic")
    return wrong(summary, "symbolic")


def _grade_quantities(expected: Quantity, given: Quantity, rel_tolerance: float) -> Grade:
    """Of the same dimension, their numbers being expressions."""
    values = []
    for number, unit in (expected, given):
        value = read(number)
        if not isinstance(value, Expr):
            raise Unreadable("the quantity's number is no expression")
        factor = sympy.Rational(unit.factor.numerator, unit.factor.denominator) * sympy.pi**unit.pi
        values.append(value * factor + sympy.Rational(unit.offset.numerator, unit.offset.denominator))
    return _grade_expressions(values[0], values[1], rel_tolerance, "another quantity")


def _grade_collections(expected_text: str, given_text: str, rel_tolerance: float) -> Grade | None:
    """Lists of expressions, item by item; None where either is no such list, or they differ in kind."""
    expected, given = (read_collection(plain_of(text) or text) for text in (expected_text, given_text))
    if expected is None or given is None:
        return _grade_number_of_items(expected, given, expected_text, given_text)
    if {expected.kind, given.kind} == {"list", "range"}:
        return None  # 1, 2 may mean (1, 2)
    summary = f"expected {shorten(expected_text)}, got {shorten(given_text)}"
    same = partial(_same_item, rel_tolerance=rel_tolerance)
    if {expected.kind, given.kind} == {"set", "range"}:
        found = False
    elif expected.kind == "range":
        is_interval = len(expected.items) == 2
        if len(expected.items) != len(given.items) or (is_interval and expected.brackets != given.brackets):
            return wrong(summary, "symbolic")
        found = all(map(same, expected.items, given.items))
    else:
        found = all(any(same(a, b) for b in given.items) for a in expected.items) and all(
            any(same(a, b) for a in expected.items) for b in given.items
        )
    return right("the same, item by item", "symbolic") if found else wrong(summary, "symbolic")


def _grade_number_of_items(
    expected: Collection | None, given: Collection | None, expected_text: str, given_text: str
) -> Grade | None:
    """Several items are not one plain expression; None for all that is not so plain."""
    several, one = (expected, given_text) if expected is not None else (given, expected_text)
    if several is None or len(several.items) < 2:
        return None
    try:
        read_expression(plain_of(one) or one)
    except Unreadable:
        return None
    return wrong(f"expected {shorten(expected_text)}, got {shorten(given_text)}", "symbolic")


def _same_item(expected: str, given: str, rel_tolerance: float) -> bool:
    return grade_math(expected, given, rel_tolerance).correct


def read(text: str) -> Value:
    """Plain notation or LaTeX as a sympy object. Raises Unreadable."""
    check_size(text)
    common = plain_of(text)
    if common is not None:
        try:
            return read_expression(common)
        except Unreadable:
            if "\\" not in text and not any(mark in text for mark in _NEEDS_LATEX):
                raise
    if "\\" not in text:
        for plain, latex in _TO_LATEX:
            text = text.replace(plain, latex)
        text = _PLAIN_SET.sub(r"\\{\1\\}", text)
    is_complex = should_treat_as_complex(text)
    try:
        value = latex2sympy(
            normalize_latex(text, _NORMALIZATION),
            is_real=not is_complex,
            convert_degrees=False,
            normalization_config=None,
        )
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # The grammar raises errors of a dozen unrelated types; each means that the text is not in it.
        raise Unreadable("this is not mathematics in LaTeX") from error
    if not isinstance(value, Basic | MatrixBase):
        raise Unreadable("this is not one mathematical object")
    _check_powers(value)
    # Plain notation makes symbols without assumptions, and its i is the imaginary unit.
    symbols = {symbol: sympy.Symbol(symbol.name) for symbol in value.free_symbols}
    if is_complex:
        symbols |= {symbol: sympy.I for symbol in value.free_symbols if symbol.name == "i"}
    return value.xreplace(symbols).doit()


def _grade_expressions(expected: Expr, given: Expr, rel_tolerance: float, summary: str) -> Grade:
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
    if difference == 0 or sympy.expand(difference) == 0:
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
    return vanished == _POINTS or sympy.simplify(difference) == 0


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
    is_rounded = isinstance(expected, sympy.Rational) or isinstance(given, sympy.Rational)
    if is_rounded and distance <= rel_tolerance * size:
        return right(f"the same number within {rel_tolerance:g}", "numeric")
    return wrong(summary, "numeric")


def complex_value(expression: Expr) -> Expr:
    """To `DIGITS` digits. Raises Unreadable where it has no value."""
    value = sympy.N(expression, DIGITS)
    if value.has(sympy.nan, sympy.zoo, sympy.oo) or not value.is_number:
        raise Unreadable("it has no value")
    return value


def is_close(value: Expr, other: Expr) -> bool:
    """Equal up to the rounding of an evaluation to `DIGITS` digits."""
    return bool(abs(value - other) <= max(abs(value), 1) * sympy.Float(10) ** (5 - DIGITS))


def _check_powers(value: Value) -> None:
    """Refuse powers that would not fit in memory once worked out. Raises Unreadable."""
    for node in sympy.postorder_traversal(value):
        if isinstance(node, sympy.Pow) and node.exp.is_number and abs(sympy.N(node.exp, 5)) > _MAX_EXPONENT:
            raise Unreadable("a power that is too large")


def _has_degrees(text: str) -> bool:
    return "\\circ" in text or "°" in text


def _number(value: sympy.Rational) -> Number:
    fraction = Fraction(int(value.p), int(value.q))
    return Number(fraction, is_decimal=_divides_power_of_ten(fraction.denominator))


def _divides_power_of_ten(number: int) -> bool:
    return number > 1 and 10**MAX_CHARACTERS % number == 0
