from collections.abc import Callable
from random import Random

import pytest

from agentfactory.messages.trajectories import Group
from agentfactory.messages.turns import Turn
from agentfactory.training.batching import Sample, micro_batches, mini_batches
from agentfactory.training.errors import UnusableTrajectory


def samples_of(*groups: Group) -> list[Sample]:
    return [Sample(trajectory, 1.0) for group in groups for trajectory in group.trajectories]


def test_rows_hold_the_exact_tokens_and_count_only_the_policys(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    turns = [make_turn([5, 6], [7, 8], [-0.5, -1.5]), make_turn([9], [10], [-2.5], version=1)]
    (batch,) = micro_batches(samples_of(make_group("g", (turns, 1.0), (turns[:1], 0.0))), 1, 64)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 0, 0], [5, 6, 7, 8, 9, 10]]
    assert batch.mask.int().tolist() == [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 1]]
    assert batch.behaviour.tolist() == [[0, 0, -0.5, -1.5, 0, 0], [0, 0, -0.5, -1.5, 0, -2.5]]
    assert batch.on_policy_mask.int().tolist() == [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]]
    assert batch.advantages.tolist() == [[1.0] * 6] * 2
    assert (batch.policy_tokens, batch.has_stale_tokens) == (5, True)


def test_tokens_behind_the_last_policy_token_are_cut(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    ended = make_turn([5], [7]).model_copy(update={"loss_mask": (0, 1)})
    aborted = make_turn([9, 9, 9], [], [])
    (batch,) = micro_batches(samples_of(make_group("g", ([ended, aborted], 1.0))), 0, 64)
    assert batch.tokens.tolist() == [[5, 7]]


def test_micro_batches_stay_within_the_padded_budget_and_lose_nothing(groups: tuple[Group, ...]) -> None:
    samples = samples_of(*groups)
    batches = micro_batches(samples, 0, 30)
    assert len(batches) > 3
    assert all(batch.tokens.numel() <= 30 for batch in batches)
    assert sum(batch.policy_tokens for batch in batches) == sum(sum(s.trajectory.loss_mask) for s in samples)
    lengths = [batch.tokens.shape[1] for batch in batches]
    assert lengths == sorted(lengths)


def test_a_trajectory_longer_than_the_budget_has_a_batch_to_itself(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    long, short = [make_turn([1], [2] * 99)], [make_turn([1], [2])]
    batches = micro_batches(samples_of(make_group("g", (long, 1.0), (short, 0.0), (long, 0.0))), 0, 64)
    assert [tuple(batch.tokens.shape) for batch in batches] == [(1, 2), (1, 100), (1, 100)]


def test_a_trajectory_without_policy_tokens_makes_no_row(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    assert micro_batches(samples_of(make_group("g", ([make_turn([1, 2], [])], 1.0), ([], 0.0))), 0, 64) == []


def test_a_mask_on_tokens_that_the_policy_did_not_sample_is_refused(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    wrong = make_turn([1, 2], [3]).model_copy(update={"loss_mask": (0, 1, 1)})
    headless = make_turn([], [3])
    for turn in (wrong, headless):
        with pytest.raises(UnusableTrajectory, match="episode g-0"):
            micro_batches(samples_of(make_group("g", ([turn], 1.0))), 0, 64)


def test_mini_batches_deal_every_trajectory_once_and_evenly(groups: tuple[Group, ...]) -> None:
    samples = samples_of(*groups)
    parts = mini_batches(samples, 5, Random(0))
    assert sorted(len(part) for part in parts) == [2, 2, 2, 3, 3]
    assert sorted(s.trajectory.episode_id for part in parts for s in part) == sorted(
        s.trajectory.episode_id for s in samples
    )


def test_fewer_trajectories_than_updates_make_fewer_mini_batches(groups: tuple[Group, ...]) -> None:
    assert [len(part) for part in mini_batches(samples_of(*groups)[:3], 8, Random(0))] == [1, 1, 1]
    assert mini_batches([], 4, Random(0)) == []
