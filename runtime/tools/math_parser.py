"""Reads plain mathematical notation into sympy without ever evaluating it as code.

`sympify` and `parse_expr` hand their text to `eval`; a model's answer must not get there. This is a
small precedence parser: numbers, one-letter symbols, known functions and constants,
`+ - * / ^ ** ! !!`, parentheses and implicit products (`2x(x+1)`).
"""

import re
from collections.abc import Callable
from typing import Final, cast

import sympy
from sympy import Expr, Integer, Rational, Symbol

from .math_symbols import is_product

MAX_CHARACTERS: Final = 500
MAX_DEPTH: Final = 24
MAX_POWER_BITS: Final = 4096
"""A power of integers is worked out only up to this size."""
MAX_FACTORIAL: Final = 3000
"""The largest whole number whose factorial is worked out."""

_TOKEN: Final = re.compile(
    r"\s*(?:(\d+\.\d*|\.\d+|\d+)(?:[eE]([+-]?\d{1,3})(?![A-Za-z]))?|([A-Za-z]+\d*)|(\*\*|!+|[-+*/^()]))",
    re.ASCII,
)
_FUNCTIONS: Final[dict[str, Callable[[Expr], Expr]]] = {
    name: cast(Callable[[Expr], Expr], function)
    for name, function in {
        "sqrt": sympy.sqrt, "cbrt": sympy.cbrt, "exp": sympy.exp, "log": sympy.log, "ln": sympy.log,
        "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec,
        "csc": sympy.csc, "asin": sympy.asin, "acos": sympy.acos, "atan": sympy.atan,
        "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "sinh": sympy.sinh,
        "cosh": sympy.cosh, "tanh": sympy.tanh, "abs": sympy.Abs,
    }.items()
}  # fmt: skip
_CONSTANTS: Final[dict[str, Expr]] = {
    "pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo, "inf": sympy.oo,
    "infinity": sympy.oo,
}  # fmt: skip
_SUM, _PRODUCT, _SIGN, _POWER = 1, 2, 3, 4


class Unreadable(ValueError):
    """The text is not plain mathematical notation."""


def read_expression(text: str) -> Expr:
    """Parse the whole text. Raises Unreadable."""
    check_size(text)
    reader = _Reader(_tokens(text))
    expression = reader.expression(0)
    if reader.peek():
        raise Unreadable(f"{reader.peek()!r} is out of place")
    return expression


def check_size(text: str) -> None:
    """Raise Unreadable for text that no parser should be given."""
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"longer than {MAX_CHARACTERS} characters")
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            raise Unreadable(f"nested more than {MAX_DEPTH} deep")


class _Reader:
    """Precedence climbing over tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def peek(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def expression(self, above: int) -> Expr:
        """An operand and all operators that bind tighter than `above`."""
        left = self._operand()
        while True:
            token = self.peek()
            if token in ("+", "-") and above < _SUM:
                self._at += 1
                right = self.expression(_SUM)
                left = left + right if token == "+" else left - right
            elif token in ("*", "/") and above < _PRODUCT:
                self._at += 1
                right = self.expression(_PRODUCT)
                left = left * right if token == "*" else _divide(left, right)
            elif token in ("^", "**") and above < _POWER:
                self._at += 1
                left = _power(left, self._exponent())
            elif (token == "(" or token[:1].isalpha()) and above < _PRODUCT:
                left = left * self.expression(_PRODUCT)
            else:
                return left

    def _exponent(self) -> Expr:
        """From right to left: `2^3^2` is 2^9."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(f"powers of powers more than {MAX_DEPTH} deep")
        exponent = self.expression(_SIGN)
        self._depth -= 1
        return exponent

    def _operand(self) -> Expr:
        operand = self._bare_operand()
        while self.peek()[:1] == "!":
            operand = _factorial(operand, self.peek())
            self._at += 1
        return operand

    def _bare_operand(self) -> Expr:
        token = self.peek()
        self._at += 1
        if token in ("+", "-"):
            operand = self.expression(_SIGN)
            return operand if token == "+" else -operand
        if token == "(":
            inner = self.expression(0)
            if self.peek() != ")":
                raise Unreadable("a parenthesis is not closed")
            self._at += 1
            return inner
        if token[:1].isdigit() or token[:1] == ".":
            return Rational(token)
        if token.lower() in _FUNCTIONS and self.peek() == "(":
            return _FUNCTIONS[token.lower()](self._bare_operand())
        return _symbol(token)


def _tokens(text: str) -> list[str]:
    tokens = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"{text[at]!r} is out of place")
        number, exponent, name, operator = match.groups()
        tokens.append(f"{number}e{exponent}" if exponent else number or name or operator)
        at = match.end()
    return tokens


def _symbol(name: str) -> Expr:
    """A constant, one letter with an index, or a product of letters; no words."""
    constant = _CONSTANTS.get(name if len(name) == 1 else name.lower())
    if constant is not None:
        return constant
    letters = name.rstrip("0123456789")
    if len(letters) == 1:
        return Symbol(name)
    if letters == name and is_product(name):
        return cast(Expr, sympy.Mul(*map(_symbol, name)))
    raise Unreadable(f"{name!r} is not a symbol" if name else "it ends too early")


def _divide(left: Expr, right: Expr) -> Expr:
    if right == 0:
        raise Unreadable("a division by zero")
    return left / right


def _factorial(operand: Expr, sign: str) -> Expr:
    """`n!`, or `n!!`, the product of every other number down from n."""
    if len(sign) > 2:
        raise Unreadable(f"{sign!r} is out of place")
    if operand.is_number and not (operand.is_Integer and 0 <= int(operand) <= MAX_FACTORIAL):
        raise Unreadable("a factorial of what is no small whole number")
    return cast(Expr, sympy.factorial(operand) if sign == "!" else sympy.factorial2(operand))


def _power(base: Expr, exponent: Expr) -> Expr:
    if isinstance(base, Rational) and isinstance(exponent, Rational):
        size = max(base.p.bit_length(), base.q.bit_length())
        if abs(exponent) * size > MAX_POWER_BITS:
            raise Unreadable("a power that is too large")
        if base == 0 and exponent < 0:
            raise Unreadable("a division by zero")
    elif isinstance(exponent, Integer) and abs(exponent) > MAX_POWER_BITS:
        raise Unreadable("a power that is too large")
    return cast(Expr, base**exponent)
