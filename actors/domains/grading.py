"""Grades, and the cheap half of math grading: whatever exact arithmetic can settle in this process.

Nothing here evaluates text: numbers are read by one pattern, in bounded time. What this half cannot
settle goes to grader processes (`actors.domains.graders`).
"""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from configs.errors import AgentFactoryError

MAX_NUMBER_CHARACTERS: Final = 200
MAX_EXPONENT: Final = 400

Method = Literal["exact", "numeric", "symbolic"]


class GraderFailure(AgentFactoryError):
    """No grade was found: a failed episode, never a wrong answer."""


class NoReference(AgentFactoryError):
    """The task has nothing to compare a solution with."""


class GraderTimeout(GraderFailure):
    """A grader was killed at its deadline: the answer is neither right nor wrong."""


class GraderDied(GraderFailure):
    """A grader process ended without a grade, twice."""


class Grade(NamedTuple):
    """Whether an answer equals the reference, and how that was found."""

    correct: bool
    score: float
    explanation: str
    method: Method
    confidence: float = 1.0
    """How sure that is: 1 where it was proved."""


class Number(NamedTuple):
    """A rational number that was written out."""

    value: Fraction
    is_decimal: bool
    """Written with a point or an exponent, and so perhaps rounded."""


_DIGITS: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL: Final = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{{1,4}})?"
_PLAIN: Final = re.compile(rf"([+-]?)\s*({_DECIMAL})(?:\s*/\s*([+-]?{_DECIMAL}))?", re.ASCII)
_MIXED: Final = re.compile(
    r"([+-]?)\s*(\d+)(?:\s+(\d+)\s*/\s*(\d+)|\s*\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\})", re.ASCII
)
_LATEX_FRACTION: Final = re.compile(
    r"([+-]?)\s*\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}\s*\{\s*(-?\d+)\s*\}|(\d)(\d))", re.ASCII
)
_WRAPPERS: Final = (
    ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"), ("\\text{", "}"),
    ("\\mathrm{", "}"), ("\\textbf{", "}"), ("**", "**"), ("`", "`"),
)  # fmt: skip
_SPACING: Final = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|\\(?:left|right)(?![A-Za-z])|~")
_SAME_SIGN: Final = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "\u00a0": " "})
_WORDS: Final = re.compile(r"\s+")


def clean(text: str) -> str:
    r"""The answer without what models put around it: `$…$`, `\boxed{…}`, `\left`, a final period.

    >>> clean(r" $\\boxed{5}$. ")
    '5'
    """
    if text.isalnum():
        return text
    text = _SPACING.sub(" ", text.translate(_SAME_SIGN)).strip()
    for _ in range(8):
        before = text
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if (
                len(text) >= len(opening) + len(closing)
                and text.startswith(opening)
                and text.endswith(closing)
                and _is_one_group(inner, opening)
            ):
                text = inner.strip()
        if text == before:
            break
    return text


def read_number(text: str) -> Number | None:
    """An integer, decimal or fraction that is the whole of the (cleaned) text; None for all else.

    `1,234`, `+5`, `.5`, `1e3`, `3/4`, `1 3/4` and `\\frac{3}{4}` are numbers; `10th`, `5 cm`, `1,23`, `50%`
    and `1/0` are not.
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None
    fraction = _LATEX_FRACTION.fullmatch(text) or _MIXED.fullmatch(text)
    if fraction:
        return _read_fraction(*(part for part in fraction.groups() if part is not None))
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        return None
    sign, first, second = plain.groups()
    numerator, denominator = _read_decimal(first), _read_decimal(second or "1")
    if numerator is None or not denominator:
        return None
    value = numerator / denominator * (-1 if sign == "-" else 1)
    return Number(value, any(mark in text for mark in ".eE"))


def grade_plainly(reference: str, answer: str, rel_tolerance: float) -> Grade | None:
    """The grade, where equal text or exact arithmetic settles it; None where it takes algebra."""
    expected, given = clean(reference), clean(answer)
    if not given:
        return wrong("the answer is empty", "exact")
    if _fold(expected) == _fold(given):
        return right("the same text", "exact")
    left, right_number = read_number(expected), read_number(given)
    if left is not None and right_number is not None:
        return grade_numbers(left, right_number, rel_tolerance)
    if is_words(expected) or (is_words(given) and not _may_be_a_product(given)):
        return wrong(f"expected {shorten(expected)}, got {shorten(given)}", "exact")
    return None


def grade_numbers(expected: Number, given: Number, rel_tolerance: float) -> Grade:
    """Equal as rationals, or within the tolerance where one of them was written as a decimal.

    `|given − expected| ≤ rel_tolerance · |expected|`; for a reference that is a whole number, at most
    `rel_tolerance` itself, so that 1000000.9 is not 1000000.
    """
    if expected.value == given.value:
        return right("the same number", "exact")
    difference = abs(expected.value - given.value)
    allowed = Fraction(rel_tolerance) * abs(expected.value)
    if expected.value.denominator == 1:
        allowed = min(allowed, Fraction(rel_tolerance))
    if (expected.is_decimal or given.is_decimal) and difference <= allowed:
        return right(f"the same number within {rel_tolerance:g}", "numeric")
    method: Method = "numeric" if expected.is_decimal or given.is_decimal else "exact"
    return wrong(f"expected {show(expected.value)}, got {show(given.value)}", method)


def canonical(answer: str) -> str | None:
    """One form for answers that are the same number or the same text; None for an empty answer."""
    text = clean(answer)
    number = read_number(text)
    if number is not None:
        return str(number.value)
    return _fold(text).replace(" ", "") or None


def majority(answers: Sequence[str | None]) -> tuple[str | None, float]:
    """The most frequent answer and p̂, its share over all k answers.

    An answer that did not parse (None) votes for nothing but still counts in k. The answer is
    given as its first voter wrote it; of two equally frequent ones the earlier wins.

    >>> majority(["1/2", "0.5", "3", None])
    ('1/2', 0.5)
    """
    votes: Counter[str] = Counter()
    wording: dict[str, str] = {}
    for answer in answers:
        form = canonical(answer) if answer is not None else None
        if answer is not None and form is not None:
            votes[form] += 1
            wording.setdefault(form, answer)
    if not votes:
        return None, 0.0
    form, count = votes.most_common(1)[0]  # ties: insertion order
    return wording[form], count / len(answers)


def is_words(text: str) -> bool:
    """A name or a yes, which no algebra may take apart into a product of symbols; not `x y` or `x-y`."""
    words = text.replace("-", " ").split()
    letters = "".join(words)
    longest = max(map(len, words), default=0)
    return letters.isalpha() and longest > 1 and letters.lower() not in _CONSTANTS


def _may_be_a_product(text: str) -> bool:
    """`xy` is x·y, where that is what is asked for."""
    return len(text) == 2


_CONSTANTS: Final = frozenset({"pi", "oo", "inf", "infinity", "tau"})


def right(explanation: str, method: Method) -> Grade:
    """A full mark."""
    return Grade(True, 1.0, explanation, method)


def wrong(explanation: str, method: Method) -> Grade:
    """No mark."""
    return Grade(False, 0.0, explanation, method)


def show(value: Fraction) -> str:
    """The number, short enough for a log line."""
    return shorten(str(value))


def shorten(text: str, limit: int = 60) -> str:
    """The text, or its beginning."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _read_fraction(sign: str, *parts: str) -> Number | None:
    """From [whole,] numerator, denominator."""
    *whole, above, below = map(int, parts)
    if below == 0:
        return None
    value = sum(whole) + Fraction(above, below)
    return Number(-value if sign == "-" else value, False)


def _read_decimal(text: str) -> Fraction | None:
    number = Decimal(text.replace(",", ""))
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > MAX_EXPONENT:
        return None
    return Fraction(number)


def _is_one_group(inner: str, opening: str) -> bool:
    """Whether the wrapper's end belongs to its beginning: not so in `$1$ and $2$`."""
    if not opening.endswith("{"):
        return opening not in inner
    depth = 0
    for character in inner:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def _fold(text: str) -> str:
    return _WORDS.sub(" ", text).casefold().strip()
