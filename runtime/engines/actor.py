"""Inference engine as an actor, so that every Student and Teacher shares its batches.

Consumes Generate, StreamTokens, LoadAdapter, FetchAdapter, UnloadAdapter, AbortGeneration,
EndSessions, SleepEngine, WakeEngine, DescribeEngine; produces Completion, Sampled, AdapterLoaded,
EngineStatistics; waits for the engine, and for the store that adapters are fetched from; unblocked by
them, or by the asker's deadline, which aborts the request.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import structlog

from ...configs.models import EngineSettings, ModelSettings
from ...messages.adapters import AdapterLoaded, AdapterRef, FetchAdapter, LoadAdapter, UnloadAdapter
from ...messages.base import Done
from ...messages.generation import (
    AbortGeneration,
    Completion,
    DescribeEngine,
    EndSessions,
    EngineStatistics,
    Generate,
    SleepEngine,
    StreamTokens,
    TokenChunk,
    WakeEngine,
)
from ..actor import Actor
from .base import AdapterRejected, AdapterStore, AdapterStoreFactory, EngineFailed
from .registry import open_engine
from .token_stream import TokenStream


class EngineCrashed(Exception):
    """The engine is unusable. Not an AgentFactoryError on purpose: the supervisor restarts the actor."""


log = structlog.get_logger("engine")


class InferenceEngine(Actor):
    """One replica of the base model with any number of adapters."""

    concurrency = 8192

    def __init__(
        self, model: ModelSettings, settings: EngineSettings, open_store: AdapterStoreFactory | None = None
    ) -> None:
        """`open_store`: where adapters are fetched from; None where they come in messages."""
        self._engine = open_engine(model, settings)
        self._source = model.source
        self._open_store = open_store
        self._store: AdapterStore | None = None
        self._stack = AsyncExitStack()
        self._fetched: dict[str | None, AdapterRef] = {}
        """Fetched and loaded adapters, by name: they need not come over the wire again."""
        self._loaded = AdapterLoaded(names=())
        self._streams: dict[str, TokenStream] = {}
        self._awake = asyncio.Event()
        self._awake.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = 0

    async def start(self) -> None:
        """Connect to the adapter store, and load the model."""
        if self._open_store is not None:
            self._store = await self._stack.enter_async_context(self._open_store())
        await self._engine.start()
        log.info("model loaded", model=self._source, engine=type(self._engine).__name__)

    async def aclose(self) -> None:
        """Answer waiting requests with EngineClosed, and free the model."""
        await self._engine.aclose()
        await self._stack.aclose()

    def measures(self) -> dict[str, float]:
        """Gauges and counters for Ray's metrics."""
        seen = self._engine.statistics()
        return {
            "engine_running": seen.running,
            "engine_waiting": seen.waiting,
            "engine_adapters": len(seen.adapters),
            "engine_requests_total": seen.requests,
            "engine_generated_tokens_total": seen.generated_tokens,
            "engine_prompt_tokens_total": seen.prompt_tokens,
            "engine_cached_tokens_total": seen.cached_tokens,
            "engine_busy_s_total": seen.busy_s,
        }

    async def generate(self, message: Generate) -> Completion:
        """Continue a prompt. A broken engine ends this actor's life: its supervisor makes a new one."""
        stream = TokenStream() if message.live and message.request_id not in self._streams else None
        if stream is not None:
            self._streams[message.request_id] = stream
        try:
            while not self._awake.is_set():
                await self._awake.wait()
            with self._counted():
                return await self._engine.generate(message, stream.add if stream else None)
        except EngineFailed as error:
            raise EngineCrashed(str(error)) from error
        finally:
            if stream is not None:
                del self._streams[message.request_id]
                stream.end()

    async def follow(self, message: StreamTokens) -> TokenChunk:
        """Tokens of a streamed request; for one that does not run here, that it has ended."""
        stream = self._streams.get(message.request_id)
        return TokenChunk(ended=True) if stream is None else await stream.beyond(message.after)

    async def load_adapter(self, message: LoadAdapter) -> AdapterLoaded:
        """Load a version beside the others."""
        self._loaded = AdapterLoaded(names=await self._engine.load_adapter(message))
        log.info("adapter loaded", adapter=message.adapter.name, loaded=self._loaded.names)
        return self._loaded

    async def fetch_adapter(self, message: FetchAdapter) -> AdapterLoaded:
        """Load a version from the adapter store. Raises AdapterRejected, and what the store raises."""
        adapter = message.adapter
        if self._store is None:
            raise AdapterRejected(f"{adapter.name}: this engine has no way to the data plane")
        if self._fetched.get(adapter.name) != adapter or adapter.name not in self._loaded.names:
            await self.load_adapter(await self._store.fetch(adapter))
            self._fetched[adapter.name] = adapter
        return self._loaded

    async def unload_adapter(self, message: UnloadAdapter) -> AdapterLoaded:
        """Drop a version once nothing runs on it."""
        self._fetched.pop(message.name, None)
        self._loaded = AdapterLoaded(names=await self._engine.unload_adapter(message.name))
        log.info("adapter dropped", adapter=message.name, loaded=self._loaded.names)
        return self._loaded

    async def abort(self, message: AbortGeneration) -> Done:
        """Stop requests."""
        self._engine.abort(message.request_ids)
        return Done()

    async def sleep(self, message: SleepEngine) -> Done:
        """Finish what runs, then give back the GPU's memory; what comes meanwhile waits."""
        self._awake.clear()
        try:
            while self._running:
                await self._idle.wait()
            await self._engine.sleep()
        except BaseException:
            self._awake.set()  # nobody knows of this sleep, so nobody would end it
            raise
        return Done()

    async def wake(self, message: WakeEngine) -> Done:
        """Go on."""
        await self._engine.wake()
        self._awake.set()
        return Done()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a running request; `_idle` is set at zero."""
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def end_sessions(self, message: EndSessions) -> None:
        """Drop the caches of sessions that have ended."""
        self._engine.end_sessions(message.sessions)

    async def describe(self, message: DescribeEngine) -> EngineStatistics:
        """Totals since the start, and what is running."""
        return self._engine.statistics()
