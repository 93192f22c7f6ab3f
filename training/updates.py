"""The updates of one training step: gradients over micro-batches, and the optimizer that uses them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import safetensors.torch
import torch
from torch import Tensor, nn

from ..configs.roles import TrainerSettings
from ..messages.adapters import Policy
from .batching import TokenBatch
from .errors import TrainingDiverged
from .methods.base import TrainingMethod
from .policy_models import PolicyModels

log = logging.getLogger(__name__)


@dataclass(slots=True)
class StepMetrics:
    """What a mini-batch, or a whole step, showed: sums that `of` adds up."""

    updates: int = 0
    skipped: int = 0
    """Updates left out because their loss or gradient was not finite."""
    tokens: int = 0
    loss: float = 0.0
    """Sum over updates of the mean over policy tokens."""
    grad_norm: float = 0.0
    """Sum over updates."""
    clipped: float = 0.0
    """Tokens."""
    kl: float | None = None
    """Sum over policy tokens, nats; None where it is not measured."""
    nll: float = 0.0
    """Sum over policy tokens of −log p, nats."""


class PolicyOptimizer:
    """AdamW on one policy's adapter, without weight decay, with a linear warm-up.

    Its state goes to bytes and back without loss: what follows a restore is what would have followed.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], settings: TrainerSettings) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._adam = torch.optim.AdamW(self._parameters, lr=settings.learning_rate, weight_decay=0.0)
        self.updates = 0
        """Updates made so far, over all versions."""

    def to_bytes(self) -> bytes:
        """The moments of each weight, as safetensors."""
        state: Mapping[int, Mapping[str, Tensor]] = self._adam.state_dict()["state"]
        return safetensors.torch.save(
            {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}
        )

    def restore(self, content: bytes | None, updates: int) -> None:
        """Take on a saved state; None begins anew."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in safetensors.torch.load(content).items() if content else ():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        self._adam.load_state_dict({**self._adam.state_dict(), "state": state})
        self.updates = updates

    def apply(self) -> tuple[float, bool]:
        """Clip the gradients, move the weights, clear the gradients.

        Returns the gradient's norm before clipping, and whether the weights moved: they do not where
        the norm is not finite.
        """
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm))
        finite = norm - norm == 0.0
        if finite:
            warm = min(1.0, (self.updates + 1) / (self._settings.warmup_steps or 1))
            for group in self._adam.param_groups:
                group["lr"] = self._settings.learning_rate * warm
            self._adam.step()
            self.updates += 1
        self._adam.zero_grad()
        return norm, finite


def accumulate_gradient(
    policies: PolicyModels, policy: Policy, method: TrainingMethod, batches: Sequence[TokenBatch]
) -> StepMetrics:
    """Add up in `.grad` the gradient of the mean loss over all policy tokens of one mini-batch."""
    tokens = sum(batch.policy_tokens for batch in batches)
    sums = torch.zeros(4, device=policies.device, dtype=torch.float64)
    for batch in batches:
        batch = batch.to(policies.device)
        base = policies.base_logprobs(policy, batch) if method.needs_base else None
        logprobs = policies.logprobs(policy, batch)
        terms = method.loss_terms(batch, logprobs, base)
        (terms.loss / tokens).backward()  # type: ignore[no-untyped-call]
        kl = torch.zeros_like(terms.loss) if terms.kl is None else terms.kl
        sums += torch.stack([terms.loss.detach(), terms.clipped, kl.detach(), -logprobs.detach().sum()])
    loss, clipped, divergence, nll = sums.tolist()
    return StepMetrics(
        tokens=tokens,
        loss=loss / tokens,
        clipped=clipped,
        kl=divergence if method.needs_base else None,
        nll=nll,
    )


def fill_proximal_logprobs(
    policies: PolicyModels, policy: Policy, mini_batches: Sequence[Sequence[TokenBatch]]
) -> list[list[TokenBatch]]:
    """Fill in the proximal log-probabilities where they have to be computed beforehand.

    Tokens of the version in training need none (their record serves), nor does the first mini-batch:
    when its turn comes the weights have not moved yet, so its own forward pass gives them.
    """
    first, later = mini_batches[:1], mini_batches[1:]
    return [
        *map(list, first),
        *(
            [
                replace(batch, proximal=policies.no_grad_logprobs(policy, batch.to(policies.device)))
                if batch.has_stale_tokens
                else batch
                for batch in batches
            ]
            for batches in later
        ),
    ]


def run_updates(
    policies: PolicyModels,
    policy: Policy,
    method: TrainingMethod,
    optimizer: PolicyOptimizer,
    mini_batches: Sequence[Sequence[TokenBatch]],
) -> StepMetrics:
    """One update for each mini-batch. Raises TrainingDiverged if every single one had to be skipped."""
    total = StepMetrics()
    with policies.active_policy(policy):
        for batches in fill_proximal_logprobs(policies, policy, mini_batches):
            seen = accumulate_gradient(policies, policy, method, batches)
            norm, moved = optimizer.apply()
            if not moved:
                total.skipped += 1
                log.warning("skipped an update of the %s: loss %s, gradient norm %s", policy, seen.loss, norm)
                continue
            total.updates += 1
            total.tokens += seen.tokens
            total.loss += seen.loss
            total.grad_norm += norm
            total.clipped += seen.clipped
            if seen.kl is not None:
                total.kl = (total.kl or 0.0) + seen.kl
            total.nll += seen.nll
    if total.skipped and not total.updates:
        raise TrainingDiverged(
            f"all {total.skipped} updates of the {policy} had a loss or gradient that was not finite; "
            "nothing was saved. Lower trainer.learning_rate, or go on from an earlier version"
        )
    return total
