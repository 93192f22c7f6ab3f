r"""Finds the steps of a calculation in what a model wrote.

    12+34*5 = 12+170 = 182        two steps
    2x+3 = 7                      an equation,
    2x = 4                        and a step from it to this one

A step counts only in a chain that begins with something out of the task, so that `1 = 1` earns nothing;
steps that repeat a term to the letter are no steps. Whether a step follows is for the grader process.
"""

import re
from itertools import pairwise
from typing import Final, NamedTuple

MAX_STEPS: Final = 32
_LINE_START: Final = re.compile(r"^\s*(?:[-*•]|\d+[.)]|[Tt]hought:|[Ss]tep \d+:|=>|⇒|so|then|thus|hence)\s*")
_RELATION: Final = re.compile(r"(?<![<>!=:])=(?!=)")
_WORDS: Final = re.compile(r"[A-Za-z]{3,}[ ,:]|[?!;]")
_SPACES: Final = re.compile(r"\s+|[$`]")


class Step(NamedTuple):
    """From one term to the next (an equality), or from one equation to the next."""

    before: str
    after: str
    equations: bool


def read_steps(description: str, reasoning: str) -> list[Step]:
    """The steps that begin with something out of the task's text, at most `MAX_STEPS`.

    >>> read_steps("Compute 2*3+4.", "2*3+4 = 6+4 = 10")
    [Step(before='2*3+4', after='6+4', equations=False), Step(before='6+4', after='10', equations=False)]
    """
    asked = _squeeze(description)
    steps: list[Step] = []
    equation = ""
    reached: set[str] = set()
    for line in reasoning.splitlines():
        terms = [term.strip() for term in _RELATION.split(_bare(line))]
        if len(terms) < 2 or not all(terms) or any(_WORDS.search(term) for term in terms):
            continue
        if len(terms) == 2 and _has_unknown("=".join(terms)):
            now = f"{terms[0]} = {terms[1]}"
            if equation and _squeeze(equation) != _squeeze(now):
                steps.append(Step(equation, now, True))
            if equation or _squeeze(now) in asked:
                equation = now
        elif _squeeze(terms[0]) in asked or _squeeze(terms[0]) in reached:
            pairs = pairwise(terms)
            steps += [Step(a, b, False) for a, b in pairs if _squeeze(a) != _squeeze(b)]
            reached |= {_squeeze(term) for term in terms}
    return steps[:MAX_STEPS]


def _bare(line: str) -> str:
    """The line without a list's mark, labels, dollar signs and a final period."""
    return _LINE_START.sub("", line.replace("$", "")).strip().rstrip(".,;")


def _has_unknown(text: str) -> bool:
    return re.search(r"(?<![A-Za-z\\])[a-z](?![A-Za-z(])", text) is not None


def _squeeze(text: str) -> str:
    return _SPACES.sub("", text)
