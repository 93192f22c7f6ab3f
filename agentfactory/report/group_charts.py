"""Charts over the training groups, in the order in which they were sampled."""

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..configs.settings import Settings
from .chart_style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, EndLabel, empty_chart, label_ends
from .formats import percent
from .history import GroupMeans, RunHistory

PARTS: Final = (
    ("correctness", GREEN), ("tool use", BLUE), ("uncertainty", ORANGE), ("novelty", PURPLE),
)  # fmt: skip
"""The parts of a reward, and their colours."""


def reward_parts(means: list[GroupMeans], axes: Axes) -> None:
    """The parts of the reward, and their weighted sum."""
    axes.set_title("What the reward is made of")
    if not means:
        return empty_chart(axes, "no group has been judged yet")
    xs = _group_numbers(means)
    ends: list[EndLabel] = []
    for name, colour in PARTS:
        values = [_part(mean, name) for mean in means]
        axes.plot(xs, values, color=colour, linewidth=1.7)
        ends.append(EndLabel(name, values[-1], colour))
    totals = [mean.total for mean in means]
    axes.plot(xs, totals, color=INK, linewidth=2.8)
    axes.set_ylim(0, 1)
    _group_axis(axes)
    label_ends(axes, xs[-1], [*ends, EndLabel("reward", totals[-1], INK)])


def _part(mean: GroupMeans, name: str) -> float:
    parts = {
        "correctness": mean.correctness,
        "tool use": mean.tool_use,
        "uncertainty": mean.uncertainty,
        "novelty": mean.novelty,
    }
    return parts[name]


def difficulty(means: list[GroupMeans], settings: Settings, axes: Axes) -> None:
    """Difficulty as asked for and as proposed, with the success that steers it."""
    axes.set_title("Difficulty and success")
    if not means:
        return empty_chart(axes, "no group has been judged yet")
    xs = _group_numbers(means)
    target, tolerance = settings.curriculum.target_success, settings.curriculum.tolerance
    axes.axhspan(target - tolerance, target + tolerance, color=MUTED, alpha=0.13, linewidth=0)
    axes.plot(xs, [m.difficulty for m in means], color=ORANGE, linewidth=1.3, alpha=0.75)
    axes.plot(xs, [m.curriculum for m in means], color=ORANGE, linewidth=2.4, drawstyle="steps-post")
    axes.plot(xs, [m.success for m in means], color=GREEN)
    axes.set_ylim(0, 1)
    _group_axis(axes)
    last = means[-1]
    label_ends(
        axes,
        xs[-1],
        [
            EndLabel("asked for", last.curriculum, ORANGE),
            EndLabel("proposed", last.difficulty, ORANGE),
            EndLabel("success", last.success, GREEN),
            EndLabel("its target", target, MUTED),
        ],
    )


def majority_shares(history: RunHistory, settings: Settings, axes: Axes) -> None:
    """Draw how many groups agreed how much, and which of them were trained on."""
    axes.set_title("Agreement within groups")
    if not history.shares:
        return empty_chart(axes, "no group has been judged yet")
    frontier = settings.curriculum.frontier
    bins = min(settings.loop.group_size, 20)
    accepted, filtered = [0] * (bins + 1), [0] * (bins + 1)
    for (fate, share), groups in history.shares.items():
        (accepted if fate == "accepted" else filtered)[round(share * bins)] += groups
    xs = [number / bins for number in range(bins + 1)]
    axes.axvspan(0.5 - frontier, 0.5 + frontier, color=GREEN, alpha=0.1, linewidth=0)
    width = 0.82 / bins
    axes.bar(xs, accepted, width=width, color=GREEN, linewidth=0)
    axes.bar(xs, filtered, width=width, bottom=accepted, color=MUTED, alpha=0.45, linewidth=0)
    axes.set_xlim(-0.08, 1.08)
    axes.set_ylim(0, max(a + b for a, b in zip(accepted, filtered, strict=True)) * 1.2)
    axes.set_xlabel("majority share of a group's answers")
    axes.set_ylabel("groups")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    whole = sum(accepted) + sum(filtered)
    top = axes.get_ylim()[1]
    axes.text(0.5, top * 0.98, f"trained on: {percent(sum(accepted) / whole)}",
              color=GREEN, fontweight="bold", ha="center", va="top", fontsize=9.5)  # fmt: skip


def _group_numbers(means: Sequence[GroupMeans]) -> list[float]:
    """The number of the last group of each bin."""
    numbers: list[float] = []
    for mean in means:
        numbers.append((numbers[-1] if numbers else 0.0) + mean.groups)
    return numbers


def _group_axis(axes: Axes) -> None:
    axes.set_xlabel("training groups")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
