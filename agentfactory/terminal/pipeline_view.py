"""The live view of a pipeline: a table of its steps at a terminal, elsewhere a line for each change."""

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..actors.pipelines.plan import PipelinePlan
from ..messages.pipelines import PipelineResult, StepChanged, StepState
from .tables import on_one_line

REFRESHES_A_SECOND: Final = 8
LOOKS: Final[dict[StepState, tuple[str, str]]] = {
    "running": ("…", "cyan"),
    "retrying": ("↻", "yellow"),
    "done": ("✓", "green"),
    "kept": ("=", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "dim"),
    "cancelled": ("-", "dim"),
}
"""A sign and a colour for each state."""


class PipelineView:
    """Shows a pipeline while it runs. A context manager; `update` takes every change.

    A worked example::

        with PipelineView(plan, Console()) as view:
            view.result(await PipelineRun(plan, perform, watch=view.update).run())
    """

    def __init__(self, plan: PipelinePlan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._changes: dict[str, tuple[StepChanged, float]] = {}
        """The last of each step, and when it came."""
        self._live: Live | None = None
        self._spinner = Spinner("dots")
        self._width = max(map(len, plan.steps))

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=self._console,
                refresh_per_second=REFRESHES_A_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def update(self, change: StepChanged) -> None:
        """Show a change."""
        self._changes[change.step] = (change, time.monotonic())
        if self._live is None:
            took = f"  {change.seconds:.2f} s" if change.seconds else ""
            why = f"  {on_one_line(change.reason)}" if change.reason else ""
            print(
                f"{change.step:{self._width}}  {change.state:9}{took}{why}".rstrip(), file=self._console.file
            )

    def result(self, result: PipelineResult) -> None:
        """End with what every step has come to."""
        self._stop()
        if self._console.is_terminal:
            self._console.print(self._table())
        for step in result.steps:
            if step.done and step.result is not None:
                seen = on_one_line(step.result.observation.text)
                print(
                    f"{step.step:{self._width}}  {step.result.reward:+.2f}  {seen}", file=self._console.file
                )
        done = sum(step.done for step in result.steps)
        came_to = f"{done} of {len(result.steps)} steps done, reward {result.total_reward:+.2f}"
        print(f"{result.pipeline_id}: {came_to}, {result.seconds:.2f} s", file=self._console.file)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        table = Table("", "step", "agent", "action", "time", "", box=None, pad_edge=False)
        for name, step in self._plan.steps.items():
            seen = self._changes.get(name)
            action = step.action or "as told"
            if seen is None:
                table.add_row("", Text(name), Text(step.spec.agent), action, "", "", style="dim")
                continue
            change, at = seen
            going_on = change.state in ("running", "retrying")
            seconds = change.seconds + (time.monotonic() - at if going_on else 0.0)
            table.add_row(
                self._spinner if change.state == "running" else LOOKS[change.state][0],
                Text(name),
                Text(step.spec.agent),
                action,
                f"{seconds:.2f} s" if seconds else "",
                Text(on_one_line(change.reason)),
                style=LOOKS[change.state][1],
            )
        return table
