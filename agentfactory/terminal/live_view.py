"""Live view of a run: a screen for people at a terminal, plain lines for logs.

On a terminal the screen is repainted a few times a second. Elsewhere (CI, `ray job submit`) each
round and each notable event is one line, without escape codes, and a long silence is broken by a
line that says how the run stands. Everything goes to one console, stderr unless told otherwise.
While a run starts, one line says what is being started, and for how long (`show_start`).
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..configs.settings import Settings
from ..messages.base import Event
from ..messages.runs import EpisodeSample, RunProgress, StepFinished
from ..report.formats import count, duration, plain, plural
from ..runtime.transport import ProcessStatistics
from .live_panels import progress_panel
from .live_state import MAX_NOTICE, LiveState, RemainingTime
from .rounds_table import rounds_table
from .run_summary import show_result

__all__ = ["LiveView", "show_result"]

REFRESHES_A_SECOND: Final = 5
HEARTBEAT_S: Final = 30.0
"""Longest silence on a console that is not a terminal."""
SAMPLE_S: Final = 3.0
"""How long an episode is shown before another one takes its place."""
OTHER_LINES: Final = 18
"""Lines of the screen that are not rounds."""


class LiveView:
    """Shows a run while it goes. A context manager; `update` takes every event of the run.

    A worked example::

        with LiveView(run.settings, run.run_dir) as view:
            async for event in run:
                view.update(event)
                view.actors(run.system.statistics)
    """

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        console: Console | None = None,
        *,
        repaint: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._console = console or Console(stderr=True)
        self._clock = clock
        at_terminal = self._console.is_interactive and self._console.file.isatty()
        self._repaint = at_terminal if repaint is None else repaint
        self._watch = LiveState(run_dir)
        self._lock = threading.Lock()  # the screen is drawn in a thread of its own
        self._began = self._spoke_at = self._progress_at = self._starting_at = clock()
        self._sampled_at = -math.inf
        self._ended_at = math.inf
        self._remaining = RemainingTime()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._watch.reread()
        if not self._repaint:
            self._say(" · ".join(self._about()))
            return self
        self._live = Live(
            get_renderable=self._screen,
            console=self._console,
            refresh_per_second=REFRESHES_A_SECOND,
            redirect_stdout=not self._console.stderr,  # else stdout may be reserved for JSON
            redirect_stderr=True,
        )
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._watch.ended, self._watch.starting = True, ""
            self._ended_at = min(self._ended_at, self._clock())
        if self._live is not None:
            self._live.stop()

    def starting(self, name: str) -> None:
        """Say what is being started, until the next event of the run."""
        with self._lock:
            self._watch.starting = plain(name, MAX_NOTICE)
            self._starting_at = self._clock()
        if not self._repaint:
            self._say_timed(f"starting {self._watch.starting}")

    def update(self, event: Event) -> None:
        """Take one event of the run into account."""
        now = self._clock()
        with self._lock:
            if isinstance(event, EpisodeSample):
                if now - self._sampled_at < SAMPLE_S:
                    return
                self._sampled_at = now
            first = self._watch.progress is None
            notices = self._watch.apply(event)
            if isinstance(event, RunProgress):
                self._progress_at = now
            if (isinstance(event, RunProgress) and first) or _is_step(event):
                self._remaining.mark(self._elapsed())
            if self._watch.ended:
                self._ended_at = min(self._ended_at, self._clock())
        if self._repaint:
            return
        for notice in notices:
            self._say_timed(notice.text)
        if self._watch.progress and self._clock() - self._spoke_at >= HEARTBEAT_S:
            self._say_timed(_standing(self._watch.progress))

    def actors(self, statistics: Mapping[str, ProcessStatistics]) -> None:
        """Take the last look at the actors into account."""
        with self._lock:
            self._watch.statistics = dict(statistics)

    def _about(self) -> tuple[str, ...]:
        settings = self._settings
        return (f"AgentFactory {settings.name}", f"model {settings.model.source}", str(self._run_dir))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._spoke_at = self._clock()

    def _say_timed(self, line: str) -> None:
        self._say(f"[{self._elapsed():>7.1f} s] {line}")

    def _elapsed(self) -> float:
        """Seconds of work, over all sittings where the run has said so."""
        progress, now = self._watch.progress, min(self._clock(), self._ended_at)
        if progress is None:
            return now - self._began
        return progress.elapsed_s + now - self._progress_at

    def _left(self) -> str:
        """Estimate of the time left; empty where nothing can be said."""
        progress = self._watch.progress
        if progress is None or self._watch.ended:
            return ""
        left = self._remaining.estimate(
            elapsed_s=self._elapsed(),
            steps=progress.rounds - progress.version,
            filled=progress.accepted / max(1, progress.batch),
        )
        if left is None or left < 1.0:
            return ""  # not known, or the last step takes longer than those before it
        return f"about {f'{left:.0f} s' if left < 59.5 else duration(left)} left"

    def _screen(self) -> RenderableType:
        with self._lock:
            return Group(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        watch = self._watch
        name, model, folder = self._about()
        left = self._left()
        header = Table.grid(expand=True, padding=(0, 1))
        header.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        header.add_column(justify="right", no_wrap=True)
        header.add_row(
            Text.assemble((name, "bold"), (f" · {model} · {folder}", "dim")),
            Text.assemble((duration(round(self._elapsed(), 1)), "bold"), (left and f" · {left}", "dim")),
        )
        yield header
        if watch.rounds:
            yield Text("")
            room = len(watch.rounds) if watch.ended else max(3, self._console.height - OTHER_LINES)
            yield rounds_table(
                [watch.rounds[version] for version in sorted(watch.rounds)], room, self._console.width
            )
        if watch.starting:
            waited = duration(round(self._clock() - self._starting_at, 1))
            yield Spinner("dots", Text.assemble(f"starting {watch.starting} ", (waited, "dim")))
        elif watch.progress is not None:
            if watch.ended:
                yield Text("")
            yield from progress_panel(watch.progress, watch, self._console.width)
        elif not watch.ended:
            yield Spinner("dots", Text("waiting for the first event"))
        for notice in watch.notices:
            yield Text(f"• {notice.text}", notice.style, overflow="ellipsis", no_wrap=not notice.whole)


def _is_step(event: Event) -> bool:
    return isinstance(event, StepFinished) and event.policy == "student"


def _standing(progress: RunProgress) -> str:
    return (
        f"step {min(progress.version + 1, progress.rounds)}/{progress.rounds}: {progress.accepted}/"
        f"{progress.batch} groups ready, {progress.running} running, {count(progress.evaluating)} "
        f"evaluating, {plural(progress.episodes, 'episode')}, {count(progress.failed)} failed, "
        f"{count(progress.tokens_per_s)} tokens/s"
    )


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
