"""Tag spaces of the run's attempts: given out by the one who gives out the work, and taken back.

Invariant: no two attempts share a space, whatever died in between. What could not be taken back when an
attempt had ended goes with the next sweep.
"""

from collections.abc import Iterable

import structlog

from ...configs.errors import AgentFactoryError
from ...messages.tasks import Task
from ..domains import needs_store
from ..namespaces import DataAccess, clear, new_namespace, sweep
from .state import RunState

log = structlog.get_logger("coordinator")


class Spaces:
    """Spaces for tasks that act on the data plane; other tasks have none."""

    def __init__(self, data: DataAccess | None, state: RunState) -> None:
        self._data = data
        self._state = state

    def new(self, task: Task, episode_id: str) -> str:
        """A space for one attempt; empty for a task that needs none."""
        return new_namespace(self._state.run_id, episode_id) if needs_store(task.domain) else ""

    async def clear(self, spaces: Iterable[str]) -> None:
        """Destroy what these attempts have stored. A failure is logged: it changes no verdict."""
        used = [space for space in spaces if space]
        if self._data is None or not used:
            return
        try:
            await clear(self._data, used)
        except AgentFactoryError as error:
            log.warning("an episode's blobs stay for now", spaces=used, reason=str(error))

    async def sweep(self) -> None:
        """Destroy what earlier attempts of this run left, and what dead runs left long ago."""
        if self._data is None:
            return
        try:
            await sweep(self._data, self._state.run_id)
        except AgentFactoryError as error:
            log.warning("leftovers of episodes stay for now", reason=str(error))
