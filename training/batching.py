"""Batches: trajectories as padded tensors, token for token as they were sampled.

Rows are padded on the right. Attention is causal, so no token ever sees the padding behind it, and
no attention mask is needed. A row ends with its last policy token: what follows it cannot matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ..messages.trajectories import Trajectory
from .errors import UnusableTrajectory


class Sample(NamedTuple):
    """One trajectory, and what its tokens are worth."""

    trajectory: Trajectory
    advantage: float


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """B trajectories of at most T tokens: what one forward and backward pass takes."""

    tokens: Tensor
    """[B, T] int64."""
    mask: Tensor
    """[B, T] bool: sampled by the policy, and counted in the loss. N of them are true."""
    behaviour: Tensor
    """[B, T] float32: log-probabilities recorded when the token was sampled; 0 where mask is false."""
    on_policy_mask: Tensor
    """[B, T] bool: sampled by the very version that is in training."""
    advantages: Tensor
    """[B, T] float32."""
    proximal: Tensor | None = None
    """[N] float32: log-probabilities under the version in training, as it was before the step.

    None says that they are those of the policy as it is now, so that no pass was spent on them.
    """

    def select(self, values: Tensor) -> Tensor:
        """The values at policy tokens, row after row: [B, T] -> [N]."""
        return values[self.mask]

    @property
    def policy_tokens(self) -> int:
        """N."""
        return int(self.mask.sum())

    @property
    def has_stale_tokens(self) -> bool:
        """Whether an older version sampled any of the policy tokens."""
        return bool((self.mask & ~self.on_policy_mask).any())

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        if self.tokens.device == device:
            return self
        return replace(
            self,
            tokens=self.tokens.to(device),
            mask=self.mask.to(device),
            behaviour=self.behaviour.to(device),
            on_policy_mask=self.on_policy_mask.to(device),
            advantages=self.advantages.to(device),
            proximal=None if self.proximal is None else self.proximal.to(device),
        )


def mini_batches(samples: Sequence[Sample], count: int, rng: Random) -> list[list[Sample]]:
    """Deal whole trajectories at random into at most `count` parts of equal size (± 1), none empty."""
    order = list(samples)
    rng.shuffle(order)
    return [order[start::count] for start in range(min(count, len(order)))]


def micro_batches(samples: Sequence[Sample], version: int, padded_tokens: int) -> list[TokenBatch]:
    """Batches of similar length, each of at most `padded_tokens` tokens with its padding.

    A trajectory longer than that has a batch to itself. `version` is the one in training. Raises
    UnusableTrajectory.
    """
    rows = sorted((_Row.of(sample, version) for sample in samples), key=lambda row: len(row.tokens))
    return [_collate(part) for part in _packed(rows, padded_tokens)]


class _Row(NamedTuple):
    """One trajectory up to its last policy token, as five lists of the same length."""

    tokens: list[int]
    mask: list[bool]
    behaviour: list[float]
    on_policy_mask: list[bool]
    advantage: float

    @classmethod
    def of(cls, sample: Sample, version: int) -> "_Row":
        trajectory, advantage = sample
        tokens: list[int] = []
        mask: list[bool] = []
        behaviour: list[float] = []
        on_policy_mask: list[bool] = []
        for turn in trajectory.turns:
            given, sampled = len(turn.prompt_ids), len(turn.completion_ids)
            if any(turn.loss_mask[:given]) or (sampled and not (tokens or given)):
                raise UnusableTrajectory(
                    f"episode {trajectory.episode_id}: its loss mask marks tokens that the policy did "
                    "not sample, or it begins without a prompt; only sampled tokens can be trained on"
                )
            tokens += turn.prompt_ids + turn.completion_ids
            mask += map(bool, turn.loss_mask)
            behaviour += (0.0,) * given + turn.logprobs
            on_policy_mask += (turn.policy_version == version,) * (given + sampled)
        end = max((place + 1 for place, counts in enumerate(mask) if counts), default=0)
        return cls(tokens[:end], mask[:end], behaviour[:end], on_policy_mask[:end], advantage)


def _packed(rows: Sequence[_Row], padded_tokens: int) -> Iterator[list[_Row]]:
    """Cut rows, sorted by length, into runs whose padded size stays within the budget."""
    part: list[_Row] = []
    for row in rows:
        if not any(row.mask):
            continue
        if part and (len(part) + 1) * len(row.tokens) > padded_tokens:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _collate(rows: Sequence[_Row]) -> TokenBatch:
    """Pad rows to the longest, T."""
    longest = max(len(row.tokens) for row in rows)
    missing = [longest - len(row.tokens) for row in rows]
    mask = torch.tensor([row.mask + [False] * n for row, n in zip(rows, missing, strict=True)])
    behaviour = torch.tensor([row.behaviour + [0.0] * n for row, n in zip(rows, missing, strict=True)])
    advantages = torch.tensor([row.advantage for row in rows], dtype=torch.float32)
    return TokenBatch(
        tokens=torch.tensor([row.tokens + [0] * n for row, n in zip(rows, missing, strict=True)]),
        mask=mask,
        behaviour=behaviour * mask,
        on_policy_mask=torch.tensor(
            [row.on_policy_mask + [False] * n for row, n in zip(rows, missing, strict=True)]
        ),
        advantages=advantages[:, None].expand(mask.shape).contiguous(),
    )
