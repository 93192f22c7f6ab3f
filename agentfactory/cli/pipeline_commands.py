"""What `agentfactory pipeline` does, once its arguments are read."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..cluster.agents.blueprint_registry import BlueprintRegistry
from ..configs.data import DataSettings
from ..configs.errors import BadInput
from ..configs.load import load_settings
from ..data import DataPlane
from ..messages.pipelines import PipelineResult
from ..pipelines import PipelineJob, states_folder
from ..runtime.telemetry import LogSettings, configure_logging
from ..terminal.pipeline_view import PipelineView


def pipeline(
    file: str, variables: Sequence[str], *, preset: str, resume: bool, state: str | None, as_json: bool
) -> int:
    """Run a pipeline; 0 if all of its steps are done, 1 if not."""
    settings = load_settings(preset)
    data, registry = settings.data, BlueprintRegistry(own=settings.agents.blueprints)
    where = Path(state) if state is not None else states_folder(data)
    said = dict(map(_variable, variables))
    prepared = PipelineJob(file, said, state=where, resume=resume, registry=registry)
    console = Console(stderr=as_json)
    configure_logging(LogSettings(level="error", format="console"))
    with PipelineView(prepared.plan, console) as view:
        result = asyncio.run(_run(prepared, data, view))
        view.result(result)
    if as_json:
        print(result.model_dump_json())
    if not result.complete:
        failed = next(step for step in result.steps if step.state == "failed")
        again = "" if state is None else f" --state {state}"
        print(
            f"agentfactory: {failed.step}: {failed.reason}; once that is mended, "
            f"`agentfactory pipeline {file} --resume{again}` goes on from there",
            file=sys.stderr,
        )
    return 0 if result.complete else 1


async def _run(prepared: PipelineJob, data: DataSettings, view: PipelineView) -> PipelineResult:
    async with DataPlane.open(data) as plane:
        return await prepared.run(plane, view.update)


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"{text}: expected KEY=VALUE, such as src=folder::docs")
    return key, value
