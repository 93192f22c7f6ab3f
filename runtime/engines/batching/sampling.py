"""Choosing tokens, for a whole batch at once.

Each row draws from its own counter-based stream of uniform numbers: number `n` is a hash of
(seed, n). So a seeded sample is the same whatever else shares the batch, and after any restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....messages.generation import SamplingSettings

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1
_COLDEST = float(torch.finfo(torch.float32).tiny)
"""Smaller temperatures are 0 in float32, by which nothing can be divided."""


class SampledTokens(NamedTuple):
    """One token for each row, and its log-probability under the distribution it was drawn from."""

    tokens: list[int]
    logprobs: list[float]


def uniforms(seeds: Sequence[int], counters: Sequence[int]) -> NDArray[np.float64]:
    """Number `counters[i]` of the stream `seeds[i]`, in [0, 1) with 53 bits.

    SplitMix64 (Steele, Lea, Flood 2014) with its state jumped to directly; the seed is mixed first,
    so that neighbouring seeds have unrelated streams.
    """
    start = _mix(np.array([seed & _MASK for seed in seeds], dtype=np.uint64))
    state = start + (np.array(counters, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
    return (_mix(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sample(
    logits: Tensor, settings: Sequence[SamplingSettings], seeds: Sequence[int], counters: Sequence[int]
) -> SampledTokens:
    """Draw one token for each row of `logits` [R, V].

    Temperature, then top-k, then top-p; greedy rows report their log-probability at temperature 1.
    """
    logits = logits.float()
    greedy = [s.temperature == 0.0 for s in settings]
    if all(greedy):
        return _result(logits.log_softmax(-1), logits.argmax(-1))
    logp = _tempered(logits, settings).log_softmax(-1)
    if any(s.temperature and (s.top_k or s.top_p < 1.0) for s in settings):
        logp = _truncated(logp, settings)
    chosen = _inverse_cdf(logp, torch.from_numpy(uniforms(seeds, counters)).to(logits.device))
    if any(greedy):
        chosen = torch.where(torch.tensor(greedy, device=logits.device), logits.argmax(-1), chosen)
    return _result(logp, chosen)


def _result(logp: Tensor, chosen: Tensor) -> SampledTokens:
    picked = logp.gather(1, chosen.unsqueeze(1)).squeeze(1)
    return SampledTokens(chosen.tolist(), picked.tolist())


def _tempered(logits: Tensor, settings: Sequence[SamplingSettings]) -> Tensor:
    """Divided by the temperature, the largest of each row at 0: so the coldest rows are greedy, not NaN."""
    temperatures = [max(s.temperature, _COLDEST) if s.temperature else 1.0 for s in settings]
    if all(value == 1.0 for value in temperatures):
        return logits
    logits = logits - logits.amax(-1, keepdim=True)
    return logits / torch.tensor(temperatures, device=logits.device).unsqueeze(1)


def _truncated(logp: Tensor, settings: Sequence[SamplingSettings]) -> Tensor:
    """Keep each row's top k, then the smallest set with mass top_p; renormalise. [R, V]"""
    device, size = logp.device, logp.shape[1]
    top_k = torch.tensor(
        [min(s.top_k, size) if s.top_k and s.temperature else size for s in settings], device=device
    )
    top_p = torch.tensor([s.top_p if s.temperature else 1.0 for s in settings], device=device)
    ranked, order = logp.sort(dim=-1, descending=True, stable=True)
    ranked = ranked.masked_fill(torch.arange(size, device=device) >= top_k.unsqueeze(1), -torch.inf)
    mass = ranked.softmax(-1)
    before = mass.cumsum(-1) - mass
    beyond = (before >= top_p.unsqueeze(1)) & (top_p < 1.0).unsqueeze(1)
    beyond[:, 0] = False
    ranked = ranked.masked_fill(beyond, -torch.inf)
    return torch.empty_like(logp).scatter_(1, order, ranked).log_softmax(-1)


def _inverse_cdf(logp: Tensor, u: Tensor) -> Tensor:
    """The first token whose cumulative mass exceeds u·total; never one of zero mass. [R]"""
    cdf = logp.double().exp().cumsum(-1)
    total = cdf[:, -1]
    below_total = torch.nextafter(total, torch.zeros_like(total))
    threshold = torch.minimum(u * total, below_total)
    return torch.searchsorted(cdf, threshold.unsqueeze(1), right=True).squeeze(1)
