"""`agentfactory environment`: its part of the command line, and what it does."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .data_cli import AddParser

if TYPE_CHECKING:
    from .cluster.environment.recorded import Recorded
    from .configs.data import DataSettings
    from .configs.serving import EnvironmentServerSettings


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

    from .cluster.serving.door import keys_of
    from .configs.load import load_settings
    from .environments import episodes_in, episodes_of
    from .runtime.telemetry import LogSettings, configure_logging

    settings = load_settings(options.preset)
    served = _said(settings.environment, options)
    keys_of(served)  # a missing one is found before anything starts
    if options.episodes:
        episodes = episodes_in([Path(folder) for folder in options.episodes])
    else:
        episodes = episodes_of(settings.data)
    configure_logging(LogSettings(level="warning", format="console"))
    asyncio.run(_serve(served, settings.data, episodes))
    return 0


async def _serve(
    settings: "EnvironmentServerSettings", data: "DataSettings", episodes: "tuple[Recorded, ...]"
) -> None:
    from .cluster.environment.server import serve
    from .data import DataPlane

    async with DataPlane.open(data) as plane:
        await serve(settings, plane.settings, episodes, lambda text: print(text, flush=True))


def _said(settings: "EnvironmentServerSettings", options: argparse.Namespace) -> "EnvironmentServerSettings":
    """The settings, with what the options say. Raises BadInput."""
    from pydantic import ValidationError

    from .configs.errors import BadInput
    from .configs.load import describe
    from .configs.serving import EnvironmentServerSettings

    said = {name: getattr(options, name) for name in ("host", "port")}
    changes = {name: value for name, value in said.items() if value is not None}
    try:
        return EnvironmentServerSettings.model_validate(settings.model_dump() | changes)
    except ValidationError as error:
        raise BadInput(describe(error, "environment", EnvironmentServerSettings)) from error
