import subprocess
import sys

import pytest

from agentfactory.training.advantages import group_advantages


def test_advantages_are_standard_scores_of_the_group() -> None:
    assert group_advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx(
        [1.7320, -0.5773, -0.5773, -0.5773], abs=1e-3
    )


def test_without_std_advantages_are_distances_from_the_mean() -> None:
    assert group_advantages([1.0, 0.0, 0.5], normalize_std=False) == [0.5, -0.5, 0.0]


def test_a_group_of_equal_rewards_teaches_exactly_nothing() -> None:
    assert group_advantages([0.1 + 0.2, 0.3, 0.3]) == [0.0, 0.0, 0.0]
    assert group_advantages([0.7]) == [0.0]
    assert group_advantages([]) == []


def test_adding_a_constant_to_all_rewards_changes_no_advantage() -> None:
    plain, lifted = group_advantages([0.0, 0.2, 1.0]), group_advantages([5.0, 5.2, 6.0])
    assert lifted == pytest.approx(plain)


def test_the_pure_modules_do_not_import_torch() -> None:
    code = (
        "import sys, agentfactory.training.rewards, agentfactory.training.advantages;"
        "import agentfactory.training.statistics, agentfactory.training.checkpoints;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
