"""Continuous batching on transformers: the engine of small machines.

This file is the event loop's side: it checks requests, hands them to the worker's thread, and
settles their futures when the worker reports, once per step. `worker` runs the thread, `scheduler`
decides who runs, `adapter_runner` holds one adapter version, `kv_cache` the key-value cache,
`forward_batch` and `base_model` the forward pass.

    engine = TransformersEngine(ModelSettings(), TransformersEngineSettings())
    await engine.start()
    completion = await engine.generate(Generate(request_id="1", prompt_ids=…, sampling=…))
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from ....configs.models import ModelSettings, TransformersEngineSettings
from ....messages.adapters import LoadAdapter
from ....messages.generation import Completion, EngineStatistics, Generate
from ..base import EngineClosed, OnTokens, RequestLimits, check_request
from .sequence import SequenceState
from .worker import (
    AbortRequests,
    Callback,
    CloseWorker,
    DropSessions,
    EngineWorker,
    LoadLora,
    SubmitSequence,
    UnloadLora,
)

log = structlog.get_logger("engine")

CLOSE_S = 30.0
"""Limit of the worker's current step and its last answers at close."""


class TransformersEngine:
    """See `runtime.engines.base.Engine`."""

    def __init__(self, model: ModelSettings, settings: TransformersEngineSettings) -> None:
        self._model = model
        self._settings = settings
        self._worker: EngineWorker | None = None
        self._limits: RequestLimits | None = None
        self._sequences: dict[str, SequenceState] = {}
        """Not yet answered, by request id."""
        self._overflow: deque[SequenceState] = deque()
        """Those of them for which the worker's queue has no room."""
        self._closed = False

    async def start(self) -> None:
        """Load the model in the worker's thread. Raises EngineFailed, or SettingsError for a bad model."""
        if self._closed or self._worker is not None:
            raise EngineClosed("an engine starts once; make a new one")
        loop = asyncio.get_running_loop()
        started: asyncio.Future[RequestLimits] = loop.create_future()

        def deliver(callbacks: list[Callback]) -> bool:
            try:
                loop.call_soon_threadsafe(_settle_all, callbacks)
            except RuntimeError:  # the loop is closed
                return False
            return True

        self._worker = EngineWorker(self._model, self._settings, deliver, started)
        self._limits = await started

    async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
        """Continue a prompt; `on_tokens` hears once per step. Cancelling the call aborts the request."""
        worker, limits = self._running()
        check_request(request, self._sequences, limits)
        sequence = SequenceState.of(request, asyncio.get_running_loop().create_future(), on_tokens)
        self._sequences[request.request_id] = sequence
        self._submit(sequence, worker)
        try:
            return await sequence.answer
        except asyncio.CancelledError:
            self.abort((request.request_id,))
            raise
        finally:
            del self._sequences[request.request_id]
            self._submit_overflow(worker)

    def abort(self, request_ids: tuple[str, ...]) -> None:
        """Stop these requests at the next step; their callers get what was sampled so far."""
        for sequence in [
            sequence for sequence in self._overflow if sequence.request.request_id in request_ids
        ]:
            self._overflow.remove(sequence)
            if not sequence.answer.done():
                sequence.answer.set_result(sequence.completion("abort"))
        if self._worker is not None and not self._closed:
            self._worker.put(AbortRequests(request_ids))

    def end_sessions(self, sessions: tuple[str, ...]) -> None:
        """Free the caches kept for these sessions."""
        if self._worker is not None and not self._closed:
            self._worker.put(DropSessions(sessions))

    async def load_adapter(self, request: LoadAdapter) -> tuple[str, ...]:
        """Check and load an adapter between two steps. Raises AdapterRejected."""
        worker, _ = self._running()
        answer: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        worker.put(LoadLora(request, answer))
        return await answer

    async def unload_adapter(self, name: str) -> tuple[str, ...]:
        """Wait for the adapter's last request, then drop it. Raises UnknownAdapter."""
        worker, _ = self._running()
        answer: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        worker.put(UnloadLora(name, answer))
        return await answer

    async def sleep(self) -> None:
        """No-op: this engine never releases its memory."""

    async def wake(self) -> None:
        """No-op, like `sleep`."""

    def statistics(self) -> EngineStatistics:
        """Since the start; `waiting` counts the callers that wait for room in the queue, too."""
        if self._worker is None:
            return EngineStatistics()
        known = self._worker.statistics()
        return known.model_copy(update={"waiting": known.waiting + len(self._overflow)})

    async def aclose(self) -> None:
        """Answer all that wait with EngineClosed and end the worker's thread."""
        if self._closed:
            return
        self._closed = True
        while self._overflow:
            sequence = self._overflow.popleft()
            if not sequence.answer.done():
                sequence.answer.set_exception(EngineClosed("the engine was closed while this waited"))
        if self._worker is not None:
            self._worker.put(CloseWorker())
            if not await asyncio.to_thread(self._worker.join, CLOSE_S):
                log.error("the engine's thread does not end; it is left to itself", after_s=CLOSE_S)
                self._fail_rest()

    def _fail_rest(self) -> None:
        """Answer what the worker will not answer any more."""
        for sequence in self._sequences.values():
            if not sequence.answer.done():
                sequence.answer.set_exception(EngineClosed("the engine was closed while this ran"))

    def _running(self) -> tuple[EngineWorker, RequestLimits]:
        if self._closed:
            raise EngineClosed("the engine is closed")
        if self._worker is None or self._limits is None:
            raise EngineClosed("the engine was not started")
        return self._worker, self._limits

    def _submit(self, sequence: SequenceState, worker: EngineWorker) -> None:
        self._overflow.append(sequence)
        self._submit_overflow(worker)

    def _submit_overflow(self, worker: EngineWorker) -> None:
        """Hand over as many as the worker has room for."""
        room = self._settings.max_batch + self._settings.max_waiting
        while self._overflow and len(self._sequences) - len(self._overflow) < room and not self._closed:
            worker.put(SubmitSequence(self._overflow.popleft()))


def _settle_all(callbacks: list[Callback]) -> None:
    for settle in callbacks:
        settle()
