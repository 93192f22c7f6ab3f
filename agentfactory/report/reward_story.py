"""One sentence on what became of the reward in training, computed from the groups."""

from collections.abc import Sequence
from typing import Final

from ..configs.rewards import RewardWeights
from .formats import percent
from .history import GroupMeans

QUARTER: Final = 4
LEAST_GROUPS: Final = 8
"""With fewer groups there is nothing to compare."""
FLAT: Final = 0.005


def reward_story(means: Sequence[GroupMeans], weights: RewardWeights) -> str:
    """What the first and the last quarter of the groups differ in; empty where there are too few.

    The parts are given as they count in the reward, so that they add up to its change.
    """
    if sum(mean.groups for mean in means) < LEAST_GROUPS:
        return ""
    first, last = quarters(means)
    total = last.total - first.total
    parts = _parts(first, last, weights)
    parts.append(("other terms", total - sum(value for _, value in parts)))
    moved = ", ".join(f"{name} {_signed(value)}" for name, value in parts if abs(value) >= FLAT)
    return (
        f"From the first to the last quarter of the groups the sum went from {first.total:.2f} to "
        f"{last.total:.2f} ({moved or 'no part moved'}); {_difficulty(first, last)} and success on them from "
        f"{percent(first.success)} to {percent(last.success)}, while the held-out tasks stay the same."
    )


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.2f}"


def quarters(means: Sequence[GroupMeans]) -> tuple[GroupMeans, GroupMeans]:
    """Means over the first and the last quarter of the groups."""
    wanted = sum(mean.groups for mean in means) / QUARTER
    return _mean_of(means, wanted), _mean_of(list(reversed(means)), wanted)


def _mean_of(means: Sequence[GroupMeans], wanted: float) -> GroupMeans:
    """Over as many groups from the beginning, in whole bins."""
    sums = GroupMeans()
    for mean in means:
        if sums.groups >= wanted:
            break
        sums = sums.plus(GroupMeans(mean.groups, *(value * mean.groups for value in mean[1:])))
    return sums.means()


def _parts(first: GroupMeans, last: GroupMeans, weights: RewardWeights) -> list[tuple[str, float]]:
    """By how much each part has moved the reward, the largest first."""
    if weights.terms:
        return []
    changes = [
        ("correctness", weights.correctness * (last.correctness - first.correctness)),
        ("tool use", weights.tool_use * (last.tool_use - first.tool_use)),
        ("uncertainty", weights.uncertainty * (last.uncertainty - first.uncertainty)),
        ("novelty", weights.novelty * (last.novelty - first.novelty)),
    ]
    return sorted(changes, key=lambda change: -abs(change[1]))


def _difficulty(first: GroupMeans, last: GroupMeans) -> str:
    change = last.difficulty - first.difficulty
    verb = "stayed as hard" if abs(change) < FLAT else "became harder" if change > 0 else "became easier"
    return f"the tasks {verb} (difficulty {first.difficulty:.2f} to {last.difficulty:.2f})"
