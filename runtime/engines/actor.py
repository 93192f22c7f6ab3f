"""The engine as an actor, so that every Student and Teacher shares its batches.

Consumes Generate, LoadAdapter, UnloadAdapter, AbortGeneration, EndSessions, DescribeEngine;
produces Completion, AdapterLoaded, EngineStatistics; waits for the engine; unblocked by it, or by
the asker's deadline, which aborts the request.
"""

from configs.models import EngineSettings, ModelSettings
from messages.adapters import AdapterLoaded, LoadAdapter, UnloadAdapter
from messages.base import Done
from messages.generation import (
    AbortGeneration,
    Completion,
    DescribeEngine,
    EndSessions,
    EngineStatistics,
    Generate,
)
from runtime.actor import Actor
from runtime.engines.base import EngineFailed, open_engine


class BrokenEngine(Exception):
    """Not one of our errors on purpose: the actor cannot go on with this engine."""


class InferenceEngine(Actor):
    """One replica of the base model with any number of adapters."""

    concurrency = 8192

    def __init__(self, model: ModelSettings, settings: EngineSettings) -> None:
        self._engine = open_engine(model, settings)

    async def start(self) -> None:
        """Load the model."""
        await self._engine.start()

    async def aclose(self) -> None:
        """Answer what waits, and free the model."""
        await self._engine.aclose()

    async def generate(self, message: Generate) -> Completion:
        """Continue a prompt. A broken engine ends this actor's life: its supervisor makes a new one."""
        try:
            return await self._engine.generate(message)
        except EngineFailed as error:
            raise BrokenEngine(str(error)) from error

    async def load_adapter(self, message: LoadAdapter) -> AdapterLoaded:
        """Load a version beside the others."""
        return AdapterLoaded(names=await self._engine.load_adapter(message))

    async def unload_adapter(self, message: UnloadAdapter) -> AdapterLoaded:
        """Drop a version once nothing runs on it."""
        return AdapterLoaded(names=await self._engine.unload_adapter(message.name))

    async def abort(self, message: AbortGeneration) -> Done:
        """Stop requests."""
        self._engine.abort(message.request_ids)
        return Done()

    async def end_sessions(self, message: EndSessions) -> None:
        """Drop the caches of sessions that have ended."""
        self._engine.end_sessions(message.sessions)

    async def describe(self, message: DescribeEngine) -> EngineStatistics:
        """What was done, and what is running."""
        return self._engine.statistics()
