"""`agentfactory serve` and `agentfactory environment`: servers over HTTP."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import ENGINE_HELP, AddParser

if TYPE_CHECKING:
    from ..cluster.environment.recorded import RecordedEpisode
    from ..cluster.serving.server import ServingPlan
    from ..configs.data import DataSettings
    from ..configs.http_servers import EnvironmentServerSettings
    from ..configs.models import EngineSettings


def add_serve_command(add_parser: AddParser) -> None:
    """Add it to the parser. Nothing heavy is imported until it runs."""
    serve = add_parser("serve", help="serve a model and a run's adapters over HTTP, in OpenAI's language")
    serve.add_argument("--model", metavar="MODEL", help="seed, a folder, or a hub name (the run's, or seed)")
    serve.add_argument("--adapter", metavar="RUN_DIR", help="serve this run's adapters, too")
    serve.add_argument("--versions", type=int, metavar="N", help="the newest of each policy (4)")
    serve.add_argument("--engine", metavar="KIND", help=ENGINE_HELP)
    serve.add_argument("--copies", type=int, metavar="N", help="replicas of the engine (1)")
    serve.add_argument("--transport", choices=("local", "ray"), default="local", help="where they live")
    serve.add_argument("--host", help="the address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="the port to listen on, 0 for a free one (8000)")
    serve.add_argument("--preset", help="a preset or a .yaml file, for all the rest (laptop)")
    serve.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    import asyncio

    from ..cluster.serving.server import serve
    from ..runtime.telemetry import LogSettings, configure_logging

    plan = _plan(options)
    configure_logging(LogSettings(level="warning", format="console"))
    asyncio.run(serve(plan, lambda text: print(text, flush=True)))
    return 0


def _plan(options: argparse.Namespace) -> "ServingPlan":
    """The run's or the preset's settings, with what the options say. Raises BadInput."""
    from pydantic import ValidationError

    from ..cluster.run_folder import open_run_folder
    from ..cluster.serving.server import ServingPlan
    from ..configs.errors import BadInput
    from ..configs.http_servers import ServingSettings
    from ..configs.load import format_validation_error, load_settings

    settings = load_settings(options.preset or "laptop")
    serving = settings.serving
    run_dir = None
    if options.adapter is not None:
        run_dir, settings = open_run_folder(Path(options.adapter))
    said = {name: getattr(options, name) for name in ("host", "port", "versions")}
    changes = {name: value for name, value in said.items() if value is not None}
    try:
        serving = ServingSettings.model_validate(serving.model_dump() | changes)
    except ValidationError as error:
        raise BadInput(format_validation_error(error, where="serve", model=ServingSettings)) from error
    model, engine = settings.model, settings.engine
    if options.model is not None:
        model = model.model_copy(update={"source": options.model})
    if options.engine not in (None, engine.kind):
        engine = _engine({"kind": options.engine})
    if options.copies is not None:
        engine = _engine(engine.model_dump() | {"copies": options.copies})
    model.locate()  # a missing model is found before anything starts
    said_by_nobody = options.preset is None and options.model is not None
    own_context = run_dir is None and (said_by_nobody or "max_context" not in engine.model_fields_set)
    return ServingPlan(model, engine, serving, run_dir, options.transport, own_context)


def _engine(values: dict[str, object]) -> "EngineSettings":
    """An engine's settings. Raises BadInput."""
    from pydantic import ValidationError

    from ..configs.chat_models import EngineModelSettings
    from ..configs.errors import BadInput
    from ..configs.load import format_validation_error

    try:
        return EngineModelSettings.model_validate({"engine": values}).engine
    except ValidationError as error:
        raise BadInput(format_validation_error(error, where="serve", model=EngineModelSettings)) from error


def add_environment_command(add_parser: AddParser) -> None:
    """Add it to the parser. Nothing heavy is imported until it runs."""
    parser = add_parser("environment", help="serve environments for agents over HTTP: reset, step, observe")
    parser.add_argument("--host", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port to listen on, 0 for a free one (8100)")
    parser.add_argument(
        "--episodes",
        action="append",
        metavar="FOLDER",
        help="a run, or a folder of trajectories, for fine-tuning (what agents did on the data plane)",
    )
    parser.add_argument("--preset", default="laptop", help="a preset or a .yaml file, for all the rest")
    parser.set_defaults(command=_environment)


def _environment(options: argparse.Namespace) -> int:
    import asyncio

    from ..cluster.serving.http_server import read_api_keys
    from ..configs.load import load_settings
    from ..environments import episodes_in, episodes_of
    from ..runtime.telemetry import LogSettings, configure_logging

    settings = load_settings(options.preset)
    served = _said(settings.environment, options)
    read_api_keys(served)  # a missing one is found before anything starts
    if options.episodes:
        episodes = episodes_in([Path(folder) for folder in options.episodes])
    else:
        episodes = episodes_of(settings.data)
    configure_logging(LogSettings(level="warning", format="console"))
    asyncio.run(_serve_environments(served, settings.data, episodes))
    return 0


async def _serve_environments(
    settings: "EnvironmentServerSettings", data: "DataSettings", episodes: "tuple[RecordedEpisode, ...]"
) -> None:
    from ..cluster.environment.server import serve
    from ..data import DataPlane

    async with DataPlane.open(data) as plane:
        await serve(settings, plane.settings, episodes, lambda text: print(text, flush=True))


def _said(settings: "EnvironmentServerSettings", options: argparse.Namespace) -> "EnvironmentServerSettings":
    """The settings, with what the options say. Raises BadInput."""
    from pydantic import ValidationError

    from ..configs.errors import BadInput
    from ..configs.http_servers import EnvironmentServerSettings
    from ..configs.load import format_validation_error

    said = {name: getattr(options, name) for name in ("host", "port")}
    changes = {name: value for name, value in said.items() if value is not None}
    try:
        return EnvironmentServerSettings.model_validate(settings.model_dump() | changes)
    except ValidationError as error:
        raise BadInput(format_validation_error(error, "environment", EnvironmentServerSettings)) from error
