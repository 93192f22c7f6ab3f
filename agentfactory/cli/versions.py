"""`agentfactory versions`, `promote` and `rollback`: an agent's lifecycle."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.printable import printable
from .arguments import AddParser

if TYPE_CHECKING:
    from ..cluster.agents.blueprint_registry import BlueprintRegistry
    from ..cluster.agents.lifecycle import PromotionResult
    from ..cluster.agents.version_store import VersionStore
    from ..cluster.agents.versions import AgentRecord, AgentVersion
    from ..configs.agents.evaluation import EvaluationRecord

COLUMNS = ("version", "state", "evaluation", "made", "works with", "adapter")
COLOURS = {"deploy": "green", "evaluate": "yellow", "train": ""}


def add_version_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    _add(add_parser, "versions", "an agent's versions, how they did, and which one is in use", versions)
    parser = _add(add_parser, "promote", "evaluate an agent as it stands; deploy it if it passed", promote)
    parser.add_argument("--suite", metavar="FILE.yaml", help="the evaluation (17 commands)")
    parser = _add(add_parser, "rollback", "use the version that was in use before", rollback)
    parser.add_argument("--to", type=int, metavar="N", help="a certain version that passed its evaluation")


def _add(
    add_parser: AddParser, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = add_parser(name, help=about)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--preset", default="laptop", help="a preset or a .yaml file, for `agents`")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")
    parser.set_defaults(command=run)
    return parser


def versions(options: argparse.Namespace) -> int:
    """`versions`."""
    from rich.console import Console

    from ..terminal.tables import show_rows

    name = options.name
    registry, store = _opened(options.preset)
    record = store.record(name)
    if not record.versions:
        registry.get(name)  # raises what is wrong with a name that is none
    if options.json:
        print(json.dumps(_summary(record)))
    elif not record.versions:
        print(f"{name} has no versions yet; `agentfactory promote {name}` makes the first")
    else:
        rows = [_row(each) for each in record.versions]
        show_rows(Console(), COLUMNS, rows, [COLOURS[each.state] for each in record.versions])
    return 0


def promote(options: argparse.Namespace) -> int:
    """`promote`: 0 if the agent as it stands is in use now, 1 if it did not pass."""
    from rich.console import Console

    from ..cluster.agents.lifecycle import promote as make_and_evaluate
    from ..configs.agents.evaluation import SHIPPED_SUITE, load_suite
    from ..runtime.telemetry import LogSettings, configure_logging

    configure_logging(LogSettings(level="error", format="console"))
    name = options.name
    registry, store = _opened(options.preset)
    questions = load_suite(Path(options.suite) if options.suite is not None else SHIPPED_SUITE)
    console = Console(stderr=True)

    async def run() -> PromotionResult:
        with console.status(f"evaluating {name} ...") as spinner:

            def watch(done: int) -> None:
                spinner.update(f"evaluating {name}: {done} of {len(questions.cases)} ...")

            return await make_and_evaluate(store, registry, name, questions, watch)

    done = asyncio.run(run())
    if options.json:
        print(json.dumps({**_summary(done.record), "version": done.number, "deployed": done.deployed}))
        return 0 if done.deployed else 1
    again = "" if done.evaluated else ", as it did before"
    print(f"{name} version {done.number}: {_score(done.outcome)}{again}")
    for mistake in done.outcome.mistakes:
        print(f"  {printable(str(mistake))}")
    print(_use(done.record))
    return 0 if done.deployed else 1


def rollback(options: argparse.Namespace) -> int:
    """`rollback`."""
    from ..cluster.agents.lifecycle import roll_back

    registry, store = _opened(options.preset)
    if not store.record(options.name).versions:
        registry.get(options.name)  # raises what is wrong with a name that is none
    record = roll_back(store, options.name, options.to)
    print(json.dumps(_summary(record)) if options.json else _use(record))
    return 0


def _opened(preset: str) -> tuple[BlueprintRegistry, VersionStore]:
    from ..cluster.agents.blueprint_registry import BlueprintRegistry
    from ..cluster.agents.version_store import VersionStore
    from ..configs.load import load_settings

    agents = load_settings(preset).agents
    return BlueprintRegistry(own=agents.blueprints), VersionStore(agents.versions)


def _use(record: AgentRecord) -> str:
    in_use = record.in_use
    return f"{record.agent}: " + (f"version {in_use.number} is in use" if in_use else "no version is in use")


def _score(outcome: EvaluationRecord) -> str:
    verdict = "passed" if outcome.passed else "failed"
    harm = f", {outcome.harmful} harmful" if outcome.harmful else ""
    needed = f"{outcome.pass_score:.0%} needed"
    return f"{outcome.correct}/{outcome.n} of {outcome.suite} right, {needed}{harm}: {verdict}"


def _row(version: AgentVersion) -> list[str]:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(version.made_at))
    adapter = version.makeup.adapter
    return [
        str(version.number),
        version.state,
        _score(version.evaluations[-1]) if version.evaluations else "none yet",
        made,
        version.makeup.model,
        adapter.name or "base model" if adapter is not None else "",
    ]


def _summary(record: AgentRecord) -> dict[str, object]:
    in_use = record.in_use
    return {
        "agent": record.agent,
        "state": record.state,
        "in_use": in_use.number if in_use is not None else None,
        "versions": [
            {
                "version": each.number,
                "state": each.state,
                "made_at": each.made_at,
                "model": each.makeup.model,
                "adapter": each.makeup.adapter.name if each.makeup.adapter is not None else None,
                "prompt": each.makeup.prompt,
                "blueprint": each.makeup.blueprint,
                "sha256": each.makeup.sha256(),
                "evaluations": [
                    {**outcome.model_dump(), "passed": outcome.passed} for outcome in each.evaluations
                ],
            }
            for each in record.versions
        ],
    }
