"""Environment server: its routes, from settings to a server that answers, and its end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
from fastapi import APIRouter, FastAPI

from ...actors.namespaces import DataAccess
from ...configs.data import DataSettings
from ...configs.http_servers import EnvironmentServerSettings
from ...messages.base import Done
from ...messages.data import Action, ActionTrajectory, Observation, StepResult
from ...messages.sessions import OpenSession, ResetSession, SessionInfo, SessionList
from ...runtime.system import ActorSystem
from ...runtime.tasks import task_group
from ..data_plane.tiers import spawn_data_access
from ..serving.http_server import bind, install_middleware, read_api_keys, running, url_of, wait_for_shutdown
from ..serving.json_body import JsonRoute
from ..serving.metrics import ServingMetrics
from .errors import ENVIRONMENT_ERRORS
from .local import LocalEnvironments
from .recorded import RecordedEpisode
from .sessions import Sessions


def build(sessions: Sessions, settings: EnvironmentServerSettings, keys: tuple[str, ...]) -> FastAPI:
    """An application that serves these; without keys, to this machine only."""
    app = FastAPI(title="AgentFactory environments", docs_url=None, redoc_url=None)
    app.include_router(_Routes(sessions).router())
    install_middleware(app, settings, keys, ServingMetrics(), ENVIRONMENT_ERRORS)
    return app


class _Routes:
    """One method a route."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter(route_class=JsonRoute)
        router.get("/health")(self.health)
        router.get("/v1/sessions")(self.listed)
        router.post("/v1/sessions", status_code=201)(self.open)
        one = "/v1/sessions/{session_id}"
        router.post(f"{one}/reset")(self.reset)
        router.post(f"{one}/step")(self.step)
        router.get(f"{one}/observe")(self.observe)
        router.get(f"{one}/trajectory")(self.trajectory)
        router.delete(one)(self.close)
        return router

    async def health(self) -> Done:
        """Health check; asks for no key."""
        return Done()

    async def listed(self) -> SessionList:
        """The sessions that are open."""
        return SessionList(sessions=self._sessions.listed)

    async def open(self, body: OpenSession) -> SessionInfo:
        """Open a session."""
        return await self._sessions.open(body.kind)

    async def reset(self, session_id: str, body: ResetSession) -> Observation:
        """Begin an episode."""
        async with self._sessions.using(session_id) as environment:
            return await environment.reset(body.task)

    async def step(self, session_id: str, action: Action) -> StepResult:
        """Act."""
        async with self._sessions.using(session_id) as environment:
            return await environment.step(action)

    async def observe(self, session_id: str) -> Observation:
        """The last observation."""
        async with self._sessions.using(session_id) as environment:
            return environment.observe()

    async def trajectory(self, session_id: str) -> ActionTrajectory:
        """All steps since the last reset."""
        async with self._sessions.using(session_id) as environment:
            return environment.trajectory

    async def close(self, session_id: str) -> Done:
        """End the session."""
        await self._sessions.close(session_id)
        return Done()


async def serve(
    settings: EnvironmentServerSettings,
    data: DataSettings,
    episodes: Sequence[RecordedEpisode] = (),
    watch: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve environments on a data plane that is up, until a signal ends it.

    `episodes` are those for fine-tuning. Raises BadInput, and ActorDown when an actor is gone for good.
    """
    keys = read_api_keys(settings)
    with bind(settings) as listening:
        async with ActorSystem.open("local") as system:
            access = await spawn_data_access(system, data)
            async with (
                opened(access, data, settings, episodes) as sessions,
                running(build(sessions, settings, keys), settings.drain_s, listening) as server,
            ):
                watch(f"environments on {url_of(listening)}")
                await wait_for_shutdown(server, system)


@contextlib.asynccontextmanager
async def opened(
    access: DataAccess,
    data: DataSettings,
    settings: EnvironmentServerSettings,
    episodes: Sequence[RecordedEpisode] = (),
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
