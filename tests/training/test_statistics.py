import pytest

from agentfactory.training.statistics import wilson_interval


def test_wilson_interval_matches_the_published_example() -> None:
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_all_or_no_successes_still_leave_room_for_doubt() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert wilson_interval(10, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)


def test_more_observations_narrow_the_interval() -> None:
    few, many = wilson_interval(5, 10), wilson_interval(500, 1000)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]


def test_nothing_observed_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="3 successes out of 2"):
        wilson_interval(3, 2)
