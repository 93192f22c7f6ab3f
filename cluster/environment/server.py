"""From settings to an environment server that answers, and its end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import anyio

from ...actors.spaces import DataAccess
from ...configs.data import DataSettings
from ...configs.serving import EnvironmentServerSettings
from ...runtime.groups import task_group
from ...runtime.system import ActorSystem
from ..data_plane import spawn_data_access
from ..serving.door import bind, end_of, keys_of, running, url_of
from .application import build
from .local import LocalEnvironments
from .recorded import Recorded
from .sessions import Sessions


async def serve(
    settings: EnvironmentServerSettings,
    data: DataSettings,
    episodes: Sequence[Recorded] = (),
    watch: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve environments on a data plane that is up, until a signal ends it.

    `episodes` are those for fine-tuning. Raises BadInput, and ActorDown when an actor is gone for good.
    """
    keys = keys_of(settings)
    with bind(settings) as listening:
        async with ActorSystem.open("local") as system:
            access = await spawn_data_access(system, data)
            async with (
                opened(access, data, settings, episodes) as sessions,
                running(build(sessions, settings, keys), settings.drain_s, listening) as server,
            ):
                watch(f"environments on {url_of(listening)}")
                await end_of(server, system)


@contextlib.asynccontextmanager
async def opened(
    access: DataAccess,
    data: DataSettings,
    settings: EnvironmentServerSettings,
    episodes: Sequence[Recorded] = (),
) -> AsyncIterator[Sessions]:
    """Sessions that are looked after; leaving the block closes them all."""
    sessions = Sessions(LocalEnvironments(access, data, settings, episodes), settings)
    try:
        async with task_group() as group:
            group.start_soon(sessions.look_after)
            yield sessions
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await sessions.aclose()
