"""Our GRPO loss against that of trl's own trainer, on random inputs.

trl's `_compute_loss` is called as it is; what stands in for its trainer holds its options and gives it the
log-probabilities, which in a run come from a model. `bnpo` and `dapo` are trl's names for our token-level
mean; its vLLM correction is our importance weight, and its old log-probabilities are our proximal ones.
"""

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from agentfactory.configs.roles import GrpoSettings
from agentfactory.training.advantages import group_advantages
from agentfactory.training.batching import TokenBatch
from agentfactory.training.methods.grpo import Grpo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of vLLM's version when it is imported
    from trl import GRPOTrainer

ROWS, LENGTH = 8, 24
PLAIN = GrpoSettings(clip_low=0.2, clip_high=0.2)


class OneProcess:
    """What trl's loss asks of accelerate."""

    num_processes = 1
    sync_gradients = True

    def gather(self, value: Tensor) -> Tensor:
        return value

    def reduce(self, value: Tensor, reduction: str) -> Tensor:
        return value


@dataclass
class StandIn:
    """A trainer's options, and log-probabilities in place of a model."""

    logprobs: Tensor
    epsilon_low: float
    epsilon_high: float
    beta: float
    loss_type: str
    use_vllm: bool
    accelerator: OneProcess = field(default_factory=OneProcess)
    model: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(training=False))
    args: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(delta=None, use_bias_correction_kl=False)
    )
    aux_loss_enabled: bool = False
    top_entropy_quantile: float = 1.0
    off_policy_mask_threshold: float | None = None
    importance_sampling_level: str = "token"
    vllm_importance_sampling_correction: bool = True
    _entropy_bonus_enabled: bool = False
    _metrics: dict[str, Any] = field(default_factory=lambda: {"eval": defaultdict(list)})

    def _get_per_token_logps_and_entropies(self, *_: object, **__: object) -> tuple[Tensor, Tensor, None]:
        return self.logprobs, torch.zeros_like(self.logprobs), None


@dataclass
class Inputs:
    """One mini-batch of random episodes, tool output among them; all tensors [B, T]."""

    logprobs: Tensor
    proximal: Tensor
    behaviour: Tensor
    base: Tensor
    advantages: Tensor
    mask: Tensor

    @classmethod
    def draw(cls, seed: int) -> "Inputs":
        generator = torch.Generator().manual_seed(seed)

        def normal(scale: float) -> Tensor:
            return scale * torch.randn(ROWS, LENGTH, generator=generator, dtype=torch.float64)

        proximal = -normal(1.0).abs()
        rewards = torch.rand(ROWS, generator=generator).tolist()
        lengths = torch.randint(1, LENGTH + 1, (ROWS, 1), generator=generator)
        own = torch.rand(ROWS, LENGTH, generator=generator) < 0.7  # the others are a tool's
        mask = own & (torch.arange(LENGTH) < lengths)
        mask[:, 0] = True
        return cls(
            logprobs=(proximal + normal(0.4)).requires_grad_(),
            proximal=proximal,
            behaviour=proximal + normal(0.5),
            base=proximal + normal(0.3),
            advantages=torch.tensor(group_advantages(rewards, True), dtype=torch.float64),
            mask=mask,
        )


def by_trl(inputs: Inputs, settings: GrpoSettings, loss_type: str, *, stale: bool) -> Tensor:
    trainer = StandIn(
        logprobs=inputs.logprobs,
        epsilon_low=settings.clip_low,
        epsilon_high=settings.clip_high,
        beta=settings.kl_weight,
        loss_type=loss_type,
        use_vllm=stale,
    )
    weight = torch.exp(inputs.proximal - inputs.behaviour).clamp(max=settings.importance_cap)
    ids, ones = torch.zeros_like(inputs.mask, dtype=torch.long), torch.ones_like(inputs.mask)
    batch = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ones[:, :1],
        "completion_ids": ids,
        "completion_mask": inputs.mask,
        "advantages": inputs.advantages,
        "old_per_token_logps": inputs.proximal,
        "ref_per_token_logps": inputs.base,
        "importance_sampling_ratio": weight,
        "num_items_in_batch": inputs.mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, None, batch)
    assert isinstance(loss, Tensor)
    return loss


def by_us(inputs: Inputs, settings: GrpoSettings, *, stale: bool) -> Tensor:
    mask = inputs.mask
    behaviour = inputs.behaviour if stale else inputs.proximal
    batch = TokenBatch(
        tokens=torch.zeros_like(mask, dtype=torch.long),
        mask=mask,
        behaviour=behaviour,
        on_policy_mask=torch.full_like(mask, not stale),
        advantages=inputs.advantages[:, None].expand(mask.shape),
        proximal=inputs.proximal[mask] if stale else None,
    )
    method = Grpo(settings)
    base = inputs.base[mask] if method.needs_base else None
    return method.loss_terms(batch, inputs.logprobs[mask], base).loss / batch.policy_tokens


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loss_type", ["bnpo", "dapo"])
@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "stale"])
@pytest.mark.parametrize(
    "settings",
    [
        PLAIN,
        GrpoSettings(clip_low=0.2, clip_high=0.28),  # clip-higher
        GrpoSettings(kl_weight=0.05),
        GrpoSettings(importance_cap=1.1, kl_weight=0.5),
        GrpoSettings(clip_low=0.0, clip_high=0.0),
    ],
    ids=["plain", "clip higher", "with k3", "capped", "no room"],
)
def test_loss_and_gradient_are_those_of_trl(
    settings: GrpoSettings, stale: bool, loss_type: str, seed: int
) -> None:
    inputs = Inputs.draw(seed)
    theirs = by_trl(inputs, settings, loss_type, stale=stale)
    ours = by_us(inputs, settings, stale=stale)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0.0)
    (our_gradient,) = torch.autograd.grad(ours, inputs.logprobs)
    (their_gradient,) = torch.autograd.grad(theirs, inputs.logprobs)
    torch.testing.assert_close(our_gradient, their_gradient, atol=1e-5, rtol=0.0)
    assert their_gradient.abs().sum() > 0.01


def test_the_share_of_clipped_tokens_is_that_of_trl() -> None:
    inputs, settings = Inputs.draw(0), GrpoSettings()
    trainer_metrics = StandIn(inputs.logprobs, settings.clip_low, settings.clip_high, 0.0, "bnpo", False)
    advantages = inputs.advantages[:, None]
    mask = inputs.mask
    batch = {
        "prompt_ids": torch.zeros(ROWS, 1, dtype=torch.long),
        "prompt_mask": torch.ones(ROWS, 1, dtype=torch.bool),
        "completion_ids": torch.zeros(ROWS, LENGTH, dtype=torch.long),
        "completion_mask": mask,
        "advantages": inputs.advantages,
        "old_per_token_logps": inputs.proximal,
    }
    GRPOTrainer._compute_loss(trainer_metrics, None, batch)
    (share,) = trainer_metrics._metrics["eval"]["clip_ratio/region_mean"]
    assert 0.05 < share < 0.95
    ours = Grpo(settings).loss_terms(
        TokenBatch(
            tokens=batch["completion_ids"],
            mask=mask,
            behaviour=inputs.proximal,
            on_policy_mask=torch.ones_like(mask),
            advantages=advantages.expand(mask.shape),
        ),
        inputs.logprobs[mask],
        None,
    )
    assert ours.clipped.item() / mask.sum().item() == pytest.approx(share)
