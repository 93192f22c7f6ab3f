"""The HTTP side: sessions, and the four words of an environment."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from ...configs.serving import EnvironmentServerSettings
from ...messages.base import Done
from ...messages.data import Action, ActionTrajectory, Observation, StepResult
from ...messages.sessions import OpenSession, ResetSession, SessionInfo, SessionList
from ..serving.door import guard
from ..serving.json_body import JsonRoute
from ..serving.metrics import Metrics
from .errors import translate
from .sessions import Sessions


def build(sessions: Sessions, settings: EnvironmentServerSettings, keys: tuple[str, ...]) -> FastAPI:
    """An application that serves these; without keys, to this machine only."""
    app = FastAPI(title="AgentFactory environments", docs_url=None, redoc_url=None)
    app.include_router(_Routes(sessions).router())
    guard(app, settings, keys, Metrics(), translate)
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
        """Whether it answers; asks for no key."""
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
        """What was seen last."""
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
