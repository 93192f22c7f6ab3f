"""Gradients and log-probabilities against a plain, unpadded reference."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import GrpoSettings, LoraSettings, TrainerSettings
from agentfactory.messages.trajectories import Group, Trajectory
from agentfactory.messages.turns import Turn
from agentfactory.training import policy_models as policies_module
from agentfactory.training.batching import Sample, micro_batches
from agentfactory.training.errors import TrainingDiverged
from agentfactory.training.methods.grpo import Grpo
from agentfactory.training.policy_models import PolicyModels
from agentfactory.training.updates import (
    PolicyOptimizer,
    accumulate_gradient,
    fill_proximal_logprobs,
    run_updates,
)

SETTINGS = TrainerSettings(lora=LoraSettings(rank=4, alpha=8))


@pytest.fixture
def policies(model: ModelSettings) -> PolicyModels:
    """A student whose adapter is not zero, at temperature 0.7."""
    made = PolicyModels(model, SETTINGS, {"student": 0.7}, seed=0)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in made.parameters("student"):
            weight.add_(0.2 * torch.randn_like(weight))
    return made


def reference_logprobs(policies: PolicyModels, trajectory: Trajectory) -> Tensor:
    """One trajectory alone, all logits, the policy's tokens picked by hand: [N]."""
    ids, mask = torch.tensor([trajectory.token_ids]), trajectory.loss_mask
    logits = policies._model(input_ids=ids).logits[0] / 0.7
    table = logits.log_softmax(-1)
    return torch.stack([table[t - 1, ids[0, t]] for t in range(1, len(mask)) if mask[t]])


def samples_of(groups: Sequence[Group]) -> list[Sample]:
    return Grpo(GrpoSettings()).samples(groups)


def gradients(policies: PolicyModels) -> list[Tensor]:
    """The accumulated gradients, which are cleared."""
    found = []
    for weight in policies.parameters("student"):
        assert weight.grad is not None
        found.append(weight.grad.clone())
        weight.grad = None
    return found


def assert_same(some: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6)


def test_padded_logprobs_are_those_of_each_trajectory_alone(
    policies: PolicyModels, groups: tuple[Group, ...]
) -> None:
    for batch in micro_batches(samples_of(groups), 0, 40):
        rows = [
            reference_logprobs(policies, trajectory)
            for row in batch.tokens.tolist()
            for group in groups
            for trajectory in group.trajectories
            if list(trajectory.token_ids) == row[: len(trajectory.token_ids)]
        ]
        torch.testing.assert_close(policies.logprobs("student", batch), torch.cat(rows))


def test_a_large_vocabulary_is_taken_in_parts_with_the_same_result(
    policies: PolicyModels, groups: tuple[Group, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = micro_batches(samples_of(groups), 0, 1000)
    with policies.active_policy("student"):
        accumulate_gradient(policies, "student", Grpo(GrpoSettings()), batches)
        whole = gradients(policies)
        monkeypatch.setattr(policies_module, "MAX_LOGITS", 7 * 20)
        accumulate_gradient(policies, "student", Grpo(GrpoSettings()), batches)
    assert_same(gradients(policies), whole)


@pytest.mark.parametrize("padded_tokens", [12, 40, 1000])
def test_accumulated_gradients_are_those_of_the_written_loss(
    policies: PolicyModels, groups: tuple[Group, ...], padded_tokens: int
) -> None:
    samples = samples_of(groups)
    losses = []
    for trajectory, advantage in samples:
        new = reference_logprobs(policies, trajectory)
        old = torch.tensor(
            [p for p, m in zip(trajectory.behaviour_logprobs, trajectory.loss_mask, strict=True) if m]
        )
        ratio = torch.exp(new - old)
        losses.append(-torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage))
    loss = torch.cat(losses).mean()
    with policies.active_policy("student"):
        loss.backward()  # type: ignore[no-untyped-call]
        expected = gradients(policies)
        batches = micro_batches(samples, 0, padded_tokens)
        seen = accumulate_gradient(policies, "student", Grpo(GrpoSettings()), batches)
    assert_same(gradients(policies), expected)
    assert seen.loss == pytest.approx(loss.item(), rel=1e-4)
    assert seen.tokens == sum(len(part) for part in losses)


def test_gradient_checkpointing_changes_no_gradient(model: ModelSettings, groups: tuple[Group, ...]) -> None:
    batches = micro_batches(samples_of(groups), 0, 40)
    found = []
    for checkpointing in (False, True):
        settings = SETTINGS.model_copy(update={"gradient_checkpointing": checkpointing})
        policies = PolicyModels(model, settings, {"student": 1.0}, seed=0)
        with policies.active_policy("student"):
            accumulate_gradient(policies, "student", Grpo(GrpoSettings()), batches)
        found.append([weight.grad for weight in policies.parameters("student") if weight.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_only_positions_before_policy_tokens_reach_the_head(
    policies: PolicyModels, make_turn: Callable[..., Turn], make_group: Callable[..., Group]
) -> None:
    """So no gradient can come from a token that a tool, or the task, put there."""
    turns = [make_turn([1, 2], [3, 4]), make_turn([5, 6, 7], [8])]
    group = make_group("g", (turns, 1.0), ([make_turn([1], [2])], 0.0))
    (batch,) = micro_batches(samples_of([group])[:1], 0, 64)
    seen: list[Tensor] = []
    hook = policies._head.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits))
    policies.logprobs("student", batch)
    hook.remove()
    everything = policies._model(input_ids=batch.tokens).logits[0]
    torch.testing.assert_close(seen[0], everything[[1, 2, 6]])


def test_the_base_model_speaks_where_it_is_asked_for_and_the_adapter_returns(
    policies: PolicyModels, groups: tuple[Group, ...]
) -> None:
    (batch,) = micro_batches(samples_of(groups)[:1], 0, 64)
    with policies.active_policy("student"):
        adapted = policies.no_grad_logprobs("student", batch)
        base = policies.base_logprobs("student", batch)
        assert torch.equal(policies.no_grad_logprobs("student", batch), adapted)
        assert policies.logprobs("student", batch).requires_grad
    assert not torch.allclose(base, adapted)
    policies.restore("student", None)
    torch.testing.assert_close(policies.no_grad_logprobs("student", batch), base)


def test_the_first_mini_batch_needs_no_proximal_pass_and_fresh_ones_never(
    policies: PolicyModels, groups: tuple[Group, ...]
) -> None:
    samples = samples_of(groups)
    halves = [samples[:6], samples[6:]]
    fresh = [micro_batches(half, 0, 1000) for half in halves]
    stale = [micro_batches(half, 1, 1000) for half in halves]
    assert [
        [b.proximal is None for b in part] for part in fill_proximal_logprobs(policies, "student", fresh)
    ] == [[True]] * 2
    filled = fill_proximal_logprobs(policies, "student", stale)
    assert filled[0][0].proximal is None
    proximal = filled[1][0].proximal
    assert proximal is not None
    assert torch.equal(proximal, policies.no_grad_logprobs("student", stale[1][0]))


def test_the_fused_proximal_pass_equals_an_explicit_one(
    policies: PolicyModels, groups: tuple[Group, ...]
) -> None:
    (batch,) = micro_batches(samples_of(groups), 1, 1000)
    explicit = replace(batch, proximal=policies.no_grad_logprobs("student", batch))
    found = []
    for each in (batch, explicit):
        with policies.active_policy("student"):
            accumulate_gradient(policies, "student", Grpo(GrpoSettings()), [each])
        found.append(gradients(policies))
    assert_same(*found)


def poison(policies: PolicyModels) -> nn.Parameter:
    weight = policies.parameters("student")[0]
    with torch.no_grad():
        weight[0, 0] = float("nan")
    return weight


def test_updates_that_are_not_finite_are_skipped_and_a_step_of_nothing_else_fails(
    policies: PolicyModels, groups: tuple[Group, ...]
) -> None:
    optimizer = PolicyOptimizer(policies.parameters("student"), SETTINGS)
    poison(policies)
    untouched = policies.export("student")[1]
    with pytest.raises(TrainingDiverged, match="all 1 updates"):
        run_updates(
            policies, "student", Grpo(GrpoSettings()), optimizer, [micro_batches(samples_of(groups), 0, 99)]
        )
    assert policies.export("student")[1] == untouched
    assert optimizer.updates == 0


def test_one_bad_mini_batch_does_not_spoil_the_others(
    policies: PolicyModels, groups: tuple[Group, ...]
) -> None:
    optimizer = PolicyOptimizer(policies.parameters("student"), SETTINGS)
    samples = samples_of(groups)
    good = micro_batches(samples[:4], 0, 99)
    bad = [
        replace(batch, advantages=torch.full_like(batch.advantages, float("inf")))
        for batch in micro_batches(samples[4:], 0, 99)
    ]
    seen = run_updates(policies, "student", Grpo(GrpoSettings()), optimizer, [bad, good])
    assert (seen.updates, seen.skipped, optimizer.updates) == (1, 1, 1)
    assert seen.tokens == sum(batch.policy_tokens for batch in good)
    assert all(torch.isfinite(weight).all() for weight in policies.parameters("student"))


def test_the_rate_warms_up_linearly_and_gradients_are_clipped(policies: PolicyModels) -> None:
    settings = SETTINGS.model_copy(update={"warmup_steps": 4, "learning_rate": 1.0, "max_grad_norm": 0.5})
    weight = nn.Parameter(torch.zeros(1))
    optimizer = PolicyOptimizer([weight], settings)
    places = [0.0]
    for _ in range(6):
        weight.grad = torch.full((1,), 8.0)
        assert optimizer.apply() == (8.0, True)
        places.append(weight.item())
    moves = [before - after for before, after in pairwise(places)]
    assert moves == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0], rel=1e-3)
    moment = optimizer._adam.state[weight]["exp_avg"].item()
    assert moment == pytest.approx(0.5 * (1 - 0.9**6), rel=1e-3)


def test_a_step_that_fails_leaves_the_adapter_and_the_mode_as_they_were(model: ModelSettings) -> None:
    policies = PolicyModels(model, SETTINGS, {"student": 1.0, "teacher": 1.0}, seed=0)
    with policies.active_policy("student"):
        with pytest.raises(TrainingDiverged), policies.active_policy("teacher"):
            raise TrainingDiverged("nothing was finite")
        assert policies._model.active_adapter == "student"
        assert all(weight.requires_grad for weight in policies.parameters("student"))
        assert not any(weight.requires_grad for weight in policies.parameters("teacher"))
    assert not policies._model.training
