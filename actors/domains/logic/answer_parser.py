"""Parser of answers to questions of logic: a truth value, an assignment, a truth table, a derivation."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..grading import clean

_TRUE: Final = frozenset(
    {"true", "t", "yes", "y", "1", "⊤", "holds", "valid", "satisfiable", "sat", "follows", "entailed",
     "consistent", "possible"}
)  # fmt: skip
_FALSE: Final = frozenset(
    {"false", "f", "no", "n", "0", "⊥", "invalid", "unsatisfiable", "unsat", "inconsistent", "impossible"}
)  # fmt: skip
_NOT: Final = ("not ", "does not ", "doesn't ", "is not ", "cannot ")
_LEAD: Final = re.compile(
    r"^(?:so|thus|hence|therefore|it|the (?:formula|value|answer|conclusion)|is|=|that)\s+"
)
_ASSIGNED: Final = re.compile(
    r"(?<![A-Za-z])([A-Za-z]_?\{?\d*\}?)\s*(?::=|=|:|↦|->| is )\s*(true|false|[TtFf]|[01]|⊤|⊥)(?![A-Za-z\d])",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"^(?:\(?\d{1,3}[.):]|-|\*)?\s*")
"""Numbering that a derivation's line may begin with."""
_REASON: Final = re.compile(r"--|;|,|\bby\b|\bfrom\b", re.IGNORECASE)
"""Separators before a reason that is not in brackets."""
_BY: Final = re.compile(r"^by ", re.IGNORECASE)
_CELL: Final = re.compile(r"true|false|[TtFf01⊤⊥]", re.IGNORECASE)
MAX_LINES: Final = 100


class Line(NamedTuple):
    """One line of a derivation."""

    formula: str
    reason: str
    """Such as `modus ponens 1, 2`; empty if none is given."""


def read_value(text: str) -> bool | None:
    """True or False, as people say it; None for anything else.

    >>> read_value("Yes."), read_value("not satisfiable"), read_value("maybe")
    (True, False, None)
    """
    words = " ".join(clean(text).casefold().strip("*_`'\" .!").split())
    while (shorter := _LEAD.sub("", words)) != words:
        words = shorter
    for negation in _NOT:
        if words.startswith(negation):
            rest = words.removeprefix(negation).removesuffix(" follow") or words
            value = _word_value(rest if rest != "follow" else "follows")
            return None if value is None else not value
    return _word_value(words)


def _word_value(words: str) -> bool | None:
    return True if words in _TRUE else False if words in _FALSE else None


def read_assignment(text: str) -> dict[str, bool] | None:
    """`p=True, q=F` or `p: 1; q: 0`; None where there is none, or a letter has two values."""
    found: dict[str, bool] = {}
    for letter, value in _ASSIGNED.findall(text):
        name = re.sub(r"[_{}]", "", letter)
        truth = read_value(value)
        if truth is None or found.get(name, truth) is not truth:
            return None
        found[name] = truth
    return found or None


def read_table(text: str, letters: list[str]) -> dict[tuple[bool, ...], bool] | None:
    """A truth table: rows of values for `letters` and the result; None where it is no whole table.

    Rows may be written `T F | T`, `0,1: 1` or as a Markdown table. A single row with a value for each
    row is the last column alone, with the letters counted down from true.
    """
    width, count = len(letters) + 1, 2 ** len(letters)
    rows = [
        [read_value(cell) is True for cell in _cells(line)] for line in text.splitlines() if _is_row(line)
    ]
    if len(rows) == 1 and len(rows[0]) == count and count != width:
        places = [tuple(not bit >> at & 1 for at in reversed(range(len(letters)))) for bit in range(count)]
        return dict(zip(places, rows[0], strict=True))
    table = {tuple(row[:-1]): row[-1] for row in rows if len(row) == width}
    return table if len(rows) == len(table) == count else None


def _is_row(line: str) -> bool:
    """Values and what stands between them, nothing else."""
    return bool(_cells(line)) and not _CELL.sub("", line).strip(" \t|,;:&-\\()[]{}→")


def _cells(line: str) -> list[str]:
    return _CELL.findall(line)


def read_lines(text: str) -> list[Line]:
    """The lines of a derivation: numbers, formulas, and reasons in brackets or after `by`.

    >>> read_lines("1. p -> q (premise)\\n2. q by modus ponens")
    [Line(formula='p -> q', reason='premise'), Line(formula='q', reason='modus ponens')]
    """
    lines: list[Line] = []
    for text_line in map(str.strip, text.splitlines()):
        line = _NUMBER.sub("", text_line, count=1)
        if line.strip("`- "):
            lines.append(Line(*_split(line)))
    return lines[: MAX_LINES + 1]


def _split(text: str) -> tuple[str, str]:
    """A formula's own brackets hold no words but connectives; a reason's do."""
    start, reason = min(_reasons(text), default=(-1, ""))
    if start >= 0 and re.search(r"[A-Za-z]{2,}|^[\d, ]*$", reason) and not _is_formula_like(reason):
        return text[:start].strip(" \t:`$"), reason
    return text.strip(" \t`$"), ""


def _reasons(text: str) -> Iterator[tuple[int, str]]:
    """Candidates for the reason at the line's end, and where each begins; each kind is looked for once."""
    opening = text.find("[")
    if text.endswith("]") and opening >= 0:
        yield opening, text[opening + 1 : -1].strip()
    opening = text.rfind("(")
    if text.endswith(")") and opening >= 0 and ")" not in text[opening:-1]:
        yield opening, _BY.sub("", text[opening + 1 : -1]).strip()
    if found := _REASON.search(text):
        yield found.start(), text[found.end() :].strip()


def _is_formula_like(text: str) -> bool:
    words = re.findall(r"[A-Za-z]+", text)
    return bool(words) and all(
        len(w) == 1 or w.lower() in ("and", "or", "not", "implies", "iff", "xor", "true", "false")
        for w in words
    )
