"""What the commands do, once their arguments are read."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agentfactory.factory import Factory, Run, Transport
from agentfactory.live import LiveView, show_result
from agentfactory.report import write_report
from cluster.run_folder import open_run_folder
from configs.load import YamlValue
from messages.episodes import Solution
from runtime.telemetry import LogSettings, configure_logging
from training.tasks import arithmetic

INTERRUPTED = 130


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

    return asyncio.run(_watch(preset, transport, changes, start, as_json))


def resume(run_dir: str, *, transport: Transport | None, as_json: bool) -> int:
    """Go on with a run and watch it to its end."""
    _, settings = open_run_folder(Path(run_dir))

    async def start(factory: Factory) -> Run:
        return await factory.resume(run_dir)

    changes: dict[str, YamlValue] = {"runtime.transport": transport or settings.runtime.transport}
    return asyncio.run(_watch("laptop", None, changes, start, as_json))


def solve(task: str, *, run_dir: str | None, preset: str, as_json: bool) -> int:
    """Have one task solved; print the reasoning, the tool calls and the answer."""
    console = Console(stderr=as_json)
    configure_logging(LogSettings(level="error", format="console"))

    async def run() -> Solution:
        async with Factory.open(preset, transport="local") as factory:
            with _starting(console) as factory.on_starting:
                return await factory.solve(task, run_dir=run_dir)

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


async def _watch(
    preset: str,
    transport: Transport | None,
    overrides: Mapping[str, YamlValue],
    start: Callable[[Factory], Awaitable[Run]],
    as_json: bool,
) -> int:
    """Open a factory, start a run, show it, write its result and report."""
    console = Console(stderr=True) if as_json else Console()
    configure_logging(LogSettings(level="error", format="console"))
    async with Factory.open(preset, transport=transport, overrides=overrides) as factory:
        with _starting(console) as factory.on_starting:
            run = await start(factory)
        configure_logging(LogSettings(folder=str(run.run_dir / "logs")))
        if factory.dashboard_url:
            console.print(f"Ray dashboard: {factory.dashboard_url}")
        interrupted = asyncio.Event()
        _on_interrupt(run, interrupted, console)
        with LiveView(run.settings, run.run_dir, console) as view:
            async for event in run:
                view.update(event)
                view.actors(run.system.statistics)
        result = await run.result()
        if interrupted.is_set() or run.drained:
            console.print(
                f"Saved. Go on with: agentfactory resume {run.run_dir}", soft_wrap=True, markup=False
            )
        with console.status("writing the report"):
            await asyncio.to_thread(write_report, run.run_dir)
        show_result(console, result)
        if as_json:
            print(result.model_dump_json())
        return INTERRUPTED if interrupted.is_set() else 0


@contextmanager
def _starting(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows what is being started: a spinner at a terminal, a line each elsewhere."""
    if not console.is_terminal:
        yield lambda what: console.print(f"starting {what}")
        return
    with console.status("starting") as status:
        yield lambda what: status.update(f"starting {what}")


def _on_interrupt(run: Run, interrupted: asyncio.Event, console: Console) -> None:
    """The first Ctrl-C drains the run; the second one stops at once (the journal has everything)."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    draining: list[asyncio.Task[None]] = []

    def react() -> None:
        if interrupted.is_set():
            task.cancel()
            return
        interrupted.set()
        console.print("Finishing what runs; press Ctrl-C again to stop at once.")
        draining.append(asyncio.ensure_future(run.drain()))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, react)


def _show_solution(console: Console, task: str, solution: Solution) -> None:
    console.print(f"[bold]Task[/]  {escape(task)}")
    for turn in solution.turns:
        console.print(f"[dim]policy v{turn.policy_version}, {len(turn.completion_ids)} tokens[/]")
        console.print(escape(turn.text.strip()))
        for call, result in zip(turn.calls, turn.results, strict=False):
            style = "green" if result.ok else "red"
            named = f" ({escape(call.tool)})" if len(turn.calls) > 1 else ""
            console.print(f"[{style}]Observation{named}: {escape(result.output)}[/]")
    console.print(f"[bold]Answer[/]  {escape(solution.answer or '(none)')}{_check(task, solution)}")


def _check(task: str, solution: Solution) -> str:
    """Whether the answer is right, for a task whose answer can be computed."""
    expression = arithmetic.find_expression(task)
    if expression is None or solution.answer is None:
        return ""
    try:
        expected = str(arithmetic.evaluate(expression))
    except ValueError:
        return ""
    right = solution.answer.strip() == expected
    return "  [green]right[/]" if right else f"  [red]wrong: it is {expected}[/]"
