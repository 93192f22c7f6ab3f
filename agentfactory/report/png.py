"""`report.png`: all charts on one sheet, in the proportions of a slide."""

import io
from collections.abc import Sequence
from typing import Final

from matplotlib.figure import Figure

from .charts import Panel
from .theme import INK, MUTED

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
