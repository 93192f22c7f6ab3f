"""The drawing of held-out sets that all domains share."""

import random
from itertools import pairwise

import pytest

from agentfactory.training.tasks.held_out_split import held_out_draws


def _draw(rng: random.Random, difficulty: float) -> int:
    return rng.randint(0, int(100 * difficulty))


def test_held_out_tasks_are_distinct_and_spread_over_the_difficulties() -> None:
    drawn = list(held_out_draws(random.Random(1), 40, (0.4, 0.9), _draw, lambda task: task % 2 == 0))
    tasks = [task for task, _ in drawn]
    assert len(set(tasks)) == 40
    assert all(task % 2 == 0 for task in tasks)
    # Even steps, except where the small numbers ran out and a harder one took the place.
    assert all(later - earlier > -0.5 for (_, earlier), (_, later) in pairwise(drawn))
    assert drawn[0][1] < 0.45
    assert 0.85 < drawn[-1][1] <= 1.0


def test_a_difficulty_that_ran_out_is_filled_from_a_harder_one() -> None:
    drawn = list(held_out_draws(random.Random(1), 12, (0.1, 0.1), _draw, lambda task: True))
    assert max(difficulty for _, difficulty in drawn) > 0.1


def test_a_set_larger_than_the_domain_is_an_error_and_not_an_endless_search() -> None:
    with pytest.raises(ValueError, match="lower its size"):
        list(held_out_draws(random.Random(1), 102, (0.5, 1.0), _draw, lambda task: True))
