"""What Ctrl-C and SIGTERM do to a command that watches a run."""

import asyncio
import shlex
import signal
from pathlib import Path

from rich.console import Console

from .runs import Run

INTERRUPTED = 130
TERMINATED = 143


class RunSignals:
    """The first signal drains the run, the second one stops at once: the journal has everything.

    Before a run is under way the first one stops. SIGTERM is answered with what Ctrl-C says at the
    end, too: whoever sends it (`ray job stop`, a scheduler) may wait for a few seconds only.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._run: Run | None = None
        self._draining: asyncio.Task[None] | None = None
        self._said = False
        self.exit_code = 0
        """0 while nothing has been signalled."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._react, number)

    def drain(self, run: Run) -> None:
        """From here on the first signal drains this run."""
        self._run = run

    def say_saved(self) -> None:
        """Say how to go on, where there is something left to do."""
        if self._run is not None and not self._said and (self.exit_code or self._run.drained):
            self._print_saved(self._run.run_dir)

    def _print_saved(self, run_dir: Path) -> None:
        self._said = True
        command = f"agentfactory resume {shlex.quote(str(run_dir))}"
        self._console.print(f"Saved. Go on with: {command}", soft_wrap=True, markup=False, highlight=False)

    def _react(self, number: signal.Signals) -> None:
        first = self.exit_code == 0
        self.exit_code = self.exit_code or (INTERRUPTED if number == signal.SIGINT else TERMINATED)
        if self._run is None or not first:
            if self._task is not None:
                self._task.cancel()
            return
        if number == signal.SIGTERM:
            self._print_saved(self._run.run_dir)
        self._console.print("Finishing what runs; press Ctrl-C again to stop at once.")
        self._draining = asyncio.ensure_future(self._run.drain())
