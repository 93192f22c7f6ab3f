"""Bounded staleness."""

import pytest

from agentfactory.actors.coordinator.rollouts import capacity
from agentfactory.configs.roles import LoopSettings


def loop(**changes: int) -> LoopSettings:
    return LoopSettings(
        **{
            "rounds": 100,
            "batch_groups": 4,
            "max_staleness": 1,
            "max_concurrent_groups": 100,
            "max_groups_per_step": 100,
            **changes,
        }
    )


def test_a_run_begins_with_one_batch_for_each_version_of_staleness() -> None:
    for staleness in (0, 1, 3):
        room = capacity(loop(max_staleness=staleness), version=0, ready=0, running=0, sampled=0)
        assert room == (staleness + 1) * 4


def test_at_staleness_zero_nothing_begins_until_the_next_version_is_there() -> None:
    on_policy = loop(max_staleness=0)
    assert capacity(on_policy, version=0, ready=4, running=0, sampled=4) == 0
    assert capacity(on_policy, version=1, ready=0, running=0, sampled=0) == 4


def test_running_groups_take_room_like_accepted_ones() -> None:
    assert capacity(loop(), version=2, ready=1, running=3, sampled=1) == (1 + 2 + 1) * 4 - (2 * 4 + 1 + 3)


def test_no_more_groups_run_at_once_than_allowed() -> None:
    assert capacity(loop(max_concurrent_groups=3), version=0, ready=0, running=1, sampled=0) == 2


def test_the_last_batch_is_not_sampled_twice() -> None:
    assert capacity(loop(rounds=3), version=2, ready=1, running=1, sampled=1) == 2


def test_a_step_that_finds_no_frontier_stops_sampling() -> None:
    assert capacity(loop(max_groups_per_step=10), version=0, ready=0, running=0, sampled=20) == 0


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
def test_no_group_is_ever_older_than_the_bound(staleness: int) -> None:
    """Replay the worst order: the newest groups always finish last."""
    settings, version, ready, running = loop(max_staleness=staleness, rounds=20), 0, [], []
    for _ in range(400):
        room = capacity(settings, version, len(ready), len(running), sampled=0)
        running += [version] * room
        if running:
            ready.append(running.pop(0))
        if len(ready) >= 4:
            batch, ready = ready[:4], ready[4:]
            assert all(version - born <= staleness for born in batch)
            version += 1
