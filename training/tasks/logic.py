"""Propositional logic: write tasks, find them in a text, value them, and keep an evaluation set apart.

    Let p=1, q=0. What is ~p|q?
    How many rows of the truth table of (k&~m)|t are true?

Pure Python without heavy imports, so that actors, graders and tests can use it anywhere. Formulas are made
of lowercase letters, `&`, `|`, `~` and parentheses; the reader takes `and`, `or` and `not` as well.

Difficulty is a number in [0, 1]. Below `ROWS_FROM` a value is asked for, which is True or False; from there
on the rows of a truth table are counted, which is hard to guess. Within each kind it fixes the mean number
of letters that a formula joins: two to three for a value, two to four for a table.

Every formula falls on one side of a hash split, whatever is asked about it: one in eight is held out.
Training text never contains a held-out formula, and evaluation contains nothing else.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
import string
from collections.abc import Mapping
from typing import Final, NamedTuple

from .held_out_split import held_out_draws, stable_hash, stochastic_round

MAX_CHARACTERS: Final = 200
"""A formula longer than this is refused before it is parsed."""
HELD_OUT_ONE_IN: Final = 8
"""One formula in this many belongs to the evaluation set."""
HELD_OUT_SPREAD: Final = (0.1, 1.0)
"""Lowest and highest difficulty of the evaluation set."""
ROWS_FROM: Final = 0.3
"""The difficulty from which rows are counted."""
VALUE_PHRASINGS: Final = (
    "Let {}. What is {}?", "Given {}, what is {}?", "With {}, evaluate {}.", "If {}, what is {}?",
)  # fmt: skip
"""The ways in which a task text asks for a value; the assignment comes first, then the formula."""
ROWS_PHRASINGS: Final = (
    "How many rows of the truth table of {} are true?",
    "Count the true rows of the truth table of {}.",
    "In how many rows of its truth table is {} true?",
)
"""The ways in which a task text asks for a number of rows."""

_FEWEST, _MOST_FOR_VALUE, _MOST_FOR_ROWS = 2, 3, 4
_NEGATED_LETTER: Final = 0.35
_NEGATED_GROUP: Final = 0.15

_WORDS: Final = {"not": "~", "and": "&", "or": "|"}
_WORD: Final = re.compile(r"\b(?:not|and|or)\b")
_OPENING, _LETTER = r"(?:(?:~|\(|\bnot\b) ?)*", r"\b[a-z]\b"
_FORMULA: Final = re.compile(
    rf"{_OPENING}{_LETTER}(?: ?\))*(?: ?(?:&|\||\band\b|\bor\b) ?{_OPENING}{_LETTER}(?: ?\))*)+"
)
_ASSIGNED: Final = re.compile(r"\b([a-z])(?: ?= ?(1|0|true|false)| is (true|false))\b", re.IGNORECASE)
_ROWS: Final = re.compile(r"\brows\b.*\btruth table\b|\btruth table\b.*\brows\b", re.IGNORECASE | re.DOTALL)


_NODES: Final = (ast.Name, ast.Load, ast.BinOp, ast.BitAnd, ast.BitOr, ast.UnaryOp, ast.Invert)


class LogicTask(NamedTuple):
    """One question about one formula."""

    formula: str
    """Such as `(p&~q)|r`."""
    assignment: tuple[tuple[str, bool], ...] = ()
    """A value for each letter of the formula; empty where the rows of its truth table are counted."""

    @property
    def counts_rows(self) -> bool:
        """Whether it asks for a number of rows, not for a value."""
        return not self.assignment


class HeldOutLogicTask(NamedTuple):
    """One task of the fixed evaluation set."""

    text: str
    """What the policy is asked."""
    task: LogicTask
    answer: str
    """`True`, `False` or a number in decimal digits."""
    difficulty: float
    """What the generator was asked for, in [0, 1]."""


def sample_task(rng: random.Random, difficulty: float) -> LogicTask:
    """Draw a task of a difficulty in [0, 1]. Raises ValueError if it lies outside."""
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty must lie in [0, 1], got {difficulty}")
    if difficulty >= ROWS_FROM:
        share = (difficulty - ROWS_FROM) / (1.0 - ROWS_FROM)
        return LogicTask(_sample_formula(rng, _sample_size(rng, share, _MOST_FOR_ROWS)))
    formula = _sample_formula(rng, _sample_size(rng, difficulty / ROWS_FROM, _MOST_FOR_VALUE))
    return LogicTask(formula, tuple((letter, rng.random() < 0.5) for letter in letters_of(formula)))


def phrase(rng: random.Random, task: LogicTask) -> str:
    """Ask for the task in one of the phrasings of its kind."""
    if task.counts_rows:
        return rng.choice(ROWS_PHRASINGS).format(task.formula)
    return rng.choice(VALUE_PHRASINGS).format(spell(task.assignment), task.formula)


def spell(assignment: tuple[tuple[str, bool], ...]) -> str:
    """An assignment as a task text has it.

    >>> spell((("p", True), ("q", False)))
    'p=1, q=0'
    """
    return ", ".join(f"{letter}={value:d}" for letter, value in assignment)


def find_task(text: str) -> LogicTask | None:
    """The one task in `text`; None unless there is exactly one formula and nothing is left open.

    A value needs exactly the formula's letters assigned, as `p=1` or `p is true`; without any
    assignment the text must ask for the rows of a truth table.
    """
    assigned = [
        (letter.lower(), (value or word).lower() in ("1", "true"))
        for letter, value, word in _ASSIGNED.findall(text)
    ]
    found = [_plain(match.group()) for match in _FORMULA.finditer(_ASSIGNED.sub(";", text))]
    if len(found) != 1 or not _is_formula(found[0]):
        return None
    letters = letters_of(found[0])
    if not assigned:
        return LogicTask(found[0]) if _ROWS.search(text) else None
    values = dict(assigned)
    if len(assigned) != len(letters) or set(values) != set(letters) or _ROWS.search(text):
        return None
    return LogicTask(found[0], tuple((letter, values[letter]) for letter in letters))


def answer_of(task: LogicTask) -> str:
    """`True` or `False`, or how many rows are true.

    >>> answer_of(LogicTask("p|~q")), answer_of(LogicTask("p|q", (("p", False), ("q", True))))
    ('3', 'True')
    """
    if task.assignment:
        return str(evaluate(task.formula, dict(task.assignment)))
    return str(count_rows(task.formula))


def evaluate(formula: str, assignment: Mapping[str, bool]) -> bool:
    """The value under an assignment of its letters. Raises ValueError for what is no formula of ours."""
    return _value(_parse(formula), assignment)


def count_rows(formula: str) -> int:
    """True rows of the truth table over the letters that occur. Raises ValueError like `evaluate`."""
    tree, letters = _parse(formula), letters_of(formula)
    rows = itertools.product((False, True), repeat=len(letters))
    return sum(_value(tree, dict(zip(letters, row, strict=True))) for row in rows)


def letters_of(formula: str) -> list[str]:
    """The letters that occur in it, in the order in which they do."""
    return list(dict.fromkeys(re.findall(_LETTER, _plain(formula))))


def estimate_difficulty(task: LogicTask) -> float:
    """Where the task lies on the generator's scale, in [0, 1].

    For drawn tasks the expected estimate is the difficulty that was asked for.
    """
    size = len(re.findall(_LETTER, task.formula))
    if task.counts_rows:
        return ROWS_FROM + (1.0 - ROWS_FROM) * _share(size, _MOST_FOR_ROWS)
    return ROWS_FROM * _share(size, _MOST_FOR_VALUE)


def is_held_out(formula: str) -> bool:
    """Whether tasks about this formula are for evaluation only, whatever its spaces and brackets.

    Raises ValueError for what is no formula of ours.
    """
    return stable_hash(ast.unparse(_parse(formula))) % HELD_OUT_ONE_IN == 0


def held_out_tasks(count: int, seed: int) -> list[HeldOutLogicTask]:
    """The fixed evaluation set: distinct held-out tasks, difficulties even over `HELD_OUT_SPREAD`.

    Where a difficulty has too few held-out tasks left, slightly harder ones fill its place.
    """
    rng = random.Random(seed)
    draws = held_out_draws(rng, count, HELD_OUT_SPREAD, sample_task, lambda task: is_held_out(task.formula))
    return [
        HeldOutLogicTask(phrase(rng, task), task, answer_of(task), difficulty) for task, difficulty in draws
    ]


def _sample_size(rng: random.Random, share: float, most: int) -> int:
    """How many letters to join: rounded up with the probability of the fraction, which keeps the mean."""
    wanted = _FEWEST + share * (most - _FEWEST)
    return stochastic_round(rng, wanted)


def _share(size: int, most: int) -> float:
    return min(max((size - _FEWEST) / (most - _FEWEST), 0.0), 1.0)


def _sample_formula(rng: random.Random, size: int) -> str:
    """A random tree over `size` different letters."""
    return _join(rng, rng.sample(string.ascii_lowercase, size), outermost=True)


def _join(rng: random.Random, letters: list[str], outermost: bool) -> str:
    if len(letters) == 1:
        return f"~{letters[0]}" if rng.random() < _NEGATED_LETTER else letters[0]
    middle = rng.randrange(1, len(letters))
    left, right = (_join(rng, part, outermost=False) for part in (letters[:middle], letters[middle:]))
    joined = f"{left}{rng.choice('&|')}{right}"
    negated = rng.random() < _NEGATED_GROUP
    return f"~({joined})" if negated else joined if outermost else f"({joined})"


def _plain(formula: str) -> str:
    """The formula in symbols, without spaces. Both notations bind alike: not, then and, then or."""
    return _WORD.sub(lambda word: _WORDS[word.group()], formula).replace(" ", "")


def _is_formula(text: str) -> bool:
    try:
        _parse(text)
    except ValueError:
        return False
    return True


def _parse(formula: str) -> ast.expr:
    if len(formula) > MAX_CHARACTERS:
        raise ValueError(f"the formula has {len(formula)} characters; at most {MAX_CHARACTERS} are read")
    plain = _plain(formula)
    if not re.fullmatch(r"[a-z&|~()]+", plain):
        raise ValueError(f"{formula!r} is no formula: only letters, &, |, ~ and parentheses are read")
    try:
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{formula!r} is not a well-formed formula") from error
    for node in ast.walk(tree):
        if not isinstance(node, _NODES) or (isinstance(node, ast.Name) and len(node.id) > 1):
            raise ValueError(f"{formula!r} is not a well-formed formula")  # such as `p(q)` or `pq`
    return tree


def _value(node: ast.expr, assignment: Mapping[str, bool]) -> bool:
    match node:
        case ast.Name(id=letter) if letter in assignment:
            return assignment[letter]
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return not _value(operand, assignment)
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _value(left, assignment) and _value(right, assignment)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _value(left, assignment) or _value(right, assignment)
    raise ValueError("only &, | and ~ between assigned letters have a value here")
