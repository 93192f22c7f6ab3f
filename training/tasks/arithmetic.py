"""Integer arithmetic: generate it, find it in a text, value it, and keep an evaluation set apart.

Pure Python without heavy imports, so that actors, graders and tests can use it anywhere. The
expressions that the generator writes use `+`, `-`, `*` and parentheses; the reader also takes `/`.

Difficulty is a number in [0, 1]. It fixes two means: `2 + 3d` operands of `1 + 2d` digits each, so
that 0 is `7+5` and 1 is something like `(381-46)*127+905-244`.

Every expression falls on one side of a hash split: one in sixteen is held out. Training text never
contains a held-out expression, and evaluation contains nothing else.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from .held_out_split import held_out_draws, stable_hash, stochastic_round

MAX_CHARACTERS: Final = 200
"""An expression longer than this is refused before it is parsed."""
MAX_DIGITS: Final = 18
"""A number with more digits than this is refused."""
HELD_OUT_ONE_IN: Final = 16
"""One expression in this many belongs to the evaluation set."""
PHRASINGS: Final = ("Compute {}.", "What is {}?", "Evaluate {}.", "Find {}.", "Work out {}.")
"""The ways in which a task text asks for an expression."""
HELD_OUT_SPREAD: Final = (0.1, 1.0)
"""Lowest and highest difficulty of the evaluation set."""

_LEAST_OPERANDS, _MOST_OPERANDS = 2, 5
_LEAST_DIGITS, _MOST_DIGITS = 1, 3
_OPERATORS: Final = ("+", "-", "*")
_OPERATOR_WEIGHTS: Final = (4, 4, 3)
_PARENTHESES_SHARE: Final = 0.5

_ALPHABET: Final = re.compile(r"[0-9+\-*/() ]+")
_RUN: Final = re.compile(r"[0-9+\-*/() ]*[0-9][0-9+\-*/() ]*")
_DOUBLED_OPERATOR: Final = re.compile(r"[+\-*/] *[+\-*/]")
_NUMBER: Final = re.compile(r"[0-9]+")
_MAY_PRECEDE: Final = frozenset("\n\t:`'\"")
_MAY_FOLLOW: Final = frozenset("\n\t.,;:?`'\"")

Value: TypeAlias = int | Fraction


class HeldOutExpression(NamedTuple):
    """One task of the fixed evaluation set."""

    text: str
    """What the policy is asked, such as `What is 12+34*5?`."""
    expression: str
    answer: str
    """The exact value in decimal digits."""
    difficulty: float
    """What the generator was asked for, in [0, 1]."""


def sample_expression(rng: random.Random, difficulty: float) -> str:
    """Draw an expression without spaces; `difficulty` in [0, 1] sets its operands and digits.

    Raises ValueError if the difficulty lies outside [0, 1].
    """
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty must lie in [0, 1], got {difficulty}")
    span = _MOST_OPERANDS - _LEAST_OPERANDS
    count = _LEAST_OPERANDS + stochastic_round(rng, difficulty * span)
    operands = [_sample_operand(rng, difficulty) for _ in range(count)]
    operators = _sample_operators(rng, count - 1)
    if count > _LEAST_OPERANDS and rng.random() < _PARENTHESES_SHARE:
        _put_parentheses(rng, operands, operators)
    tail = "".join(sign + operand for sign, operand in zip(operators, operands[1:], strict=True))
    return operands[0] + tail


def phrase(rng: random.Random, expression: str) -> str:
    """Ask for `expression` in one of `PHRASINGS`."""
    return rng.choice(PHRASINGS).format(expression)


def find_expression(text: str) -> str | None:
    """The one arithmetic expression in `text`, without spaces; None unless there is exactly one.

    Strict: every digit of the text must belong to it, it must hold an operator between two
    numbers, parse, and have a value. `Compute 12+34*5.` gives `12+34*5`; `Compute 3+4 and 5+6.`,
    `Compute 3++4.`, `Compute 12.` and `Add 3+4x.` give None.
    """
    runs = list(_RUN.finditer(text))
    if len(runs) != 1 or not _stands_alone(text, runs[0]):
        return None
    candidate = runs[0].group().strip()
    if _DOUBLED_OPERATOR.search(candidate) or candidate.startswith("- "):
        return None
    try:
        tree = _parse(candidate)
        _value(tree)
    except ValueError:
        return None
    holds_operator = any(isinstance(node, ast.BinOp) for node in ast.walk(tree))
    return candidate.replace(" ", "") if holds_operator else None


def evaluate(expression: str) -> Value:
    """The exact value: an int, or a Fraction where a division does not come out even.

    Raises ValueError for anything but `+ - * /`, parentheses and plain integers, for a division
    by zero, and for expressions past `MAX_CHARACTERS` or `MAX_DIGITS`.
    """
    value = _value(_parse(expression))
    return int(value) if value.denominator == 1 else value


def estimate_difficulty(expression: str) -> float:
    """Where the expression lies on the generator's scale, in [0, 1].

    The mean of two shares: its operands between 2 and 5, its mean digits between 1 and 3. For
    drawn expressions the expected estimate is the difficulty that was asked for.
    """
    numbers = _NUMBER.findall(expression)
    if not numbers:
        raise ValueError(f"there is no number in {expression!r}")
    operands = (len(numbers) - _LEAST_OPERANDS) / (_MOST_OPERANDS - _LEAST_OPERANDS)
    mean_digits = sum(map(len, numbers)) / len(numbers)
    digits = (mean_digits - _LEAST_DIGITS) / (_MOST_DIGITS - _LEAST_DIGITS)
    return (min(max(operands, 0.0), 1.0) + min(max(digits, 0.0), 1.0)) / 2


def is_held_out(expression: str) -> bool:
    """Whether the expression belongs to the evaluation set, whatever its spaces and brackets.

    `3+4`, `3 + 4` and `(3+4)` share one canonical form and so lie on the same side.
    """
    canonical = ast.unparse(_parse(expression)).replace(" ", "")
    return stable_hash(canonical) % HELD_OUT_ONE_IN == 0


def held_out_tasks(count: int, seed: int) -> list[HeldOutExpression]:
    """The fixed evaluation set: distinct held-out tasks, difficulties even over `HELD_OUT_SPREAD`.

    Where a difficulty has too few held-out expressions left, slightly harder ones fill its place.
    """
    rng = random.Random(seed)
    draws = held_out_draws(rng, count, HELD_OUT_SPREAD, sample_expression, is_held_out)
    return [
        HeldOutExpression(phrase(rng, expression), expression, str(evaluate(expression)), difficulty)
        for expression, difficulty in draws
    ]


def _sample_operand(rng: random.Random, difficulty: float) -> str:
    span = _MOST_DIGITS - _LEAST_DIGITS
    digits = _LEAST_DIGITS + stochastic_round(rng, difficulty * span)
    return str(rng.randint(10 ** (digits - 1), 10**digits - 1))


def _sample_operators(rng: random.Random, count: int) -> list[str]:
    """Draw operators; two products never touch, which keeps the values short."""
    operators: list[str] = []
    while len(operators) < count:
        operator = rng.choices(_OPERATORS, _OPERATOR_WEIGHTS)[0]
        if operator != "*" or operators[-1:] != ["*"]:
            operators.append(operator)
    return operators


def _put_parentheses(rng: random.Random, operands: list[str], operators: list[str]) -> None:
    """Bracket one pair of neighbours, in place."""
    first = rng.randrange(len(operators))
    operands[first] = "(" + operands[first]
    operands[first + 1] += ")"


def _stands_alone(text: str, run: re.Match[str]) -> bool:
    """Whether no letter or foreign sign touches the run; the run itself holds its outer spaces."""
    before, after = text[: run.start()], text[run.end() :]
    opens = not before or run.group().startswith(" ") or before[-1] in _MAY_PRECEDE
    closes = not after or run.group().endswith(" ") or after[0] in _MAY_FOLLOW
    return opens and closes


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(
            f"the expression has {len(expression)} characters; at most {MAX_CHARACTERS} are read"
        )
    if not _ALPHABET.fullmatch(expression):
        raise ValueError(f"{expression!r} is not arithmetic: only digits, + - * / and parentheses are read")
    if any(len(number) > MAX_DIGITS for number in _NUMBER.findall(expression)):
        raise ValueError(f"a number in the expression has more than {MAX_DIGITS} digits")
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression!r} is not a well-formed expression") from error


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            return _ARITHMETIC[type(operator)](_value(left), _value(right))
    raise ValueError("only + - * / between integers has a value here")


def _divide(left: Fraction, right: Fraction) -> Fraction:
    if right == 0:
        raise ValueError("the expression divides by zero")
    return left / right


_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: _divide,
}
