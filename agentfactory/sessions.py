"""Agents at work on the data plane, from Python.

async with DataPlane.open() as data, open_session(blueprint, data) as session:
    step = await session.command("load folder::docs as docs")
    print(step.thought, step.result.observation.text, step.result.reward)

What a session did lies under `trajectories/` in the data plane's folder, a folder for each session.
"""

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from .actors.agents.session import AgentSession
from .actors.environment import DataEnvironment
from .actors.sink.actor import TrajectorySink
from .actors.sink.segments import read_trajectories, segments
from .cluster.agents.loader import open_agent, policy_version
from .cluster.data_plane.tiers import spawn_data_actors
from .configs.agents.blueprints import Blueprint
from .configs.data import DataSettings
from .configs.roles import SinkSettings
from .data import DataPlane, data_folder
from .messages.trajectories import Trajectory
from .runtime.ref import Ref
from .runtime.system import ActorSystem

RECORDS: Final = "trajectories"
"""The folder, inside the data plane's, that holds what agents did."""


@asynccontextmanager
async def open_session(
    blueprint: Blueprint, data: DataPlane, *, record: bool = True
) -> AsyncIterator[AgentSession]:
    """An agent in an environment with its blueprint's rewards, on a data plane that is up.

    Where the data plane runs is for the data plane to say; the rest is the blueprint's. `record`: its
    episodes are kept. Raises what `open_agent` raises, and SettingsError for a blueprint that does not fit.
    """
    async with AsyncExitStack() as stack:
        environments = await stack.enter_async_context(open_session_environments(blueprint, data))
        sink = await stack.enter_async_context(open_sink(data, blueprint.name)) if record else None
        agent = await stack.enter_async_context(open_agent(blueprint))
        yield AgentSession(
            blueprint.name,
            agent,
            environments(),
            sink=sink,
            rewards=settings_for(blueprint, data.settings).rewards,
            version=policy_version(blueprint),
        )


@asynccontextmanager
async def open_session_environments(
    blueprint: Blueprint, data: DataPlane
) -> AsyncIterator[Callable[[], DataEnvironment]]:
    """Makes environments with a blueprint's rewards; all of them share their actors. Raises SettingsError."""
    settings = settings_for(blueprint, data.settings)
    async with ActorSystem.open("local") as system:
        ingestor, retriever = await spawn_data_actors(system, settings)
        yield lambda: DataEnvironment(ingestor, retriever, settings.rewards)


@asynccontextmanager
async def open_sink(data: DataPlane, name: str) -> AsyncIterator[Ref]:
    """A sink of one's own, in a new folder of the data plane's records; one that gets nothing leaves none."""
    folder = _new_folder(data_folder(data.settings), name)
    try:
        async with ActorSystem.open("local") as system:
            yield await system.spawn(TrajectorySink, SinkSettings(), folder, name="sink")
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_remove_if_empty, folder)


def settings_for(blueprint: Blueprint, plane: DataSettings) -> DataSettings:
    """A blueprint's settings for agents on this data plane: its rewards, its sources, its tag."""
    return blueprint.data_settings(plane).model_copy(update={"bridge": plane.bridge, "cache": plane.cache})


def recorded(data: DataSettings) -> Iterator[Trajectory]:
    """All that agents did on a data plane, session after session. Raises BadInput for a damaged record."""
    for folder in sorted((data_folder(data) / RECORDS).glob("*/")):
        yield from read_trajectories(folder)


def _new_folder(inside: Path, name: str) -> Path:
    """One that no other session writes to."""
    begun = time.strftime("%Y%m%d-%H%M%S")
    return inside / RECORDS / f"{begun}-{name}-{uuid.uuid4().hex[:8]}"


def _remove_if_empty(folder: Path) -> None:
    """A session that did nothing leaves nothing."""
    if any(path.stat().st_size for path in segments(folder)):
        return
    for path in segments(folder):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
