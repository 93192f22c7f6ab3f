"""Functions on lists of integers: ask for them, read what was asked, test them, keep some apart.

    Write a Python function f(xs) that takes a list of integers, keeps those that are even, squares each
    of them, and returns their sum.

A task is a pipeline of steps and what is returned in the end. Its wording is read only here; everyone else
has the hidden tests. Those are drawn from the pipeline itself, so that the same task always has the same
tests; they hold an empty list and enough different results that no constant passes more than half.

Difficulty in [0, 1] fixes the mean number of steps, `1 + 4d`. One pipeline in eight is held out for
evaluation.
"""

import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from ...messages.tasks import CodeSpec, CodeTestCase
from .held_out_split import held_out_draws, stable_hash

FUNCTION: Final = "f"
HELD_OUT_ONE_IN: Final = 8
HELD_OUT_SPREAD: Final = (0.0, 1.0)
"""Lowest and highest difficulty of the evaluation set."""
TESTS: Final = 10
_MOST_STEPS: Final = 5
_ATTEMPTS: Final = 50

Values = list[int]


class _Step(NamedTuple):
    words: str
    """With `{k}` where it has a number."""
    source: str
    """Python that makes the next `xs` from `xs`."""
    apply: Callable[[Values, int], Values]


class _End(NamedTuple):
    words: str
    source: str
    apply: Callable[[Values], object]


STEPS: Final[dict[str, _Step]] = {
    "even": _Step(
        "keeps those that are even",
        "[x for x in xs if x % 2 == 0]",
        lambda xs, k: [x for x in xs if x % 2 == 0],
    ),
    "odd": _Step(
        "keeps those that are odd", "[x for x in xs if x % 2]", lambda xs, k: [x for x in xs if x % 2]
    ),
    "above": _Step(
        "keeps those greater than {k}", "[x for x in xs if x > {k}]", lambda xs, k: [x for x in xs if x > k]
    ),
    "below": _Step(
        "keeps those less than {k}", "[x for x in xs if x < {k}]", lambda xs, k: [x for x in xs if x < k]
    ),
    "square": _Step("squares each of them", "[x * x for x in xs]", lambda xs, k: [x * x for x in xs]),
    "double": _Step("doubles each of them", "[2 * x for x in xs]", lambda xs, k: [2 * x for x in xs]),
    "negate": _Step("negates each of them", "[-x for x in xs]", lambda xs, k: [-x for x in xs]),
    "absolute": _Step(
        "takes the absolute value of each", "[abs(x) for x in xs]", lambda xs, k: [abs(x) for x in xs]
    ),
    "add": _Step("adds {k} to each of them", "[x + {k} for x in xs]", lambda xs, k: [x + k for x in xs]),
    "remainder": _Step(
        "takes the remainder of each by {k}", "[x % {k} for x in xs]", lambda xs, k: [x % k for x in xs]
    ),
    "sort": _Step("sorts them in ascending order", "sorted(xs)", lambda xs, k: sorted(xs)),
    "descend": _Step(
        "sorts them in descending order", "sorted(xs, reverse=True)", lambda xs, k: sorted(xs, reverse=True)
    ),
    "reverse": _Step("reverses their order", "xs[::-1]", lambda xs, k: xs[::-1]),
    "once": _Step(
        "drops repeated ones but the first of each",
        "list(dict.fromkeys(xs))",
        lambda xs, k: list(dict.fromkeys(xs)),
    ),
    "first": _Step("keeps only the first {k}", "xs[:{k}]", lambda xs, k: xs[:k]),
    "skip": _Step("drops the first {k}", "xs[{k}:]", lambda xs, k: xs[k:]),
}
ENDS: Final[dict[str, _End]] = {
    "list": _End("the list of them", "xs", lambda xs: xs),
    "sum": _End("their sum", "sum(xs)", sum),
    "count": _End("how many there are", "len(xs)", len),
    "largest": _End(
        "the largest, or 0 if there is none", "max(xs, default=0)", lambda xs: max(xs, default=0)
    ),
    "smallest": _End(
        "the smallest, or 0 if there is none", "min(xs, default=0)", lambda xs: min(xs, default=0)
    ),
    "rising": _End(
        "whether each is greater than the one before it",
        "all(a < b for a, b in zip(xs, xs[1:]))",
        lambda xs: all(a < b for a, b in pairwise(xs)),
    ),
}
_OPENING: Final = f"Write a Python function {FUNCTION}(xs) that takes a list of integers, "
_STEP_PATTERNS: Final = {
    name: re.compile(re.escape(step.words).replace(r"\{k\}", r"(\d{1,3})")) for name, step in STEPS.items()
}


class CodeTask(NamedTuple):
    """A pipeline: named steps, each with its number (0 where it has none), and what is returned."""

    steps: tuple[tuple[str, int], ...]
    end: str

    @property
    def difficulty(self) -> float:
        """Where it lies on the scale, in [0, 1]."""
        return min(1.0, (len(self.steps) - 1) / (_MOST_STEPS - 1))


class HeldOutCodeTask(NamedTuple):
    """One task of the fixed evaluation set."""

    text: str
    task: CodeTask
    difficulty: float
    """What was asked for, in [0, 1]."""


def sample_task(rng: random.Random, difficulty: float) -> CodeTask:
    """Draw a pipeline of about this difficulty. Raises ValueError if it lies outside [0, 1]."""
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty must lie in [0, 1], got {difficulty}")
    wanted = 1 + difficulty * (_MOST_STEPS - 1)
    count = int(wanted) + (rng.random() < wanted - int(wanted))
    while True:
        names = rng.sample(list(STEPS), count)
        steps = tuple((name, _number(rng, name)) for name in names)
        task = CodeTask(steps, rng.choice(list(ENDS)))
        if _is_telling(task):
            return task


def phrase(task: CodeTask) -> str:
    """The task in words.

    >>> phrase(CodeTask((("even", 0),), "sum"))[-59:]
    ' integers, keeps those that are even, and returns their sum.'
    """
    words = [STEPS[name].words.format(k=number) for name, number in task.steps]
    return f"{_OPENING}{', '.join(words)}, and returns {ENDS[task.end].words}."


def find_task(text: str) -> CodeTask | None:
    """The pipeline that a text asks for; None unless the whole text is one such task."""
    text = " ".join(text.split())
    middle, found, ending = text.removeprefix(_OPENING).rpartition(", and returns ")
    ends = [name for name, end in ENDS.items() if f"{end.words}." == ending]
    if not text.startswith(_OPENING) or not found or not ends:
        return None
    steps = [_read_step(words) for words in middle.split(", ")]
    known = tuple(step for step in steps if step is not None)
    if len(known) != len(steps) or len(known) > _MOST_STEPS:
        return None
    task = CodeTask(known, ends[0])
    return task if _is_telling(task) else None


def evaluate(task: CodeTask, values: Sequence[int]) -> object:
    """What the function returns for these values."""
    xs = list(values)
    for name, number in task.steps:
        xs = STEPS[name].apply(xs, number)
    return ENDS[task.end].apply(xs)


def solution(task: CodeTask) -> str:
    """A function that does it, as Python source."""
    lines = [f"    xs = {STEPS[name].source.format(k=number)}" for name, number in task.steps]
    return "\n".join([f"def {FUNCTION}(xs):", *lines, f"    return {ENDS[task.end].source}"])


def goal_of(task: CodeTask) -> CodeSpec:
    """The hidden tests, the same whenever they are asked for."""
    checks = tuple(
        CodeTestCase(call=f"{FUNCTION}({values})", expected=repr(evaluate(task, values)))
        for values in _examples(task)
    )
    return CodeSpec(function=FUNCTION, parameters=1, checks=checks)


def is_held_out(task: CodeTask) -> bool:
    """Whether the task is for evaluation only."""
    return _digest(task) % HELD_OUT_ONE_IN == 0


def held_out_tasks(count: int, seed: int) -> list[HeldOutCodeTask]:
    """The fixed evaluation set: distinct held-out tasks, difficulties even over `HELD_OUT_SPREAD`."""
    draws = held_out_draws(random.Random(seed), count, HELD_OUT_SPREAD, sample_task, is_held_out)
    return [HeldOutCodeTask(phrase(task), task, difficulty) for task, difficulty in draws]


def _read_step(words: str) -> tuple[str, int] | None:
    for name, pattern in _STEP_PATTERNS.items():
        found = pattern.fullmatch(words)
        if found:
            number = int(found[1]) if found.groups() else 0
            return None if name in ("remainder", "first") and number == 0 else (name, number)
    return None


def _number(rng: random.Random, name: str) -> int:
    if "{k}" not in STEPS[name].words:
        return 0
    return rng.randint(2, 4) if name in ("first", "skip") else rng.randint(2, 9)


def _examples(task: CodeTask) -> list[Values]:
    """An empty list, and lists of which no more than half have the same result, where that can be."""
    rng = random.Random(_digest(task))
    best: list[Values] = []
    for _ in range(_ATTEMPTS):
        lists = [[], *([rng.randint(-12, 20) for _ in range(rng.randint(1, 9))] for _ in range(TESTS - 1))]
        if not best or _most_frequent(task, lists) < _most_frequent(task, best):
            best = lists
        if _most_frequent(task, best) * 2 <= TESTS:
            break
    return best


def _is_telling(task: CodeTask) -> bool:
    return _most_frequent(task, _examples(task)) * 2 <= TESTS


def _most_frequent(task: CodeTask, lists: Sequence[Values]) -> int:
    results = [repr(evaluate(task, values)) for values in lists]
    return max(map(results.count, results))


def _digest(task: CodeTask) -> int:
    return stable_hash(repr(tuple(task)))
