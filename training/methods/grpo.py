"""Group-relative policy optimisation, with a decoupled objective for stale samples: the whole loss.

GRPO: Shao et al. 2024, DeepSeekMath, eq. 3. Token-level normalisation and separate clip bounds: Yu et
al. 2025, DAPO. Decoupled objective: Hilton et al. 2022, Batch size-invariance, eq. 5; Fu et al. 2025,
AReaL, eq. 5.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...configs.roles import GrpoSettings
from ...messages.trajectories import Group
from ..advantages import group_advantages
from ..batching import Sample, TokenBatch
from .base import LossTerms, TrainingMethod


class ClippedObjective(NamedTuple):
    """The objective of each token, and where the clip held it back; both [N]."""

    objective: Tensor
    clipped: Tensor


def clipped_objective(
    logprobs: Tensor, proximal: Tensor, behaviour: Tensor, advantages: Tensor, settings: GrpoSettings
) -> ClippedObjective:
    """The decoupled clipped objective of each token, to be maximised; all tensors [N].

    u = π_θ/π_prox,   w = min(π_prox/π_behaviour, cap)
    J = w · min(u·A, clip(u, 1 − ε_low, 1 + ε_high)·A)

    The clip bounds how far the policy moves within a step, from where the step began; w corrects for
    an older version having sampled the token. For a token sampled by the version in training π_prox
    *is* π_behaviour: w = 1, and J is the plain PPO/GRPO objective.
    """
    ratio = torch.exp(logprobs - proximal)
    weight = torch.exp(proximal - behaviour).clamp(max=settings.importance_cap)
    free = ratio * advantages
    bounded = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high) * advantages
    return ClippedObjective(objective=weight * torch.minimum(free, bounded), clipped=bounded < free)


def kl_estimate(logprobs: Tensor, base_logprobs: Tensor) -> Tensor:
    """k3 of KL(π_θ ‖ π_base) for each sampled token, [N]: d = log π_base − log π_θ;  e^d − d − 1 ≥ 0.

    Source: Schulman, Approximating KL divergence (2020).
    """
    gap = base_logprobs - logprobs
    return torch.exp(gap) - gap - 1.0


class Grpo(TrainingMethod):
    """Each episode is measured against its siblings, and its tokens share its advantage."""

    def __init__(self, settings: GrpoSettings) -> None:
        self._settings = settings
        self.needs_base = settings.kl_weight > 0.0

    def samples(self, groups: Sequence[Group]) -> list[Sample]:
        """All trajectories of the groups whose rewards differ; flat groups have no gradient."""
        chosen: list[Sample] = []
        for group in groups:
            rewards = [trajectory.rewards.total for trajectory in group.trajectories]
            advantages = group_advantages(rewards, self._settings.normalize_std)
            if any(advantages):
                chosen += map(Sample, group.trajectories, advantages)
        return chosen

    def loss_terms(self, batch: TokenBatch, logprobs: Tensor, base_logprobs: Tensor | None) -> LossTerms:
        """Negative objective, plus `kl_weight` times the divergence from the base model."""
        behaviour = batch.select(batch.behaviour)
        at_start = logprobs.detach() if batch.proximal is None else batch.proximal
        proximal = torch.where(batch.select(batch.on_policy_mask), behaviour, at_start)
        clipped = clipped_objective(
            logprobs, proximal, behaviour, batch.select(batch.advantages), self._settings
        )
        loss = -clipped.objective.sum()
        if base_logprobs is None:
            return LossTerms(loss=loss, clipped=clipped.clipped.sum(), kl=None)
        kl = kl_estimate(logprobs, base_logprobs).sum()
        loss = loss + self._settings.kl_weight * kl
        return LossTerms(loss=loss, clipped=clipped.clipped.sum(), kl=kl.detach())
