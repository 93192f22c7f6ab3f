"""Training method: the protocol between the learner and a loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ...messages.trajectories import Group
from ..batching import Sample, TokenBatch


class LossTerms(NamedTuple):
    """Sums over the N policy tokens of one micro-batch (0-dimensional tensors).

    The learner divides by the policy tokens of the whole mini-batch, so that gradients accumulated over
    micro-batches are exactly those of the whole.
    """

    loss: Tensor
    clipped: Tensor
    """Tokens whose ratio was held back by the clip."""
    kl: Tensor | None
    """Estimates of the KL divergence to the base model, nats; None where it is not measured."""


class TrainingMethod(ABC):
    """A way of learning from trajectories. It holds settings and no state."""

    needs_base: bool = False
    """Whether `loss_terms` wants the base model's log-probabilities, which cost a pass."""

    @abstractmethod
    def samples(self, groups: Sequence[Group]) -> list[Sample]:
        """The trajectories worth a forward pass, and what each is worth."""

    @abstractmethod
    def loss_terms(self, batch: TokenBatch, logprobs: Tensor, base_logprobs: Tensor | None) -> LossTerms:
        """The loss of one micro-batch.

        `logprobs` [N] are the policy's and carry its gradient; `base_logprobs` [N] the base model's,
        given if `needs_base`.
        """
