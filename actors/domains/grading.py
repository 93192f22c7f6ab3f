"""Grades, and comparison by exact arithmetic: the cheap half of grading, done in the actor's process.

Nothing here evaluates text: numbers are read by one pattern, in bounded time. What this half cannot
settle goes to grader processes (`actors.domains.grader_pool`).
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field

from ...configs.errors import AgentFactoryError
from ...runtime.tools.math_symbols import is_product
from .number_parser import Number, read_number

Method = Literal["exact", "numeric", "symbolic"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class GraderFailure(AgentFactoryError):
    """No grade was found: a failed episode, never a wrong answer."""


class NoReference(AgentFactoryError):
    """The task has nothing to compare a solution with."""


class GraderTimeout(GraderFailure):
    """A grader was killed at its deadline: the answer is neither right nor wrong."""


class GraderDied(GraderFailure):
    """A grader process ended without a grade, twice."""


class Grade(NamedTuple):
    """Result of comparing an answer with the reference, and how it was found."""

    correct: bool
    score: Share
    explanation: str
    method: Method
    confidence: Share = 1.0
    """Confidence: 1 where it was proved."""


_WRAPPERS: Final = (
    ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"), ("\\text{", "}"),
    ("\\mathrm{", "}"), ("\\textbf{", "}"), ("**", "**"), ("`", "`"),
)  # fmt: skip
_GROUPING: Final = re.compile(r"(?<=\d)\s*(?:\{\s*,\s*\}|,\s*\\!|\\!\s*,)\s*(?=\d{3})|\\!")
"""Separators between groups of three digits: `32,\\!349`, `32{,}349`; a negative space."""
_SPACING: Final = re.compile(
    r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])|\\(?:left|right)(?![A-Za-z])|(?<=[^\s~])~(?=[^\s~])"
)
_SAME_SIGN: Final = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "\u00a0": " "})
_CALCULATED: Final = Fraction(1, 10**10)
"""Relative error of a whole number that was worked out with ten digits."""
_MAX_SHOWN_DIGITS: Final = 1000
_SPACES: Final = re.compile(r"\s+")
_LOOSE_SPACE: Final = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
"""A space that separates neither words nor digits."""
_WORD: Final = re.compile(r"(?<![A-Za-z\\])[A-Za-z]+")
_SHORT_WORDS: Final = frozenset({"yes", "no", "true", "false", "none", "odd", "even"})


def clean(text: str) -> str:
    r"""The answer without what models put around it: `$…$`, `\boxed{…}`, `\left`, a final period.

    >>> clean(r" $\\boxed{5}$. ")
    '5'
    """
    if text.isalnum():
        return text
    text = _GROUPING.sub(lambda found: "" if found[0] == "\\!" else ",", text)
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


def grade_exact(reference: str, answer: str, rel_tolerance: float) -> Grade | None:
    """The grade, where equal text or exact arithmetic settles it; None where it takes algebra."""
    expected, given = clean(reference), clean(answer)
    if not given:
        return incorrect("the answer is empty", "exact")
    if _fold(expected) == _fold(given):
        return correct("the same text", "exact")
    left, right_number = read_number(expected), read_number(given)
    if left is not None and right_number is not None:
        return grade_numbers(left, right_number, rel_tolerance)
    if any(is_words(text) and not is_product(text) for text in (expected, given)):
        return incorrect(f"expected {shorten(expected)}, got {shorten(given)}", "exact")
    return None


def grade_numbers(expected: Number, given: Number, rel_tolerance: float) -> Grade:
    """Equal as rationals, or within the tolerance where one of them was written as a decimal.

    `|given − expected| ≤ rel_tolerance · |expected|`; a whole number as the reference is met to ten
    digits, and at most to `rel_tolerance` itself, so that 2.9999999999999996 is 3, and 2.9999999 is not.
    """
    if expected.value == given.value:
        return correct("the same number", "exact")
    difference = abs(expected.value - given.value)
    allowed = Fraction(rel_tolerance) * abs(expected.value)
    if expected.value.denominator == 1:
        noise = _CALCULATED * max(abs(expected.value), Fraction(1))
        allowed = min(allowed, noise, Fraction(rel_tolerance))
    if (expected.is_decimal or given.is_decimal) and difference <= allowed:
        return correct(f"the same number within {rel_tolerance:g}", "numeric")
    method: Method = "numeric" if expected.is_decimal or given.is_decimal else "exact"
    return incorrect(f"expected {format_number(expected.value)}, got {format_number(given.value)}", method)


def canonical(answer: str) -> str | None:
    """One form for answers that are the same number or the same text; None for an empty answer."""
    text = clean(answer)
    number = read_number(text)
    if number is not None:
        return str(number.value)
    return _LOOSE_SPACE.sub("", _fold(text)) or None


def canonical_words(answer: str) -> str | None:
    """As `canonical`, for answers that are words out of a text: upper case is no difference."""
    form = canonical(answer)
    return None if form is None else form.casefold()


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


_CONSTANTS: Final = frozenset({"pi", "oo", "inf", "infinity", "tau"})


UNREAD: Final = 0.9
"""Confidence in that an answer is wrong because nothing could read it."""


def correct(explanation: str, method: Method, confidence: float = 1.0) -> Grade:
    """A full mark."""
    return Grade(True, 1.0, explanation, method, confidence)


def incorrect(explanation: str, method: Method, confidence: float = 1.0) -> Grade:
    """No mark."""
    return Grade(False, 0.0, explanation, method, confidence)


def format_number(value: Fraction) -> str:
    """The number, short enough for a log line."""
    digits = max(abs(value.numerator), value.denominator).bit_length() * 3 // 10
    return shorten(str(value)) if digits < _MAX_SHOWN_DIGITS else f"a number of about {digits} digits"


def shorten(text: str, limit: int = 60) -> str:
    """The text, or its beginning."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _is_one_group(inner: str, opening: str) -> bool:
    """True if the wrapper's end belongs to its beginning: not so in `$1$ and $2$`."""
    if not opening.endswith("{"):
        return opening not in inner
    depth = 0
    for character in inner:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def _fold(text: str) -> str:
    """Words in lower case; all other letters as they are: `M` is not `m`, nor `Mb` `MB`, nor `ABC` `abc`."""
    return _WORD.sub(_fold_word, _SPACES.sub(" ", text)).strip()


def _fold_word(found: re.Match[str]) -> str:
    """`Yes` and `Evelyn` are words; three letters and fewer, or capitals inside, may be symbols."""
    word, lower = found[0], found[0].lower()
    is_word = len(word) > 3 and word[1:].islower() and any(vowel in lower for vowel in "aeiouy")
    return lower if is_word or lower in _SHORT_WORDS else word
