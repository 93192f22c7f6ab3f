"""Style of the charts: one drawing, in fixed colours for the PNG and in the page's own colours as SVG.

The colours are Okabe and Ito's, which colour-blind people can tell apart. In the SVG each becomes a
CSS variable, so that the charts follow the page into dark mode. Lines have their names beside their ends,
in place of a legend; names are kept apart where the lines end close together.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Final, NamedTuple

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK: Final = "#1b1f24"
MUTED: Final = "#636c76"
GRID: Final = "#e3e6ea"
PAPER: Final = "#fefefe"
BLUE: Final = "#0072b2"
ORANGE: Final = "#d98e00"
GREEN: Final = "#009e73"
RED: Final = "#d55e00"
PURPLE: Final = "#b4588f"

VARIABLES: Final = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper",
    BLUE: "blue", ORANGE: "orange", GREEN: "green", RED: "red", PURPLE: "purple",
}  # fmt: skip
"""Names of the page's CSS variables."""

FAMILIES: Final = ("Inter", "Helvetica Neue", "Source Sans 3", "Liberation Sans", "Arial")
PANEL_INCHES: Final = (5.6, 3.3)

_IDS: Final = re.compile(r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick|legend)_\d+"')
_METADATA: Final = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_SIZE: Final = re.compile(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', re.DOTALL)
_FONT: Final = re.compile(r"font: ([\d. a-z]*?)px [^;\"]*")


@contextmanager
def themed() -> Iterator[None]:
    """Matplotlib's settings while charts are drawn."""
    installed = set(font_manager.get_font_names())
    family = [name for name in FAMILIES if name in installed][:1]
    with matplotlib.rc_context(
        {
            "font.family": [*family, "DejaVu Sans"],  # the second has the signs that the first lacks
            "font.size": 10,
            "text.color": INK,
            "text.parse_math": False,
            "axes.labelcolor": MUTED,
            "axes.labelsize": 9.5,
            "axes.edgecolor": GRID,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.axisbelow": True,
            "axes.titlelocation": "left",
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlepad": 10,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "xtick.color": GRID,
            "ytick.color": GRID,
            "xtick.labelcolor": MUTED,
            "ytick.labelcolor": MUTED,
            "ytick.major.size": 0,
            "lines.linewidth": 2.0,
            "lines.solid_capstyle": "round",
            "svg.fonttype": "none",
            "svg.hashsalt": "agentfactory",
            "path.simplify": True,
        }
    ):
        yield


def as_svg(draw: Callable[[Axes], None], name: str, label: str) -> str:
    """One chart as an `<svg>` element that scales with the page and uses its colours."""
    figure = Figure(figsize=PANEL_INCHES, layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    draw(axes)
    axes.set_title("")  # the page has a heading of its own
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _for_page(stream.getvalue(), label)


def empty_chart(axes: Axes, why: str) -> None:
    """Say why a panel is empty."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["bottom"].set_color(GRID)


def _for_page(svg: str, label: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = _METADATA.sub("", _IDS.sub("", svg))
    svg = _SIZE.sub(rf'<svg viewBox="\1" role="img" aria-label="{label}">', svg, count=1)
    svg = _FONT.sub(r"font-size: \1px; font-family: inherit", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg


LINE_HEIGHT = 0.075
"""Least distance of two names, as a share of the axis's height."""


class EndLabel(NamedTuple):
    """A name, where its line ends, and its colour."""

    text: str
    y: float
    colour: str


def label_ends(axes: Axes, x: float, labels: Sequence[EndLabel]) -> None:
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
