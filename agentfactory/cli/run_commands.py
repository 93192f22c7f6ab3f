"""Work of `evolve`, `resume`, `solve` and `report`, once their arguments are read."""

import asyncio
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ..actors.coordinator.run_state import RunState
from ..cluster.run_folder import open_run_folder
from ..configs.load import YamlValue, load_settings
from ..configs.printable import printable
from ..configs.settings import Settings
from ..factory import Factory, Transport
from ..messages.episodes import Solution
from ..report import write_report
from ..run import Run, extended, open_run, run_result
from ..runtime.telemetry import LogSettings, configure_logging
from ..terminal.live_view import LiveView, show_result, show_start
from ..training.tasks import arithmetic


def evolve(
    *,
    preset: str,
    rounds: int | None,
    seed: int | None,
    run_dir: str | None,
    transport: Transport | None,
    as_json: bool,
    overrides: Mapping[str, YamlValue],
) -> int:
    """Start a run and watch it to its end."""
    changes = dict(overrides)
    if rounds is not None:
        changes["loop.rounds"] = rounds
    if seed is not None:
        changes["seed"] = seed

    async def start(factory: Factory) -> Run:
        return await factory.evolve(run_dir=run_dir)

    settings = load_settings(preset, _with_transport(changes, transport), said_by="--set")
    return asyncio.run(_watch(settings, start, as_json))


def resume(run_dir: str, *, rounds: int | None, transport: Transport | None, as_json: bool) -> int:
    """Go on with a run and watch it to its end; nothing is started for one that is over."""
    folder, settings, state = open_run(Path(run_dir))
    if rounds is not None:
        settings = extended(settings, state, rounds)
    if state.is_over(settings.loop.rounds):
        return _show_finished(folder, state, as_json)

    async def start(factory: Factory) -> Run:
        return await factory.resume(folder, rounds=rounds)

    changes = _with_transport({"runtime.transport": settings.runtime.transport}, transport)
    return asyncio.run(_watch(load_settings("laptop", changes), start, as_json))


def _with_transport(changes: Mapping[str, YamlValue], transport: Transport | None) -> dict[str, YamlValue]:
    return {**changes, **({"runtime.transport": transport} if transport else {})}


def _show_finished(folder: Path, state: RunState, as_json: bool) -> int:
    """Say what a run came to that has nothing left to do."""
    console, result = Console(stderr=as_json), run_result(folder, state)
    assert state.finished is not None
    if state.finished.reason == "rounds":
        more = (
            f"more rounds: agentfactory resume {shlex.quote(str(folder))} --rounds {2 * state.version or 1}"
        )
    else:
        more = "no task was left at the frontier, and more rounds would not find one"
    console.print(f"The run is finished; {more}", soft_wrap=True, markup=False, highlight=False)
    show_result(console, result)
    if as_json:
        print(result.model_dump_json())
    return 0


def solve(
    task: str, *, run_dir: str | None, version: int | None, temperature: float, preset: str, as_json: bool
) -> int:
    """Have one task solved; print the reasoning, the tool calls and the answer."""
    console = Console(stderr=as_json)
    configure_logging(LogSettings(level="error", format="console"))

    async def run() -> Solution:
        async with Factory.open(preset, transport="local") as factory:
            with show_start(console) as factory.on_starting:
                return await factory.solve(task, run_dir=run_dir, version=version, temperature=temperature)

    solution = asyncio.run(run())
    if as_json:
        print(solution.model_dump_json())
    else:
        _show_solution(console, task, solution)
    return 0 if solution.answer is not None else 1


def report(run_dir: str) -> int:
    """Write the report of a run."""
    folder, _ = open_run_folder(Path(run_dir))
    files = write_report(folder)
    print(files.html)
    print(files.png)
    return 0


async def _watch(settings: Settings, start: Callable[[Factory], Awaitable[Run]], as_json: bool) -> int:
    """Open a factory, start a run, show it, write its result and report."""
    console = Console(stderr=True) if as_json else Console()
    configure_logging(LogSettings(level="error", format="console"))
    signals = RunSignals(console)
    async with Factory.open(settings) as factory:
        factory.on_logging = configure_logging
        with show_start(console) as factory.on_starting:
            run = await start(factory)
        if factory.dashboard_url:
            console.print(f"Ray dashboard: {factory.dashboard_url}")
        signals.drain(run)
        with LiveView(run.settings, run.run_dir, console) as view:
            async for event in run:
                view.update(event)
                view.actors(run.system.statistics)
        result = await run.result()
        signals.say_saved()
        with console.status("writing the report"):
            await asyncio.to_thread(write_report, run.run_dir)
        show_result(console, result)
        if as_json:
            print(result.model_dump_json())
        return signals.exit_code


def _show_solution(console: Console, task: str, solution: Solution) -> None:
    console.print(f"[bold]Task[/]  {escape(task)}")
    for turn in solution.turns:
        console.print(f"[dim]policy v{turn.policy_version}, {len(turn.completion_ids)} tokens[/]")
        console.print(escape(printable(turn.text.strip(), lines=True)))
        for call, result in zip(turn.calls, turn.results, strict=False):
            style = "green" if result.ok else "red"
            named = f" ({escape(call.tool)})" if len(turn.calls) > 1 else ""
            console.print(f"[{style}]Observation{named}: {escape(printable(result.output, lines=True))}[/]")
    console.print(f"[bold]Answer[/]  {escape(solution.answer or '(none)')}{_check(task, solution)}")


def _check(task: str, solution: Solution) -> str:
    """Verdict on the answer, for a task whose answer can be computed."""
    expression = arithmetic.find_expression(task)
    if expression is None or solution.answer is None:
        return ""
    try:
        expected = str(arithmetic.evaluate(expression))
    except ValueError:
        return ""
    right = solution.answer.strip() == expected
    return "  [green]right[/]" if right else f"  [red]wrong: it is {expected}[/]"


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
