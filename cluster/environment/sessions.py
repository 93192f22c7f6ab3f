"""The sessions of an environment server.

Invariants: no more than `max_sessions` are open; a session works on one request at a time; one that nobody
used for `idle_s` is closed, and its environment with it. Everything is decided before the first await.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import structlog

from ...configs.errors import AgentFactoryError
from ...configs.http_servers import EnvironmentServerSettings
from ...messages.sessions import EnvironmentKind, SessionInfo
from .base import ServedEnvironment
from .errors import NoSuchSession, SessionBusy, TooManySessions
from .local import LocalEnvironments

log = structlog.get_logger("environment")


@dataclass
class _Session:
    info: SessionInfo
    environment: ServedEnvironment
    used_at: float
    busy: bool = False


class Sessions:
    """Environments by the ids of their sessions."""

    def __init__(
        self,
        environments: LocalEnvironments,
        settings: EnvironmentServerSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environments = environments
        self._settings = settings
        self._clock = clock
        self._open: dict[str, _Session] = {}
        self._opening = 0

    def __repr__(self) -> str:
        busy = sum(session.busy for session in self._open.values())
        return f"<Sessions: {len(self._open)} open, {busy} busy>"

    @property
    def listed(self) -> tuple[SessionInfo, ...]:
        """Those that are open, the oldest first."""
        return tuple(session.info for session in self._open.values())

    async def open(self, kind: EnvironmentKind) -> SessionInfo:
        """A new session. Raises TooManySessions, BadInput."""
        if len(self._open) + self._opening >= self._settings.max_sessions:
            raise TooManySessions(f"{self._settings.max_sessions} sessions are open; close one, or try again")
        self._opening += 1
        try:
            environment = await self._environments.open(kind)
        finally:
            self._opening -= 1
        info = SessionInfo(
            id=secrets.token_urlsafe(16),
            kind=kind,
            explore=kind == "training",
            episodes=self._environments.episodes(kind),
            idle_s=self._settings.idle_s,
        )
        self._open[info.id] = _Session(info, environment, self._clock())
        return info

    @asynccontextmanager
    async def using(self, session_id: str) -> AsyncIterator[ServedEnvironment]:
        """A session's environment, for one request. Raises NoSuchSession, SessionBusy."""
        session = self._idle(session_id)
        session.busy = True
        try:
            yield session.environment
        finally:
            session.busy, session.used_at = False, self._clock()

    async def close(self, session_id: str) -> None:
        """End a session. Raises NoSuchSession, SessionBusy, and what its environment fails with."""
        session = self._idle(session_id)
        del self._open[session_id]
        await session.environment.close()

    async def close_idle(self) -> int:
        """Close those that nobody has used for too long; how many."""
        oldest = self._clock() - self._settings.idle_s
        idle = [name for name, each in self._open.items() if not each.busy and each.used_at <= oldest]
        for session_id in idle:
            await self._close_quietly(self._open.pop(session_id))
        return len(idle)

    async def look_after(self) -> None:
        """Close what is idle, for ever."""
        while True:
            now = self._clock()
            due = [each.used_at + self._settings.idle_s for each in self._open.values() if not each.busy]
            await anyio.sleep(max(0.0, min(due, default=now + self._settings.idle_s) - now))
            await self.close_idle()

    async def aclose(self) -> None:
        """Close all."""
        while self._open:
            await self._close_quietly(self._open.popitem()[1])

    def _idle(self, session_id: str) -> _Session:
        session = self._open.get(session_id)
        if session is None:
            limit = f"{self._settings.idle_s:g} s"
            raise NoSuchSession(f"there is no session {session_id!r}; one is closed when unused for {limit}")
        if session.busy:
            raise SessionBusy("the session is at work on another request")
        return session

    async def _close_quietly(self, session: _Session) -> None:
        """Nobody is there to hear what fails. What stays in the store is swept a day later."""
        try:
            await session.environment.close()
        except AgentFactoryError as error:
            log.warning("a session's blobs stay for now", session=session.info.id, reason=str(error))
