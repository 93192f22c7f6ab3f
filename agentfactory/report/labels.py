"""Names beside the ends of lines, in place of a legend; kept apart where the lines end close together."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes

LINE_HEIGHT = 0.075
"""Least distance of two names, as a share of the axis's height."""


class Label(NamedTuple):
    """A name, where its line ends, and its colour."""

    text: str
    y: float
    colour: str


def label_ends(axes: Axes, x: float, labels: Sequence[Label]) -> None:
    """Write each name at the right of `x`, near the height of its line's end."""
    low, high = axes.get_ylim()
    gap = LINE_HEIGHT * max(1 + label.text.count("\n") for label in labels)
    heights = spread([(label.y - low) / (high - low) for label in labels], gap)
    for label, height in zip(labels, heights, strict=True):
        axes.annotate(
            label.text,
            xy=(x, low + height * (high - low)),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=label.colour,
            fontsize=9.5,
            fontweight="bold",
            annotation_clip=False,
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Heights as near to the wanted ones as order and a least distance allow, within 0..1.

    >>> [round(h, 2) for h in spread([0.5, 0.52, 0.9], 0.1)]
    [0.5, 0.6, 0.9]
    >>> [round(h, 2) for h in spread([1.0, 0.99], 0.1)]
    [1.0, 0.9]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = list(wanted)
    for below, above in pairwise(order):
        heights[above] = max(heights[above], heights[below] + gap)
    ceiling = max(1.0, gap * (len(wanted) - 1))
    for index in reversed(order):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - gap
    return heights
