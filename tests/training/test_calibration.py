"""Calibration: bins, their error, and temperature scaling."""

import math
from random import Random

import pytest

from agentfactory.training.calibration import (
    ScoredAnswer,
    bins_of,
    calibrate,
    calibration_error,
    fit_temperature,
    scaled,
)


def answers(temperature: float, n: int = 4000) -> list[ScoredAnswer]:
    """By an author whose logits are `temperature` times those of the true chances."""
    rng = Random(1)
    drawn: list[ScoredAnswer] = []
    for _ in range(n):
        chance = rng.uniform(0.05, 0.95)
        said = 1.0 / (1.0 + math.exp(-temperature * math.log(chance / (1.0 - chance))))
        drawn.append(ScoredAnswer(said, rng.random() < chance))
    return drawn


def test_the_error_is_the_mean_distance_of_confidence_and_success() -> None:
    half = [
        ScoredAnswer(0.9, True),
        ScoredAnswer(0.9, False),
        ScoredAnswer(0.1, False),
        ScoredAnswer(0.1, False),
    ]
    assert calibration_error(half) == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert calibration_error([]) == 0.0


def test_answers_lie_in_ten_intervals_of_which_the_last_holds_certainty() -> None:
    found = bins_of([ScoredAnswer(0.0, False), ScoredAnswer(0.1, True), ScoredAnswer(1.0, True)])
    assert [(each.low, each.n, each.right) for each in found] == [(0.0, 1, 0.0), (0.1, 1, 1.0), (0.9, 1, 1.0)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_confidences_is_found_again(temperature: float) -> None:
    assert fit_temperature(answers(temperature)) == pytest.approx(temperature, rel=0.1)


def test_scaling_mends_a_policy_that_is_too_sure_and_leaves_one_that_is_right_alone() -> None:
    bold, honest = calibrate(answers(3.0)), calibrate(answers(1.0))
    assert bold.error > 0.1
    assert bold.scaled_error < bold.error / 3
    assert abs(honest.scaled_error - honest.error) < 0.02


def test_certainty_and_uniform_verdicts_do_not_break_the_fit() -> None:
    for one in (
        [ScoredAnswer(1.0, True)] * 3,
        [ScoredAnswer(1.0, False), ScoredAnswer(0.0, True)],
        [ScoredAnswer(0.5, True)],
        [],
    ):
        found = calibrate(one)
        assert 0.04 < found.temperature < 21
        assert 0.0 <= found.scaled_error <= 1.0
    assert scaled(0.3, 1.0) == pytest.approx(0.3)
