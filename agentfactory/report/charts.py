"""The report's charts with the words around them, and `report.png`: all of them on one sheet.

One sentence of those words says what became of the reward in training; it is computed from the groups.
"""

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..configs.rewards import RewardWeights
from ..configs.settings import Settings
from . import group_charts, round_charts
from .chart_style import INK, MUTED
from .formats import percent
from .held_out import HeldOut
from .history import GroupMeans, RunHistory

QUARTER: Final = 4
LEAST_GROUPS: Final = 8
"""With fewer groups there is nothing to compare."""
FLAT: Final = 0.005


def reward_story(means: Sequence[GroupMeans], weights: RewardWeights) -> str:
    """Difference between the first and the last quarter of the groups; empty where there are too few.

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


class Panel(NamedTuple):
    """One chart and the words around it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Axes], None]


def panels(history: RunHistory, settings: Settings) -> list[Panel]:
    """The charts of a run, in the order in which they are read."""
    story = reward_story(history.groups.means(), settings.rewards)
    return [
        Panel(
            "learning",
            "Held-out pass@1",
            "Share of the held-out tasks answered right by each version, with its 95% Wilson interval, and "
            "of the tasks of each domain where there are several.",
            partial(round_charts.learning_curve, history),
        ),
        Panel(
            "rewards",
            "What the reward is made of",
            f"Means over the training groups: the parts, 0 to 1, and their weighted sum. {story}".strip(),
            partial(group_charts.reward_parts, history.groups.means()),
        ),
        Panel(
            "difficulty",
            "Difficulty and success",
            "The curriculum raises the difficulty while success lies above its target, and lowers it below.",
            partial(group_charts.difficulty, history.groups.means(), settings),
        ),
        Panel(
            "tools",
            "Tool use",
            "Share of held-out episodes with a tool call, and mean calls in a training episode.",
            partial(round_charts.tool_use, history),
        ),
        Panel(
            "times",
            "Where the time went",
            "Seconds for each version. Rollouts go on while the trainer works, so the parts overlap.",
            partial(round_charts.timings, history),
        ),
        Panel(
            "frontier",
            "Agreement within groups",
            "How often siblings agree on an answer. Only groups inside the shaded frontier are trained on.",
            partial(group_charts.majority_shares, history, settings),
        ),
    ]


def bands_panel(held_out: HeldOut) -> Panel:
    """pass@1 by the tasks' difficulty."""
    before, after = held_out.before.version, held_out.after.version
    colours = f": grey is version {before}, blue is version {after}" if held_out.compares else ""
    return Panel(
        "bands",
        "By difficulty",
        f"Held-out pass@1 with 95% Wilson intervals{colours}.",
        partial(round_charts.by_difficulty, held_out),
    )


INCHES: Final = (16.0, 9.0)
DPI: Final = 150
COLUMNS: Final = 3


def draw_sheet(panels: Sequence[Panel], title: str, subtitle: str) -> bytes:
    """The panels in a grid under a title, as a PNG."""
    figure = Figure(figsize=INCHES, dpi=DPI, facecolor="white")
    figure.text(0.04, 0.945, title, fontsize=21, fontweight="bold", color=INK, va="center")
    figure.text(0.04, 0.903, subtitle, fontsize=12, color=MUTED, va="center")
    rows = -(-len(panels) // COLUMNS)
    grid = figure.add_gridspec(
        rows, COLUMNS, left=0.045, right=0.93, top=0.82, bottom=0.075, wspace=0.42, hspace=0.48
    )
    for number, panel in enumerate(panels):
        panel.draw(figure.add_subplot(grid[number // COLUMNS, number % COLUMNS]))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()
