"""Sampling of tasks: the train/held-out split by a hash of the content, and the held-out set."""

import hashlib
import random
from collections.abc import Callable, Hashable, Iterator
from typing import Final, TypeVar

TaskT = TypeVar("TaskT", bound=Hashable)

_ATTEMPTS_BEFORE_HARDER: Final = 200
_HARDER_BY: Final = 0.02
_ROUNDS: Final = 1_000


def stable_hash(content: str) -> int:
    """A number in [0, 2^64) that hangs on the content alone, for splits and for what is drawn for a task."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")


def stochastic_round(rng: random.Random, number: float) -> int:
    """Round up with the probability of the fraction, so that the mean stays `number`."""
    whole = int(number)
    return whole + (rng.random() < number - whole)


def held_out_draws(
    rng: random.Random,
    count: int,
    spread: tuple[float, float],
    draw: Callable[[random.Random, float], TaskT],
    is_held_out: Callable[[TaskT], bool],
) -> Iterator[tuple[TaskT, float]]:
    """Distinct held-out tasks, difficulties even over `spread`, each with the one it was drawn with.

    Where a difficulty has too few left, slightly harder ones fill its place. The caller may draw from
    `rng` between two tasks.
    """
    lowest, highest = spread
    seen: set[TaskT] = set()

    def is_wanted(task: TaskT) -> bool:
        return task not in seen and is_held_out(task)

    for index in range(count):
        asked = lowest + (highest - lowest) * (index + 0.5) / count
        task, difficulty = _draw_wanted(rng, asked, draw, is_wanted)
        seen.add(task)
        yield task, difficulty


def _draw_wanted(
    rng: random.Random,
    difficulty: float,
    draw: Callable[[random.Random, float], TaskT],
    is_wanted: Callable[[TaskT], bool],
) -> tuple[TaskT, float]:
    for _ in range(_ROUNDS):
        for _ in range(_ATTEMPTS_BEFORE_HARDER):
            task = draw(rng, difficulty)
            if is_wanted(task):
                return task, difficulty
        difficulty = min(1.0, difficulty + _HARDER_BY)
    raise ValueError("the held-out set asks for more tasks than the domain has: lower its size")
