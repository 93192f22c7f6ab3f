import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from agentfactory.configs.roles import GrpoSettings
from agentfactory.messages.trajectories import Group
from agentfactory.messages.turns import Turn
from agentfactory.training.batching import micro_batches
from agentfactory.training.methods.grpo import Grpo, clipped_objective, kl_estimate

SETTINGS = GrpoSettings(clip_low=0.2, clip_high=0.28, importance_cap=2.0)


def objective(
    new: Sequence[float], proximal: Sequence[float], behaviour: Sequence[float], advantages: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Objective and its gradient with respect to the new log-probabilities."""
    logprobs = torch.tensor(new, requires_grad=True)
    value, _ = clipped_objective(
        logprobs, torch.tensor(proximal), torch.tensor(behaviour), torch.tensor(advantages), SETTINGS
    )
    (gradient,) = torch.autograd.grad(value.sum(), logprobs)
    return value.detach(), gradient


def test_on_policy_the_gradient_is_the_advantage() -> None:
    value, gradient = objective([-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0], [0.5, -1.5])
    assert value.tolist() == gradient.tolist() == [0.5, -1.5]


def test_the_decoupled_objective_follows_the_written_formula() -> None:
    new, proximal, behaviour, advantage = -1.0, -1.1, -1.4, -0.7
    value, gradient = objective([new], [proximal], [behaviour], [advantage])
    expected = math.exp(proximal - behaviour) * math.exp(new - proximal) * advantage
    assert value.item() == pytest.approx(expected)
    assert gradient.item() == pytest.approx(expected)


def test_on_fresh_samples_the_decoupled_objective_is_plain_ppo() -> None:
    torch.manual_seed(0)
    new, old, advantages = torch.randn(3, 200)
    old = new + 0.5 * old
    decoupled, held = clipped_objective(new, old, old, advantages, SETTINGS)
    ratio = torch.exp(new - old)
    plain = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)
    assert torch.equal(decoupled, plain)
    assert 0 < held.sum() < 200


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.5, 1.0, False),  # likely enough already
        (1.5, -1.0, True),  # too likely, and should not be
        (0.5, 1.0, True),  # too unlikely, and should not be
        (0.5, -1.0, False),  # unlikely enough already
        (1.27, 1.0, True),  # the upper bound is the wider one
        (0.81, -1.0, True),
    ],
)
def test_the_clip_stops_only_moves_further_in_the_wanted_direction(
    ratio: float, advantage: float, moves: bool
) -> None:
    _, gradient = objective([math.log(ratio)], [0.0], [0.0], [advantage])
    assert gradient.item() == pytest.approx(ratio * advantage if moves else 0.0)


def test_the_importance_weight_is_capped() -> None:
    _, gradient = objective([-1.0, -1.0], [-1.0, -1.0], [-9.0, -0.5], [1.0, 1.0])
    assert gradient.tolist() == pytest.approx([2.0, math.exp(-0.5)])


def test_the_divergence_estimate_is_never_negative_and_zero_for_equal_policies() -> None:
    torch.manual_seed(0)
    new, base = torch.randn(2, 100)
    assert (kl_estimate(new, base) >= 0).all()
    assert kl_estimate(new, new).tolist() == [0.0] * 100


def test_the_divergence_estimate_is_unbiased() -> None:
    torch.manual_seed(0)
    new, base = torch.randn(2, 6).log_softmax(-1)
    expected = (new.exp() * (new - base)).sum()
    estimate = (new.exp() * kl_estimate(new, base)).sum()
    assert estimate.item() == pytest.approx(expected.item(), abs=1e-6)


def test_groups_with_equal_rewards_are_left_out(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    turns = [make_turn([1], [2])]
    flat, mixed = (
        make_group("flat", (turns, 1.0), (turns, 1.0)),
        make_group("mixed", (turns, 1.0), (turns, 0.0)),
    )
    samples = Grpo(SETTINGS).samples([flat, mixed])
    assert [sample.trajectory.group_id for sample in samples] == ["mixed", "mixed"]
    assert [sample.advantage for sample in samples] == pytest.approx([1.0, -1.0], abs=1e-5)


def test_stale_tokens_are_measured_from_the_proximal_policy_and_fresh_ones_from_their_record(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    turns = [make_turn([1], [2], [-1.0], version=3), make_turn([4], [5], [-1.0], version=4)]
    method = Grpo(SETTINGS)
    samples = method.samples([make_group("g", (turns, 1.0), ([make_turn([1], [2])], 0.0))])[:1]
    (batch,) = micro_batches(samples, version=4, padded_tokens=64)
    advantage = samples[0].advantage
    logprobs = torch.tensor([-1.1, -1.1], requires_grad=True)
    (gradient,) = torch.autograd.grad(method.loss_terms(batch, logprobs, None).loss, logprobs)
    assert gradient.tolist() == pytest.approx([-advantage * math.exp(-0.1)] * 2)
    held_apart = batch.__class__(
        batch.tokens,
        batch.mask,
        batch.behaviour,
        batch.on_policy_mask,
        batch.advantages,
        torch.tensor([-2.0, -2.0]),
    )
    (gradient,) = torch.autograd.grad(method.loss_terms(held_apart, logprobs, None).loss, logprobs)
    # Stale: the ratio e^0.9 is past the clip. Fresh: the proximal value is not looked at.
    assert gradient.tolist() == pytest.approx([0.0, -advantage * math.exp(-0.1)])


def test_the_divergence_from_the_base_model_is_weighed_in(
    make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    method = Grpo(GrpoSettings(kl_weight=0.5))
    assert method.needs_base
    assert not Grpo(GrpoSettings()).needs_base
    samples = method.samples(
        [make_group("g", ([make_turn([1], [2], [-1.0])], 1.0), ([make_turn([1], [3])], 0.0))]
    )
    (batch,) = micro_batches(samples[:1], version=0, padded_tokens=64)
    logprobs = torch.tensor([-1.0])
    plain = Grpo(GrpoSettings()).loss_terms(batch, logprobs, None)
    terms = method.loss_terms(batch, logprobs, torch.tensor([-1.5]))
    expected = math.exp(-0.5) + 0.5 - 1.0
    assert plain.kl is None
    assert terms.kl is not None
    assert terms.kl.item() == pytest.approx(expected)
    assert terms.loss.item() == pytest.approx(plain.loss.item() + 0.5 * expected)
