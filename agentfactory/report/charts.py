"""The report's charts, with the words around them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes

from ..configs.settings import Settings
from . import group_charts, round_charts
from .held_out import HeldOut
from .history import RunHistory
from .reward_story import reward_story


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
