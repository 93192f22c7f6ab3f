"""Propositional logic on whole truth tables: write tasks, find them in a text, value them, hold some apart.

    What is (12&10)|5?

Each number is the column of a statement in a truth table, and each of its bits is a row: 12 is 1100, true in
the first two of four rows; 10 is 1010. `&`, `|` and `^` join statements row by row, and the answer is the
column of the whole formula, a number again: (12&10)|5 is 1101, which is 13. To negate, join with the column
that is true in every row: `15^12` is not 12. Where a truth value is guessed half of the time, a column
of four or eight rows seldom is, and a formula is copied into a call of python as a sum is.

Pure Python without heavy imports. Signs bind as in Python, and as not, and, xor, or do in the logic domain.

Difficulty is a number in [0, 1]. It fixes two means: `1 + 3d` signs, and the share `d` of formulas over eight
rows, not four. Every formula falls on one side of a hash split: one in eight is held out. Training text never
contains a held-out formula, and evaluation contains nothing else.
"""

from __future__ import annotations

import ast
import operator
import random
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from .held_out_split import held_out_draws, stable_hash, stochastic_round

MAX_CHARACTERS: Final = 200
"""A formula longer than this is refused before it is parsed."""
MAX_ROWS: Final = 16
"""A column with more rows than this is refused."""
HELD_OUT_ONE_IN: Final = 8
"""One formula in this many belongs to the evaluation set."""
HELD_OUT_SPREAD: Final = (0.1, 1.0)
"""Lowest and highest difficulty of the evaluation set."""
PHRASINGS: Final = ("What is {}?", "Evaluate {}.", "Find the column {}.", "Which column is {}?")
"""The ways in which a task text asks for a column."""

_FEWEST, _MOST = 2, 5
"""Columns of a formula."""
_FEW_ROWS, _MANY_ROWS = 4, 8
_PARENTHESES_SHARE: Final = 0.5

_NUMBER: Final = re.compile(r"[0-9]+")
_FORMULA: Final = re.compile(r"(?<![\w.&|^+*/()-])[(0-9][0-9&|^() ]*(?<! )(?![\w&|^+*/()-])")


class HeldOutColumnTask(NamedTuple):
    """One task of the fixed evaluation set."""

    text: str
    """What the policy is asked, such as `What is (12&10)|5?`."""
    formula: str
    answer: str
    """The formula's column, in decimal digits."""
    difficulty: float
    """What the generator was asked for, in [0, 1]."""


def sample_formula(rng: random.Random, difficulty: float) -> str:
    """Draw a formula without spaces, of a difficulty in [0, 1]. Raises ValueError if it lies outside."""
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty must lie in [0, 1], got {difficulty}")
    size = _FEWEST + stochastic_round(rng, difficulty * (_MOST - _FEWEST))
    rows = _MANY_ROWS if rng.random() < difficulty else _FEW_ROWS
    columns = [str(rng.randrange(1, 2**rows)) for _ in range(size)]
    signs = rng.choices("&|^", k=size - 1)
    if size > _FEWEST and rng.random() < _PARENTHESES_SHARE:
        first = rng.randrange(size - 1)
        columns[first] = f"({columns[first]}"
        columns[first + 1] += ")"
    return columns[0] + "".join(sign + column for sign, column in zip(signs, columns[1:], strict=True))


def phrase(rng: random.Random, formula: str) -> str:
    """Ask for the formula's column in one of `PHRASINGS`."""
    return rng.choice(PHRASINGS).format(formula)


def find_formula(text: str) -> str | None:
    """The one formula in `text`, without spaces; None unless there is exactly one.

    Every digit of the text must belong to it, and it must hold a sign between two columns.

    >>> find_formula("What is (12&10)|5?"), find_formula("What is 12+5?"), find_formula("Is 1 in 3&5?")
    ('(12&10)|5', None, None)
    """
    found = [run.group() for run in _FORMULA.finditer(text)]
    if len(found) != 1 or _NUMBER.findall(text) != _NUMBER.findall(found[0]):
        return None
    try:
        tree = _parse(found[0])
    except ValueError:
        return None
    return found[0].replace(" ", "") if isinstance(tree, ast.BinOp) else None


def evaluate(formula: str) -> int:
    """The formula's column. Raises ValueError for what is no formula of ours.

    >>> evaluate("(12&10)|5"), evaluate("15^12")
    (13, 3)
    """
    return _value(_parse(formula))


def estimate_difficulty(formula: str) -> float:
    """Where the formula lies on the generator's scale, in [0, 1]: the mean of its signs' share and its rows'.

    For drawn formulas its mean rises with the difficulty that was asked for.
    """
    columns = [int(number) for number in _NUMBER.findall(formula)]
    size = (len(columns) - _FEWEST) / (_MOST - _FEWEST)
    rows = float(max(columns, default=0) >= 2**_FEW_ROWS)
    return (min(max(size, 0.0), 1.0) + rows) / 2


def is_held_out(formula: str) -> bool:
    """Whether the formula is for evaluation only, whatever its spaces and brackets.

    Raises ValueError for what is no formula of ours.
    """
    return stable_hash(ast.unparse(_parse(formula))) % HELD_OUT_ONE_IN == 0


def held_out_tasks(count: int, seed: int) -> list[HeldOutColumnTask]:
    """The fixed evaluation set: distinct held-out tasks, difficulties even over `HELD_OUT_SPREAD`.

    Where a difficulty has too few held-out formulas left, slightly harder ones fill its place.
    """
    rng = random.Random(seed)
    draws = held_out_draws(rng, count, HELD_OUT_SPREAD, sample_formula, is_held_out)
    return [
        HeldOutColumnTask(phrase(rng, formula), formula, str(evaluate(formula)), difficulty)
        for formula, difficulty in draws
    ]


def _parse(formula: str) -> ast.expr:
    if len(formula) > MAX_CHARACTERS:
        raise ValueError(f"the formula has {len(formula)} characters; at most {MAX_CHARACTERS} are read")
    if not re.fullmatch(r"[0-9&|^() ]+", formula):
        raise ValueError(f"{formula!r} is no formula: only columns, &, |, ^ and parentheses are read")
    if any(len(number) > 5 or int(number) >= 2**MAX_ROWS for number in _NUMBER.findall(formula)):
        raise ValueError(f"a column in the formula has more than {MAX_ROWS} rows")
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
        _value(tree)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{formula!r} is not a well-formed formula") from error
    return tree


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(column)):
            return column
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_value(left), _value(right))
    raise ValueError("only &, | and ^ between columns has a value here")


_SIGNS: Final[dict[type[ast.operator], Callable[[int, int], int]]] = {
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
