"""Group-relative advantages: rewards against those of the siblings. Imports no torch."""

from collections.abc import Sequence
from math import fsum, sqrt

EPSILON = 1e-6
"""Keeps the division sane where a group's rewards barely differ."""
EQUAL_WITHIN = 1e-9
"""Rewards closer together than this are equal: what is left of them is rounding."""


def group_advantages(rewards: Sequence[float], normalize_std: bool = True) -> list[float]:
    """Advantages of the siblings of one group, in order.

    A_i = (r_i − mean(r)) / (std(r) + ε)        with normalize_std (GRPO, DeepSeekMath eq. 3)
    A_i =  r_i − mean(r)                        without (Dr. GRPO: no bonus for nearly flat groups)

    `std` is that of the group itself (divided by n). A group whose rewards are all equal teaches
    nothing: its advantages are exactly 0.

    >>> group_advantages([1.0, 0.0, 0.0, 1.0], normalize_std=False)
    [0.5, -0.5, -0.5, 0.5]
    """
    if not rewards or max(rewards) - min(rewards) <= EQUAL_WITHIN:
        return [0.0] * len(rewards)
    mean = fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if not normalize_std:
        return centred
    std = sqrt(fsum(value * value for value in centred) / len(centred))
    return [value / (std + EPSILON) for value in centred]
