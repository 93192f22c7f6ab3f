"""`agentfactory run`, `demo` and `pipeline`: agents at work."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.errors import BadInput
from .arguments import AddParser

if TYPE_CHECKING:
    from ..configs.data import DataSettings
    from ..messages.pipelines import PipelineResult
    from ..pipelines import PipelineJob
    from ..terminal.pipeline_view import PipelineView


def add_agent_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    run = add_parser("run", help="talk to an agent: at a prompt, from a pipe, or one command")
    run.add_argument("name", metavar="NAME", help="a blueprint; `agentfactory blueprints` lists them")
    run.add_argument(
        "-c",
        "--command",
        dest="commands",
        action="append",
        default=[],
        metavar="TEXT",
        help="carry this out and end; may be given several times",
    )
    run.add_argument(
        "--deployed",
        action="store_true",
        help="each agent as the version that `agentfactory promote` put to use, not as its file is now",
    )
    _add_options(run)
    run.set_defaults(command=_run)

    demo = add_parser(
        "demo", help="sample documents in, found, fetched and pruned: by one agent, and by several"
    )
    demo.add_argument("--mode", choices=("both", "single", "coordinated"), default="both")
    _add_options(demo)
    demo.set_defaults(command=_demo)

    pipeline = add_parser("pipeline", help="run the steps of a YAML file, each as soon as it can")
    pipeline.add_argument(
        "file", metavar="FILE.yaml", help="or the name of one that is shipped: ingest_retrieve"
    )
    pipeline.add_argument("variables", nargs="*", metavar="KEY=VALUE", help="values of ${pipeline.KEY}")
    pipeline.add_argument("--resume", action="store_true", help="go on with the last run, where it failed")
    pipeline.add_argument("--state", metavar="FILE", help="where the outcomes of steps are kept")
    pipeline.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    pipeline.add_argument(
        "--preset", default="laptop", help="a preset or a .yaml file, for its `data` section"
    )
    pipeline.set_defaults(command=_pipeline)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", default="laptop", help="a preset or a .yaml file, for its `data` and `agents` sections"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object for each input, and nothing else"
    )


def _run(options: argparse.Namespace) -> int:
    from ..configs.load import load_settings
    from ..repl.loop import run
    from .blueprints import open_registry

    return run(
        options.name,
        open_registry(options.preset, deployed=options.deployed),
        load_settings(options.preset).data,
        commands=tuple(options.commands),
        as_json=options.json,
    )


def _demo(options: argparse.Namespace) -> int:
    from ..configs.load import load_settings
    from ..repl.demo import demo
    from .blueprints import open_registry

    return demo(
        open_registry(options.preset),
        load_settings(options.preset).data,
        mode=options.mode,
        as_json=options.json,
    )


def _pipeline(options: argparse.Namespace) -> int:
    """Run a pipeline; 0 if all of its steps are done, 1 if not."""
    from rich.console import Console

    from ..cluster.agents.blueprint_registry import BlueprintRegistry
    from ..configs.load import load_settings
    from ..pipelines import PipelineJob, states_folder
    from ..runtime.telemetry import LogSettings, configure_logging
    from ..terminal.pipeline_view import PipelineView

    settings = load_settings(options.preset)
    data, registry = settings.data, BlueprintRegistry(own=settings.agents.blueprints)
    where = Path(options.state) if options.state is not None else states_folder(data)
    said = dict(map(_variable, options.variables))
    prepared = PipelineJob(options.file, said, state=where, resume=options.resume, registry=registry)
    console = Console(stderr=options.json)
    configure_logging(LogSettings(level="error", format="console"))
    with PipelineView(prepared.plan, console) as view:
        result = asyncio.run(_run_pipeline(prepared, data, view))
        view.result(result)
    if options.json:
        print(result.model_dump_json())
    if not result.complete:
        failed = next(step for step in result.steps if step.state == "failed")
        again = "" if options.state is None else f" --state {options.state}"
        print(
            f"agentfactory: {failed.step}: {failed.reason}; once that is mended, "
            f"`agentfactory pipeline {options.file} --resume{again}` goes on from there",
            file=sys.stderr,
        )
    return 0 if result.complete else 1


async def _run_pipeline(prepared: PipelineJob, data: DataSettings, view: PipelineView) -> PipelineResult:
    from ..data import DataPlane

    async with DataPlane.open(data) as plane:
        return await prepared.run(plane, view.update)


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"{text}: expected KEY=VALUE, such as src=folder::docs")
    return key, value
