"""What is being started, and for how long: a line that ticks at a terminal, a line each elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .report.formats import duration, plain

MAX_CHARACTERS = 200


@contextmanager
def show_start(
    console: Console, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str], None]]:
    """Gives a function that is told what is being started."""
    began = clock()
    if not console.is_terminal:
        yield lambda what: console.print(
            f"starting {what} ({duration(round(clock() - began, 1))})", markup=False, highlight=False
        )
        return
    line = StartLine(began, clock)
    with Live(get_renderable=line.render, console=console, refresh_per_second=8, transient=True):
        yield line.say


class StartLine:
    """One line: a spinner, what is being started, and the seconds since the first thing was."""

    def __init__(self, began: float, clock: Callable[[], float]) -> None:
        self._began, self._clock = began, clock
        self._spinner = Spinner("dots")
        self._what = ""

    def say(self, what: str) -> None:
        """From now on this is being started."""
        self._what = plain(what, MAX_CHARACTERS)

    def render(self) -> RenderableType:
        """As it is now."""
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(width=1)
        row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        row.add_column(justify="right", no_wrap=True)
        elapsed = duration(round(self._clock() - self._began, 1))
        row.add_row(self._spinner, f"starting {self._what}".rstrip(), Text(elapsed, "bold"))
        return row
