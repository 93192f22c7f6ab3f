"""Tasks of many steps: write them, read them back, value every step, and keep an evaluation set apart.

    Work these steps out one after the other, each with a tool call of its own. Step 1: 17*23.
    Step 2: add 58 to the result of step 1. Step 3: the remainder of the result of step 2 by 100. Answer with
    the results of all steps in order, separated by commas.

Each step's result is known, so that progress can be seen on the way. A step uses the results of one or two
steps before it. Difficulty in [0, 1] fixes the mean number of steps, `2 + 8d`. One task in eight is held
out for evaluation.
"""

import random
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from ...messages.tasks import Milestone, MilestonesSpec
from .held_out_split import held_out_draws, stable_hash

HELD_OUT_ONE_IN: Final = 8
HELD_OUT_SPREAD: Final = (0.0, 1.0)
"""Lowest and highest difficulty of the evaluation set."""
MOST_STEPS: Final = 16
_LEAST, _MOST = 2, 10
_OPENING: Final = "Work these steps out one after the other, each with a tool call of its own. "
_CLOSING: Final = " Answer with the results of all steps in order, separated by commas."


class _Kind(NamedTuple):
    words: str
    """`{a}` and `{b}` are earlier steps, `{k}` and `{m}` numbers."""
    apply: Callable[[int, int, int, int], int]
    """From the results of both steps and both numbers."""


KINDS: Final[dict[str, _Kind]] = {
    "product": _Kind("{k}*{m}", lambda a, b, k, m: k * m),
    "sum": _Kind("{k}+{m}", lambda a, b, k, m: k + m),
    "add": _Kind("add {k} to the result of step {a}", lambda a, b, k, m: a + k),
    "subtract": _Kind("subtract {k} from the result of step {a}", lambda a, b, k, m: a - k),
    "multiply": _Kind("multiply the result of step {a} by {k}", lambda a, b, k, m: a * k),
    "remainder": _Kind("the remainder of the result of step {a} by {k}", lambda a, b, k, m: a % k),
    "digits": _Kind("the sum of the digits of the result of step {a}", lambda a, b, k, m: _digits(a)),
    "both": _Kind("add the results of step {a} and step {b}", lambda a, b, k, m: a + b),
    "larger": _Kind("the larger of the results of step {a} and step {b}", lambda a, b, k, m: max(a, b)),
}
_STEP: Final = re.compile(r"Step (\d+): (.+?)\.(?= Step \d+: |$)")
_PATTERNS: Final = {
    name: re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d{1,6})", re.escape(kind.words)))
    for name, kind in KINDS.items()
}


class TaskStep(NamedTuple):
    """One subtask. What its kind does not use is 0."""

    kind: str
    a: int = 0
    """A step before this one, counted from 1."""
    b: int = 0
    k: int = 0
    m: int = 0


Steps = tuple[TaskStep, ...]


class HeldOutMultiStepTask(NamedTuple):
    """One task of the fixed evaluation set."""

    text: str
    steps: Steps
    difficulty: float
    """What was asked for, in [0, 1]."""


def sample_steps(rng: random.Random, difficulty: float) -> Steps:
    """Draw a chain of about this difficulty. Raises ValueError if it lies outside [0, 1]."""
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty must lie in [0, 1], got {difficulty}")
    wanted = _LEAST + difficulty * (_MOST - _LEAST)
    count = int(wanted) + (rng.random() < wanted - int(wanted))
    while True:
        steps = tuple(_draw(rng, number) for number in range(1, count + 1))
        if _is_telling(steps):
            return steps


def phrase(steps: Steps) -> str:
    """The task in words."""
    told = (f"Step {n}: {KINDS[s.kind].words.format(**s._asdict())}." for n, s in enumerate(steps, 1))
    return f"{_OPENING}{' '.join(told)}{_CLOSING}"


def find_steps(text: str) -> Steps | None:
    """The chain that a text asks for; None unless the whole text is one such task."""
    text = " ".join(text.split())
    if not text.startswith(_OPENING) or not text.endswith(_CLOSING):
        return None
    told = _STEP.findall(text.removeprefix(_OPENING).removesuffix(_CLOSING))
    steps = tuple(step for _, words in told if (step := _read(words)) is not None)
    numbers = [int(number) for number, _ in told]
    known = all(_goes_back(step, number) for number, step in enumerate(steps, 1))
    whole = len(steps) == len(told) <= MOST_STEPS and numbers == list(range(1, len(told) + 1)) and known
    if not whole or phrase(steps) != text:
        return None
    return steps if len(steps) >= _LEAST and _is_telling(steps) else None


def results(steps: Steps) -> list[int]:
    """The value of every step."""
    values = [0]
    for step in steps:
        values.append(KINDS[step.kind].apply(values[step.a], values[step.b], step.k, step.m))
    return values[1:]


def answer_of(steps: Steps) -> str:
    """All results, as the task asks for them."""
    return ", ".join(map(str, results(steps)))


def goal_of(steps: Steps) -> MilestonesSpec:
    """The result of each step, in order."""
    told = enumerate(results(steps), 1)
    return MilestonesSpec(milestones=tuple(Milestone(name=f"step {n}", value=str(v)) for n, v in told))


def estimate_difficulty(steps: Steps) -> float:
    """Where the task lies on the scale, in [0, 1]."""
    return min(max((len(steps) - _LEAST) / (_MOST - _LEAST), 0.0), 1.0)


def is_held_out(steps: Steps) -> bool:
    """Whether the task is for evaluation only."""
    return stable_hash(phrase(steps)) % HELD_OUT_ONE_IN == 0


def held_out_tasks(count: int, seed: int) -> list[HeldOutMultiStepTask]:
    """The fixed evaluation set: distinct held-out tasks, difficulties even over `HELD_OUT_SPREAD`."""
    draws = held_out_draws(random.Random(seed), count, HELD_OUT_SPREAD, sample_steps, is_held_out)
    return [HeldOutMultiStepTask(phrase(steps), steps, difficulty) for steps, difficulty in draws]


def _draw(rng: random.Random, number: int) -> TaskStep:
    """A first step starts from numbers; each later one goes on from the step before it."""
    if number == 1:
        return TaskStep(rng.choice(("product", "sum")), k=rng.randint(11, 99), m=rng.randint(11, 99))
    names = [name for name, kind in KINDS.items() if "{a}" in kind.words]
    kind = rng.choice([name for name in names if number > 2 or "{b}" not in KINDS[name].words])
    words = KINDS[kind].words
    most = 9 if kind == "multiply" else 99
    k = rng.randint(2, most) if "{k}" in words else 0
    return TaskStep(kind, number - 1, rng.randint(1, number - 2) if "{b}" in words else 0, k)


def _read(words: str) -> TaskStep | None:
    for name, pattern in _PATTERNS.items():
        found = pattern.fullmatch(words)
        if found:
            step = TaskStep(name, **{key: int(value) for key, value in found.groupdict().items()})
            return None if name == "remainder" and step.k == 0 else step
    return None


def _goes_back(step: TaskStep, number: int) -> bool:
    """Whether the steps that it uses come before it."""
    words = KINDS[step.kind].words
    used = [place for mark, place in (("{a}", step.a), ("{b}", step.b)) if mark in words]
    return all(1 <= place < number for place in used)


def _is_telling(steps: Steps) -> bool:
    """Whether no result comes twice: each then shows which step was done."""
    values = results(steps)
    return len(set(values)) == len(values)


def _digits(value: int) -> int:
    return sum(map(int, str(abs(value))))
